import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from curator.progress import Display, tell, told
from curator.state import CampaignFolder


def test_what_tasks_tell_adds_up(tmp_path: Path):
    files = [tmp_path / f"{i}" / "progress.json" for i in range(4)]
    tell(files[1], 1, 4, "valid 90 meV/Å")
    tell(files[2], 3, 4, "valid 80 meV/Å")
    files[3].parent.mkdir()
    files[3].write_text('{"done": 1')
    assert told(files, set()) == (pytest.approx(0.25), "valid 90 meV/Å")
    assert told(files, {0, 1}) == (pytest.approx(2.75 / 4), "valid 80 meV/Å")
    assert told([None, None], {1}) == (0.5, "")
    assert told([], set()) == (0.0, "")


def test_telling_never_fails(tmp_path: Path):
    (tmp_path / "file").touch()
    tell(tmp_path / "file" / "progress.json", 1, 2)


def test_batch_log_gets_plain_lines_and_live_file_goes(tmp_path: Path):
    folder = CampaignFolder(tmp_path, tmp_path / "campaign.yaml")
    stream = io.StringIO()
    display = Display(folder, Console(file=stream, width=120))
    with display.stage("round 2", "train"):
        display.update(0.5, {"train": 2, "md": 0, "label": 0}, "valid 80 meV/Å")
        live = json.loads(folder.live.read_text())
        assert (live["place"], live["stage"], live["fraction"], live["running"]["train"]) == (
            "round 2",
            "train",
            0.5,
            2,
        )
    assert not folder.live.exists()
    assert "round 2" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_plain_line_has_brackets_only_around_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curator.progress.PLAIN_INTERVAL_S", -1.0)
    stream = io.StringIO()
    display = Display(CampaignFolder(tmp_path, tmp_path / "campaign.yaml"), Console(file=stream, width=120))
    with display.stage("round 2", "label"):
        display.update(0.5, {"label": 1})
        display.update(1.0, {"label": 0})
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("50 % after 0 s (running: 1 label)")
    assert lines[1].endswith("100 % after 0 s")
