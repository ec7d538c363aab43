import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from curator.build import build_plan
from curator.config import CampaignFile
from curator.datasets.frame import Frame, frame_from_atoms
from curator.forecast import Forecast, _add_up, _cell_notes, _seconds, _timestep_notes


def added_up(folder: Path, **sections: Any) -> Forecast:
    file = CampaignFile.model_validate({"system": {"structure": "lif-interstitial"}} | sections)
    return _add_up(build_plan(file, folder), "theory", 65, 1.0, 0.01, 0.01)


@pytest.mark.parametrize(
    ("barrier", "every_round", "times"), [(True, False, 1), (True, True, 4), (False, False, 4), (False, True, 4)]
)
def test_md_that_measures_is_counted_in_every_round_that_runs_it(
    tmp_path: Path, barrier: bool, every_round: bool, times: int
):
    diffusion = {
        "temperatures_K": [700, 1000],
        "replicas": 3,
        "duration_ps": 20,
        "equilibration_ps": 1,
        "every_round": every_round,
    }
    told = added_up(tmp_path, measure={"barrier": barrier, "diffusion": diffusion}, stop={"max_rounds": 4})
    assert told.numbers["n_rounds"] == 4
    assert told.numbers["measure_ps"] == times * 2 * 3 * 21
    assert ("bought once" in "\n".join(told.lines)) is (times == 1)


def test_every_temperature_counts_with_its_own_length(tmp_path: Path):
    diffusion = {"temperatures_K": [700, 1000], "replicas": 3, "duration_ps": [40, 5], "equilibration_ps": 1}
    told = added_up(tmp_path, measure={"diffusion": diffusion})
    assert told.numbers["measure_ps"] == 3 * (41 + 6)
    assert any("a trajectory of 5 ps is too short" in line for line in told.lines)


@pytest.mark.parametrize(("max_md_ps", "hours"), [(None, 126 / 720), (3600.0, 5.0), (100.0, 126 / 720)])
def test_the_dynamics_that_may_be_bought_is_told_with_its_price(tmp_path: Path, max_md_ps: float | None, hours: float):
    """At 10 ms for a step of 2 fs a picosecond takes 5 s."""
    diffusion = {"temperatures_K": [700, 1000], "replicas": 3, "duration_ps": 20, "equilibration_ps": 1}
    told = added_up(tmp_path, measure={"diffusion": diffusion}, stop={"max_md_ps": max_md_ps})
    assert told.numbers["max_measure_core_hours"] == pytest.approx(hours)
    text = "\n".join(told.lines)
    assert ("as far as stop.max_md_ps lets it: 5 h" in text) is (max_md_ps == 3600)
    assert ("one measurement takes 120 ps, so stop.max_md_ps 100 buys no more" in text) is (max_md_ps == 100)


def test_waiting_for_a_core_costs_nothing(tmp_path: Path):
    assert _seconds(lambda: time.sleep(0.3)) < 0.1
    lines = added_up(tmp_path).lines
    assert [line.split()[0] for line in lines if "CPU" in line] == ["labels", "exploring", "together"]


@pytest.mark.parametrize(
    ("select", "all_random"),
    [
        ({"labels_per_round": 4}, True),
        ({"labels_per_round": 5}, False),
        ({"labels_per_round": 4, "random_share": 0}, False),
        ({"labels_per_round": 4, "method": "random"}, False),
    ],
)
def test_note_where_every_label_would_be_random(tmp_path: Path, select: dict[str, Any], all_random: bool):
    assert ("drawn at random" in "\n".join(added_up(tmp_path, select=select).lines)) is all_random


def test_the_defect_that_a_mechanism_makes_is_told(tmp_path: Path):
    assert "defect" not in added_up(tmp_path).lines[0]
    system = {"structure": "lif", "mobile": "Li", "hop": {"mechanism": "vacancy"}}
    assert "a defect made in them (vacancy)" in added_up(tmp_path, system=system).lines[0]


