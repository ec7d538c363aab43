"""A trajectory as another code wrote it."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curator.datasets.notice import Notice

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What a file says of a trajectory.

    Attributes
    ----------
    positions
        Å, shape ``(n_frames, n_atoms, 3)``.
    species
        Atomic numbers, or types, shape ``(n_atoms,)``.
    is_typed
        Whether they are types.
    cells
        Lattice vectors as rows in Å, shape ``(n_frames, 3, 3)``.
    pbc
        Periodicity, shape ``(3,)``.
    is_unwrapped
        Whether the file itself says that positions are unwrapped.
    clock
        Time or time step of each frame in units of the file, shape ``(n_frames,)``, or None.
    fs_per_unit
        What a unit of the clock is in fs, or None if it counts steps or the unit is unknown.
    """

    positions: Floats
    species: NDArray[np.int32]
    is_typed: bool
    cells: Floats
    pbc: NDArray[np.bool_]
    is_unwrapped: bool = False
    clock: Floats | None = None
    fs_per_unit: float | None = None


def cut_off(path: Path, n_frames: int) -> None:
    """Say that a file ends within a frame."""
    warnings.warn(
        Notice(
            f"{path}: ends within frame {n_frames}, counted from 0, as where a run was killed; the {n_frames} complete "
            "frames are used"
        ),
        stacklevel=3,
    )
