"""Tasks of the selection with the shipped model: what they find travels between processes as pickles."""

import pickle
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from curator.datasets.extxyz import read_own_records, write_records
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.label import Label, Provenance, Record
from curator.learners.distance import fit_gate
from curator.learners.loop import TrainingDiverged
from curator.learners.mace import load_model
from curator.learners.replay import pseudolabelled
from curator.learners.strategies import strategy
from curator.tasks import (
    N_DIRECTIONS,
    ModelAt,
    TrainingJob,
    last_layer_of,
    last_layer_spread_of,
    predict_candidates,
    train_member,
)


@pytest.fixture(scope="module")
def model() -> ModelAt:
    return ModelAt(Path(str(files("curator.datasets.mini_halides"))), "cpu")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """The first is like its equilibrium, the last is not."""
    found = []
    for seed, rattle in enumerate((0.02, 0.1, 0.1, 0.3)):
        atoms = bulk("LiF", "rocksalt", a=4.05, cubic=True)
        atoms.rattle(rattle, seed=seed)
        found.append(frame_from_atoms(atoms))
    return found


@pytest.fixture
def train_file(tmp_path: Path, frames: list[Frame]) -> Path:
    provenance = Provenance(0, "test", "g", "train", "random")
    zeros = np.zeros((8, 3))
    write_records(
        tmp_path / "train.extxyz", [Record(frame, Label(0.0, zeros, None, "t"), provenance) for frame in frames[:2]]
    )
    return tmp_path / "train.extxyz"


def naive(model: ModelAt, train: Path, folder: Path, valid: Path | None = None, epochs: int = 1) -> TrainingJob:
    """Training of one member without replay."""
    return TrainingJob(
        base=model,
        train=train,
        valid=valid,
        replay_train=None,
        replay_valid=None,
        strategy=strategy("naive", max_epochs=epochs),
        e0="estimated",
        bootstrap=False,
        seed=0,
        out=folder / "model" / "member-0",
    )


def test_the_last_layer_is_the_same_for_whoever_looks(
    model: ModelAt, frames: list[Frame], train_file: Path, tmp_path: Path
) -> None:
    last_layer = pickle.loads(pickle.dumps(last_layer_of(model, train_file, (7, 1))))
    assert len(last_layer.directions) == N_DIRECTIONS
    np.testing.assert_array_equal(last_layer.directions, last_layer_of(model, train_file, (7, 1)).directions)

    write(tmp_path / "pool.extxyz", [atoms_from_frame(frame) for frame in frames], format="extxyz")
    candidates = predict_candidates(model, tmp_path / "pool.extxyz", 1, 4, (3, 9), last_layer)
    spreads = last_layer_spread_of(model, last_layer, frames)
    assert len(candidates) == 3
    for candidate, spread in zip(candidates, spreads[1:], strict=True):
        assert candidate.spread == pytest.approx(spread, rel=1e-3)
    assert spreads[3].mean() > spreads[0].mean()


def test_without_a_last_layer_there_is_no_spread(model: ModelAt, frames: list[Frame], tmp_path: Path) -> None:
    write(tmp_path / "pool.extxyz", [atoms_from_frame(frame) for frame in frames], format="extxyz")
    candidates = predict_candidates(model, tmp_path / "pool.extxyz", 0, 2, (3, 9))
    assert [candidate.spread for candidate in candidates] == [None, None]
    (features,) = {candidate.node_features.shape[1] for candidate in candidates}
    assert candidates[0].descriptor.shape == (3 * 2 * features,)

    gate = fit_gate(candidates[0].node_features, frames[0].numbers)
    again = pickle.loads(pickle.dumps(gate))
    there = candidates[1].node_features, frames[1].numbers
    np.testing.assert_array_equal(again.distance(*there), gate.distance(*there))
    assert again.limit == gate.limit


def test_members_replay_what_the_foundation_says(model: ModelAt, frames: list[Frame], tmp_path: Path) -> None:
    """Also when training starts from the last round's model; and labels of any other origin are refused."""
    foundation = model.load()
    bare = [
        Record(f, Label(0.0, np.zeros((8, 3)), None, "t"), Provenance(0, "t", "g", "train", "random")) for f in frames
    ]
    labelled = pseudolabelled(bare, foundation)
    for name, part in (("train", labelled[:2]), ("valid", labelled[2:]), ("wrong", bare[:2])):
        write_records(tmp_path / f"{name}.extxyz", part)
    job = replace(
        naive(model, tmp_path / "train.extxyz", tmp_path, valid=tmp_path / "valid.extxyz"),
        replay_train=tmp_path / "train.extxyz",
        replay_valid=tmp_path / "valid.extxyz",
        strategy=strategy("pseudolabel_replay", max_epochs=1, learning_rate=1e-6),
        e0={3: foundation.e0s()[3]},
    )
    for round_ in range(2):
        job = replace(job, seed=round_, out=tmp_path / f"round-{round_}" / "member-0")
        member = train_member(pickle.loads(pickle.dumps(job)))
        assert member.valid_force_rmse["replay"] < 1e-3
        assert member.e0[3] == foundation.e0s()[3]
        job = replace(job, base=ModelAt(job.out, "cpu"))
        assert job.base.load().metadata["foundation"] == foundation.hash
    with pytest.raises(ValueError, match="replay of another model"):
        train_member(replace(job, replay_train=tmp_path / "wrong.extxyz", out=tmp_path / "round-2" / "member-0"))


def test_divergence_leaves_the_last_good_weights_beside(model: ModelAt, train_file: Path, tmp_path: Path) -> None:
    records = read_own_records(train_file)
    absurd = replace(records[0].label, forces=np.full((8, 3), 1e39))  # numbers, but not in single precision
    write_records(train_file, [replace(records[0], label=absurd), records[1]])
    job = naive(model, train_file, tmp_path, valid=train_file)
    with pytest.raises(TrainingDiverged, match=records[0].frame.hash[:12]):
        train_member(job)
    kept = load_model(tmp_path / "model" / "member-0-diverged").predict([records[1].frame])[0]
    np.testing.assert_allclose(kept.forces, model.load().predict([records[1].frame])[0].forces, atol=1e-6)
    assert not job.out.exists()


def test_there_may_be_nothing_to_validate_with(model: ModelAt, train_file: Path, tmp_path: Path) -> None:
    member = train_member(naive(model, train_file, tmp_path, epochs=2))
    assert (member.epochs, member.valid_force_rmse) == (2, {})


def test_a_member_is_read_again_only_if_it_was_trained_so(model: ModelAt, train_file: Path, tmp_path: Path) -> None:
    job = naive(model, train_file, tmp_path, epochs=2)
    member = train_member(job)
    written = (job.out / "model.safetensors").stat().st_mtime_ns
    assert train_member(job) == member
    assert (job.out / "model.safetensors").stat().st_mtime_ns == written
    other = train_member(naive(model, train_file, tmp_path, epochs=1))
    assert (other.epochs, load_model(job.out).metadata["strategy"]["max_epochs"]) == (1, 1)
