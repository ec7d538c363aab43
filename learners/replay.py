"""Frames of a foundation's own training set, to keep learning while it is fine-tuned, and frames to test it on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curator.datasets.extxyz import read_own_records, read_records
from curator.datasets.label import Record, Theory
from curator.learners.foundation import MINI_HALIDES
from curator.learners.mace import MaceModel

VALID_SHARE = 0.1


def replay_records(
    reference: str,
    elements: Sequence[int] | None,
    n: int | None,
    rng: np.random.Generator,
    *,
    model: MaceModel | None = None,
) -> tuple[list[Record], list[Record]]:
    """Choose training and validation frames to replay.

    Parameters
    ----------
    reference
        ``mini-halides``, or the path of an extxyz file with labels of the foundation's level of theory.
    elements
        Keep frames made of these elements only; None keeps all.
    n
        Training frames to choose; a tenth as many, at least one, are chosen for validation. None takes all.
    rng
        Draws the frames, and splits a file that brings no validation frames.
    model
        Choose training frames that are far apart in its mean node features (farthest-point sampling, begun at a
        random frame), not at random.

    Raises
    ------
    ValueError
        If no frame is left.
    """
    records = _corpus(reference)
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
    if n is None:
        return train, valid
    idx = rng.permutation(len(train))[:n] if model is None else _farthest(train, n, rng, model)
    idx_valid = rng.permutation(len(valid))[: max(1, round(VALID_SHARE * n))]
    return [train[i] for i in np.sort(idx)], [valid[i] for i in np.sort(idx_valid)]


def probe_records() -> list[Record]:
    """Frames of the corpus of ``mini-halides`` that no training ever saw, to measure forgetting."""
    from curator.datasets.mini_halides import frames

    return frames.probe_records()


def _corpus(reference: str) -> list[Record]:
    if reference == MINI_HALIDES:
        from curator.datasets.mini_halides import frames

        return frames.replay_records()
    path = Path(reference)
    try:
        return read_own_records(path)
    except ValueError:
        return read_records(path, theory=Theory(method="replay", code="file", settings={"file": path.name}))


def _farthest(records: Sequence[Record], n: int, rng: np.random.Generator, model: MaceModel) -> np.ndarray:
    predictions = model.predict([record.frame for record in records], ("energy", "node_features"))
    features = [p.node_features.mean(axis=0) for p in predictions if p.node_features is not None]
    points = np.stack(features).astype(np.float64)
    idx = [int(rng.integers(len(points)))]
    distance = np.linalg.norm(points - points[idx[0]], axis=1)
    while len(idx) < min(n, len(points)):
        idx.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[idx[-1]], axis=1))
    return np.array(idx)
