import dataclasses
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from curator.datasets.extxyz import read_own_records, write_records
from curator.datasets.label import Label, Record
from curator.learners.architecture import Architecture
from curator.learners.base import TrainEvent, check_learner
from curator.learners.loop import TrainingRun
from curator.learners.mace import MaceModel
from curator.learners.metrics import energy_rmse_per_atom, force_rmse
from curator.learners.samples import Sample
from curator.learners.strategies import strategy
from curator.learners.train import FitReport, fit

TINY = Architecture(
    (3, 9), r_max=3.5, hidden_irreps="8x0e", mlp_irreps="4x0e", radial_mlp=(8,), pair_repulsion=True, max_ell=1
)
SCRATCH = strategy("scratch", max_epochs=20, learning_rate=0.03, batch_size=2)
Fitted = tuple[MaceModel, FitReport]


@pytest.fixture(scope="module")
def fitted(records: list[Record]) -> Fitted:
    return fit(None, records[:12], records[12:], SCRATCH, seed=1, architecture=TINY)


@pytest.fixture(scope="module")
def shifted(records: list[Record]) -> list[Record]:
    """The same frames at another level of theory: other atoms' energies, softer forces."""
    return [
        Record(
            r.frame,
            Label(
                0.9 * r.label.energy + sum({3: 1.5, 9: -0.5}[int(z)] for z in r.frame.numbers),
                0.9 * r.label.forces,
                None if r.label.stress is None else 0.9 * r.label.stress,
                "other",
            ),
            r.provenance,
        )
        for r in records
    ]


def test_from_scratch_learns_a_classical_potential(fitted: Fitted, records: list[Record]) -> None:
    model, report = fitted
    valid = records[12:]
    predictions = model.predict([r.frame for r in valid], ("energy", "forces", "stress"))
    reference = np.sqrt(np.mean(np.concatenate([r.label.forces for r in valid]) ** 2))
    assert force_rmse(predictions, valid) < 0.3 * reference
    assert energy_rmse_per_atom(predictions, valid) < 0.05
    # What the report says of the returned weights is what they do.
    assert report.valid_force_rmse["target"] == pytest.approx(force_rmse(predictions, valid), rel=1e-4)
    assert report.valid_energy_rmse["target"] == pytest.approx(energy_rmse_per_atom(predictions, valid), rel=1e-3)


def test_report_tells_of_the_run(fitted: Fitted) -> None:
    model, report = fitted
    assert report.epochs == len(report.curve) == 20
    assert report.valid_force_rmse == report.curve[report.best_epoch - 1].valid_force_rmse
    assert report.n_parameters == report.n_trainable == sum(p.numel() for p in model.module.parameters())
    assert report.cpu_s > 0
    assert report.curve[0].learning_rate == SCRATCH.learning_rate
    assert report.curve[1].learning_rate == pytest.approx(SCRATCH.learning_rate * SCRATCH.lr_decay)
    assert model.metadata["base"] is None
    assert model.metadata["n_train"] == 12


def test_conforms(records: list[Record]) -> None:
    quick = dataclasses.replace(SCRATCH, max_epochs=4)

    def learn(train: object, valid: object, seed: int) -> MaceModel:
        return fit(None, train, valid, quick, seed=seed, architecture=TINY)[0]  # type: ignore[arg-type]

    check_learner(learn, records[:6], records[12:14])


def test_target_head_starts_with_its_own_atomic_energies(fitted: Fitted, shifted: list[Record]) -> None:
    """Stock mace 0.3.16 overwrites re-estimated E0s with the foundation's where the element sets agree."""
    base, _ = fitted
    train, valid = shifted[:12], shifted[12:]
    before = energy_rmse_per_atom(base.predict([r.frame for r in valid]), valid)
    assert before > 0.5
    for name in ("naive", "multihead_replay"):
        plan = strategy(name, max_epochs=0)
        model, report = fit(base, train, valid, plan, seed=0, replay_train=train, replay_valid=valid)
        after = energy_rmse_per_atom(model.predict([r.frame for r in valid]), valid)
        assert after < 0.1 * before
        assert report.start_energy_rmse["target"] == pytest.approx(after, rel=1e-3)
        assert (report.epochs, report.best_epoch) == (0, 0)
        # The module itself holds the same E0s, for export.
        stored = model.module.atomic_energies_fn.atomic_energies
        np.testing.assert_allclose(stored[0], [report.e0.values[z] for z in (3, 9)], rtol=1e-6)