@pytest.mark.parametrize(
    ("temperatures_K", "told"),
    [
        ([700], "one temperature gives no activation energy, so this campaign cannot converge"),
        # Two equal errors at a distance d in 1/kT: 2 x 1.25 / (0.05 eV / 4.2 x d)².
        ([500, 1000], "takes about 131 hops at each temperature, in every round that is compared"),
        ([700, 720], "hops at each temperature, in every round that is compared; a wider range takes fewer"),
    ],
)
def test_note_of_what_the_temperatures_ask_for(tmp_path: Path, temperatures_K: list[float], told: str):
    lines = added_up(tmp_path, measure={"diffusion": {"temperatures_K": temperatures_K}}).lines
    assert any(told in line for line in lines)


@pytest.mark.parametrize(("explored_K", "is_told"), [([600, 1400], False), ([900, 1200], True)])
def test_note_where_diffusion_is_measured_hotter_than_frames_are_explored(
    tmp_path: Path, explored_K: list[float], is_told: bool
):
    measure = {"diffusion": {"temperatures_K": [700, 1400]}}
    lines = added_up(tmp_path, measure=measure, explore={"temperatures_K": explored_K}).lines
    told = "measured up to 1400 K, frames are explored up to 1200 K, so the force error is never tested above that"
    assert any(told in line for line in lines) is is_told


def test_note_where_a_time_step_is_long_for_hydrogen(tmp_path: Path):
    explore, diffusion = {"timestep_fs": 0.5}, {"temperatures_K": [700, 1000], "timestep_fs": 2.0}
    sections = {"system": {"structure": "lif-interstitial"}, "explore": explore, "measure": {"diffusion": diffusion}}
    plan = build_plan(CampaignFile.model_validate(sections), tmp_path)
    water, salt = (frame_from_atoms(Atoms(formula, pbc=True, cell=[9.0] * 3)) for formula in ("OH2", "LiF"))
    assert _timestep_notes(plan, salt) == ()
    assert _timestep_notes(plan, water) == ("  note: measure.diffusion.timestep_fs 2 is long for hydrogen; give 0.5",)


def test_note_where_no_random_frame_lets_it_converge(tmp_path: Path):
    without = {"random_share": 0}
    assert "cannot converge" in "\n".join(added_up(tmp_path, select=without).lines)
    waived = added_up(tmp_path, select=without, stop={"force_error_eV_per_A": None})
    assert "cannot converge" not in "\n".join(waived.lines)


def test_the_driver_alone_is_one_worker_and_barriers_cost_their_calls(tmp_path: Path):
    local, serial = (
        added_up(tmp_path, learn={"members": 3}, run={"executor": name, "workers": 2}).numbers
        for name in ("local", "serial")
    )
    total = sum(serial["core_hours"].values())
    assert (local["wall_hours"], serial["wall_hours"]) == pytest.approx((total / 2, total))
    assert serial["core_hours"]["barrier"] == pytest.approx((1 + 3 * serial["n_rounds"]) * 350 * 0.01 / 3600)
    assert added_up(tmp_path, measure={"barrier": False}).numbers["core_hours"]["barrier"] == 0


@pytest.mark.parametrize(
    ("pbc", "cutoff_A", "narrow"),
    [((True, True, True), 4.0, False), ((True, True, True), 4.5, True), ((False, True, True), 4.5, False)],
)
def test_note_where_a_cell_is_narrow(pbc: tuple[bool, bool, bool], cutoff_A: float, narrow: bool):
    # The first edge is 12 Å long, but leans by 45 degrees: the planes are 12 / sqrt 2 = 8.5 Å apart.
    lean = 12 / np.sqrt(2)
    cell = np.array([[lean, lean, 0], [0, 20, 0], [0, 0, 10]])
    frame = Frame(numbers=np.array([3]), positions=np.zeros((1, 3)), cell=cell, pbc=pbc)
    notes = _cell_notes(frame, cutoff_A)
    assert bool(notes) is narrow
    assert all("8.5 Å wide" in note for note in notes)
