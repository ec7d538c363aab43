"""Whether energies and forces of a trajectory belong together: the change of one is the work of the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase.geometry import find_mic

from curator.datasets.output import Step
from curator.datasets.units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL, RYDBERG

LONGEST_A = 0.3
"""Between steps that are farther apart, the mean of the forces at both ends says little of the work."""
N_PAIRS = 3
LEAST_eV = 1e-4
"""Smaller changes of energy drown in how far the electrons were converged."""
SCATTER = 0.15
"""A trajectory whose energies do not follow the work this closely, relative to their RMS change, tells nothing."""
TOLERANCE = 0.1

_CAUSES = (
    (-1.0, "gradients instead of forces"),
    (1 / HARTREE, "energies in Hartree"),
    (1 / RYDBERG, "energies in Ry"),
    (1 / KCAL_PER_MOL, "energies in kcal/mol"),
    (1 / KJ_PER_MOL, "energies in kJ/mol"),
    (HARTREE / BOHR, "forces in Hartree/bohr"),
    (RYDBERG / BOHR, "forces in Ry/bohr"),
    (BOHR, "positions in bohr"),
)


@dataclass(frozen=True, slots=True)
class Work:
    """How the energies along a trajectory go with the work of its forces.

    Attributes
    ----------
    ratio
        Change of the energy over work of the forces, by least squares; 1 if energies and forces belong together.
    n_pairs
        Pairs of successive steps it is taken from.
    """

    ratio: float
    n_pairs: int


def work_of(steps: Sequence[Step]) -> Work | None:
    """Compare the changes of energy with the work of the forces; None where the steps are no fine trajectory.

    For successive steps in the same cell, ``E2 - E1 = -(F1 + F2) / 2 . (r2 - r1)`` up to the third order of the
    displacement (trapezoidal rule), whatever the program: a ratio other than one is one of units or of sign, or the
    energy is not the one that the forces are the gradient of.

    Parameters
    ----------
    steps
        In order.

    Raises
    ------
    ValueError
        If a step lacks energy or forces.
    """
    works, changes = [], []
    for one, two in pairwise(steps):
        if one.energy is None or two.energy is None or one.forces is None or two.forces is None:
            raise ValueError("every step must have energy and forces")
        if not np.array_equal(one.atoms.numbers, two.atoms.numbers):
            continue
        if np.abs(one.atoms.cell.array - two.atoms.cell.array).max() > 1e-6:
            continue
        moved, length = find_mic(two.atoms.positions - one.atoms.positions, one.atoms.cell, one.atoms.pbc)
        if length.max() <= LONGEST_A:
            works.append(-0.5 * float(((one.forces + two.forces) * moved).sum()))
            changes.append(two.energy - one.energy)
    if len(works) < N_PAIRS:
        return None
    work, change = np.array(works), np.array(changes)
    size = float(np.sqrt(np.mean(work**2)))
    if min(size, float(np.sqrt(np.mean(change**2)))) < LEAST_eV:
        return None
    ratio = float(work @ change / (work @ work))
    scatter = float(np.sqrt(np.mean((change - ratio * work) ** 2) / np.mean(change**2)))
    return Work(ratio, len(works)) if scatter < SCATTER else None


def mismatch(work: Work | None, n_atoms: int) -> str | None:
    """Tell what is wrong with units or signs, as far as the ratio shows; None if nothing is, or it is not known."""
    if work is None or abs(work.ratio - 1) < TOLERANCE:
        return None
    causes = (*_CAUSES, (1 / n_atoms, "energies per atom"))
    found = [told for ratio, told in causes if abs(work.ratio / ratio - 1) < 0.05]
    guess = f", as of {' or '.join(found)}" if found else ""
    return (
        f"over {work.n_pairs} steps of the trajectory, the energy changes by {work.ratio:.3g} times the work of the "
        f"forces{guess}; energies must be in eV and forces in eV/Å"
    )
