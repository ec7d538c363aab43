"""Barriers of enumerated hops: metals in effective medium theory, where a plain band is a second opinion, and LiF."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.mep import NEB
from ase.optimize import BFGS, FIRE

from curator.backends.classical import FumiTosiLiF
from curator.barriers.barrier import find_barrier
from curator.barriers.hops import enumerate_hops
from curator.datasets.frame import frame_from_atoms


def plain_band_eV(symbol: str) -> float:
    """Vacancy migration by ASE alone, built and relaxed by another route."""
    atoms = bulk(symbol, cubic=True).repeat(2)
    distances = atoms.get_distances(0, range(len(atoms)), mic=True)
    jumper = int(np.flatnonzero(np.isclose(distances, np.sort(distances)[1]))[0])
    initial = atoms.copy()
    del initial[0]
    final = initial.copy()
    final.positions[jumper - 1] -= atoms.get_distance(0, jumper, mic=True, vector=True)
    images = [initial, *(initial.copy() for _ in range(3)), final]
    for image in images:
        image.calc = EMT()
    for end in (initial, final):
        BFGS(end, logfile=None).run(fmax=0.01)
    band = NEB(images, climb=True, method="aseneb")
    band.interpolate(mic=True)
    assert FIRE(band, logfile=None).run(fmax=0.01, steps=500)
    return float(max(image.get_potential_energy() for image in images) - initial.get_potential_energy())


@pytest.mark.parametrize("symbol", ["Al", "Cu"])
def test_vacancy_of_a_metal_agrees_with_a_plain_band(symbol: str):
    (hop,) = enumerate_hops(frame_from_atoms(bulk(symbol, cubic=True)), symbol, "vacancy", (2, 2, 2))
    barrier = find_barrier(hop.hop, EMT())
    assert barrier.method == "symmetric"
    assert barrier.negative_modes == 1
    assert barrier.barrier_eV == pytest.approx(plain_band_eV(symbol), abs=0.002)


def test_end_points_that_differ_have_two_barriers():
    """Nickel on the two nickel sites of a stretched Ni3Al (D0_22): the barriers differ as the vacancies do."""
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0, 0, 0.5), (0.5, 0.5, 0), (0, 0.5, 0.25), (0.5, 0, 0.25)]
    places += [(0, 0.5, 0.75), (0.5, 0, 0.75)]
    a = 3.65
    crystal = Atoms("Al2Ni6", scaled_positions=places, cell=[a, a, 2.12 * a], pbc=True)
    within, between = enumerate_hops(frame_from_atoms(crystal), "Ni", "vacancy", (2, 2, 1))
    assert (within.sites, within.multiplicity) == (("Ni2", "Ni2"), 4)
    assert (between.sites, between.multiplicity, between.reverse_multiplicity) == (("Ni1", "Ni2"), 8, 4)

    energies = []
    for site in (2, 4):
        vacancy = crystal.repeat((2, 2, 1))
        del vacancy[site]
        vacancy.calc = EMT()
        BFGS(vacancy, logfile=None).run(fmax=0.005)
        energies.append(vacancy.get_potential_energy())
    barrier = find_barrier(between.hop, EMT())
    assert barrier.method == "ci-neb"
    assert barrier.negative_modes == 1
    assert barrier.barrier_eV is not None
    assert barrier.reverse_eV is not None
    assert barrier.end_energies_eV == pytest.approx(energies, abs=1e-3)
    assert barrier.barrier_eV - barrier.reverse_eV == pytest.approx(energies[1] - energies[0], abs=2e-3)
    assert abs(energies[1] - energies[0]) > 0.1

    same = find_barrier(within.hop, EMT())
    assert same.method == "symmetric"
    assert same.barrier_eV == pytest.approx(same.reverse_eV, abs=1e-4)


def test_ways_of_an_interstitial_in_LiF():
    """The collinear interstitialcy is the easiest way; a band on the ridge of the direct jump is pushed off it."""
    crystal = frame_from_atoms(bulk("LiF", "rocksalt", a=4.0314, cubic=True))
    collinear, bent, _ = (hop.hop for hop in enumerate_hops(crystal, "Li", "interstitialcy"))
    (direct,) = (hop.hop for hop in enumerate_hops(crystal, "Li", "interstitial"))
    found = [find_barrier(hop, FumiTosiLiF()) for hop in (collinear, bent)]
    found.append(find_barrier(direct, FumiTosiLiF(), method="ci-neb"))
    assert [barrier.negative_modes for barrier in found] == [1, 1, 1]
    assert [barrier.barrier_eV for barrier in found] == pytest.approx([0.110, 0.309, 0.316], abs=0.003)
    assert found[2].reasons[0].startswith("ci-neb route refused: the climbing image, at 0.322 eV, has 2 negative modes")
