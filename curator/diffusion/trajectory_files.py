"""Trajectories of other codes: positions from extxyz, ASE, LAMMPS, VASP and H5MD files."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from ase.io import iread
from ase.io.formats import filetype, open_with_compression
from numpy.typing import NDArray

from curator.backends.base import one_line
from curator.diffusion.h5md import read_h5md
from curator.diffusion.lammps_dump import read_lammps_dump
from curator.diffusion.written import Floats, Written, cut_off
from curator.diffusion.xdatcar import is_xdatcar, read_xdatcar
from curator.positions import atomic_number

SAME_CELL_A = 1e-3
"""Cells that differ by less are the same; files round them."""
RESTING = 0.5
"""An atom that rests in more than this share of the steps does not vibrate."""
N_AGAIN = 3
"""Frames in a row that are there once more are no accident; one may be, the last of a run and the first of the next."""
EQUAL_STEPS = 1e-3
SINGLE_PRECISION = 2e-7
"""Times between frames are equal up to this share of theirs, and up to how times are rounded."""
MAY_BE_CUT = "it may be cut off, or of no known format: extxyz, ASE traj, LAMMPS text dump, XDATCAR, H5MD (.h5)"
WRAPPED_SPAN = 1 + 1e-4
"""Wrapped positions lie within one lattice vector, wherever the cell begins, but for how files round them."""


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Positions of one trajectory, as a file gives them.

    Attributes
    ----------
    positions
        Å, shape ``(n_frames, n_atoms, 3)``; wrapped or not.
    numbers, cell, pbc
        Atomic numbers, lattice vectors as rows in Å, and periodicity, the same for all frames.
    is_unwrapped
        Whether the file itself says that positions are unwrapped; if not, they may be.
    frame_interval_fs
        Time between frames in fs, or None if the file does not state it.
    """

    positions: Floats
    numbers: NDArray[np.int32]
    cell: Floats
    pbc: NDArray[np.bool_]
    is_unwrapped: bool = False
    frame_interval_fs: float | None = None


def load_positions(path: Path, elements: Sequence[str] | None = None) -> Positions:
    """Positions from a trajectory: H5MD (``.h5``, ``.h5md``, ``.hdf5``), or any format that ASE reads.

    A last frame that is incomplete in an extxyz file, a LAMMPS dump or an XDATCAR is left out with a notice.

    Parameters
    ----------
    path
        extxyz, ASE ``.traj``, LAMMPS text dump, XDATCAR, ...
    elements
        Symbols of the atom types 1, 2, ... of a LAMMPS dump or an H5MD file that numbers its species.

    Raises
    ------
    ValueError
        If it cannot be read, has fewer than two frames, or atoms or cell change on the way; if frames are repeated or
        not equally far apart in time; or if it has types of which the elements are not known, or elements that were
        given as well.
    """
    try:
        found = _read(path, elements)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a trajectory: {error}") from error
    except Exception as error:
        # There is no end to what readers raise.
        raise ValueError(f"{path} cannot be read as a trajectory: {one_line(error)}; {MAY_BE_CUT}") from error
    n_frames = len(found.positions)
    if n_frames < 2:
        raise ValueError(f"{path}: a trajectory needs two frames or more; it has {n_frames}")
    changed = np.flatnonzero(np.abs(found.cells - found.cells[0]).max(axis=(1, 2)) > SAME_CELL_A)
    if len(changed):
        raise ValueError(
            f"{path}: the cell of frame {changed[0]} differs from that of frame 0; a diffusivity needs a fixed cell, "
            "run it at constant volume"
        )
    _check_finite(path, found.positions)
    interval_fs = _frame_interval_fs(path, found)
    _check_no_repeats(path, found.positions)
    numbers = _numbers(path, found, elements)
    return Positions(found.positions, numbers, found.cells[0], found.pbc, found.is_unwrapped, interval_fs)


def are_wrapped(found: Positions) -> bool:
    """Whether positions surely are wrapped into the cell: all lie in one, and some go from end to end in a step."""
    if not found.pbc.any():
        return False
    fractional = (found.positions @ np.linalg.inv(complete_cell(found.cell)))[..., found.pbc]
    in_one_cell = np.ptp(fractional, axis=(0, 1)).max() <= WRAPPED_SPAN
    return bool(in_one_cell and np.abs(np.diff(fractional, axis=0)).max(initial=0.0) > 0.5)