def test_multihead_replay_learns_the_target_and_keeps_the_foundation(
    fitted: Fitted, records: list[Record], shifted: list[Record]
) -> None:
    base, base_report = fitted
    plan = strategy("multihead_replay", max_epochs=6, learning_rate=0.01, batch_size=2)
    replay = {"replay_train": records[:12], "replay_valid": records[12:]}
    model, report = fit(base, shifted[:8], shifted[12:], plan, seed=0, **replay)
    assert model.heads == ("target", "replay")
    assert model.head == "target"
    assert model.with_head("replay").e0s() == base.e0s()
    assert report.start_force_rmse["replay"] == pytest.approx(base_report.valid_force_rmse["target"], rel=1e-4)
    assert report.valid_force_rmse["target"] < 0.9 * report.start_force_rmse["target"]
    assert report.valid_force_rmse["replay"] < 1.2 * report.start_force_rmse["replay"]
    assert set(report.curve[0].valid_force_rmse) == {"target", "replay"}

    again, warm = fit(
        model,
        shifted[:8],
        shifted[12:],
        plan,
        seed=0,
        replay_train=records[:12],
        replay_valid=records[12:],
        e0="foundation",
    )
    assert again.heads == ("target", "replay")
    assert again.e0s() == model.e0s()
    assert again.with_head("replay").e0s() == base.e0s()
    assert warm.start_force_rmse == pytest.approx(report.valid_force_rmse, rel=1e-4)


