import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.datasets.split import assign_splits

FRACTIONS = {"train": 0.8, "valid": 0.1, "test": 0.1}
groups = st.lists(st.text(max_size=3), max_size=30)
seeds = st.integers(0, 2**32 - 1)


@given(groups, seeds)
def test_same_seed_same_splits_whatever_the_order(names: list[str], seed: int) -> None:
    first = assign_splits(names, FRACTIONS, np.random.default_rng(seed))
    assert set(first) == set(names)
    assert assign_splits(names[::-1], FRACTIONS, np.random.default_rng(seed)) == first


@given(groups, groups, seeds)
def test_a_group_keeps_the_split_it_has(old: list[str], new: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = assign_splits(old, FRACTIONS, rng)
    after = assign_splits([*old, *new], FRACTIONS, rng, fixed=before)
    assert {group: after[group] for group in before} == before


@pytest.mark.parametrize(
    ("n_groups", "counts"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (10, [8, 1, 1]), (200, [160, 20, 20])]
)
def test_shares_are_as_close_as_whole_groups_allow(n_groups: int, counts: list[int]) -> None:
    splits = assign_splits([f"g{i}" for i in range(n_groups)], FRACTIONS, np.random.default_rng(0))
    assert [list(splits.values()).count(split) for split in FRACTIONS] == counts


def test_groups_added_later_make_up_for_those_before() -> None:
    fixed = {f"old{i}": "train" for i in range(8)}
    new = assign_splits(["a", "b"], FRACTIONS, np.random.default_rng(0), fixed=fixed)
    assert sorted(new.values()) == ["test", "valid"]


def test_every_group_has_its_chance_of_each_split() -> None:
    names = [f"g{i}" for i in range(10)]
    held = [assign_splits(names, FRACTIONS, np.random.default_rng(seed))["g3"] for seed in range(400)]
    # A tenth of 400, give or take four standard deviations of the binomial.
    assert abs(held.count("test") - 40) < 4 * np.sqrt(400 * 0.1 * 0.9)


@pytest.mark.parametrize(
    "fractions", [{"train": 0.5}, {"train": 1.5, "test": -0.5}, {"training": 1.0}, {}, {"train": float("nan")}]
)
def test_fractions_must_be_shares(fractions: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fractions"):
        assign_splits(["a"], fractions, np.random.default_rng(0))  # type: ignore[arg-type]
