"""What a campaign left on disk, read without trusting any of it to be there.

A report is wanted most when a campaign is unfinished or broken, so nothing here raises for a file that is missing,
half written or empty: what could not be read is listed and shown.
"""

import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from numpy.typing import NDArray

from curator.errors import BadInput

Tree = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a report is made from.

    Attributes
    ----------
    campaign
        ``campaign.json`` without its rounds; empty if there is none yet.
    rounds
        One mapping per round, by number, each with the key ``round``.
    arrays
        ``rounds/NNN/evidence.npz`` by round.
    events
        The lines of ``log.jsonl``, in order.
    explosions
        Exploration runs that did not complete, each with its ``round``, ``run`` and ``reason``.
    models
        ``model.json`` of each round's first member, by round.
    settings, settings_text
        ``resolved.yaml``, or ``campaign.yaml`` where that is all there is, parsed and as written.
    unreadable
        Sentences about files that exist and could not be read.
    """

    campaign: Tree
    rounds: list[Tree]
    arrays: dict[int, Arrays]
    events: list[Tree]
    explosions: list[Tree]
    models: dict[int, Tree]
    settings: Tree
    settings_text: str
    unreadable: list[str] = field(default_factory=list)

    @property
    def model(self) -> Tree:
        """``model.json`` of the newest model; empty if there is none."""
        return self.models[max(self.models)] if self.models else {}

    def setting(self, *path: str) -> Any:
        """Value of a key of the campaign file; ``resolved.yaml`` keeps that file under ``campaign``."""
        held = lookup(self.settings, "campaign")
        return lookup(held if isinstance(held, dict) else self.settings, *path)

    def latest(self, *names: str) -> tuple[int, list[NDArray[np.float64]]] | None:
        """Newest round whose arrays hold all of ``names`` with something in them, and those arrays as float."""
        for idx in sorted(self.arrays, reverse=True):
            held = self.arrays[idx]
            if all(name in held and held[name].size for name in names):
                return idx, [np.asarray(held[name], dtype=np.float64) for name in names]
        return None


def lookup(tree: object, *path: str | int) -> Any:
    """Value at a path of keys and indices; None where any step is missing."""
    for step in path:
        held = isinstance(tree, dict) and step in tree
        if isinstance(tree, list) and isinstance(step, int):
            held = -len(tree) <= step < len(tree)
        if not held:
            return None
        tree = cast(Any, tree)[step]
    return tree


def number(tree: object, *path: str | int) -> float | None:
    """Finite number at a path; None where there is none."""
    value = lookup(tree, *path)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def items(tree: object, *path: str | int) -> list[Any]:
    """List at a path; empty where there is none."""
    value = lookup(tree, *path)
    return value if isinstance(value, list) else []


def moment(value: object) -> float | None:
    """Seconds since 1970 of an ISO time or of a number of seconds; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return None


def tolerance_eV(evidence: Evidence) -> float | None:
    """Tolerance of the campaign in eV."""
    return number(evidence.campaign, "tolerance_eV") or number(evidence.setting("measure", "diffusion", "tolerance_eV"))


def mobile_species(evidence: Evidence) -> str:
    """Symbol of the diffusing species."""
    return str(lookup(evidence.campaign, "mobile") or evidence.setting("system", "mobile") or "the defect")


def newest(evidence: Evidence, key: str) -> Tree | None:
    """Newest round in which ``key`` holds something."""
    return next((row for row in reversed(evidence.rounds) if lookup(row, key)), None)


def labels_of(row: Tree) -> float | None:
    """Labels that had been bought when a round was measured; those of its exam came afterwards."""
    return _before_exam(row, "n_labels_total")


def new_labels_of(row: Tree) -> float | None:
    """Labels that a round bought, its exam's apart."""
    return _before_exam(row, "n_new_labels")


def _before_exam(row: Tree, key: str) -> float | None:
    n_labels = number(row, key)
    return None if n_labels is None else n_labels - (number(row, "n_exam_labels") or 0.0)


def series(rounds: Sequence[Tree], *path: str) -> tuple[list[float], list[float]]:
    """Labels bought and the value at ``path``, of the rounds that have both."""
    pairs = [(labels_of(row), number(row, *path)) for row in rounds]
    kept = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in kept], [y for _, y in kept]


def read_evidence(folder: Path) -> Evidence:
    """Read a campaign folder in whatever state it is.

    Raises
    ------
    BadInput
        If the folder holds no trace of a campaign.
    """
    unreadable: list[str] = []
    traces = ("campaign.json", "resolved.yaml", "campaign.yaml", "log.jsonl", "rounds")
    if not any((folder / name).exists() for name in traces):
        raise BadInput(f"{folder} is not a campaign folder: none of {', '.join(traces)} is there; see 'curator run'")

    campaign = _json(folder / "campaign.json", unreadable)
    rounds = {int(row["round"]): row for row in items(campaign, "rounds") if number(row, "round") is not None}
    arrays: dict[int, Arrays] = {}
    explosions: list[Tree] = []
    models: dict[int, Tree] = {}
    for place in sorted(path for path in (folder / "rounds").glob("*") if path.name.isdigit()):
        idx = int(place.name)
        # campaign.json is written after round.json: a round that it lacks has only just been finished.
        if row := _json(place / "round.json", unreadable):
            rounds[idx] = {**row, **rounds.get(idx, {}), "round": idx}
        if (place / "evidence.npz").exists():
            arrays[idx] = _arrays(place / "evidence.npz", unreadable)
        for kind in ("candidates", "test"):
            runs = items(_json(place / "explore" / f"{kind}.json", unreadable), "runs")
            explosions += [{**run, "round": idx} for run in runs if lookup(run, "status") not in (None, "completed")]
        if model := _json(place / "model" / "member-0" / "model.json", unreadable):
            models[idx] = model

    text = ""
    for name in ("resolved.yaml", "campaign.yaml"):
        if (folder / name).exists():
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
            break
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError:
        settings = None
        unreadable.append("The settings are not valid YAML; they are shown as they are.")
    return Evidence(
        campaign={key: value for key, value in campaign.items() if key != "rounds"},
        rounds=[rounds[idx] for idx in sorted(rounds)],
        arrays=arrays,
        events=list(_events(folder / "log.jsonl", unreadable)),
        explosions=explosions,
        models=models,
        settings=settings if isinstance(settings, dict) else {},
        settings_text=text,
        unreadable=unreadable,
    )


def _json(path: Path, unreadable: list[str]) -> Tree:
    if not path.exists():
        return {}
    try:
        tree = json.loads(path.read_bytes())
    except ValueError as error:
        unreadable.append(f"{_place(path)} is not valid JSON ({error}).")
        return {}
    return tree if isinstance(tree, dict) else {}


def _arrays(path: Path, unreadable: list[str]) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        unreadable.append(f"{_place(path)} could not be read ({error}).")
        return {}


def _events(path: Path, unreadable: list[str]) -> Iterator[Tree]:
    if not path.exists():
        return
    n_broken = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            n_broken += bool(line.strip())
            continue
        if isinstance(event, dict):
            yield event
    if n_broken:
        unreadable.append(f"log.jsonl: {n_broken} line{'s' * (n_broken > 1)} cut off, as a killed driver leaves them.")


def _place(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if path.parent.name.isdigit() else path.name
