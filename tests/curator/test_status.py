import json
import os
import subprocess
import sys
from pathlib import Path
from socket import gethostname

import pytest

from curator.state import Json
from curator.status import _live, status_lines

PLAN: Json = {
    "temperatures": [
        {"temperature_K": 700.0, "time_ps": 40.0, "needed_ps": 161.0, "cpu_hours": 3.0},
        {"temperature_K": 1000.0, "time_ps": 40.0, "needed_ps": 58.0, "cpu_hours": 0.6},
    ],
    "duration_ps": [81, 29],
    "more_ps": 139.0,
    "wanted_error_eV": 0.0115,
    "errors_eV": {"sampling": 0.031, "seeds": 0.003, "gap": -0.004},
    "buy": "md",
    "best": None,
    "workers": 2,
    "wall_hours": 1.8,
}


def told(
    purchase: Json | None, *, plan: Json | None, finished: bool = False, diffusion: list[Json] | None = None
) -> list[str]:
    round_ = {
        "round": 4,
        "n_labels_total": 90,
        "force_rmse_eV_per_A": {"model": 0.05, "foundation": 0.2},
        "barrier_eV": None,
        "barrier_reference_eV": None,
        "diffusion": diffusion or [],
        "arrhenius": None,
    }
    content = {
        "name": "lif",
        "verdict": "undetermined",
        "reasons": ["why"],
        "next_purchase": purchase,
        "md_plan": plan,
        "tolerance_eV": 0.05,
        "rounds": [round_],
        "state": {"round": 4, "finished": finished},
    }
    return status_lines(content)


def test_labels_are_named_once():
    labels = {"kind": "labels", "amount": 20.0, "unit": "labels"}
    assert "  next purchase: 20 labels" in told(labels, plan=None)
    (line,) = (line for line in told(labels, plan=None, finished=True) if "next purchase" in line)
    assert "20 labels; raise stop.max_rounds or stop.max_labels" in line


def test_hops_are_told_where_they_were_counted():
    point: Json = {"temperature_K": 800.0, "status": "refused", "reasons": ["too short: 5 ps"], "time_ps": 5.0}
    counted = {**point, "hops": 12.3, "pressure_GPa": 9.41}
    lines = told(None, plan=None, diffusion=[{**point, "hops": None}, counted])
    assert "  800 K: refused: too short: 5 ps (5 ps)" in lines
    assert "  800 K: refused: too short: 5 ps (12 hops in 5 ps, at 9.4 GPa)" in lines


def test_a_campaign_that_neither_runs_nor_has_ended_is_told():
    assert "  not running; curator run goes on where it stopped" in told(None, plan=None)
    assert "not running" not in "\n".join(told(None, plan=None, finished=True))


@pytest.mark.parametrize("purchase", [None, {"kind": "none", "amount": 0.0, "unit": ""}])
def test_nothing_to_buy_is_not_mentioned(purchase: Json):
    assert "next purchase" not in "\n".join(told(purchase, plan=None))


def test_md_comes_with_the_durations_to_write():
    purchase = {"kind": "md", "amount": 139.0, "unit": "ps"}
    bought = "  next purchase: 139 ps of MD, all temperatures and replicas together"
    lines = told(purchase, plan=PLAN)
    write = "write measure.diffusion.duration_ps: [81, 29] with temperatures_K: [700, 1000]"
    assert f"{bought}, on top of what there is: {write}" in lines
    assert bought in told(purchase, plan=None)


def test_md_comes_with_the_budget_that_pays_for_it():
    purchase = {"kind": "md", "amount": 139.0, "unit": "ps"}
    (line,) = [line for line in told(purchase, plan=PLAN | {"max_md_ps": 220}) if "next purchase" in line]
    assert line.endswith("duration_ps: [81, 29] with temperatures_K: [700, 1000], or stop.max_md_ps: 220")
    (line,) = [line for line in told(purchase, plan=PLAN | {"duration_ps": 81}) if "next purchase" in line]
    assert line.endswith("write measure.diffusion.duration_ps: 81")


def test_the_plan_tells_what_the_tolerance_takes_and_where_the_error_is_from():
    lines = told(None, plan=PLAN)
    assert (
        "  to decide within 0.05 eV, Ea needs a standard error of 0.011 eV; it is 0.031 eV now; scatter between "
        "trainings adds 0.003 eV; the barrier's gap to the reference is -0.004 eV"
    ) in lines
    assert "  MD that reaches it, ps: 700 K 40 of 161, 1000 K 40 of 58; 1 h 48 min with 2 workers" in lines
    assert "would take" not in "\n".join(lines)
    assert not any("to decide" in line for line in told(None, plan=PLAN | {"more_ps": 0.0}))


def test_much_cheaper_temperatures_are_worth_a_word():
    best = {"temperatures_K": [740.2, 849.9, 1000.0], "time_ps": 90.0}
    assert any("at 740, 850, 1000 K it would take 90 ps" in line for line in told(None, plan=PLAN | {"best": best}))


def test_what_a_killed_driver_left_counts_as_running_on_another_machine_only(tmp_path: Path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for host, pid, runs in ((gethostname(), dead.pid, False), (gethostname(), os.getpid(), True), ("node7", 1, True)):
        (tmp_path / "live.json").write_text(json.dumps({"host": host, "pid": pid, "stage": "label"}))
        assert (_live(tmp_path / "live.json") is not None) is runs
