"""Two atoms alone, pushed together: whether a potential repels where atoms overlap.

Between separated atoms and the united nucleus a real pair has at most one well, its bond; inside it the energy only
rises. A model that was never shown short distances may let it fall again, and what comes over the top of that wall in
dynamics falls into a hole.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from curator.datasets.contacts import Pair

OUTER_RATIO, INNER_RATIO = 1.5, 0.2
"""Distances that are scanned, over the sum of the covalent radii."""
N_POINTS = 66
"""Points of a curve: 0.02 of that sum apart, some 0.04 Å."""
BOND_RATIO = 0.55
"""No known diatomic is shorter than this times the sum of its covalent radii.

Most have 0.7 to 1.2; the shortest, V2, has 1.77 Å or 0.58 (P. R. R. Langridge-Smith et al., J. Chem. Phys. 80, 593
(1984); others in K. P. Huber and G. Herzberg, *Constants of Diatomic Molecules*, 1979). Radii: Cordero et al., Dalton
Trans. 2832 (2008), as in ASE.
"""
TOLERANCE_EV = 0.1
"""A fall of less than this traps nothing: it is kT at 1160 K."""


@dataclass(frozen=True, slots=True, eq=False)
class Dimer:
    """Energy of two atoms by distance.

    Attributes
    ----------
    pair
        Atomic numbers.
    distances_A
        Å, falling, shape ``(n_points,)``.
    energies_eV
        Less those of the two atoms, each alone in the same potential; eV, shape ``(n_points,)``.
    turnover_A
        Distance in Å from which on the energy falls inwards though it should rise, or None if it does not.
    depth_eV
        How far it falls there, in eV; infinite where the potential gives no number; None without a hole.
    wall_eV
        What it takes to get there: energy of the turn-over, or without one of the shortest distance, above the lowest
        energy farther out, in eV.
    """

    pair: Pair
    distances_A: NDArray[np.float64]
    energies_eV: NDArray[np.float64]
    turnover_A: float | None
    depth_eV: float | None
    wall_eV: float

    @property
    def name(self) -> str:
        """Symbols of the two, ``Li-F``."""
        return "-".join(chemical_symbols[z] for z in self.pair)


def dimer_curves(calculator: Calculator, elements: Iterable[int]) -> list[Dimer]:
    """Curve of every pair of elements, each with its hole if it has one."""
    symbols = sorted(set(elements))
    alone = isolated_energies(calculator, symbols)
    return [dimer_curve(calculator, pair, alone) for pair in combinations_with_replacement(symbols, 2)]


def isolated_energies(calculator: Calculator, elements: Iterable[int]) -> dict[int, float]:
    """Energy of a single atom of each element in eV, as the potential has it."""
    return {z: _energy(calculator, [z], np.zeros((1, 3))) for z in set(elements)}


def dimer_curve(calculator: Calculator, pair: Pair, alone: dict[int, float]) -> Dimer:
    """Energy of two atoms in empty space from 1.5 to 0.2 times the sum of their covalent radii.

    Parameters
    ----------
    alone
        Energy of each atom by itself in eV, of :func:`isolated_energies`.

    Notes
    -----
    A fall of the energy on the way in is a hole if it begins at a top within the sum of the covalent radii, where
    repulsion has begun, or if it ends within 0.55 times that sum, where no pair has its bond. The outermost such fall
    counts. A well between those that is deeper than the bond, and has no top outside it, passes for the bond.
    """
    radii_A = float(covalent_radii[pair[0]] + covalent_radii[pair[1]])
    distances = radii_A * np.linspace(OUTER_RATIO, INNER_RATIO, N_POINTS)
    reference = sum(alone[z] for z in pair)
    places = np.zeros((N_POINTS, 2, 3))
    places[:, 1, 0] = distances
    energies = np.array([_energy(calculator, pair, place) - reference for place in places])
    # Where there is no number nothing repels.
    energies = np.where(np.isnan(energies), -np.inf, energies)
    for top, bottom in falls(energies, TOLERANCE_EV):
        begins_inside = top > 0 and distances[top] < radii_A
        if begins_inside or distances[bottom] < BOND_RATIO * radii_A:
            wall = float(energies[top] - energies[: top + 1].min())
            return Dimer(
                pair, distances, energies, float(distances[top]), float(energies[top] - energies[bottom]), wall
            )
    return Dimer(pair, distances, energies, None, None, float(energies[-1] - energies.min()))


def falls(energies: NDArray[np.float64], tolerance: float) -> list[tuple[int, int]]:
    """Top and bottom of each fall by more than ``tolerance``; a rise by less than that does not end one."""
    found: list[tuple[int, int]] = []
    top = bottom = 0
    for k, energy in enumerate(energies):
        fallen = energies[top] - energies[bottom] > tolerance
        if fallen and energy > energies[bottom] + tolerance:
            found.append((top, bottom))
            top = bottom = k
        elif energy >= energies[top]:
            top = bottom = k
        elif energy < energies[bottom]:
            bottom = k
    return [*found, (top, bottom)] if energies[top] - energies[bottom] > tolerance else found


def _energy(calculator: Calculator, numbers: Sequence[int], positions: NDArray[np.float64]) -> float:
    atoms = Atoms(numbers=numbers, positions=positions)
    atoms.calc = calculator
    return float(atoms.get_potential_energy())
