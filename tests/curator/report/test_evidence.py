"""Evidence is read from whatever a campaign left, and says what it could not read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curator.errors import BadInput
from curator.report.evidence import items, lookup, newest, number, read_evidence, series

WriteCampaign = Callable[..., Path]


def test_a_folder_that_is_no_campaign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a campaign folder"):
        read_evidence(tmp_path)


def test_paths_that_lead_nowhere_and_numbers_that_are_none() -> None:
    tree = {"a": [{"b": 2}, {"b": float("nan")}, {"b": True}, {"b": "3"}]}
    assert lookup(tree, "a", -1, "b") == "3"
    assert lookup(tree, "a", 4, "b") is None
    assert [number(tree, "a", i, "b") for i in range(4)] == [2.0, None, None, None]
    assert items(tree, "a", 0) == []


def test_rounds_with_a_value_are_paired_with_their_labels(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    evidence = read_evidence(write_campaign(tmp_path / "lif", n_rounds=3))
    # Round 0 has no fresh error; the diffusivities begin in round 2.
    assert series(evidence.rounds, "n_new_labels") == ([34.0, 52.0, 70.0], [34.0, 18.0, 18.0])
    assert series(evidence.rounds, "fresh_force_rmse_eV_per_A")[0] == [52.0, 70.0]
    assert (newest(evidence, "diffusion") or {})["round"] == 2
    assert newest(evidence, "no such key") is None


def test_a_round_that_has_only_just_ended_is_there(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=3)
    campaign = json.loads((folder / "campaign.json").read_text())
    campaign["rounds"].pop()
    (folder / "campaign.json").write_text(json.dumps(campaign))
    evidence = read_evidence(folder)
    assert [row["round"] for row in evidence.rounds] == [0, 1, 2]
    assert number(evidence.rounds[2], "n_labels_total") == 70


def test_the_newest_arrays_that_hold_something(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=2)
    path = folder / "rounds" / "001" / "evidence.npz"
    np.savez(path, **(dict(np.load(path)) | {"learning_epoch": np.array([])}))
    evidence = read_evidence(folder)
    newest_of = {name: (evidence.latest(name) or (None,))[0] for name in ("map_xy", "learning_epoch", "nothing")}
    assert newest_of == {"map_xy": 1, "learning_epoch": 0, "nothing": None}


def test_broken_files_are_named_and_cost_only_what_they_held(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=2)
    broken = folder / "rounds" / "001" / "evidence.npz"
    broken.write_bytes(broken.read_bytes()[:1000])
    (folder / "campaign.json").write_text('{"name": "lif", ')
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"time": "2026-03-')
    evidence = read_evidence(folder)
    assert {text.split()[0] for text in evidence.unreadable} == {"campaign.json", "001/evidence.npz", "log.jsonl:"}
    assert evidence.campaign == {}
    assert [row["n_labels_total"] for row in evidence.rounds] == [34, 52]
    assert (bool(evidence.arrays[0]), evidence.arrays[1]) == (True, {})
    assert evidence.events[-1]["event"] == "stage_finished"
