from collections import Counter
from collections.abc import Callable

import numpy as np
from ase import Atoms

from curator.datasets.label import Record
from curator.learners.committee import bootstrap

from .conftest import lif


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
