"""Frames to replay, so that a model keeps what its foundation knew while it is fine-tuned, and frames to test it on.

They are frames of the foundation's own training set; or, where that is not to be had, any frames with the
foundation's own energies, forces and stresses for labels (pseudolabels). A pseudolabel's level of theory names the
foundation by its hash: replayed to another one it would teach what nobody knew.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from curator.datasets.extxyz import read_frames, read_own_records, read_records
from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.datasets.store import Store
from curator.learners.mace import REPLAY, MaceModel
from curator.learners.reference import MINI_HALIDES, own_frames

VALID_SHARE = 0.1
MAX_VALID = 16
"""Most validation frames to replay: they are looked at after every epoch, and choose nothing."""
PSEUDOLABEL = "foundation-pseudolabel"

Choice = Literal["random", "farthest", "elements"]


def replay_records(
    reference: str,
    elements: Sequence[int] | None,
    n: int | None,
    rng: np.random.Generator,
    *,
    choose: Choice = "random",
    model: MaceModel | None = None,
    pseudolabels: bool = False,
) -> tuple[list[Record], list[Record]]:
    """Choose training and validation frames to replay.

    Parameters
    ----------
    reference
        A foundation that brings its frames (`own_frames`), or the path of an extxyz file with labels of the
        foundation's level of theory; with ``pseudolabels``, of any file with structures.
    elements
        Keep frames made of these elements only; None keeps all.
    n
        Training frames to choose; a tenth as many, between 1 and 16, are chosen for validation. None takes all.
    rng
        Draws the frames, and splits a file that brings no validation frames.
    choose
        ``random``; ``farthest``: far apart in the model's mean node features (farthest-point sampling, begun at a
        random frame); ``elements``: as many, as far as they go, of each set of elements.
    model
        The foundation, for ``farthest`` and for pseudolabels.
    pseudolabels
        Whether the model labels the frames; labels they bring are not looked at.

    Raises
    ------
    ValueError
        If the choice is unknown, no frame is left, or the model is needed and missing.
    """
    if choose not in get_args(Choice):
        raise ValueError(f"unknown choice {choose!r} of replay frames; known are {', '.join(get_args(Choice))}")
    if model is None and (pseudolabels or choose == "farthest"):
        raise ValueError("pseudolabels and the farthest-point choice of replay frames need the foundation model")
    records = _structures(reference) if pseudolabels else _corpus(reference)
    if elements is not None:
        records = [record for record in records if set(record.frame.numbers.tolist()) <= set(elements)]
    if not records:
        raise ValueError(f"no replay frame in {reference} is made of the elements {sorted(elements or ())} only")
    train = [record for record in records if record.provenance.split == "train"]
    valid = [record for record in records if record.provenance.split == "valid"]
    if not valid:
        order = rng.permutation(len(train)).tolist()
        n_valid = min(max(1, round(VALID_SHARE * len(train))), len(train) - 1)
        valid, train = [train[i] for i in sorted(order[:n_valid])], [train[i] for i in sorted(order[n_valid:])]
    if not train:
        raise ValueError(f"{reference} holds {len(valid)} replay frames for validation and none to train on")
    if n is not None:
        if choose == "farthest":
            assert model is not None
            idx = _farthest(train, n, rng, model)
        else:
            idx = rng.permutation(len(train))[:n] if choose == "random" else _by_elements(train, n, rng)
        idx_valid = rng.permutation(len(valid))[: min(max(1, round(VALID_SHARE * n)), MAX_VALID)]
        train, valid = [train[i] for i in np.sort(idx)], [valid[i] for i in np.sort(idx_valid)]
    if pseudolabels:
        assert model is not None
        train, valid = pseudolabelled(train, model), pseudolabelled(valid, model)
    return train, valid


def pseudolabelled(records: Sequence[Record], foundation: MaceModel) -> list[Record]:
    """The same frames, labelled by the foundation's predicting head."""
    theory = _pseudolabel_key(foundation.hash)
    predictions = foundation.predict([record.frame for record in records], ("energy", "forces", "stress"))
    labelled = []
    for record, p in zip(records, predictions, strict=True):
        assert p.forces is not None
        labelled.append(dataclasses.replace(record, label=Label(p.energy, p.forces, p.stress, theory)))
    return labelled


