import numpy as np
import pytest

from curator.selection import frame_descriptor, pca_map, select


def test_random_share_depends_on_nothing_but_the_generator():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((200, 5))
    error = rng.random(200)
    a = select(x, x[:10] + 1, error, n_select=32, random_share=0.25, rng=np.random.default_rng(1))
    b = select(x[:, ::-1], np.empty((0, 5)), None, n_select=32, random_share=0.25, rng=np.random.default_rng(1))
    assert a.reasons[:8] == b.reasons[:8] == ("random",) * 8
    assert a.idx[:8].tolist() == b.idx[:8].tolist()


def test_random_share_is_uniform():
    x = np.arange(20.0)[:, None]
    error = np.arange(20.0)
    counts = np.zeros(20)
    for seed in range(500):
        chosen = select(x, x[:1] - 1, error, n_select=8, random_share=0.5, rng=np.random.default_rng(seed))
        counts[chosen.idx[:4]] += 1
    expected = 500 * 4 / 20
    chi2 = np.sum((counts - expected) ** 2 / expected)
    assert chi2 < 43.8  # 99.9 % point of chi-square with 19 degrees of freedom


@pytest.mark.parametrize(("n_select", "share", "n_random"), [(16, 0.125, 4), (16, 0.5, 8), (16, 0.0, 0), (3, 0.1, 3)])
def test_random_share_has_a_floor(n_select, share, n_random):
    x = np.random.default_rng(0).standard_normal((50, 3))
    chosen = select(x, x[:0], None, n_select=n_select, random_share=share, rng=np.random.default_rng(0))
    assert chosen.reasons.count("random") == n_random
    assert len(chosen.idx) == n_select


def test_uncertain_ones_come_from_the_worst_and_differ_from_each_other():
    rng = np.random.default_rng(5)
    quiet = rng.standard_normal((80, 4))
    # Two kinds of bad frame; forty near-copies of the worst kind must not crowd out the other.
    first = 8 + 0.01 * rng.standard_normal((15, 4))
    second = -8 + 0.01 * rng.standard_normal((8, 4))
    x = np.concatenate([quiet, first, second])
    error = np.concatenate([np.full(80, 0.1), np.full(15, 0.9), np.full(8, 0.8)])
    chosen = select(x, quiet[:5] + 0.1, error, n_select=9, random_share=0.1, rng=np.random.default_rng(0))
    uncertain = [i for i, reason in zip(chosen.idx, chosen.reasons, strict=True) if reason == "uncertain"]
    assert len(uncertain) == 5
    assert all(i >= 80 for i in uncertain)
    assert any(i >= 95 for i in uncertain)
    assert chosen.scores == pytest.approx(error[chosen.idx])


def test_no_trajectory_takes_the_whole_shortlist():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((400, 3))
    groups = [f"t{i // 100}" for i in range(400)]
    error = np.where(np.arange(400) < 100, 10.0, 1.0) + 0.01 * rng.random(400)
    chosen = select(x, x[:0], error, n_select=24, random_share=0.1, rng=np.random.default_rng(0), groups=groups)
    uncertain = np.array([r == "uncertain" for r in chosen.reasons])
    from_wild = np.count_nonzero(chosen.idx[uncertain] < 100)
    assert 0 < from_wild < uncertain.sum()


def test_what_lies_outside_comes_first_however_small_its_predicted_error():
    rng = np.random.default_rng(6)
    x, error = rng.standard_normal((200, 3)), 1 + rng.random(200)
    x[197:] += 10 * np.eye(3)
    error[150:] = 0.01

    def chosen(outside):
        found = select(x, x[:0], error, n_select=12, random_share=0.1, outside=outside, rng=np.random.default_rng(0))
        assert found.reasons == ("random",) * 4 + ("uncertain",) * 8
        return found.idx[:4], found.idx[4:]

    random, uncertain = chosen(np.arange(200) >= 150)
    assert (uncertain >= 150).all()
    few = np.arange(197, 200)
    assert not np.isin(random, few).any()
    _, uncertain = chosen(np.isin(np.arange(200), few))
    worst = np.setdiff1d(np.argsort(-error), random, assume_unique=True)[: 4 * 8 - 3]
    assert set(few) < set(uncertain) < {*few, *worst}
    _, uncertain = chosen(None)
    assert not np.isin(uncertain, few).any()
    assert uncertain.tolist() == chosen(np.zeros(200, dtype=bool))[1].tolist()


