from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms

from curator.datasets.frame import Frame
from curator.datasets.label import Record
from curator.learners.architecture import build_module
from curator.learners.committee import bootstrap, predict_committee
from curator.learners.mace import MaceModel

from .conftest import SMALL, lif


def test_bootstrap_draws_as_many_with_replacement(make_record: Callable[..., Record]) -> None:
    train = [make_record(lif(seed=i), float(i)) for i in range(40)]
    drawn = bootstrap(train, 1)
    assert len(drawn) == 40
    counts = Counter(record.label.energy for record in drawn)
    assert set(counts) < {float(i) for i in range(40)}
    assert max(counts.values()) > 1
    assert [r.label.energy for r in bootstrap(train, 1)] == [r.label.energy for r in drawn]
    assert [r.label.energy for r in bootstrap(train, 2)] != [r.label.energy for r in drawn]


def test_bootstrap_leaves_out_the_share_that_theory_says(make_record: Callable[..., Record]) -> None:
    """A draw of n from n leaves out a share of (1 - 1/n)^n, about 1/e."""
    train = [make_record(lif(), float(i)) for i in range(30)]
    left_out = [1 - len({r.label.energy for r in bootstrap(train, seed)}) / 30 for seed in range(200)]
    # The share left out has a standard deviation of about 0.06 for n = 30; the mean of 200, 0.004.
    assert abs(np.mean(left_out) - (1 - 1 / 30) ** 30) < 0.015


def test_bootstrap_keeps_anchors_and_isolated_atoms(make_record: Callable[..., Record]) -> None:
    train = [
        *[make_record(lif(), float(i)) for i in range(5)],
        *[make_record(lif(), 100.0 + i, reason="anchor") for i in range(3)],
        make_record(Atoms("Li"), -1.0),
    ]
    for seed in range(10):
        energies = [record.label.energy for record in bootstrap(train, seed)]
        assert sorted(e for e in energies if e >= 100) == [100.0, 101.0, 102.0]
        assert energies.count(-1.0) == 1
        assert len(energies) == len(train)


def test_members_predict_as_they_do_alone(frames: list[Frame]) -> None:
    members = [MaceModel(SMALL, build_module(SMALL, seed=seed, dtype=torch.float64)) for seed in (1, 2)]
    wider = replace(SMALL, r_max=4.0)
    for committee in (members, [members[0], MaceModel(wider, build_module(wider, seed=1, dtype=torch.float64))]):
        found = predict_committee(committee, frames, ("energy", "forces", "stress", "node_features"), batch_size=2)
        assert len(found) == len(frames)
        for k, member in enumerate(committee):
            alone = member.predict(frames, ("energy", "forces", "stress", "node_features"))
            for together, one in zip(found, alone, strict=True):
                np.testing.assert_allclose(together.energies[k], one.energy, atol=1e-10)
                np.testing.assert_allclose(together.forces[k], one.forces, atol=1e-10)  # type: ignore[index]
                np.testing.assert_allclose(together.stress[k], one.stress, atol=1e-10)  # type: ignore[index]
                if k == 0:
                    np.testing.assert_allclose(together.node_features, one.node_features, atol=1e-6)


def test_only_what_is_wanted(model: MaceModel, frames: list[Frame]) -> None:
    (found,) = predict_committee([model, model], frames[:1], ("energy",))
    assert found.energies.shape == (2,)
    assert found.forces is None
    assert found.stress is None
    assert found.node_features is None
