"""The stage of a round that chooses what to label: where the model is likely to be wrong, and what it has not seen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ase.io import write
from numpy.typing import NDArray

from curator.backends.executor import Task
from curator.context import Context, labelled, run_tasks, values_of
from curator.datasets.atomic import atomic_path
from curator.datasets.frame import Frame, atoms_from_frame
from curator.explore import Candidate
from curator.learners.distance import FeatureGate, fit_gate, outside
from curator.selection import Selection, pca_map, select
from curator.state import Stage, read_json, write_json
from curator.tasks import CandidatePrediction, last_layer_of, predict_candidates
from curator.uncertainty import Calibration, calibrate_from, committee_spread, frame_score

if TYPE_CHECKING:
    from curator.learners.last_layer import LastLayer

PREDICT_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Frames that a round will label.

    Attributes
    ----------
    idx
        Indices into the candidates of the round.
    reasons
        Why each was chosen.
    forces
        Forces in eV/Å of each by the models of the previous round, shape ``(n_members, n_atoms, 3)``: by all members
        if the committee is what tells how uncertain they are, else by the first.
    spread
        Spread at each atom of each, shape ``(n_atoms,)``; None where nothing gives one, as before the first training.
    """

    idx: tuple[int, ...]
    reasons: tuple[str, ...]
    forces: tuple[NDArray[np.float64], ...]
    spread: tuple[NDArray[np.float64], ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Predicted:
    """What the models of the previous round say of all candidates, and of the frames labelled before."""

    candidates: list[CandidatePrediction]
    known: list[CandidatePrediction]
    forces: list[NDArray[np.float64]]
    spread: list[NDArray[np.float64]] | None


def choose(context: Context, round_: int, candidates: Sequence[Candidate], n_select: int) -> Chosen:
    """Choose what to label: a random share, then what is uncertain and different from what is labelled."""
    folder = context.folder.round(round_)
    out, arrays = folder / "selection.json", folder / "selection.npz"
    if not out.exists():
        _choose(context, round_, candidates, n_select)
    content = read_json(out)
    every = range(len(content["idx"]))
    with np.load(arrays) as stored:
        forces = tuple(stored[f"forces_{i}"] for i in every)
        has_spread = all(f"spread_{i}" in stored for i in every)
        spread = tuple(stored[f"spread_{i}"] for i in every) if has_spread else None
    return Chosen(tuple(content["idx"]), tuple(content["reasons"]), forces, spread)


def _choose(context: Context, round_: int, candidates: Sequence[Candidate], n_select: int) -> None:
    settings = context.plan.file.select
    known = _frames_for_distance(context)
    predicted = _predict(context, round_, candidates, known)
    descriptors = np.array([prediction.descriptor for prediction in predicted.candidates])
    labelled = np.array([prediction.descriptor for prediction in predicted.known]).reshape(-1, descriptors.shape[1])

    # The foundation was not trained on the few frames that are labelled before round 0: all would be outside.
    gate = _gate(predicted.known, known) if round_ > 0 and known else None
    far = None
    if gate is not None:
        frames = [candidate.frame for candidate in candidates]
        far = outside(gate, [p.node_features for p in predicted.candidates], [frame.numbers for frame in frames])
    calibration = None if predicted.spread is None else calibration_before(context, round_)
    scores = None
    if predicted.spread is not None and settings.method == "uncertain+fps":
        errors = predicted.spread if calibration is None else [calibration(spread) for spread in predicted.spread]
        scores = np.array([frame_score(error) for error in errors])
    selection = select(
        descriptors,
        labelled,
        scores,
        outside=far,
        near_hop=np.array([candidate.near_hop for candidate in candidates]),
        hop_share=settings.hop_share,
        n_select=n_select,
        random_share=1.0 if settings.method == "random" else settings.random_share,
        rng=np.random.default_rng(context.plan.seed_of(round_, Stage.SELECT)),
        groups=[candidate.group for candidate in candidates],
    )
    folder = context.folder.round(round_)
    _save_arrays(folder / "selection.npz", selection, predicted, descriptors, labelled, far)
    write_json(
        folder / "selection.json",
        {
            "n_candidates": len(candidates),
            "idx": [int(i) for i in selection.idx],
            "reasons": list(selection.reasons),
            "scores": [float(score) for score in selection.scores],
            "hashes": [candidates[i].frame.hash for i in selection.idx],
            "calibration": None if calibration is None else asdict(calibration),
            "distance_limit": None if gate is None else gate.limit,
            "n_outside": None if far is None else int(far.sum()),
            "outside": None if far is None else far[selection.idx].tolist(),
        },
    )


def _save_arrays(
    path: Path,
    selection: Selection,
    predicted: _Predicted,
    descriptors: NDArray[np.float64],
    labelled: NDArray[np.float64],
    far: NDArray[np.bool_] | None,
) -> None:
    chart = pca_map(descriptors, labelled)
    reason_of = dict(zip((int(i) for i in selection.idx), selection.reasons, strict=True))
    arrays: dict[str, Any] = {
        "map_xy": chart.xy,
        "map_labelled_xy": chart.labelled_xy,
        "map_explained": chart.explained,
        "map_reason": np.array([reason_of.get(i, "") for i in range(len(chart.xy))]),
    }
    if far is not None:
        arrays["map_outside"] = far
    for k, i in enumerate(selection.idx):
        arrays[f"forces_{k}"] = predicted.forces[i]
        if predicted.spread is not None:
            arrays[f"spread_{k}"] = predicted.spread[i]
    with atomic_path(path) as aside:
        np.savez(aside, **arrays)


def _predict(context: Context, round_: int, candidates: Sequence[Candidate], known: Sequence[Frame]) -> _Predicted:
    folder = context.folder.round(round_) / "explore"
    files = {"candidates": folder / "candidates.extxyz", "known": folder / "known.extxyz"}
    with atomic_path(files["known"]) as aside:
        write(aside, [atoms_from_frame(frame) for frame in known], format="extxyz")
    members, last_layer = context.members(round_ - 1), None
    if context.plan.file.select.uncertainty == "last_layer":
        members = members[:1]
        # How the foundation's may move depends on frames that a campaign does not have.
        last_layer = last_layer_after(context, round_ - 1) if round_ > 0 else None
    frames = [*(candidate.frame for candidate in candidates), *known]
    elements = sorted({int(number) for frame in frames for number in frame.numbers})
    wanted = [(member, "candidates", len(candidates)) for member in range(len(members))] + [(0, "known", len(known))]
    tasks, places = [], []
    for member, name, n in wanted:
        for start in range(0, n, PREDICT_BATCH):
            batch = (members[member], files[name], start, min(n, start + PREDICT_BATCH), elements)
            free = last_layer if name == "candidates" else None
            tasks.append(Task(predict_candidates, (*batch, free), f"predict {name}"))
            places.append((member, name))
    outcomes = run_tasks(context, "md", tasks, round_=round_, stage="select: uncertainty and descriptors")
    parts: dict[tuple[int, str], list[CandidatePrediction]] = {(member, name): [] for member, name, _ in wanted}
    for place, value in zip(places, values_of(outcomes, "prediction on candidates"), strict=True):
        parts[place].extend(cast(list[CandidatePrediction], value))
    first = parts[0, "candidates"]
    by_member = [parts[member, "candidates"] for member in range(len(members))]
    forces = [np.array([of_member[i].forces for of_member in by_member]) for i in range(len(first))]
    spread = None
    if last_layer is not None:
        spread = [prediction.spread for prediction in first if prediction.spread is not None]
    elif len(members) > 1:
        spread = [committee_spread(of_frame) for of_frame in forces]
    return _Predicted(first, parts[0, "known"], forces, spread)


def last_layer_after(context: Context, round_: int) -> "LastLayer":
    """How the last layer of a round's first member may move; found once, from the frames that it was trained on."""
    from curator.learners.last_layer import LastLayer

    folder = context.folder.round(round_) / "model"
    path = folder / "last-layer.npz"
    if not path.exists():
        # Index 0 of the stage is the random share's.
        seed = context.plan.seed_of(round_, Stage.SELECT, 1)
        task = Task(last_layer_of, (context.members(round_)[0], folder / "train.extxyz", seed), "last layer")
        outcomes = run_tasks(context, "md", [task], round_=round_, stage="measure: freedom of the last layer")
        found = cast(LastLayer, values_of(outcomes, "finding how free the last layer is")[0])
        with atomic_path(path) as aside:
            np.savez(aside, directions=found.directions, model_hash=np.array(found.model_hash))
    with np.load(path) as stored:
        return LastLayer(stored["directions"], str(stored["model_hash"]))


def _gate(known: Sequence[CandidatePrediction], frames: Sequence[Frame]) -> FeatureGate:
    features = np.concatenate([prediction.node_features for prediction in known])
    return fit_gate(features, np.concatenate([frame.numbers for frame in frames]))


def _frames_for_distance(context: Context) -> list[Frame]:
    """Labelled frames that a new one should differ from.

    Test frames must not steer the selection, and contacts are so far from everything that they would set its scale.
    """
    records = [record for record in labelled(context) if record.provenance.split != "test"]
    return [record.frame for record in records if record.provenance.reason != "contact"]


def calibration_before(context: Context, round_: int) -> Calibration | None:
    """Map from spread to force error, from the errors seen before a round (`curator.uncertainty.calibrate_from`)."""
    evidence = {}
    for earlier in range(round_):
        with np.load(context.folder.round(earlier) / "evidence.npz") as stored:
            evidence[earlier] = dict(stored)
    return calibrate_from(evidence, context.plan.file.select.uncertainty)
