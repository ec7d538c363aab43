"""Trajectories of other codes: positions from extxyz, ASE, LAMMPS, VASP and H5MD files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms
from ase.io import iread
from numpy.typing import NDArray

from curator.diffusion.walk import Floats
from curator.positions import atomic_number

SAME_CELL_A = 1e-3
"""Cells that differ by less are the same; files round them."""
A_PER_H5MD_UNIT = {"": 1.0, "angstrom": 1.0, "å": 1.0, "nm": 10.0, "pm": 0.01}


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Positions of one trajectory, as a file gives them.

    Attributes
    ----------
    positions
        Å, shape ``(n_frames, n_atoms, 3)``; wrapped or not.
    numbers, cell, pbc
        Atomic numbers, lattice vectors as rows in Å, and periodicity, the same for all frames.
    """

    positions: Floats
    numbers: NDArray[np.int32]
    cell: Floats
    pbc: NDArray[np.bool_]


def load_positions(path: Path, elements: Sequence[str] | None = None) -> Positions:
    """Positions from a trajectory: H5MD (``.h5``, ``.h5md``, ``.hdf5``), or any format that ASE reads.

    Parameters
    ----------
    path
        extxyz, ASE ``.traj``, LAMMPS text dump, XDATCAR, ...
    elements
        Symbols of the atom types 1, 2, ... of a LAMMPS dump or an H5MD file that numbers its species.

    Raises
    ------
    ValueError
        If it cannot be read, has fewer than two frames, or atoms or cell change on the way, or if it has types of
        which the elements are not known.
    """
    try:
        found = _read_h5md(path) if path.suffix in (".h5", ".h5md", ".hdf5") else _read_ase(path)
    except (OSError, ValueError, KeyError, IndexError, StopIteration, RuntimeError, EOFError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} cannot be read as a trajectory: {error}") from error
    positions, species, is_typed, cells, pbc = found
    if len(positions) < 2:
        raise ValueError(f"{path} holds {len(positions)} frames; a trajectory needs two or more")
    changed = np.flatnonzero(np.abs(cells - cells[0]).max(axis=(1, 2)) > SAME_CELL_A)
    if len(changed):
        raise ValueError(
            f"the cell of frame {changed[0]} of {path} differs from that of frame 0; a diffusivity needs a fixed cell, "
            "run it at constant volume"
        )
    return Positions(positions, _numbers(path, species, is_typed, elements), cells[0], pbc)


_Found = tuple[Floats, NDArray[np.int32], bool, Floats, NDArray[np.bool_]]
"""Positions, atomic numbers or types, whether they are types, cell of each frame, periodicity."""


def _numbers(
    path: Path, species: NDArray[np.int32], is_typed: bool, elements: Sequence[str] | None
) -> NDArray[np.int32]:
    if not is_typed:
        return species
    if elements is None:
        raise ValueError(f"{path} names types and no elements; say which they are: --elements Li,F for types 1 and 2")
    if species.min() < 1 or species.max() > len(elements):
        raise ValueError(f"{path} has types {species.min()} to {species.max()}; --elements names {len(elements)}")
    return np.array([atomic_number(symbol) for symbol in elements], dtype=np.int32)[species - 1]


def _read_ase(path: Path) -> _Found:
    images: list[Atoms] = list(iread(path, index=":"))
    if not images:
        raise ValueError("it is empty")
    first = images[0]
    for idx, image in enumerate(images):
        if not np.array_equal(image.numbers, first.numbers):
            raise ValueError(f"{path}: frame {idx} has other atoms than frame 0, or in another order")
    # ASE takes the types of a LAMMPS dump that names no elements for atomic numbers.
    is_typed = "type" in first.arrays and np.array_equal(first.arrays["type"], first.numbers)
    return (
        np.array([image.positions for image in images], dtype=np.float64),
        np.array(first.numbers, dtype=np.int32),
        is_typed,
        np.array([image.cell.array for image in images], dtype=np.float64),
        np.array(first.pbc, dtype=bool),
    )


def _read_h5md(path: Path) -> _Found:
    """Positions of the first particle group; P. de Buyl et al., Comput. Phys. Commun. 185, 1546 (2014)."""
    with h5py.File(path) as file:
        if "particles" not in file or not len(file["particles"]):
            raise ValueError("it has no particles; is it H5MD?")
        group = next(iter(file["particles"].values()))
        unit = group["position/value"].attrs.get("unit", "")
        unit = unit.decode() if isinstance(unit, bytes) else str(unit)
        if unit.lower() not in A_PER_H5MD_UNIT:
            raise ValueError(f"its positions are in {unit}, not in Å, nm or pm")
        A_per_unit = A_PER_H5MD_UNIT[unit.lower()]
        positions = np.asarray(group["position/value"], dtype=np.float64) * A_per_unit
        species = np.asarray(group["species/value"] if "value" in group["species"] else group["species"])
        edges = group["box/edges"]
        cells = np.asarray(edges["value"] if isinstance(edges, h5py.Group) else edges, dtype=np.float64) * A_per_unit
        periodic = [
            "periodic" in (side.decode() if isinstance(side, bytes) else side)
            for side in group["box"].attrs["boundary"]
        ]
    if species.ndim == 2:
        if (species != species[0]).any():
            raise ValueError(f"{path}: its species change from frame to frame")
        species = species[0]
    n_frames = len(positions)
    # Edges are three lengths or three vectors, once or for every frame.
    if cells.shape in ((3,), (n_frames, 3)):
        cells = cells[..., None] * np.eye(3)
    cells = np.broadcast_to(cells, (n_frames, 3, 3))
    return positions, species.astype(np.int32), True, cells, np.array(periodic)
