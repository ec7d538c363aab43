"""Which runs are planned, and which of their frames are candidates."""

from dataclasses import replace

import numpy as np
import pytest

from curator.backends.classical import FumiTosiLiF
from curator.datasets.frame import atoms_from_frame
from curator.datasets.sources import rocksalt
from curator.explore import PlannedRun, candidates, candidates_of, plan_exploration
from curator.md import run_md
from curator.trajectory import Gates, MDSettings, Trajectory

LIF = rocksalt("LiF", 4.1)


def run(planned: PlannedRun) -> tuple[PlannedRun, Trajectory]:
    return planned, run_md(planned.start, FumiTosiLiF(), planned.settings, seed=planned.seed)


@pytest.fixture(scope="module")
def explored() -> list[tuple[PlannedRun, Trajectory]]:
    plan = plan_exploration(
        [LIF], [600, 900], 2, seed=[7, 0, 1], duration_ps=0.4, frame_interval_fs=50, equilibration_ps=0.0
    )
    return [run(planned) for planned in plan]


def test_a_plan_is_every_combination_with_a_seed_of_its_own():
    other = rocksalt("LiF", 4.0)
    plan = plan_exploration([LIF, other], [600, 900, 1200], 2, seed=[7, 3, 1], duration_ps=2.0)
    assert [planned.index for planned in plan] == list(range(12))
    assert len({planned.name for planned in plan}) == 12
    assert [planned.seed for planned in plan] == [(7, 3, 1, index) for index in range(12)]
    assert plan[-1].name == "start1/T1200/r1"
    assert plan[-1].start == other
    assert plan[-1].settings == MDSettings(1200, 2.0)
    with pytest.raises(ValueError, match="nothing to explore: 1 starts, 0 temperatures"):
        plan_exploration([LIF], [], 1, seed=[1])


def test_candidates_do_not_depend_on_the_order_of_completion(explored: list[tuple[PlannedRun, Trajectory]]):
    explored = [(replace(planned, equilibration_ps=0.1), trajectory) for planned, trajectory in explored]
    first = candidates(explored, interval_ps=0.1)
    assert len(first) == 4 * 4
    shuffled = [explored[i] for i in (2, 0, 3, 1)]
    second = candidates(shuffled, interval_ps=0.1)
    assert [(c.frame, c.group, c.source) for c in first] == [(c.frame, c.group, c.source) for c in second]
    assert first[0].group == "explore/start0/T600/r0"
    assert first[0].source == "explore/start0/T600/r0 @ 0.10 ps"
    assert np.allclose(first[1].frame.positions, explored[0][1].positions[4], atol=1e-8)


def test_a_frame_is_a_candidate_once(explored: list[tuple[PlannedRun, Trajectory]]):
    everything = candidates(explored, interval_ps=0.1)
    # The start is in all four trajectories.
    assert len(everything) == 4 * 5 - 3
    twice = [*explored, (replace(explored[0][0], index=9), explored[0][1])]
    assert len(candidates(twice, interval_ps=0.1)) == len(everything)


def test_an_exploded_trajectory_gives_its_last_sane_frames():
    # Far above boiling: the gate on the force closes on the way.
    gates = Gates(max_force_eV_per_A=4.0)
    trajectory = run_md(LIF, FumiTosiLiF(), MDSettings(3000, 2.0), seed=1, gates=gates)
    assert trajectory.status == "exploded"
    found = candidates_of(trajectory, group="g", source="s", gates=gates)
    assert {frame.hash for frame in trajectory.last_frames} <= {candidate.frame.hash for candidate in found}
    assert found[-1].frame == trajectory.last_frames[-1]
    assert found[-1].source == "s @ explosion -1"
    for candidate in found:
        forces = FumiTosiLiF().get_forces(atoms_from_frame(candidate.frame))
        assert np.linalg.norm(forces, axis=1).max() <= 4.0


def test_insane_frames_are_left_out(explored: list[tuple[PlannedRun, Trajectory]]):
    trajectory = explored[0][1]
    positions = trajectory.positions.copy()
    positions[4, 1] = positions[4, 0] + [0.3, 0, 0]
    forces = trajectory.max_forces_eV_per_A.copy()
    forces[6] = 31.0
    spoilt = replace(trajectory, positions=positions, max_forces_eV_per_A=forces)
    good = candidates_of(trajectory, group="g", source="s", equilibration_ps=0)
    left = candidates_of(spoilt, group="g", source="s", equilibration_ps=0)
    assert [c.source for c in left] == [c.source for idx, c in enumerate(good) if idx not in (4, 6)]
