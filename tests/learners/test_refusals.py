"""What stops a training: bad data, replay of another foundation, a loss that is not finite."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from curator.datasets.label import Label, Record
from curator.learners.architecture import Architecture, Head, build_module
from curator.learners.base import TrainEvent
from curator.learners.loop import TrainingDiverged
from curator.learners.mace import MaceModel
from curator.learners.replay import pseudolabelled
from curator.learners.strategies import strategy
from curator.learners.train import fit

TINY = Architecture(
    (3, 9),
    r_max=3.2,
    heads=(Head("target", (-1.25, -3.5)),),
    avg_num_neighbors=12.0,
    hidden_irreps="8x0e",
    max_ell=1,
    mlp_irreps="4x0e",
    radial_mlp=(8,),
)
SCRATCH = strategy("scratch", learning_rate=0.03)


@pytest.fixture(scope="module")
def base() -> MaceModel:
    return MaceModel(TINY, build_module(TINY, seed=3))


def test_batch_larger_than_the_data_is_refused(base: MaceModel, records: list[Record]) -> None:
    with pytest.raises(ValueError, match="a batch of 16 is larger than the data: there are 2 frames to train on"):
        fit(base, records[:2], [], strategy("naive", batch_size=16), seed=0)


def test_nothing_to_learn_is_refused(
    base: MaceModel, records: list[Record], make_record: Callable[..., Record]
) -> None:
    for train in ([], [make_record(Atoms("Li"), -1.0)]):
        with pytest.raises(ValueError, match="no frames to train on"):
            fit(base, train, records, strategy("naive"), seed=0)


def test_divergence_is_told_and_the_last_good_weights_are_kept(records: list[Record]) -> None:
    plan = dataclasses.replace(SCRATCH, learning_rate=1e30, clip_norm=1e30)
    with pytest.raises(TrainingDiverged, match=r"the loss became .* in epoch \d+ at learning rate") as raised:
        fit(None, records[:4], [], plan, seed=0, architecture=TINY)
    named = [record.frame.hash[:12] for record in records[:4] if record.frame.hash[:12] in str(raised.value)]
    assert len(named) == plan.batch_size
    assert "of rattled (" in str(raised.value)
    kept = raised.value.model
    assert kept is not None
    assert np.isfinite(kept.predict([records[0].frame])[0].forces).all()


def poison_forces(event: TrainEvent, record: Record) -> None:
    """Make a force of a record infinite after the second epoch, as no label can be when it is made."""
    if event.epoch == 2:
        record.label.forces.setflags(write=True)
        record.label.forces[0, 0] = np.inf


def test_divergence_in_a_later_epoch_keeps_the_epoch_before(records: list[Record]) -> None:
    """A run whose loss becomes infinite in its third epoch brings the weights that two epochs would have given."""
    two, report = fit(
        None, records[:4], records[12:], dataclasses.replace(SCRATCH, max_epochs=2), seed=0, architecture=TINY
    )
    plan = dataclasses.replace(SCRATCH, max_epochs=3)
    train = [
        Record(r.frame, Label(r.label.energy, r.label.forces.copy(), r.label.stress, ""), r.provenance)
        for r in records[:4]
    ]
    with pytest.raises(TrainingDiverged, match="in epoch 3 at learning rate") as raised:
        fit(None, train, records[12:], plan, seed=0, architecture=TINY, on_event=lambda e: poison_forces(e, train[1]))
    assert train[1].frame.hash[:12] in str(raised.value)
    kept = raised.value.model
    assert kept is not None
    assert kept.metadata["epoch"] == report.best_epoch
    assert kept.predict([records[0].frame])[0].energy == two.predict([records[0].frame])[0].energy


def test_element_that_the_foundation_does_not_know_is_named(
    base: MaceModel, records: list[Record], make_record: Callable[..., Record]
) -> None:
    sodium = make_record(Atoms("NaF", [[0, 0, 0], [2.0, 0, 0]]), -3.0)
    for train, valid in (([*records[:2], sodium], []), (records[:2], [sodium])):
        with pytest.raises(ValueError, match="the model does not know Na; it knows Li, F"):
            fit(base, train, valid, strategy("naive"), seed=0)


def test_replay_of_another_foundation_is_refused(base: MaceModel, records: list[Record]) -> None:
    other = MaceModel(base.architecture, build_module(base.architecture, seed=9))
    foreign = pseudolabelled(records[:2], other)
    for name in ("pseudolabel_replay", "multihead_replay"):
        with pytest.raises(ValueError, match=rf"of the foundation {base.hash[:12]}: replay of another model"):
            fit(base, records[:4], [], strategy(name), seed=0, replay_train=foreign)
    with pytest.raises(ValueError, match=r"a replay frame has the label .* replay of another model"):
        fit(base, records[:4], [], strategy("pseudolabel_replay"), seed=0, replay_train=records[4:6])


def test_pseudolabels_of_the_foundation_serve_a_warm_start(base: MaceModel, records: list[Record]) -> None:
    plan = strategy("pseudolabel_replay", max_epochs=1)
    options = {
        "replay_train": pseudolabelled(records[8:10], base),
        "replay_valid": pseudolabelled(records[10:12], base),
    }
    first, report = fit(base, records[:4], records[12:], plan, seed=0, **options)
    # Labels that are really the model's: before training there is no error to speak of.
    assert report.start_force_rmse["replay"] < 1e-5
    assert report.start_energy_rmse["replay"] < 1e-5
    second, _ = fit(first, records[:4], records[12:], plan, seed=1, **options)
    assert second.metadata["foundation"] == first.metadata["foundation"] == base.hash
