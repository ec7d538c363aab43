from collections.abc import Callable

import numpy as np
import pytest
from ase.data import covalent_radii

from curator.datasets.contacts import closest_distance, contact, contacts, screened_repulsion
from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.sources import build_seed

LI, F, CL = 3, 9, 17


def distance_of(frame: Frame, moved: np.ndarray) -> float:
    i, j = np.flatnonzero(moved)
    return float(atoms_from_frame(frame).get_distance(i, j, mic=True))


@pytest.mark.parametrize("distance_A", [0.3, 1.2])
def test_repulsion_is_that_of_lammps(lammps_engine: Callable, distance_A: float):
    engine = lammps_engine()
    engine.commands_string(
        "units metal\nboundary f f f\nregion box block -20 20 -20 20 -20 20\ncreate_box 2 box\nmass * 1\n"
        f"create_atoms 1 single 0 0 0\ncreate_atoms 2 single {distance_A} 0 0\n"
        "pair_style zbl 14 15\npair_coeff 1 1 3 3\npair_coeff 2 2 17 17\npair_coeff 1 2 3 17\nrun 0"
    )
    assert screened_repulsion(LI, CL, distance_A) == pytest.approx(engine.get_thermo("pe"), rel=1e-4)
    engine.close()


@pytest.mark.parametrize("pair", [(LI, LI), (LI, F), (F, F), (11, 17), (8, 22)])
def test_closest_distance_costs_ten_electronvolts_or_is_what_labellers_take(pair):
    closest = closest_distance(pair)
    floor = 0.53 * sum(covalent_radii[z] for z in pair)
    assert closest >= floor
    assert closest == pytest.approx(floor) or screened_repulsion(*pair, closest) == pytest.approx(10.0, rel=1e-6)


def test_both_atoms_of_a_contact_move_the_same_way_and_nothing_else_moves():
    frame = build_seed("lif-interstitial").frame
    pushed = contact(frame, (LI, LI), 1.0, np.random.default_rng(0))
    moves = pushed.positions - frame.positions
    moved = np.abs(moves).max(axis=1) > 1e-9
    assert moved.sum() == 2
    assert np.allclose(moves.sum(axis=0), 0, atol=1e-7)
    assert distance_of(pushed, moved) == pytest.approx(closest_distance((LI, LI)), abs=1e-6)
    assert set(pushed.numbers[moved].tolist()) == {LI}


def test_depth_zero_changes_nothing_and_a_missing_element_gives_none():
    frame = build_seed("lif").frame
    rng = np.random.default_rng(0)
    assert np.allclose(contact(frame, (LI, F), 0.0, rng).positions, frame.positions, atol=1e-7)
    assert contact(frame, (LI, CL), 1.0, rng) is None


def test_contacts_take_every_pair_once_before_any_twice_those_of_the_mobile_element_first():
    frames = [build_seed("lif-interstitial").frame]
    names = [name for name, _ in contacts(frames, 10, np.random.default_rng(0), first=F)]
    assert names == ["Li-F", "F-F", "Li-Li"] * 2
    assert [name for name, _ in contacts(frames, 2, np.random.default_rng(0), first=LI)] == ["Li-Li", "Li-F"]


def test_the_same_seed_gives_the_same_contacts():
    frames = [build_seed("nacl-vacancy").frame]
    first, second = (contacts(frames, 6, np.random.default_rng(4)) for _ in range(2))
    assert [frame.hash for _, frame in first] == [frame.hash for _, frame in second]
