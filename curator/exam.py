"""The exam: how the final model does on what it was never trained on, and never will be.

It is taken once a campaign has ended, by the first member of the last round. A held-out hop, which no frame was ever
chosen for, is compared with the labeller between the model's own minimum and saddle point; and fresh frames, drawn at
random from the molecular dynamics that measured the diffusivity, give the force error where the model is used. The
labels belong to the test split for good. A campaign that is continued keeps them, and its new last round takes an
exam of its own.
"""

from dataclasses import asdict, dataclass

import numpy as np

from curator.anchor import find_barriers
from curator.build import N_EXAM_FRAMES
from curator.context import Context, buy_labels, labelled
from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record
from curator.datasets.sources import Hop
from curator.measure import force_errors_of
from curator.setup import Setup
from curator.state import CampaignFolder, Json, Stage, read_json, write_json
from curator.trajectory import frames, read_trajectory

EXAM = "exam"
"""Reason of the labels an exam buys."""
N_HOP_LABELS = 2
"""Minimum and saddle point."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The barrier of a hop that the model was not trained on, and its reference.

    Attributes
    ----------
    barrier_heldout_eV
        Barrier of the model, or None if its saddle point could not be proved to be one.
    barrier_heldout_reference_eV
        The labeller's energy difference between the model's own saddle point and minimum, or None.
    barrier_heldout_reasons
        What there is to say about the barrier.
    """

    barrier_heldout_eV: float | None
    barrier_heldout_reference_eV: float | None
    barrier_heldout_reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FinalTest:
    """Force error on fresh frames of the measuring MD.

    Attributes
    ----------
    final_force_rmse_eV_per_A
        Of foundation and model, or None if no frame was labelled.
    n_final_frames
        Frames behind it.
    final_test_reasons
        Why there are none, or fewer than wanted.
    """

    final_force_rmse_eV_per_A: dict[str, float] | None
    n_final_frames: int
    final_test_reasons: tuple[str, ...]


def take_exam(context: Context, setup: Setup, round_: int) -> None:
    """Examine the first member of a round's committee, unless it has been examined or no exam is wanted."""
    out = context.folder.round(round_) / "exam.json"
    if out.exists() or not context.plan.file.measure.exam:
        return
    barrier = _held_out(context, round_, setup.heldout_hop)
    final = _final_test(context, round_)
    origins = [record.provenance for record in labelled(context)]
    n_labels = sum(origin.reason == EXAM and origin.round == round_ for origin in origins)
    write_json(out, asdict(barrier) | asdict(final) | {"n_exam_labels": n_labels})


def with_exam(folder: CampaignFolder, row: Json) -> Json:
    """A round's JSON with what its exam found, and its labels counted; null where the round took none."""
    path = folder.round(row["round"]) / "exam.json"
    if not path.exists():
        return row | dict.fromkeys(("barrier_heldout_eV", "barrier_heldout_reference_eV", "final_force_rmse_eV_per_A"))
    exam = read_json(path)
    n, by_reason = exam["n_exam_labels"], row["labels_by_reason"]
    counts = {key: row[key] + n for key in ("n_labels_total", "n_new_labels", "n_test")}
    bought = by_reason | {EXAM: by_reason.get(EXAM, 0) + n} if n else by_reason
    return row | exam | counts | {"labels_by_reason": bought}


def _held_out(context: Context, round_: int, hop: Hop | None) -> HeldOut:
    if context.plan.file.measure.barrier is False:
        return HeldOut(None, None, ("measure.barrier is switched off",))
    if hop is None:
        return HeldOut(None, None, ("no second hop is known; give system.heldout_hop",))
    if _left(context, round_) < N_HOP_LABELS:
        return HeldOut(None, None, ("no label is left in stop.max_labels",))
    models, kept = context.members(round_)[:1], context.folder.round(round_) / "exam-barrier.json"
    [found] = find_barriers(context, models, hop, kept, round_=round_, stage="exam: relax the held-out hop")
    if found.barrier_eV is None or found.saddle is None:
        return HeldOut(None, None, found.reasons)
    wanted = [
        (frame, _provenance(round_, f"{EXAM}/{name}", "hop"))
        for name, frame in (("minimum", found.minimum), ("saddle", found.saddle))
    ]
    labels = buy_labels(context, wanted, round_=round_, stage="exam: label the held-out hop")
    failed = tuple(f"label failed: {label.message}" for label in labels if not isinstance(label, Label))
    energies = [label.energy for label in labels if isinstance(label, Label)]
    reference_eV = None if failed else energies[1] - energies[0]
    return HeldOut(found.barrier_eV, reference_eV, (*found.reasons, *failed))


def _final_test(context: Context, round_: int) -> FinalTest:
    fresh = _drawn(context, round_)
    if isinstance(fresh, str):
        return FinalTest(None, 0, (fresh,))
    labels = buy_labels(context, fresh, round_=round_, stage="exam: label fresh frames")
    records = [
        Record(frame, label, origin)
        for (frame, origin), label in zip(fresh, labels, strict=True)
        if isinstance(label, Label)
    ]
    failed = tuple(f"label failed: {label.message}" for label in labels if not isinstance(label, Label))
    if not records:
        return FinalTest(None, 0, failed)
    models, stage = (context.foundation, context.members(round_)[0]), "exam: force error on fresh frames"
    foundation, model = force_errors_of(context, models, records, round_=round_, stage=stage)
    return FinalTest({"foundation": foundation, "model": model}, len(records), failed)


def _drawn(context: Context, round_: int) -> list[tuple[Frame, Provenance]] | str:
    """Fresh frames, drawn at random from the equilibrated part of the round's measuring MD, or why there are none."""
    settings = context.plan.file.measure.diffusion
    # A trajectory that died before its first chunk left nothing to read.
    folders = sorted({path.parent for path in (context.folder.round(round_) / "measure").glob("T*/chunk-0000.npz")})
    if settings is None or not folders:
        return "no molecular dynamics has measured a diffusivity in this round"
    pool = []
    for folder in folders:
        trajectory = read_trajectory(folder)
        pool += [
            (frame, _provenance(round_, f"{EXAM}/{folder.name} @ {time_ps:.2f} ps", folder.name))
            for frame, time_ps in zip(frames(trajectory), trajectory.times_ps, strict=True)
            if time_ps >= settings.equilibration_ps
        ]
    if not pool:
        return "no trajectory outlived its equilibration"
    left = _left(context, round_, besides=f"{EXAM}/round-{round_}/hop")
    n = min(N_EXAM_FRAMES, len(pool), left)
    if n < 1:
        return "no label is left in stop.max_labels"
    rng = np.random.default_rng(context.plan.seed_of(round_, Stage.EXAM))
    return [pool[i] for i in np.sort(rng.choice(len(pool), size=n, replace=False))]


def _provenance(round_: int, source: str, group: str) -> Provenance:
    return Provenance(round_, source, f"{EXAM}/round-{round_}/{group}", "test", EXAM)


def _left(context: Context, round_: int, *, besides: str | None = None) -> int:
    """Labels that the budget leaves to the exam of a round, counting those that it has bought before it was killed.

    Parameters
    ----------
    besides
        Group whose labels are spent already.
    """
    mine = f"{EXAM}/round-{round_}/"
    groups = [record.provenance.group for record in labelled(context)]
    spent = [group for group in groups if group == besides or not group.startswith(mine)]
    return context.plan.file.stop.max_labels - len(spent)