def test_replayed_frames_are_drawn_anew_for_each_epoch(
    fitted: Fitted, records: list[Record], shifted: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the target's frames in each epoch, some of the others, and the same ones when a run is taken up again."""
    plan = strategy("multihead_replay", max_epochs=4, batch_size=2, replay_per_epoch=3)
    step, epochs = TrainingRun._step, list[list[tuple[int, str]]]()

    def spied(run: TrainingRun, samples: Sequence[Sample]) -> float:
        epochs[len(run.curve)] += [(sample.head, sample.origin) for sample in samples]
        return step(run, samples)

    monkeypatch.setattr(TrainingRun, "_step", spied)

    def run(**options: object) -> str:
        epochs[:] = [[] for _ in range(4)]
        replay = {"replay_train": records[:12], "replay_valid": records[12:]}
        return fit(fitted[0], shifted[:5], shifted[12:], plan, seed=0, **replay, **options)[0].hash  # type: ignore[arg-type]

    def stop(event: TrainEvent) -> None:
        if event.epoch == 2:
            raise KeyboardInterrupt

    undisturbed = run()
    seen = [[{name for head, name in epoch if head == k} for epoch in epochs] for k in (0, 1)]
    assert [len(epoch) for epoch in seen[0]] == [5] * 4
    assert [len(epoch) for epoch in seen[1]] == [3] * 4
    assert len(set().union(*seen[1])) > 5
    checkpoint = {"checkpoint": tmp_path / "checkpoint", "checkpoint_interval_s": 0.0}
    with pytest.raises(KeyboardInterrupt):
        run(on_event=stop, **checkpoint)
    assert run(**checkpoint) == undisturbed
    assert [{name for head, name in epoch if head == 1} for epoch in epochs[2:]] == seen[1][2:]


def test_base_is_left_alone(fitted: Fitted, shifted: list[Record]) -> None:
    base, _ = fitted
    before = base.predict([shifted[0].frame])[0]
    model, _ = fit(base, shifted[:4], [], strategy("naive", max_epochs=1), seed=0)
    after = base.predict([shifted[0].frame])[0]
    assert before.energy == after.energy
    assert model.hash != base.hash
    assert not any(p.requires_grad for p in (*base.module.parameters(), *model.module.parameters()))


def test_only_the_trainable_parameters_change(fitted: Fitted, shifted: list[Record]) -> None:
    base, _ = fitted
    plan = strategy("naive", max_epochs=1, trainable=("readouts.", "products."))
    model, report = fit(base, shifted[:4], [], plan, seed=0)
    changed = {
        name
        for (name, one), other in zip(model.module.named_parameters(), base.module.parameters(), strict=True)
        if not torch.equal(one, other)
    }
    assert changed
    assert all(name.startswith(("readouts.", "products.")) for name in changed)
    assert report.n_trainable == sum(
        p.numel() for name, p in base.module.named_parameters() if name.startswith(("readouts.", "products."))
    )
    with pytest.raises(ValueError, match="trains nothing"):
        fit(base, shifted[:4], [], strategy("naive", trainable=("nothing",)), seed=0)


def test_anchor_differences_are_learned(fitted: Fitted, records: list[Record]) -> None:
    """A group loss brings energy differences right that the plain loss leaves wrong."""
    base, _ = fitted
    anchors = []
    for i, record in enumerate(records[:8:2]):
        label = dataclasses.replace(record.label, energy=record.label.energy + 0.05 * (-1) ** i)
        provenance = dataclasses.replace(record.provenance, reason="anchor", group="hop")
        anchors.append(Record(record.frame, label, provenance))

    def difference_error(weight: float) -> float:
        plan = strategy("naive", max_epochs=30, difference=weight, learning_rate=3e-3)
        model, _ = fit(base, anchors, [], plan, seed=0)
        errors = [
            p.energy - r.label.energy for p, r in zip(model.predict([r.frame for r in anchors]), anchors, strict=True)
        ]
        return float(np.std(errors))

    assert difference_error(100.0) < 0.5 * difference_error(0.0)


RUN = """
from pathlib import Path
import torch
from curator.datasets.extxyz import read_own_records
from curator.learners.architecture import Architecture
from curator.learners.strategies import strategy
from curator.learners.train import fit

torch.set_num_threads(1)
records = read_own_records(Path("records.extxyz"))
fit(
    None,
    records[:12],
    records[12:],
    strategy("scratch", max_epochs=20, learning_rate=0.03, batch_size=2),
    seed=1,
    architecture=Architecture(
        (3, 9), r_max=3.5, hidden_irreps="8x0e", mlp_irreps="4x0e", radial_mlp=(8,), pair_repulsion=True, max_ell=1
    ),
    checkpoint=Path("checkpoint"),
    checkpoint_interval_s=0.0,
    on_event=lambda event: print(event.epoch, flush=True),
)
"""


def test_killed_run_goes_on_to_the_same_weights(fitted: Fitted, records: list[Record], tmp_path: Path) -> None:
    undisturbed, report = fitted
    write_records(tmp_path / "records.extxyz", records)
    assert [r.label.energy for r in read_own_records(tmp_path / "records.extxyz")] == [r.label.energy for r in records]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RUN],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "7":
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    checkpoint = tmp_path / "checkpoint"
    n_saved = len(torch.load(checkpoint, weights_only=True)["curve"])
    assert 7 <= n_saved < 20

    events: list[TrainEvent] = []
    continued, again = fit(
        None,
        records[:12],
        records[12:],
        SCRATCH,
        seed=1,
        architecture=TINY,
        checkpoint=checkpoint,
        on_event=events.append,
    )
    assert [event.epoch for event in events] == list(range(n_saved + 1, 21))
    assert continued.hash == undisturbed.hash
    assert again.curve == report.curve
    assert again.best_epoch == report.best_epoch


def test_finished_run_is_not_repeated(records: list[Record], tmp_path: Path) -> None:
    events: list[TrainEvent] = []
    plan = dataclasses.replace(SCRATCH, max_epochs=2)

    def run(n_train: int = 4, seed: int = 1) -> MaceModel:
        return fit(
            None,
            records[:n_train],
            records[12:],
            plan,
            seed=seed,
            architecture=TINY,
            checkpoint=tmp_path / "folder" / "checkpoint",
            on_event=events.append,
        )[0]

    first = run()
    assert len(events) == 2
    assert run().hash == first.hash
    assert len(events) == 2
    # Other data or another seed make another run, which does not go on from this checkpoint.
    assert run(n_train=5).hash != first.hash
    assert len(events) == 4
    assert run(n_train=5, seed=2).hash != first.hash
    assert len(events) == 6


