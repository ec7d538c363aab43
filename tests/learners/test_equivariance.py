"""Deviations from symmetry, of a potential that has none and of some that are broken by a known amount."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from pair_potentials import SilicaBKS

from curator.backends.calculator import WholeCalculator
from curator.datasets.frame import Frame, frame_from_atoms
from curator.learners.equivariance import Equivariance, measure_equivariance, random_orthogonal

AMOUNT = 1e-3


class Spoilt(WholeCalculator):
    """A good potential with something added to its results."""

    implemented_properties = SilicaBKS.implemented_properties

    def __init__(self, spoil: Callable[[dict, Atoms], None]) -> None:
        super().__init__()
        self.good, self.spoil = SilicaBKS(), spoil

    def evaluate(self, atoms: Atoms) -> dict:
        results = self.good.evaluate(atoms)
        self.spoil(results, atoms)
        return results


def uniform_field(results: dict, atoms: Atoms) -> None:
    results["forces"] = results["forces"] + [0.0, 0.0, AMOUNT]


def height_in_the_cell(results: dict, atoms: Atoms) -> None:
    results["energy"] += AMOUNT * atoms.positions[:, 2].sum()


def handedness(results: dict, atoms: Atoms) -> None:
    results["energy"] += AMOUNT * np.sign(np.linalg.det(atoms.cell.array))


def first_atom(results: dict, atoms: Atoms) -> None:
    results["forces"][0] += AMOUNT * results["forces"][0]


def too_strong(results: dict, atoms: Atoms) -> None:
    results["forces"] = (1 + AMOUNT) * results["forces"]


def no_number(results: dict, atoms: Atoms) -> None:
    results["forces"][3, 1] = np.nan


@pytest.fixture(scope="module")
def silica() -> list[Frame]:
    rng = np.random.default_rng(3)
    sites = np.stack(np.meshgrid(*[np.arange(2)] * 3), axis=-1).reshape(-1, 3)[:6] * 2.1
    frames = []
    for pbc in (True, False):
        atoms = Atoms("SiO2Si2O", sites + rng.normal(scale=0.1, size=(6, 3)), cell=4.2 * np.eye(3), pbc=pbc)
        frames.append(frame_from_atoms(atoms))
    return frames


def measured(calculator: Calculator, frames: list[Frame]) -> Equivariance:
    return measure_equivariance(calculator, frames, np.random.default_rng(0))


def test_an_exact_potential_deviates_by_rounding(silica: list[Frame]) -> None:
    found = measured(SilicaBKS(), silica)
    for part in (found.rotated, found.reflected, found.translated, found.permuted):
        assert part.energy_eV < 1e-10
        assert part.forces_eV_per_A < 1e-10
        assert part.stress_eV_per_A3 is not None
        assert part.stress_eV_per_A3 < 1e-12
    assert found.force_slope_eV_per_A < 1e-5
    assert found.stress_slope_eV is not None
    assert found.stress_slope_eV < 1e-4
    assert found.worst_force_eV_per_A < 1e-10


def test_what_is_not_periodic_has_no_stress(silica: list[Frame]) -> None:
    found = measured(SilicaBKS(), silica[1:])
    assert found.rotated.stress_eV_per_A3 is None
    assert found.stress_slope_eV is None


def test_each_broken_symmetry_shows_where_it_is_broken(silica: list[Frame]) -> None:
    field = measured(Spoilt(uniform_field), silica[:1])
    assert field.translated.forces_eV_per_A < 1e-10
    assert AMOUNT / 10 < field.rotated.forces_eV_per_A <= 2 * AMOUNT
    assert field.worst_force_eV_per_A == max(field.rotated.forces_eV_per_A, field.reflected.forces_eV_per_A)

    height = measured(Spoilt(height_in_the_cell), silica[:1])
    assert height.translated.energy_eV > AMOUNT / 10
    assert height.permuted.energy_eV < 1e-10
    assert height.force_slope_eV_per_A > AMOUNT / 100

    hand = measured(Spoilt(handedness), silica[:1])
    assert hand.rotated.energy_eV < 1e-10
    assert hand.reflected.energy_eV == pytest.approx(2 * AMOUNT)

    first = measured(Spoilt(first_atom), silica[:1])
    assert first.permuted.forces_eV_per_A > AMOUNT / 10
    assert first.rotated.forces_eV_per_A < 1e-10

    strong = measured(Spoilt(too_strong), silica[:1])
    assert strong.worst_force_eV_per_A < 1e-10
    assert strong.force_slope_eV_per_A > AMOUNT / 10


def test_no_number_is_never_lost(silica: list[Frame]) -> None:
    found = measured(Spoilt(no_number), silica)
    assert np.isnan(found.worst_force_eV_per_A)
    assert np.isnan(found.force_slope_eV_per_A)


def test_random_orthogonal_matrices_are_orthogonal_and_of_both_hands() -> None:
    rng = np.random.default_rng(1)
    matrices = [random_orthogonal(rng) for _ in range(64)]
    assert np.allclose([m @ m.T for m in matrices], np.eye(3))
    proper = sum(np.linalg.det(m) > 0 for m in matrices)
    # Binomial: 32 within four standard deviations.
    assert 16 < proper < 48