def _read(path: Path, elements: Sequence[str] | None) -> Written:
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError("it is empty")
    if path.suffix in (".h5", ".h5md", ".hdf5"):
        return read_h5md(path, has_elements=elements is not None)
    if is_xdatcar(path):
        return read_xdatcar(path)
    kind = filetype(str(path))
    return read_lammps_dump(path) if kind == "lammps-dump-text" else _of_images(_by_ase(path, kind))


def _numbers(path: Path, found: Written, elements: Sequence[str] | None) -> NDArray[np.int32]:
    species = found.species
    if not found.is_typed:
        if elements is not None:
            raise ValueError(f"{path} names its elements by itself; leave out --elements")
        return species
    if elements is None:
        raise ValueError(f"{path} names types and no elements; say which they are: --elements Li,F for types 1 and 2")
    if species.min() < 1 or species.max() > len(elements):
        raise ValueError(f"{path} has types {species.min()} to {species.max()}; --elements names {len(elements)}")
    return np.array([atomic_number(symbol) for symbol in elements], dtype=np.int32)[species - 1]


def _check_finite(path: Path, positions: Floats) -> None:
    broken = np.argwhere(~np.isfinite(positions).all(axis=2))
    if len(broken):
        frame, atom = broken[0]
        raise ValueError(
            f"{path}: the position of atom {atom} in frame {frame} is no number; leave out the frames from there on"
        )


def _frame_interval_fs(path: Path, found: Written) -> float | None:
    """Time between frames, if it is stated; frames that are not equally far apart are refused."""
    if found.clock is None:
        return None
    steps = np.diff(found.clock)
    typical = float(np.median(steps))
    allowed = EQUAL_STEPS * typical + SINGLE_PRECISION * float(np.abs(found.clock).max())
    unequal = np.flatnonzero((steps <= 0) | (np.abs(steps - typical) > allowed))
    if len(unequal):
        idx = int(unequal[0])
        before, after = found.clock[idx : idx + 2]
        if steps[idx] <= 0:
            raise ValueError(
                f"{path}: time goes back from {before:g} in frame {idx} to {after:g} in frame {idx + 1}; leave out "
                "what a restart wrote twice"
            )
        raise ValueError(
            f"{path}: frames are not equally far apart in time: {steps[idx]:g} from frame {idx} to frame {idx + 1}, "
            f"{typical:g} mostly; keep frames at equal intervals"
        )
    return None if found.fs_per_unit is None else typical * found.fs_per_unit


def _check_no_repeats(path: Path, positions: Floats) -> None:
    """Refuse frames that are there twice in a row, as where a restart overlaps what was written before it.

    Molecular dynamics never comes back to the last digit. A walk on a lattice does, and is told by atoms that rest.
    """
    resting = (np.diff(positions, axis=0) == 0).all(axis=2)
    if resting.mean(axis=0).max() > RESTING:
        return
    seen: dict[int, int] = {}
    again: list[int] = []
    for idx, frame in enumerate(positions):
        first = seen.setdefault(hash(frame.tobytes()), idx)
        again = [*again, first] if first != idx else []
        if len(again) == N_AGAIN:
            one, other = idx - N_AGAIN + 1, again[0]
            what = "what a restart wrote twice" if again[-1] > other else "frames that were never written"
            raise ValueError(f"{path}: frame {one} is frame {other} once more, and so on; leave out {what}")


def _by_ase(path: Path, kind: str) -> list[Atoms]:
    try:
        index = f":{n_complete}" if kind == "extxyz" and (n_complete := _n_complete(path)) else ":"
        return list(iread(path, index=index, do_not_split_by_at_sign=True))
    except ValueError as error:
        raise ValueError(f"{one_line(error)}; {MAY_BE_CUT}") from error


def _n_complete(path: Path) -> int:
    """Frames of an xyz file that ends within a frame, which is told; 0 of one that does not."""
    n_complete = 0
    with open_with_compression(str(path), "r") as file:
        while (line := file.readline()).strip().isdigit():
            lines = list(islice(file, int(line) + 1))
            if len(lines) > int(line) and lines[-1].endswith("\n"):
                n_complete += 1
            elif n_complete:
                cut_off(path, n_complete)
                return n_complete
    return 0


def _of_images(images: Sequence[Atoms]) -> Written:
    if not images:
        raise ValueError("it is empty")
    first = images[0]
    for idx, image in enumerate(images):
        if not np.array_equal(image.numbers, first.numbers):
            raise ValueError(f"frame {idx} has other atoms than frame 0, or in another order")
    return Written(
        np.array([image.positions for image in images], dtype=np.float64),
        np.array(first.numbers, dtype=np.int32),
        False,
        np.array([image.cell.array for image in images], dtype=np.float64),
        np.array(first.pbc, dtype=bool),
    )
