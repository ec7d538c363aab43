import json
from pathlib import Path

import numpy as np
import pytest

from curator.errors import BadInput
from curator.state import campaign_folder, log_event, read_json, read_log, wall_seconds, write_json


def test_campaign_yaml_lies_in_its_folder_and_any_other_beside_it(tmp_path: Path):
    (tmp_path / "campaign.yaml").touch()
    (tmp_path / "lif.yaml").touch()
    assert campaign_folder(tmp_path).path == tmp_path
    assert campaign_folder(tmp_path / "campaign.yaml").path == tmp_path
    assert campaign_folder(tmp_path / "lif.yaml").path == tmp_path / "lif"
    with pytest.raises(BadInput, match="curator init"):
        campaign_folder(tmp_path / "nowhere")


def test_json_holds_null_instead_of_not_a_number(tmp_path: Path):
    write_json(
        tmp_path / "a.json", {"x": np.float64("nan"), "y": (np.int64(1), [float("inf"), 2.5]), "z": np.arange(2)}
    )
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": [1, [None, 2.5]], "z": [0, 1]}


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_damaged_json_is_named(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadInput, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_log_survives_a_line_cut_short(tmp_path: Path):
    (tmp_path / "campaign.yaml").touch()
    folder = campaign_folder(tmp_path)
    log_event(folder, "stage_started", round=0, stage="train")
    log_event(folder, "stage_finished", round=0, stage="train")
    with folder.log.open("a") as file:
        file.write('{"event": "stage_st')
    assert [event["event"] for event in read_log(folder)] == ["stage_started", "stage_finished"]
    assert 0 <= wall_seconds(folder, 0) < 5
