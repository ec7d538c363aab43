from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from mace.modules.loss import UniversalLoss
from mace.tools import torch_geometric

from curator.datasets.label import Record
from curator.learners.mace import MaceModel
from curator.learners.samples import (
    LabelledBatch,
    Sample,
    batch_indices,
    batch_loss,
    make_batch,
    make_samples,
    run_module,
)
from curator.learners.strategies import LossWeights


def batch_of(samples: list[Sample]) -> LabelledBatch:
    return make_batch(samples, n_elements=3, dtype=torch.float64, device="cpu")


@pytest.fixture
def samples(model: MaceModel, records: list[Record]) -> list[Sample]:
    return make_samples(records[:4], model.architecture, 0, {})


def test_loss_is_the_universal_loss_of_mace(model: MaceModel, samples: list[Sample]) -> None:
    forces = [sample.forces.copy() for sample in samples]
    forces[0][0] = [150.0, 0.0, 0.0]
    forces[1][2] = [0.0, 250.0, 0.0]
    forces[2][1] = [0.0, 0.0, -350.0]
    samples = [replace(sample, forces=f) for sample, f in zip(samples, forces, strict=True)]
    batch = batch_of(samples)
    out = run_module(model.double().module, batch, training=False)
    ours = batch_loss(out, batch, [LossWeights(2.0, 7.0, 3.0)], huber_delta=0.02, difference=0.0)
    n = len(samples)
    reference = torch_geometric.data.Data(
        ptr=batch.inputs["ptr"],
        energy=batch.energy,
        forces=batch.forces,
        stress=batch.stress,
        energy_weight=torch.ones(n, dtype=torch.float64),
        forces_weight=torch.ones(n, dtype=torch.float64),
        stress_weight=torch.ones(n, dtype=torch.float64),
    )
    predicted = {"energy": out["interaction_energy"], "forces": out["forces"], "stress": out["stress"]}
    theirs = UniversalLoss(energy_weight=2.0, forces_weight=7.0, stress_weight=3.0, huber_delta=0.02)
    assert float(ours) == pytest.approx(float(theirs(reference, predicted)), rel=1e-6)


def test_perfect_prediction_costs_nothing_whatever_the_weights(model: MaceModel, records: list[Record]) -> None:
    (sample,) = make_samples(records[:1], model.architecture, 0, {})
    batch = batch_of([sample])
    out = run_module(model.double().module, batch, training=False)
    exact = replace(
        sample,
        energy=out["interaction_energy"].item(),
        forces=out["forces"].detach().numpy(),
        stress=out["stress"][0].detach().numpy(),
    )
    loss = batch_loss(out, batch_of([exact]), [LossWeights(1e3, 1e3, 1e3)], huber_delta=0.01, difference=1e3)
    assert float(loss) == pytest.approx(0.0, abs=1e-12)


def test_missing_stress_does_not_count(model: MaceModel, samples: list[Sample]) -> None:
    weights = [LossWeights(0.0, 0.0, 1.0)]
    module = model.double().module
    whole = batch_of([samples[0], replace(samples[1], stress=None)])
    first = batch_of([samples[0]])
    both = batch_loss(run_module(module, whole, training=False), whole, weights, huber_delta=0.01, difference=0.0)
    one = batch_loss(run_module(module, first, training=False), first, weights, huber_delta=0.01, difference=0.0)
    assert float(both) == pytest.approx(float(one) / 2)
    without = batch_of([replace(sample, stress=None) for sample in samples])
    assert without.stress is None
    out = run_module(module, without, training=False)
    assert out["stress"] is None
    assert float(batch_loss(out, without, weights, huber_delta=0.01, difference=0.0)) == 0.0


def test_difference_term_sees_differences_only(model: MaceModel, samples: list[Sample]) -> None:
    weights = [LossWeights(0.0, 0.0, 0.0)]
    module = model.double().module
    out = run_module(module, batch_of(samples), training=False)
    energies = out["interaction_energy"].detach().numpy()

    def loss(offsets: list[float], groups: list[str | None]) -> float:
        moved = [
            replace(sample, energy=energy + offset, group=group)
            for sample, energy, offset, group in zip(samples, energies, offsets, groups, strict=True)
        ]
        return float(batch_loss(out, batch_of(moved), weights, huber_delta=0.01, difference=4.0))

    assert loss([5.0, 5.0, 5.0, 5.0], ["a"] * 4) == pytest.approx(0.0, abs=1e-9)
    assert loss([5.0, 5.0, -3.0, -3.0], ["a", "a", "b", "b"]) == pytest.approx(0.0, abs=1e-9)
    assert loss([1.0, 2.0, 3.0, 4.0], [None] * 4) == 0.0
    # Errors of ±0.5 eV about the mean of two: Huber 0.01 (0.5 - 0.005) each, over four frames, times four.
    assert loss([0.0, 1.0, 7.0, 9.0], ["a", "a", None, None]) == pytest.approx(4 * 2 * 0.01 * 0.495 / 4, rel=1e-6)


def test_batches_hold_every_sample_once_and_groups_together() -> None:
    groups: list[str | None] = [None] * 11 + ["a"] * 3 + ["b"] * 7
    for seed in range(20):
        batches = batch_indices(groups, 4, np.random.default_rng(seed))
        assert sorted(i for batch in batches for i in batch) == list(range(21))
        assert max(map(len, batches)) <= 4
        (with_a,) = [batch for batch in batches if any(groups[i] == "a" for i in batch)]
        assert sum(groups[i] == "a" for i in with_a) == 3
        # Seven members cannot share a batch of four: they are dealt into two runs, none alone.
        sizes = sorted(sum(groups[i] == "b" for i in batch) for batch in batches)
        assert sizes[-1] in (4, 3)
        assert 1 not in sizes


def test_batches_depend_on_the_generator_alone() -> None:
    groups: list[str | None] = [None] * 9
    first, again, other = (batch_indices(groups, 2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_energies_are_relative_to_the_head(model: MaceModel, records: list[Record]) -> None:
    sample = make_samples(records[1:2], model.architecture, 0, {})[0]
    numbers = records[1].frame.numbers
    assert sample.energy == pytest.approx(records[1].label.energy - sum(model.e0s()[int(z)] for z in numbers))


def test_graphs_are_built_once_per_frame(model: MaceModel, records: list[Record]) -> None:
    graphs: dict[str, object] = {}
    twice = make_samples([records[0], records[0], records[1]], model.architecture, 0, graphs)  # type: ignore[arg-type]
    assert len(graphs) == 2
    assert twice[0].graph is twice[1].graph


def test_a_group_is_of_one_composition_and_charge(model: MaceModel, make_record: Callable[..., Record]) -> None:
    def record(symbols: str, group: str = "path", reason: str = "group", **info: int) -> Record:
        atoms = Atoms(symbols, cell=[9.0] * 3, pbc=True, info=info)
        atoms.positions[:, 0] = 2 * np.arange(len(atoms))
        return make_record(atoms, 0.0, group=group, reason=reason)

    def groups(*records: Record) -> list[str | None]:
        return [sample.group for sample in make_samples(records, model.architecture, 0, {}, differences=True)]

    assert groups(record("LiF"), record("FLi", reason="anchor")) == ["path", "path"]
    assert groups(record("LiF"), record("Li2F", group="other"), record("F", reason="random")) == ["path", "other", None]
    for stranger in (record("Li2F"), record("LiF", charge=1)):
        with pytest.raises(ValueError, match="'path' differ in composition or charge"):
            groups(record("LiF"), stranger)
