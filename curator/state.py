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

import yaml

from curator.datasets.atomic import write_atomically
from curator.errors import BadInput

Json = dict[str, Any]

CAMPAIGN_FILE = "campaign.yaml"
RESOLVED_FILE = "resolved.yaml"


class Stage(IntEnum):
    """Stages, with the fixed numbers that enter their seeds."""

    SETUP = 0
    EXPLORE = 1
    SELECT = 2
    LABEL = 3
    TRAIN = 4
    MEASURE = 5
    EXAM = 6
    PROBE = 7


@dataclass(frozen=True, slots=True)
class CampaignFolder:
    """Names of the files of a campaign."""

    path: Path
    campaign_file: Path
    """The campaign file as given."""

    @property
    def resolved(self) -> Path:
        """The campaign file with every default, version and hash filled in."""
        return self.path / RESOLVED_FILE

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
    def calculations(self) -> Path:
        """Where programs such as pw.x run; what failed stays."""
        return self.path / "calculations"

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
    """Campaign that a user names: its folder, or its file.

    A file called ``campaign.yaml`` lies in the folder of its campaign; any other, such as ``lif.yaml``, beside a folder
    named after it, ``lif``.

    Raises
    ------
    BadInput
        If nothing is there.
    """
    if target.is_dir():
        given = target / CAMPAIGN_FILE
        resolved = target / RESOLVED_FILE
        if not given.exists() and resolved.exists():
            given = Path(yaml.safe_load(resolved.read_text(encoding="utf-8"))["provenance"]["file"])
        if not given.exists():
            if (target / "journal").is_dir():
                raise BadInput(
                    f"{target}: is a data set and no campaign; see what it holds: curator export {target} --list"
                )
            raise BadInput(f"{target}: holds no {CAMPAIGN_FILE}; write one with: curator init lif {target}")
        return CampaignFolder(target, given)
    if not target.exists():
        raise BadInput(f"{target}: no such file or folder; write a campaign with: curator init")
    if target.suffix not in (".yaml", ".yml"):
        raise BadInput(f"{target}: a campaign file ends in .yaml; write one with: curator init")
    return CampaignFolder(target.parent if target.name == CAMPAIGN_FILE else target.with_suffix(""), target)


def is_campaign(target: Path) -> bool:
    """Whether a target is, or ought to be, a campaign, and not a data set by itself."""
    if target.suffix == ".h5":
        return False
    files = (CAMPAIGN_FILE, RESOLVED_FILE)
    return not (target / "journal").is_dir() or any((target / name).exists() for name in files)


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
    write_atomically(path, json.dumps(plain_json(content), indent=1, allow_nan=False) + "\n")


def plain_json(value: Any) -> Any:
    """JSON values only: tuples to lists, NumPy numbers to Python's, not-a-number to null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if hasattr(value, "tolist"):
        return plain_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def log_event(folder: CampaignFolder, event: str, **fields: Any) -> None:
    """Append one line to the campaign's log, in one write."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    line = json.dumps(plain_json({"time": time, "event": event, **fields})) + "\n"
    descriptor = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_log(folder: CampaignFolder) -> list[Json]:
    """Lines of the campaign's log; a line cut short by a kill is left out."""
    if not folder.log.exists():
        return []
    events = []
    for line in folder.log.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


def wall_seconds(folder: CampaignFolder, round_: int) -> float:
    """Wall time of the finished stages of a round, over every run that worked on it."""
    total, began = 0.0, None
    for event in read_log(folder):
        if event.get("round") != round_:
            continue
        if event["event"] == "stage_started":
            began = datetime.datetime.fromisoformat(event["time"])
        elif event["event"] == "stage_finished" and began is not None:
            total += (datetime.datetime.fromisoformat(event["time"]) - began).total_seconds()
            began = None
    return total
