"""The anchor: the barrier of the followed hop in each model, and the labeller's word on the same two configurations.

Minimum and saddle of the current model, and images between them, are labelled before it is trained on them, so the
difference of the first two labels is a fair reference for the model's barrier; afterwards they join the training data
as a group whose differences of total energy count.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from curator.backends.executor import Task
from curator.barriers.barrier import Barrier
from curator.barriers.hop import along
from curator.context import Context, buy_labels, run_tasks, values_of
from curator.datasets.atomic import atomic_path
from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance
from curator.datasets.sources import Hop
from curator.state import Json, read_json, write_json
from curator.tasks import ModelAt, barrier_of


@dataclass(frozen=True, slots=True)
class Anchor:
    """A barrier and its reference.

    Attributes
    ----------
    barrier_eV
        Barrier of the model (the first committee member), or None if it was not found.
    reference_eV
        The labeller's energy difference between the model's own saddle and minimum, or None.
    members_eV
        Barrier of each committee member, None where it was not found.
    method
        How the saddle was found.
    path_eV
        Energies along the path, relative to the minimum.
    reasons
        What there is to say about the barrier.
    cpu_s
        CPU seconds of the search.
    """

    barrier_eV: float | None
    reference_eV: float | None
    members_eV: tuple[float | None, ...]
    method: str | None
    path_eV: tuple[float, ...]
    reasons: tuple[str, ...]
    cpu_s: float

    @property
    def gap_eV(self) -> float | None:
        """Model minus reference, or None."""
        if self.barrier_eV is None or self.reference_eV is None:
            return None
        return self.barrier_eV - self.reference_eV


def measure_anchor(context: Context, round_: int, hop: Hop, folder: Path) -> Anchor:
    """Find the barrier in every member of a round's committee, and label the first member's minimum and saddle."""
    out = folder / "anchor.json"
    if out.exists():
        content = read_json(out)
        tuples = {key: tuple(content[key]) for key in ("members_eV", "path_eV", "reasons")}
        return Anchor(**{**content, **tuples})
    models, kept = context.members(round_), folder / "anchor-barriers.json"
    barriers = find_barriers(context, models, hop, kept, round_=round_, stage="relax minimum and saddle")
    first = barriers[0]
    _keep_frames(first, folder)
    reference_eV, reasons = None, list(first.reasons)
    if first.barrier_eV is not None and first.saddle is not None:
        where = "set-up" if round_ < 0 else f"round-{round_}"
        n = context.plan.file.measure.path_images
        images = [(f"image-{k}", along(first.minimum, first.saddle, k / (n + 1))) for k in range(1, n + 1)]
        wanted = [
            (frame, Provenance(round_, f"anchor/{name}", f"anchor/{where}", "train", "anchor"))
            for name, frame in (("minimum", first.minimum), ("saddle", first.saddle), *images)
        ]
        labels = buy_labels(context, wanted, round_=round_, stage="label the anchor")
        reasons += [f"label failed: {label.message}" for label in labels if not isinstance(label, Label)]
        if isinstance(labels[0], Label) and isinstance(labels[1], Label):
            reference_eV = labels[1].energy - labels[0].energy
    anchor = Anchor(
        barrier_eV=first.barrier_eV,
        reference_eV=reference_eV,
        members_eV=tuple(barrier.barrier_eV for barrier in barriers),
        method=first.method,
        path_eV=tuple(float(energy) for energy in first.energies_eV),
        reasons=tuple(reasons),
        cpu_s=sum(barrier.cpu_s for barrier in barriers),
    )
    write_json(out, asdict(anchor))
    return anchor


def anchor_frames(folder: Path, hop: Hop) -> list[Frame]:
    """Minimum and saddle of a hop that were found in a folder; empty if there were none."""
    like = hop.initial
    path = folder / "anchor.npz"
    if not path.exists():
        return []
    with np.load(path) as stored:
        return [
            Frame(like.numbers, stored[name], like.cell, like.pbc, like.charge, like.multiplicity)
            for name in ("minimum", "saddle")
            if name in stored
        ]


def find_barriers(
    context: Context, models: Sequence[ModelAt], hop: Hop, kept: Path, *, round_: int, stage: str
) -> list[Barrier]:
    """Barrier of a hop in each model, found once and kept in a file.

    A search that is repeated, on another machine above all, ends in slightly other configurations, whose labels would
    be bought a second time.
    """
    if not kept.exists():
        tasks = [Task(barrier_of, (model, hop), f"barrier of {model.folder.name}") for model in models]
        outcomes = run_tasks(context, "md", tasks, round_=round_, stage=stage)
        found = cast(list[Barrier], values_of(outcomes, "search for the barrier"))
        write_json(kept, {"barriers": [asdict(barrier) for barrier in found]})
    return [_barrier_from_json(content) for content in read_json(kept)["barriers"]]


def _barrier_from_json(content: Json) -> Barrier:
    saddle, ends = content["saddle"], content["end_energies_eV"]
    values = {
        "minimum": Frame(**content["minimum"]),
        "saddle": None if saddle is None else Frame(**saddle),
        "path": tuple(Frame(**frame) for frame in content["path"]),
        "energies_eV": tuple(content["energies_eV"]),
        "end_energies_eV": None if ends is None else tuple(ends),
        "reasons": tuple(content["reasons"]),
    }
    return Barrier(**content | values)


def _keep_frames(barrier: Barrier, folder: Path) -> None:
    """Write minimum and saddle to where `anchor_frames` finds them."""
    found = {"minimum": barrier.minimum, "saddle": barrier.saddle}
    with atomic_path(folder / "anchor.npz") as aside:
        arrays: Any = {name: frame.positions for name, frame in found.items() if frame is not None}
        np.savez(aside, **arrays)
