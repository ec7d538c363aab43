import json
import os
from pathlib import Path
from socket import gethostname

import pytest

from curator.datasets.fence import acquire
from curator.state import CampaignFolder, Json
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


def test_a_length_is_rounded_as_it_is_to_be_written():
    times = [{**PLAN["temperatures"][0], "needed_ps": 161.2}, PLAN["temperatures"][1]]
    lines = told(None, plan=PLAN | {"temperatures": times})
    assert any("700 K 40 of 162, 1000 K 40 of 58" in line for line in lines)


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


LIVE: Json = {
    "pid": 1,
    "place": "round 2",
    "stage": "label",
    "fraction": 0.4,
    "left_s": 90.0,
    "running": {"label": 4, "md": 0},
}


def live_file(folder: Path, host: str, age_s: float = 0.0) -> CampaignFolder:
    path = folder / "live.json"
    path.write_text(json.dumps(LIVE | {"host": host}))
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age_s))
    return CampaignFolder(folder, folder / "campaign.yaml")


@pytest.mark.parametrize("host", [gethostname(), "node7"])
def test_a_driver_runs_while_it_holds_its_lock(tmp_path: Path, host: str):
    folder = live_file(tmp_path, host, age_s=3600)
    with acquire(folder.journal):
        live = _live(folder)
    assert live is not None
    assert live["locked"]
    content = {"name": "lif", "verdict": None, "reasons": [], "rounds": [], "state": {"finished": False}, "live": live}
    assert "  now: round 2, label: 40 %, about 90 s left in this stage; running: 4 label" in status_lines(content)


def test_what_a_killed_driver_left_is_not_running(tmp_path: Path):
    folder = live_file(tmp_path, gethostname())
    acquire(folder.journal).release()
    assert _live(folder) is None
    assert _live(CampaignFolder(tmp_path / "none", tmp_path)) is None


def test_where_no_lock_is_seen_of_another_host_its_last_word_is_told(tmp_path: Path):
    live = _live(live_file(tmp_path, "node7", age_s=7300))
    content = {"name": "lif", "verdict": None, "reasons": [], "rounds": [], "state": {"finished": False}, "live": live}
    (line,) = status_lines(content)[1:]
    assert line == (
        "  node7 said 2 h 1 min ago: round 2, label: 40 %; if it is gone, curator run goes on where it stopped"
    )