def test_selection_is_deterministic_and_has_no_repeats():
    rng = np.random.default_rng(7)
    x, known, error = rng.standard_normal((300, 6)), rng.standard_normal((40, 6)), rng.random(300)
    runs = [select(x, known, error, n_select=40, random_share=0.2, rng=np.random.default_rng(9)) for _ in range(2)]
    assert runs[0].idx.tolist() == runs[1].idx.tolist()
    assert len(set(runs[0].idx.tolist())) == 40


def test_what_is_labelled_already_is_not_bought_again():
    x = np.repeat(np.eye(4), 4, axis=0)
    for random_share in (0.0, 0.125, 1.0):
        options = {"n_select": 6, "random_share": random_share}
        assert not len(select(x, np.eye(4), np.ones(16), rng=np.random.default_rng(0), **options).idx)
        chosen = select(x, np.eye(4)[:3], np.ones(16), rng=np.random.default_rng(0), **options)
        assert 1 <= len(chosen.idx) <= 4
        assert (chosen.idx >= 12).all()


def test_no_candidates_gives_an_empty_selection():
    chosen = select(np.empty((0, 3)), np.eye(3), None, n_select=4, random_share=0.1, rng=np.random.default_rng(0))
    assert chosen.idx.tolist() == []
    assert chosen.reasons == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted_error": np.array([1.0, np.nan, 1.0])}, "finite"),
        ({"predicted_error": np.ones(2)}, "one per candidate"),
        ({"descriptors": np.full((3, 2), np.inf)}, "descriptors must be finite"),
        ({"labelled": np.ones((2, 5))}, "labelled must have shape"),
        ({"random_share": 1.5}, "random_share=1.5"),
        ({"groups": ["a"]}, "1 groups for 3"),
        ({"outside": [True]}, "outside must say"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"descriptors": np.eye(3)[:, :2], "labelled": np.empty((0, 2)), "predicted_error": None}
    arguments |= {"n_select": 2, "random_share": 0.1, "rng": np.random.default_rng(0)} | change
    with pytest.raises(ValueError, match=message):
        select(**arguments)


def test_frame_descriptor_sees_a_single_odd_atom_and_ignores_order():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((64, 8))
    numbers = np.repeat([3, 9], 32)
    plain = frame_descriptor(features, numbers)
    order = rng.permutation(64)
    assert plain == pytest.approx(frame_descriptor(features[order], numbers[order]))
    odd = features.copy()
    odd[0] += 5
    change = np.abs(frame_descriptor(odd, numbers) - plain)
    means, deviations, largest = np.split(change, 3)
    assert means[8:].max() == 0
    assert largest[:8].mean() > deviations[:8].mean() > means[:8].mean()


def test_frame_descriptor_has_a_block_for_every_listed_element():
    d = frame_descriptor(np.ones((2, 3)), [9, 9], elements=[3, 9])
    assert d.tolist() == [0] * 3 + [1] * 3 + [0] * 12
    with pytest.raises(ValueError, match="17"):
        frame_descriptor(np.ones((1, 3)), [17], elements=[3, 9])


def test_pca_map_finds_the_plane():
    rng = np.random.default_rng(1)
    plane = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 6))
    result = pca_map(plane[:50], plane[50:])
    assert result.xy.shape == (50, 2)
    assert result.labelled_xy.shape == (10, 2)
    assert result.explained.sum() == pytest.approx(1)
    same = pca_map(np.ones((3, 4)), np.empty((0, 4)))
    assert same.xy.tolist() == [[0, 0]] * 3


def test_the_share_of_the_hop_is_kept_apart():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((100, 3))
    near_hop = np.arange(100) >= 80
    error = np.where(near_hop, 9.0, 1.0) + 0.01 * rng.random(100)
    chosen = select(
        x, x[:0], error, n_select=16, random_share=0.25, hop_share=0.25, near_hop=near_hop, rng=np.random.default_rng(0)
    )
    reasons = np.array(chosen.reasons)
    assert [(reasons == name).sum() for name in ("random", "hop", "uncertain")] == [4, 4, 8]
    assert near_hop[chosen.idx].tolist() == (reasons == "hop").tolist()


def test_without_a_hop_its_share_goes_to_the_others():
    x = np.random.default_rng(0).standard_normal((50, 3))
    chosen = select(x, x[:0], None, n_select=12, random_share=0.25, hop_share=0.5, rng=np.random.default_rng(0))
    assert [chosen.reasons.count(name) for name in ("random", "hop", "diverse")] == [4, 0, 8]
