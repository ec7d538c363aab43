"""What another program calculated, step by step, and which of its steps may not become labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from curator.datasets.units import GPA

Flaw = Literal["incomplete", "unconverged", "nonfinite", "absurd"]

MAX_FORCE_eV_PER_A = 100.0
"""A larger force is not one of matter that anybody simulates; close contacts reach some tens."""
MAX_ENERGY_eV_PER_ATOM = 2e6
"""More than the total energy of the heaviest atom, all electrons counted."""
MAX_STRESS_eV_PER_A3 = 1000 * GPA


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One configuration of an output with its results as the program gives them, in ASE's units and signs.

    Attributes
    ----------
    atoms
        The configuration; what its ``info`` says of charge and multiplicity counts.
    energy
        The energy that the forces are the gradient of, in eV; None if there is none.
    forces
        eV/Å, shape ``(n_atoms, 3)``; None if there are none.
    stress
        eV/Å³, ASE's sign and Voigt order; None if there is none.
    converged
        Whether the electrons are; True of programs that have none.
    """

    atoms: Atoms
    energy: float | None
    forces: NDArray[np.float64] | None
    stress: NDArray[np.float64] | None = None
    converged: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """The steps of one file, with what it tells of the level of theory.

    Attributes
    ----------
    code
        Program that wrote the numbers; ``unknown`` where a file does not tell.
    steps
        In the order of the file.
    settings
        What must be the same for every frame of one level of theory: functional, cutoffs, dispersion.
    details
        What goes with the cell or the elements: k-points, smearing, pseudopotentials by element.
    versions
        Of the program.
    """

    code: str
    steps: tuple[Step, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def flaw_of(step: Step, max_force_eV_per_A: float = MAX_FORCE_eV_PER_A) -> Flaw | None:
    """Why a step may not become a label; None if it may."""
    if not step.converged:
        return "unconverged"
    if step.energy is None or step.forces is None or step.forces.shape != (len(step.atoms), 3):
        return "incomplete"
    stress = np.zeros(6) if step.stress is None else step.stress
    parts = (step.atoms.positions, step.atoms.cell.array, np.array(step.energy), step.forces, stress)
    if not all(np.isfinite(part).all() for part in parts):
        return "nonfinite"
    absurd = (
        np.linalg.norm(step.forces, axis=1).max() > max_force_eV_per_A
        or abs(step.energy) > MAX_ENERGY_eV_PER_ATOM * len(step.atoms)
        or np.abs(stress).max() > MAX_STRESS_eV_PER_A3
    )
    return "absurd" if absurd else None
