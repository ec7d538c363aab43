"""What a campaign leaves on disk, and where.

A stage is done if, and only if, its output exists under its final name; outputs are written aside, synced and
renamed. Nothing else is state: ``run`` continues whatever is there.
"""

import datetime
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from curator.datasets.atomic import write_atomically
from curator.errors import BadInput

Json = dict[str, Any]


class Stage(IntEnum):
    """Stages, with the fixed numbers that enter their seeds."""

    SETUP = 0
    EXPLORE = 1
    SELECT = 2
    LABEL = 3
    TRAIN = 4
    MEASURE = 5


@dataclass(frozen=True, slots=True)
class CampaignFolder:
    """Names of the files of a campaign."""

    path: Path

    @property
    def campaign_file(self) -> Path:
        """The campaign file as given."""
        return self.path / "campaign.yaml"

    @property
    def resolved(self) -> Path:
        """The campaign file with every default, version and hash filled in."""
        return self.path / "resolved.yaml"

    @property
    def store(self) -> Path:
        """The data set."""
        return self.path / "frames.h5"

    @property
    def journal(self) -> Path:
        """Labels as they arrived."""
        return self.path / "journal"

    @property
    def evidence(self) -> Path:
        """The verdict so far."""
        return self.path / "campaign.json"

    @property
    def log(self) -> Path:
        """What happened, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def live(self) -> Path:
        """What is running now; gone when nothing is."""
        return self.path / "live.json"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def setup(self) -> Path:
        """Everything before round 0."""
        return self.path / "setup"

    @property
    def workers(self) -> Path:
        """Logs of the executor."""
        return self.path / "workers"

    def round(self, index: int) -> Path:
        """Folder of a round."""
        return self.path / "rounds" / f"{index:03d}"

    def n_rounds_done(self) -> int:
        """Rounds whose evidence is complete, from the first on."""
        n = 0
        while (self.round(n) / "round.json").exists():
            n += 1
        return n


def campaign_folder(target: Path) -> CampaignFolder:
    """Campaign folder of what a user names: the folder itself, or the campaign file in it.

    Raises
    ------
    BadInput
        If there is no campaign file there.
    """
    folder = CampaignFolder(target if target.is_dir() else target.parent)
    if target.is_dir() and not folder.campaign_file.exists():
        raise BadInput(f"{target}: holds no campaign.yaml; write one with: curator init lif {target}")
    if not target.is_dir() and target.name != "campaign.yaml":
        if not target.exists():
            raise BadInput(f"{target}: no such file or folder")
        raise BadInput(f"{target}: a campaign file is called campaign.yaml and has a folder of its own; move it to one")
    return folder


def read_json(path: Path) -> Json:
    """Content of a JSON file that curator wrote.

    Raises
    ------
    BadInput
        If it is not there or not JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise BadInput(f"{path}: is not valid JSON; delete it and run again to have it written anew") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: does not hold what curator writes there; delete it and run again")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON aside, sync, rename; not-a-number becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """JSON values only: tuples to lists, NumPy numbers to Python's, not-a-number to null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def log_event(folder: CampaignFolder, event: str, **fields: Any) -> None:
    """Append one line to the campaign's log, in one write."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    line = json.dumps(_plain({"time": time, "event": event, **fields})) + "\n"
    descriptor = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
