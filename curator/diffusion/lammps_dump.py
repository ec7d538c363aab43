"""Trajectories in text dumps of LAMMPS, with what they say of time and of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from ase.data import atomic_masses
from ase.io.formats import open_with_compression
from ase.io.lammpsrun import construct_cell
from numpy.typing import NDArray

from curator.diffusion.written import Floats, Written, cut_off
from curator.positions import atomic_number

FS_PER_TIME_UNIT = {"real": 1.0, "metal": 1000.0}
"""Styles of units in which distances are in Å."""


class _Cut(Exception):
    """The file ends within a frame."""


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """One frame, atoms in the order of their ids."""

    positions: Floats
    species: NDArray[np.int32]
    is_typed: bool
    cell: Floats
    pbc: NDArray[np.bool_]
    is_unwrapped: bool
    step: int
    time: float | None
    units: str | None


def read_lammps_dump(path: Path) -> Written:
    """Trajectory from a text dump, compressed or not; a frame that is cut off at the end is left out with a notice.

    Unwrapped coordinates (``xu``, ``xsu``) and images (``ix``) are used where there are any. Elements come from the
    column ``element``, or from ``mass``; without them atoms have types.

    Raises
    ------
    ValueError
        If it is no dump, has no positions, or units whose lengths are not in Å.
    """
    frames: list[_Frame] = []
    with open_with_compression(str(path), "r") as file:
        try:
            while (frame := _next_frame(file)) is not None:
                frames.append(frame)
        except _Cut:
            cut_off(path, len(frames))
        except (ValueError, IndexError) as error:
            raise ValueError(f"frame {len(frames)}: {error}") from error
    if not frames:
        raise ValueError("it has no complete frame")
    first = frames[0]
    for idx, frame in enumerate(frames):
        if not np.array_equal(frame.species, first.species):
            raise ValueError(f"frame {idx} has other atoms than frame 0, or no column id to tell their order by")
    units = next((frame.units for frame in frames if frame.units), None)
    if units is not None and units not in FS_PER_TIME_UNIT:
        raise ValueError(f"it is in units {units}; lengths must be in Å, as in metal and real")
    times = [frame.time for frame in frames if frame.time is not None]
    is_timed = len(times) == len(frames)
    return Written(
        np.array([frame.positions for frame in frames]),
        first.species,
        first.is_typed,
        np.array([frame.cell for frame in frames]),
        first.pbc,
        all(frame.is_unwrapped for frame in frames),
        np.array(times if is_timed else [frame.step for frame in frames], dtype=np.float64),
        FS_PER_TIME_UNIT[units] if is_timed and units else None,
    )


def _next_frame(file: TextIO) -> _Frame | None:
    """The next frame, or None at the end of the file."""
    step, time, units, n_atoms = 0, None, None, 0
    bounds: list[str] = []
    box: list[str] = []
    line = file.readline()
    if not line.strip():
        return None
    while not line.startswith("ITEM: ATOMS"):
        item = line.split(maxsplit=1)[1].strip() if line.startswith("ITEM: ") and line.endswith("\n") else ""
        if item == "TIMESTEP":
            step = int(_lines(file, 1)[0])
        elif item == "TIME":
            time = float(_lines(file, 1)[0])
        elif item == "UNITS":
            units = _lines(file, 1)[0].strip()
        elif item == "NUMBER OF ATOMS":
            n_atoms = int(_lines(file, 1)[0])
        elif item.startswith("BOX BOUNDS"):
            bounds, box = item.split()[2:], _lines(file, 3)
        elif not line.endswith("\n"):
            raise _Cut
        else:
            raise ValueError(f"'{line.strip()[:40]}' is not the beginning of a section of a LAMMPS dump")
        line = file.readline()
    if not line.endswith("\n"):
        raise _Cut
    names = line.split()[2:]
    rows = [row.split() for row in _lines(file, n_atoms)]
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f"a line does not hold the columns {' '.join(names)}")
    columns = dict(zip(names, np.array(rows).T, strict=True))
    if "id" in columns:
        order = np.argsort(columns["id"].astype(np.int64))
        columns = {name: column[order] for name, column in columns.items()}
    cell, pbc = _cell(bounds, box)
    positions, is_unwrapped = _positions(columns, cell)
    species, is_typed = _species(columns)
    return _Frame(positions, species, is_typed, cell, pbc, is_unwrapped, step, time, units)


def _lines(file: TextIO, n: int) -> list[str]:
    lines = list(islice(file, n))
    if len(lines) < n or not lines[-1].endswith("\n"):
        raise _Cut
    return lines


def _cell(bounds: Sequence[str], box: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
    """Lattice vectors and periodicity: orthogonal, tilted, or the three vectors of a general box."""
    numbers = np.array([line.split() for line in box], dtype=np.float64)
    pbc = np.array([side.startswith("p") for side in bounds[-3:]])
    if bounds[0] == "abc":
        return numbers[:, :3], pbc
    tilts = numbers[:, 2] if numbers.shape[1] > 2 else np.zeros(3)
    cell, _ = construct_cell(numbers[:, :2].ravel(), tilts)
    return np.asarray(cell, dtype=np.float64), pbc


def _positions(columns: dict[str, NDArray[np.str_]], cell: Floats) -> tuple[Floats, bool]:
    """Positions in Å, and whether they are unwrapped."""

    def numbers(names: Sequence[str]) -> Floats | None:
        if not set(names) <= set(columns):
            return None
        return np.column_stack([columns[name] for name in names]).astype(np.float64)

    if (unwrapped := numbers(("xu", "yu", "zu"))) is not None:
        return unwrapped, True
    if (scaled := numbers(("xsu", "ysu", "zsu"))) is not None:
        return scaled @ cell, True
    wrapped = numbers(("x", "y", "z"))
    if wrapped is None:
        if (scaled := numbers(("xs", "ys", "zs"))) is None:
            raise ValueError("it has no positions: neither x y z nor xu yu zu, xs ys zs or xsu ysu zsu")
        wrapped = scaled @ cell
    images = numbers(("ix", "iy", "iz"))
    return (wrapped, False) if images is None else (wrapped + images @ cell, True)


def _species(columns: dict[str, NDArray[np.str_]]) -> tuple[NDArray[np.int32], bool]:
    """Atomic numbers, or types, and whether they are types."""
    if "element" in columns:
        symbols, inverse = np.unique(columns["element"], return_inverse=True)
        return np.array([atomic_number(symbol) for symbol in symbols], dtype=np.int32)[inverse], False
    if "mass" in columns:
        masses = columns["mass"].astype(np.float64)
        # The first of them, 1.0, is no element's.
        return 1 + np.abs(atomic_masses[1:] - masses[:, None]).argmin(axis=1).astype(np.int32), False
    if "type" not in columns:
        raise ValueError("it tells no elements and no types of atoms; dump the columns id and element")
    return columns["type"].astype(np.int32), True
