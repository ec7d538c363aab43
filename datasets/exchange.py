"""Files that hold frames of any program: extended XYZ, ASE's trajectories and databases."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from curator.datasets.extxyz import label_keys, missing_label, stress_of, value_of
from curator.datasets.images import read_images
from curator.datasets.isolated import is_isolated
from curator.datasets.output import Output, Step


def read_exchange(
    path: Path,
    *,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    use_calculator: bool = False,
) -> Output:
    """Steps of a file of ASE's, with the keys of `curator.datasets.extxyz.label_keys`.

    Raises
    ------
    ValueError
        If the file is unreadable, or none of its frames has a label under these keys.
    """
    keys = label_keys(energy_key, forces_key, stress_key, use_calculator=use_calculator)
    steps = tuple(
        Step(
            atoms,
            _number(value_of(atoms, *keys.energy)),
            _array(value_of(atoms, keys.forces)),
            _stress(atoms, keys.stress),
        )
        for atoms in read_images(path)
    )
    # Isolated atoms have no forces worth the name, and are often labelled where frames are not.
    wanted = [step for step in steps if not is_isolated(step.atoms)]
    if wanted and all(step.energy is None or step.forces is None for step in wanted):
        first = wanted[0]
        what, key = ("energy", keys.energy[-1]) if first.energy is None else ("forces", keys.forces)
        raise missing_label(f"{path}: no frame has", first.atoms, key, what)
    return Output("unknown", steps)


def _number(value: object) -> float | None:
    array = np.asarray(value)
    return float(array) if array.shape == () and array.dtype.kind in "iuf" else None


def _array(value: object) -> NDArray[np.float64] | None:
    array = np.asarray(value)
    return array.astype(np.float64) if array.ndim == 2 and array.dtype.kind in "iuf" else None


def _stress(atoms: Atoms, keys: Sequence[str]) -> NDArray[np.float64] | None:
    """Stress, or None where there is none to speak of: energy and forces are worth keeping without it."""
    try:
        return stress_of(atoms, keys)
    except ValueError:
        return None
