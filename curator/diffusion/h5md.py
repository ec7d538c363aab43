"""Trajectories in H5MD files, with what they say of time and of images."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from curator.diffusion.written import Floats, Written
from curator.positions import atomic_number

A_PER_UNIT = {"angstrom": 1.0, "å": 1.0, "nm": 10.0, "pm": 0.01}
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
        if "position/value" not in group:
            raise ValueError(f"it has no positions; write {group.name}/position/value")
        A_per_unit = _A_per_unit(group["position/value"], "positions")
        positions = np.asarray(group["position/value"], dtype=np.float64) * A_per_unit
        species = _species(_values(group["species"]))
        periodic = _periodic(group)
        of_each_frame, cells = _cells(group, any(periodic), A_per_unit)
        images = np.asarray(group["image/value"], dtype=np.float64) if "image/value" in group else None
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


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _unit(dataset: h5py.Dataset) -> str:
    return _text(np.ravel(dataset.attrs.get("unit", ""))[0])


def _A_per_unit(dataset: h5py.Dataset, what: str, default: float = 1.0) -> float:
    """What a unit of lengths is in Å; the default where none is stated."""
    unit = _unit(dataset)
    if not unit:
        return default
    if unit.lower() not in A_PER_UNIT:
        raise ValueError(f"its {what} are in {unit}, not in Å, nm or pm")
    return A_PER_UNIT[unit.lower()]


def _values(element: h5py.Group | h5py.Dataset) -> h5py.Dataset:
    """Values of what is the same in all frames, or given for each."""
    return element["value"] if isinstance(element, h5py.Group) else element


def _species(dataset: h5py.Dataset) -> NDArray[np.generic]:
    """Numbers of species; those that are named, in an enumeration or as strings, are atomic numbers."""
    names = h5py.check_enum_dtype(dataset.dtype)
    values = np.asarray(dataset)
    if names is not None:
        symbols = {value: name for name, value in names.items()}
        known = {value: atomic_number(symbols[value]) for value in np.unique(values)}
    elif values.dtype.kind in "OSU":
        known = {value: atomic_number(_text(value)) for value in np.unique(values)}
    else:
        return values
    return np.array([known[value] for value in values.ravel()], dtype=np.int32).reshape(values.shape)


def _periodic(group: h5py.Group) -> list[bool]:
    """Along which of the three vectors of the cell it is periodic."""
    box = group.get("box")
    if box is None or "boundary" not in box.attrs:
        raise ValueError(f"it does not say whether it is periodic; write {group.name}/box with the attribute boundary")
    sides = [_text(side) for side in np.ravel(box.attrs["boundary"])]
    if not set(sides) <= {"periodic", "none"} or len(sides) not in (1, 3):
        raise ValueError(f"its boundary is {', '.join(sides)}; give periodic or none for each of three directions")
    return [side == "periodic" for side in sides] * (3 // len(sides))


def _cells(group: h5py.Group, is_periodic: bool, A_per_unit: float) -> tuple[bool, Floats]:
    """Whether there is a cell for every frame, and the edges of one or all; what is not periodic needs none."""
    edges = group["box"].get("edges")
    if edges is None and is_periodic:
        raise ValueError(f"it has no cell; write {group.name}/box/edges")
    if edges is None:
        return False, np.zeros((3, 3))
    values = _values(edges)
    A_per_unit = _A_per_unit(values, "edges", A_per_unit)
    return isinstance(edges, h5py.Group), np.asarray(values, dtype=np.float64) * A_per_unit


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
