"""Files that hold frames of any program: extended XYZ, ASE's trajectories and databases."""

from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from curator.datasets.extxyz import STRESS_KEYS, MissingLabelError, stress_of, value_of
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
    """Steps of a file of ASE's, with the keys of `curator.datasets.extxyz.read_records`.

    Of calculator results, the free energy is taken where there is one: ASE's ``energy`` is extrapolated to zero
    smearing, and the forces are not its gradient.

    Raises
    ------
    ValueError
        If the file is unreadable, or none of its frames has a label under these keys.
    """
    if use_calculator and (energy_key or forces_key or stress_key):
        raise ValueError("calculator results have ASE's own keys; leave out the others")
    # A user who names keys of their own does not mean a REF_stress that happens to be in the file as well.
    stress_keys: tuple[str, ...] = (stress_key,) if stress_key else () if energy_key or forces_key else STRESS_KEYS
    energies: tuple[str, ...] = (energy_key or "REF_energy",)
    forces = forces_key or "REF_forces"
    if use_calculator:
        energies, forces, stress_keys = ("free_energy", "energy"), "forces", ("stress", "virial")
    images = read_images(path)
    steps = tuple(
        Step(
            atoms,
            _number(next((value for key in energies if (value := value_of(atoms, key)) is not None), None)),
            _array(value_of(atoms, forces)),
            _stress(atoms, stress_keys),
        )
        for atoms in images
    )
    # Isolated atoms have no forces worth the name, and are often labelled where frames are not.
    wanted = [step for step in steps if not is_isolated(step.atoms)]
    if wanted and all(step.energy is None or step.forces is None for step in wanted):
        atoms = wanted[0].atoms
        what, key = ("energy", energies[-1]) if wanted[0].energy is None else ("forces", forces)
        calculated = sorted(atoms.calc.results) if atoms.calc else []
        names = sorted(set(atoms.info) | set(atoms.arrays) - {"numbers", "positions"})
        present = [f"'{name}'" for name in names] + [f"'{name}' (of ASE's calculator)" for name in calculated]
        finding = f"{path}: no frame has '{key}'; found {', '.join(present) or 'no key at all'}"
        raise MissingLabelError(finding, what, calculated=what in calculated)
    return Output("unknown", steps)


def _number(value: object) -> float | None:
    array = np.asarray(value)
    return float(array) if array.shape == () and array.dtype.kind in "iuf" else None


def _array(value: object) -> NDArray[np.float64] | None:
    array = np.asarray(value)
    return array.astype(np.float64) if array.ndim == 2 and array.dtype.kind in "iuf" else None


def _stress(atoms: Atoms, keys: tuple[str, ...]) -> NDArray[np.float64] | None:
    for key in keys:
        value = value_of(atoms, key)
        if value is None:
            continue
        if "virial" in key.lower() and atoms.cell.rank < 3:
            return None
        array = np.asarray(value)
        return stress_of(array, key, atoms) if array.size in (6, 9) and array.dtype.kind in "iuf" else None
    return None
