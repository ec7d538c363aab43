import numpy as np
import pytest

from curator.backends.classical import FumiTosiLiF
from curator.barriers.hop import along, hopping_atoms, plan_hop
from curator.datasets.frame import Frame
from curator.datasets.sources import Hop, build_seed
from curator.md import run_md
from curator.trajectory import frames


@pytest.fixture(params=["lif-interstitial", "lif-vacancy"])
def hop(request: pytest.FixtureRequest) -> Hop:
    found = build_seed(request.param).hop
    assert found is not None
    return found


def test_the_hopping_atoms_are_those_that_hop(hop: Hop):
    moved = np.linalg.norm(hop.final.positions - hop.initial.positions, axis=1) > 0.1
    assert hopping_atoms(hop.initial, hop.saddle) == tuple(np.flatnonzero(moved))


def test_a_shift_of_the_whole_cell_moves_nobody(hop: Hop):
    positions = np.add(hop.saddle.positions, [0.4, -0.2, 0.1])
    shifted = Frame(hop.saddle.numbers, positions, hop.saddle.cell, hop.saddle.pbc)
    assert hopping_atoms(hop.initial, shifted) == hopping_atoms(hop.initial, hop.saddle)


def test_the_way_is_the_shortest_one_across_the_cell_boundary(hop: Hop):
    wrapped = Frame(hop.saddle.numbers, hop.saddle.positions % hop.saddle.cell[0, 0], hop.saddle.cell, hop.saddle.pbc)
    assert np.allclose(along(hop.initial, wrapped, 0.5).positions, along(hop.initial, hop.saddle, 0.5).positions)
    assert along(hop.initial, hop.saddle, 0.0) == hop.initial
    assert np.allclose(along(hop.initial, hop.saddle, 1.0).positions, hop.saddle.positions)


def test_held_atoms_stay_and_the_others_are_thermal():
    hop = build_seed("lif-interstitial", supercell=(2, 2, 1)).hop
    runs = plan_hop(hop.initial, hop.saddle, [900.0], seed=[1, 2], first_index=6)
    assert [run.index for run in runs] == [6, 7, 8]
    assert len({run.seed for run in runs}) == 3
    assert all(run.near_hop for run in runs)
    trajectory = run_md(runs[-1].start, FumiTosiLiF(), runs[-1].settings, seed=runs[-1].seed)
    assert trajectory.status == "completed"
    moves = np.linalg.norm(frames(trajectory)[-1].positions - runs[-1].start.positions, axis=1)
    held = list(runs[-1].settings.held)
    assert moves[held].max() < 0.05
    assert np.delete(moves, held).mean() > 0.1
