"""Random structure search on potentials whose holes are known, and how its cells are drawn."""

from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry import cell_to_cellpar
from ase.units import kB
from pair_potentials import ARGON, SilicaBKS

from curator.backends.calculator import WholeCalculator
from curator.datasets.frame import Frame, frame_from_atoms
from curator.md import min_distance_ratio, run_md
from curator.random_search import MAX_PACKING, hole_rate, random_structures, small_composition, wilson95
from curator.survival import survival
from curator.trajectory import MDSettings

CELL_A = 7.16


@pytest.fixture(scope="module")
def argon() -> Frame:
    return frame_from_atoms(bulk("Ar", "fcc", a=5.26, cubic=True))


@pytest.fixture(scope="module")
def silica() -> Frame:
    """Idealised beta-cristobalite: silicon on the diamond lattice, oxygen amid its bonds."""
    atoms = bulk("Si", "diamond", a=CELL_A, cubic=True)
    corner = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) * CELL_A / 4
    bonds = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * CELL_A / 8
    atoms += Atoms("O16", (corner[:, None] + bonds).reshape(-1, 3))
    return frame_from_atoms(atoms)


def test_lennard_jones_has_no_hole(argon: Frame) -> None:
    starts = random_structures(argon, 3, np.random.default_rng(0))
    for pressure_GPa in (0.1, 50.0):
        found = hole_rate(ARGON, starts, pressure_GPa, like=argon, max_steps=30)
        assert (found.n_holes, found.n_runs) == (0, 3)
        assert 0 < found.n_steps <= 90


def test_bks_silica_falls_into_its_holes(silica: Frame) -> None:
    starts = random_structures(silica, 6, np.random.default_rng(0), n_atoms=9)
    found = hole_rate(SilicaBKS(), starts, 50.0, like=silica, max_steps=40)
    assert found.n_holes >= 3
    low, high = found.ci95
    assert 0 < low < found.n_holes / 6 < high
    assert all("below" in hole for hole in found.holes if hole)
    # Each run by itself, and the same structures again: rates of two potentials are of the same cells.
    again = random_structures(silica, 6, np.random.default_rng(0), n_atoms=9)
    assert [frame.hash for frame in again] == [frame.hash for frame in starts]
    one = hole_rate(SilicaBKS(), again[2:3], 50.0, like=silica, max_steps=40)
    assert one.holes == found.holes[2:3]


@pytest.mark.parametrize("element", ["Ar", "Cu", "W", "K"])
def test_random_cells_are_sensible(element: str) -> None:
    like = frame_from_atoms(bulk(element, cubic=True))
    volume_A3 = abs(np.linalg.det(like.cell)) / len(like)
    structures = random_structures(like, 8, np.random.default_rng(5))
    assert len({frame.hash for frame in structures}) == 8
    for frame in structures:
        assert frame.numbers.tolist() == [like.numbers[0]] * 8
        assert 0.8 <= np.linalg.det(frame.cell) / (8 * volume_A3) <= 1.2
        assert (np.abs(cell_to_cellpar(frame.cell)[3:] - 90) <= 30 + 1e-6).all()
        # Tungsten, the densest, has spheres of half its covalent radius in nearly a third of its volume.
        assert min_distance_ratio(frame) >= 0.54
    if element in ("Ar", "K"):
        assert min(min_distance_ratio(frame) for frame in structures) > 0.7
    assert MAX_PACKING < 0.38


def test_compositions_are_kept_as_far_as_few_atoms_can() -> None:
    def count(formula: str, n_atoms: int = 8) -> str:
        return str(Atoms(numbers=small_composition(Atoms(formula).numbers, n_atoms)).symbols.formula.format("hill"))

    assert count("Li33F32") == "F4Li4"
    assert count("Si8O16", 9) == "O6Si3"
    assert count("Li20PS4Cl") == "ClLi6PS"
    assert count("H50C") == "CH7"
    assert count("Ar") == "Ar8"


def test_surfaces_have_no_random_cells(argon: Frame) -> None:
    slab = Frame(argon.numbers, argon.positions, argon.cell, [True, True, False])
    with pytest.raises(ValueError, match="periodic in three dimensions"):
        random_structures(slab, 1, np.random.default_rng(0))


class Choking(WholeCalculator):
    """Pulls all atoms together; raises where they are nearer than a distance."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, at_A: float) -> None:
        super().__init__()
        self.at_A = at_A

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        if len(atoms) > 1 and atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)].min() < self.at_A:
            raise RuntimeError("too close for me")
        forces = 5.0 * (atoms.positions.mean(axis=0) - atoms.positions)
        energy = 2.5 * float(((atoms.positions.mean(axis=0) - atoms.positions) ** 2).sum())
        return {"energy": energy, "free_energy": energy, "forces": forces, "stress": np.zeros(6)}


def test_a_calculator_may_choke_in_a_hole_only(argon: Frame) -> None:
    starts = random_structures(argon, 1, np.random.default_rng(0))
    found = hole_rate(Choking(0.2), starts, 0.1, like=argon, max_steps=80)
    assert found.n_holes == 1
    with pytest.raises(RuntimeError, match="too close for me"):
        hole_rate(Choking(1.6), starts, 0.1, like=argon, max_steps=80)


def test_wilson_interval_where_it_is_known() -> None:
    z2 = 1.959964**2
    assert wilson95(0, 10) == pytest.approx((0.0, z2 / (10 + z2)))
    assert wilson95(10, 10) == pytest.approx((10 / (10 + z2), 1.0))
    low, high = wilson95(5, 10)
    assert high - 0.5 == pytest.approx(0.5 - low)
    assert high - low == pytest.approx(np.sqrt(z2 * (10 + z2)) / (10 + z2))


def test_survival_tells_who_died_of_what(argon: Frame, silica: Frame) -> None:
    settings = MDSettings(temperature_K=300.0, duration_ps=0.1, timestep_fs=2.0)
    lives = [run_md(argon, ARGON, settings, seed=n) for n in range(3)]
    assert all(run.temperatures_K.mean() * kB < 0.1 for run in lives)
    found = survival(lives)
    assert (found.n_survived, found.n_runs, found.reasons) == (3, 3, ("", "", ""))
    assert found.ci95 == pytest.approx(wilson95(3, 3))
    dies = [run_md(silica, SilicaBKS(), MDSettings(30000.0, 0.2), seed=n) for n in range(2)]
    found = survival(dies)
    assert (found.n_survived, found.n_runs, found.temperature_K) == (0, 2, 30000.0)
    assert all("exceeds" in reason or "below" in reason for reason in found.reasons)
