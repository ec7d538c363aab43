"""Holes of pair potentials whose turn-over is known."""

from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.morse import MorsePotential
from ase.data import covalent_radii
from pair_potentials import ARGON, BUCKINGHAM, CHARGE, COULOMB_EV_A, SilicaBKS
from scipy.optimize import brentq

from curator.backends.calculator import WholeCalculator
from curator.learners.dimers import Dimer, dimer_curves, falls

PLAIN = {"alpha_per_A": 0.0, "cutoff_A": 1e4}


class Tabulated(WholeCalculator):
    """Energy of a hydrogen pair by distance over twice the covalent radius, linear between points."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy"]

    def __init__(self, ratio: list[float], energy: list[float]) -> None:
        super().__init__()
        self.ratio, self.energy = ratio, energy

    def evaluate(self, atoms: Atoms) -> dict[str, float]:
        if len(atoms) == 1:
            return {"energy": -1.0, "free_energy": -1.0}
        value = float(np.interp(atoms.get_distance(0, 1) / (2 * covalent_radii[1]), self.ratio, self.energy)) - 2.0
        return {"energy": value, "free_energy": value}


def hydrogen(ratio: list[float], energy: list[float]) -> Dimer:
    (dimer,) = dimer_curves(Tabulated(ratio, energy), [1])
    return dimer


@pytest.mark.parametrize(("pair", "published_A"), [((8, 8), 1.44), ((8, 14), 1.19)])
def test_the_holes_of_bks_silica_are_where_they_are_known_to_be(pair: tuple[int, int], published_A: float) -> None:
    a, b, c = BUCKINGHAM[pair]
    charge2 = COULOMB_EV_A * CHARGE[pair[0]] * CHARGE[pair[1]]
    slope = lambda r: -a * b * np.exp(-b * r) + 6 * c / r**7 - charge2 / r**2  # noqa: E731
    turnover = brentq(slope, published_A - 0.1, published_A + 0.1)
    assert turnover == pytest.approx(published_A, abs=0.01)
    (found,) = (dimer for dimer in dimer_curves(SilicaBKS(**PLAIN), [14, 8]) if dimer.pair == pair)
    assert found.turnover_A == pytest.approx(turnover, abs=-np.diff(found.distances_A).max())
    top_eV = a * np.exp(-b * turnover) - c / turnover**6 + charge2 / turnover
    outer_A = found.distances_A[found.distances_A >= found.turnover_A]
    outer_eV = a * np.exp(-b * outer_A) - c / outer_A**6 + charge2 / outer_A
    assert found.wall_eV == pytest.approx(top_eV - outer_eV.min(), abs=0.05)
    assert found.depth_eV > 1e3


def test_silicon_in_bks_silica_only_repels() -> None:
    found = {dimer.name: dimer for dimer in dimer_curves(SilicaBKS(**PLAIN), [14, 8])}
    assert list(found) == ["O-O", "O-Si", "Si-Si"]
    silicon = found["Si-Si"]
    assert (silicon.turnover_A, silicon.depth_eV) == (None, None)
    charge2 = COULOMB_EV_A * CHARGE[14] ** 2
    inner, outer = silicon.distances_A[[-1, 0]]
    assert silicon.wall_eV == pytest.approx(charge2 / inner - charge2 / outer, rel=1e-6)


@pytest.mark.parametrize(
    ("calculator", "element"), [(ARGON, 18), (MorsePotential(epsilon=4.7, r0=0.74, rho0=1.44, rcut1=4, rcut2=6), 1)]
)
def test_lennard_jones_and_morse_have_none(calculator: Calculator, element: int) -> None:
    (dimer,) = dimer_curves(calculator, [element])
    assert dimer.turnover_A is None
    assert dimer.wall_eV > 5.0


def test_a_bond_is_no_hole_and_a_second_fall_inside_it_is_one() -> None:
    bond = hydrogen([0.2, 1.2, 1.5], [30.0, -4.0, 0.0])
    assert (bond.turnover_A, bond.wall_eV) == (None, pytest.approx(34.0, abs=0.5))
    hole = hydrogen([0.2, 0.6, 0.8, 1.2, 1.5], [50.0, 1.0, 3.0, -4.0, 0.0])
    assert hole.turnover_A == pytest.approx(0.8 * 2 * covalent_radii[1], abs=0.01)
    assert hole.depth_eV == pytest.approx(2.0, abs=0.1)
    assert hole.wall_eV == pytest.approx(7.0, abs=0.2)


def test_a_barrier_outside_the_bond_is_no_hole_nor_is_a_dip_below_the_noise() -> None:
    assert hydrogen([0.2, 0.9, 1.2, 1.5], [30.0, -4.0, 1.0, 0.0]).turnover_A is None
    assert hydrogen([0.2, 0.6, 0.8, 1.2, 1.5], [50.0, 2.95, 3.0, -4.0, 0.0]).turnover_A is None


def test_what_falls_all_the_way_in_is_a_hole_without_a_wall() -> None:
    hole = hydrogen([0.2, 1.5], [-20.0, 0.0])
    assert (hole.wall_eV, hole.depth_eV) == (0.0, pytest.approx(20.0))
    assert hole.turnover_A == pytest.approx(1.5 * 2 * covalent_radii[1])


def test_where_there_is_no_number_nothing_repels() -> None:
    hole = hydrogen([0.2, 0.29, 0.3, 1.5], [np.nan, np.nan, 10.0, 0.0])
    assert hole.depth_eV == np.inf
    assert hole.turnover_A == pytest.approx(0.3 * 2 * covalent_radii[1], abs=0.02)


def test_falls() -> None:
    assert falls(np.array([0.0, 1.0, 2.0, 1.0, 3.0]), 0.0) == [(2, 3)]
    assert falls(np.array([0.0, 1.0, 2.0]), 0.0) == []
    assert falls(np.array([0.0, 0.5, 0.3, 0.45, 0.2, 1.0]), 0.1) == [(1, 2), (3, 4)]
    assert falls(np.array([0.0, 0.5, 0.3, 0.39, 0.2, 1.0]), 0.1) == [(1, 4)]
    assert falls(np.array([1.0, 0.95, 1.0, 0.95]), 0.1) == []
