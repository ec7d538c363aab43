"""Frames to replay, so that a model keeps what its foundation knew while it is fine-tuned, and frames to test it on.

They are frames of the foundation's own training set; or, where that is not to be had, any frames with the
foundation's own energies, forces and stresses for labels (pseudolabels). A pseudolabel's level of theory names the
foundation by its hash: replayed to another one it would teach what nobody knew.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from curator.datasets.extxyz import read_frames, read_own_records, read_own_theory, read_records
from curator.datasets.frame import Frame
from curator.datasets.isolated import is_isolated
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.datasets.mini_halides.frames import GENERATIONS, folder_of, theory
from curator.datasets.store import Store
from curator.datasets.theories import method_of
from curator.learners.farthest import farthest_points
from curator.learners.mace import REPLAY, TARGET, MaceModel
from curator.learners.metrics import energy_rmse_per_atom
from curator.learners.reference import MINI_HALIDES, own_frames

VALID_SHARE = 0.1
MAX_VALID = 16
"""Most validation frames to replay: they are looked at after every epoch, and choose nothing."""
PSEUDOLABEL = "foundation-pseudolabel"
UNTOLD = ("file", "replay")
"""Names of levels of theory that nobody has told."""
N_CHECKED = 64
"""Frames to replay whose energies are compared with the foundation's."""
MAX_ERROR_eV_PER_ATOM = 0.5
"""No foundation is this far off the energies of frames that it was trained on, as RMS; mini-halides is 0.014 off, its
small editions up to 0.031."""

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
        If the choice is unknown, no frame is left, or the model is needed and missing; if labels are of several levels
        of theory, or of another than the model has learnt, as far as that is known; or if its energies are more than
        ``MAX_ERROR_eV_PER_ATOM`` off them.
    """
    if choose not in get_args(Choice):
        raise ValueError(f"unknown choice {choose!r} of replay frames; known are {', '.join(get_args(Choice))}")
    if model is None and (pseudolabels or choose == "farthest"):
        raise ValueError("pseudolabels and the farthest-point choice of replay frames need the foundation model")
    records = _structures(reference) if pseudolabels else _corpus(reference)
    if elements is not None:
        records = [record for record in records if set(record.frame.numbers.tolist()) <= set(elements)]
    if not records:
        symbols = ", ".join(chemical_symbols[z] for z in sorted(elements or ()))
        raise ValueError(f"no replay frame in {reference} is made of the elements {symbols} only")
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
    elif model is not None and own_frames(reference) is None:
        check_learnt([*train, *valid], model, reference)
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


def check_learnt(records: Sequence[Record], base: MaceModel, where: str) -> None:
    """Check that labels to replay are of what a foundation has learnt.

    Parameters
    ----------
    where
        What holds them, for the message.

    Raises
    ------
    ValueError
        If their level of theory is known to be another, or the energies tell: a foundation is within some 0.03 eV/atom
        of frames that it was trained on.
    """
    foundation, learnt = foundation_hash(base), _theories_learnt(base)
    for key in dict.fromkeys(record.label.theory for record in records):
        method = method_of(key)
        if key in learnt or key == Theory(method, "mace", hashes={"weights": foundation}).key or method in UNTOLD:
            continue
        if method.startswith((PSEUDOLABEL, "mace-", MINI_HALIDES)):
            raise ValueError(
                f"{where}: labels of {key}, which is not the foundation {foundation[:12]}: replay of another model. "
                "Label the frames with this foundation, or start from theirs"
            )
        if learnt and method not in {method_of(known) for known in learnt}:
            raise ValueError(
                f"{where}: labels of {key}, and the foundation has learnt {', '.join(learnt)}; replay frames of that "
                "level of theory, or take pseudolabel_replay, which needs no labels"
            )
    replayed = base.with_head(REPLAY) if REPLAY in base.heads else base
    some = [record for record in records if not is_isolated(record.frame)][:N_CHECKED]
    error = energy_rmse_per_atom(replayed.predict([record.frame for record in some], ("energy",)), some)
    if error > MAX_ERROR_eV_PER_ATOM:
        raise ValueError(
            f"{where}: the foundation's energies are {error:.2f} eV/atom off these labels, and within some 0.03 of "
            "frames that it has learnt; they are of another level of theory or in other units. Replay its own "
            "training frames, or take pseudolabel_replay, which needs no labels"
        )


def _theories_learnt(base: MaceModel) -> list[str]:
    """Levels of theory of the labels that are to be kept, as far as the model or its name tells them."""
    for name in (MINI_HALIDES, *GENERATIONS):
        if base.hash == json.loads((folder_of(name) / "model.json").read_text())["hash"]:
            return [theory(name).key]
    told: Any = base.metadata.get("theories") or {}
    if REPLAY in base.heads and len(base.heads) > 1:
        learnt = told.get(REPLAY, {})
    else:
        # What was fine-tuned had learnt something else before.
        learnt = told.get(TARGET, {}) if base.metadata.get("base") is None else {}
    return [key for key in learnt if method_of(key) not in (*UNTOLD, PSEUDOLABEL)]


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
    if read_own_theory(path) is not None:
        return [r for r in read_own_records(path) if not is_isolated(r.frame) and r.provenance.split != "test"]
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
    first = int(rng.integers(len(points)))
    idx, _ = farthest_points(points, points[first : first + 1], n - 1)
    return np.concatenate([[first], idx])