def foundation_hash(base: MaceModel) -> str:
    """Hash of the model whose knowledge is replayed: the one that a replay head comes from, else the base itself."""
    replays = REPLAY in base.heads and len(base.heads) > 1
    known = base.metadata.get("foundation") if replays else None
    return base.hash if known is None else str(known)


def check_pseudolabels(records: Sequence[Record], foundation: str, *, required: bool) -> None:
    """Check that pseudolabels come from the foundation with this hash.

    Parameters
    ----------
    required
        Whether every label must be a pseudolabel; else other labels are let pass.

    Raises
    ------
    ValueError
        If one comes from somewhere else.
    """
    expected = _pseudolabel_key(foundation)
    for record in records:
        theory = record.label.theory
        if theory != expected and (required or theory.startswith(f"{PSEUDOLABEL}@")):
            raise ValueError(
                f"a replay frame has the label {theory}, not {expected} of the foundation {foundation[:12]}: replay "
                "of another model. Label the frames with this foundation, or start from theirs"
            )


def _pseudolabel_key(foundation: str) -> str:
    return Theory(method=PSEUDOLABEL, code="mace", hashes={"weights": foundation}).key


def probe_records(reference: str = MINI_HALIDES) -> list[Record]:
    """Frames of a foundation's own level of theory that it never saw, to measure forgetting; none if it brings none."""
    own = own_frames(reference)
    return [] if own is None else [record for record in _stored(own) if record.provenance.split == "test"]


def _corpus(reference: str) -> list[Record]:
    own = own_frames(reference)
    if own is not None:
        return [record for record in _stored(own) if record.provenance.split != "test"]
    path = Path(reference)
    try:
        return read_own_records(path)
    except ValueError:
        return read_records(path, theory=Theory(method="replay", code="file", settings={"file": path.name}))


def _stored(path: Path) -> list[Record]:
    with Store(path, "r") as store:
        return store.records()


def _structures(reference: str) -> list[Record]:
    """Frames of the corpus whose labels are zero, to be replaced."""
    if own_frames(reference) is not None:
        return _corpus(reference)
    path = Path(reference)
    origin = Provenance(-1, f"import/{path.name}", f"import/{path.name}", "train", "import")
    frames: dict[str, Frame] = {frame.hash: frame for frame in read_frames(path)}
    return [Record(frame, Label(0.0, np.zeros((len(frame), 3)), None, ""), origin) for frame in frames.values()]


def _by_elements(records: Sequence[Record], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal from each set of elements in turn, in random order within it."""
    sets: dict[tuple[int, ...], list[int]] = {}
    for idx in rng.permutation(len(records)).tolist():
        sets.setdefault(tuple(sorted(set(records[idx].frame.numbers.tolist()))), []).append(idx)
    turns = [(turn, idx) for members in sets.values() for turn, idx in enumerate(members)]
    return np.array([idx for _, idx in sorted(turns, key=lambda each: each[0])[:n]])


def _farthest(records: Sequence[Record], n: int, rng: np.random.Generator, model: MaceModel) -> NDArray[np.int64]:
    predictions = model.predict([record.frame for record in records], ("energy", "node_features"))
    features = [p.node_features.mean(axis=0) for p in predictions if p.node_features is not None]
    points = np.stack(features).astype(np.float64)
    idx = [int(rng.integers(len(points)))]
    distance = np.linalg.norm(points - points[idx[0]], axis=1)
    while len(idx) < min(n, len(points)):
        idx.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[idx[-1]], axis=1))
    return np.array(idx)
