"""Trajectories in H5MD files, with what they say of time and of images."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from curator.diffusion.written import Floats, Written

A_PER_UNIT = {"": 1.0, "angstrom": 1.0, "å": 1.0, "nm": 10.0, "pm": 0.01}
FS_PER_UNIT = {"fs": 1.0, "ps": 1e3, "ns": 1e6}


def read_h5md(path: Path, *, has_elements: bool = False) -> Written:
    """Trajectory of the first particle group; P. de Buyl et al., Comput. Phys. Commun. 185, 1546 (2014).

    Parameters
    ----------
    path
        Of the file.
    has_elements
        Whether elements of types are known from elsewhere; if not, species that are not numbered 1, 2, ... without a
        gap are atomic numbers.

    Raises
    ------
    ValueError
        If it has no particles or species, its species change, or lengths are in an unknown unit.
    """
    with h5py.File(path) as file:
        if "particles" not in file or not len(file["particles"]):
            raise ValueError("it has no particles; is it H5MD?")
        group = next(iter(file["particles"].values()))
        if "species" not in group:
            raise ValueError(f"it does not say which atom is which element; write {group.name}/species")
        unit = _unit(group["position/value"])
        if unit.lower() not in A_PER_UNIT:
            raise ValueError(f"its positions are in {unit}, not in Å, nm or pm")
        A_per_unit = A_PER_UNIT[unit.lower()]
        positions = np.asarray(group["position/value"], dtype=np.float64) * A_per_unit
        species = np.asarray(group["species/value"] if "value" in group["species"] else group["species"])
        edges = group["box/edges"]
        of_each_frame = isinstance(edges, h5py.Group)
        cells = np.asarray(edges["value"] if of_each_frame else edges, dtype=np.float64) * A_per_unit
        images = np.asarray(group["image/value"], dtype=np.float64) if "image/value" in group else None
        periodic = [
            "periodic" in (side.decode() if isinstance(side, bytes) else side)
            for side in group["box"].attrs["boundary"]
        ]
        clock, fs_per_unit = _clock(group["position"], len(positions))
    if species.ndim == 2:
        if (species != species[0]).any():
            raise ValueError("its species change from frame to frame")
        species = species[0]
    n_frames = len(positions)
    # Edges are three lengths or three vectors, once or for every frame.
    if cells.ndim == 1 + of_each_frame:
        cells = cells[..., None] * np.eye(3)
    cells = np.broadcast_to(cells, (n_frames, 3, 3))
    if images is not None:
        positions = positions + images @ cells
    return Written(
        positions,
        species.astype(np.int32),
        has_elements or _are_types(species),
        cells,
        np.array(periodic),
        images is not None,
        clock,
        fs_per_unit,
    )


def _unit(dataset: h5py.Dataset) -> str:
    unit = dataset.attrs.get("unit", "")
    return unit.decode() if isinstance(unit, bytes) else str(unit)


def _clock(position: h5py.Group, n_frames: int) -> tuple[Floats | None, float | None]:
    """Time of each frame, or its step, and what a unit is in fs; a single number is the distance between frames."""
    for name in ("time", "step"):
        if name in position:
            clock = np.asarray(position[name], dtype=np.float64)
            fs_per_unit = FS_PER_UNIT.get(_unit(position[name]).lower()) if name == "time" else None
            return (clock * np.arange(n_frames) if clock.ndim == 0 else clock[:n_frames]), fs_per_unit
    return None, None


def _are_types(species: NDArray[np.generic]) -> bool:
    """Whether they are numbered 1, 2, ... without a gap, as types are, and no crystal's elements."""
    kinds = np.unique(species)
    return bool(np.array_equal(kinds, np.arange(1, len(kinds) + 1)))