def test_checkpoint_runs_no_code(records: list[Record], tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    checkpoint = tmp_path / "checkpoint"
    torch.save({"key": Bomb()}, checkpoint)
    with pytest.raises(pickle.UnpicklingError):
        fit(None, records[:2], [], SCRATCH, seed=1, architecture=TINY, checkpoint=checkpoint)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("keep", ["best", "newest"])
def test_kept_weights_are_the_best_or_the_newest_that_are_as_good(records: list[Record], keep: str) -> None:
    plan = dataclasses.replace(SCRATCH, max_epochs=12, keep=keep)
    valid = records[12:]
    _, report = fit(None, records[:12], valid, plan, seed=0, architecture=TINY)
    errors = np.array([event.valid_force_rmse["target"] for event in report.curve])
    assert report.valid_force_rmse["target"] == errors[report.best_epoch - 1]
    if keep == "best":
        assert report.best_epoch == 1 + errors.argmin()
        return
    assert report.best_epoch >= 1 + errors.argmin()
    # No later epoch is within the standard error of the lowest error, which is a fraction of it for four frames.
    assert errors[report.best_epoch - 1] < 1.5 * errors.min()
    assert all(errors[report.best_epoch :] > errors[report.best_epoch - 1])


def test_early_stopping_returns_the_best_weights(fitted: Fitted, records: list[Record]) -> None:
    base, _ = fitted
    # At such a learning rate the model only gets worse: what comes back is the start.
    plan = strategy("naive", learning_rate=0.3, schedule="constant", max_epochs=50, patience=3)
    model, report = fit(base, records[:4], records[12:], plan, seed=0, e0="foundation")
    assert (report.epochs, report.best_epoch) == (3, 0)
    np.testing.assert_allclose(
        model.predict([records[0].frame])[0].forces, base.predict([records[0].frame])[0].forces, atol=1e-6
    )


def test_one_frame_and_no_validation(records: list[Record]) -> None:
    plan = dataclasses.replace(SCRATCH, max_epochs=2, batch_size=1)
    model, report = fit(None, records[:1], [], plan, seed=0, architecture=TINY)
    assert (report.epochs, report.best_epoch) == (2, 2)
    assert report.valid_force_rmse == {}
    assert np.isfinite(model.predict([records[0].frame])[0].energy)


def test_default_architecture_knows_the_elements_of_the_data(records: list[Record]) -> None:
    model, _ = fit(None, records[:2], [], dataclasses.replace(SCRATCH, max_epochs=1), seed=0)
    assert model.elements == (3, 9)
    assert model.architecture.pair_repulsion
    counts = [len(model.graph(r.frame).edge_index[0]) / len(r.frame) for r in records[:2]]
    assert min(counts) <= (model.architecture.avg_num_neighbors or 0) <= max(counts)


def test_isolated_atoms_set_e0s_and_are_not_trained_on(
    records: list[Record], make_record: Callable[..., Record]
) -> None:
    train = [*records[:3], make_record(Atoms("Li"), -7.25)]
    model, _ = fit(None, train, [], dataclasses.replace(SCRATCH, max_epochs=1), seed=0, architecture=TINY)
    assert model.e0s()[3] == -7.25
    assert model.metadata["n_train"] == 3


def test_given_e0s_are_kept_and_the_rest_estimated(fitted: Fitted, shifted: list[Record]) -> None:
    base, _ = fitted
    plan = strategy("naive", max_epochs=0)
    exact = {3: base.e0s()[3] + 1.25}
    model, _ = fit(base, shifted, [], plan, seed=0, e0=exact)
    assert model.e0s()[3] == exact[3]
    assert model.e0s()[9] != base.e0s()[9]
    with pytest.raises(ValueError, match=r"e0 names Na, which the model does not know"):
        fit(base, shifted, [], plan, seed=0, e0={11: 0.0})
    with pytest.raises(ValueError, match="unknown e0 'guessed'; known are estimated, foundation, isolated, average"):
        fit(base, shifted, [], plan, seed=0, e0="guessed")  # type: ignore[arg-type]


def test_what_does_not_go_together_is_refused(fitted: Fitted, records: list[Record]) -> None:
    base, _ = fitted
    with pytest.raises(ValueError, match="no frames to train on"):
        fit(base, [], [], strategy("naive"), seed=0)
    with pytest.raises(ValueError, match="'naive' needs a foundation model"):
        fit(None, records, [], strategy("naive"), seed=0)
    with pytest.raises(ValueError, match="'scratch' starts from random weights"):
        fit(base, records, [], SCRATCH, seed=0)
    with pytest.raises(ValueError, match="'multihead_replay' needs replay frames"):
        fit(base, records, [], strategy("multihead_replay"), seed=0)
