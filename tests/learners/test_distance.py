import numpy as np
import pytest

from curator.datasets.frame import Frame
from curator.learners.distance import FACTOR, QUANTILE, fit_gate, frame_distance, outside
from curator.learners.mace import MaceModel


def cloud(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated Gaussian features, each of another size."""
    rng = np.random.default_rng(seed)
    mixing = (np.eye(d) + 0.2 * rng.normal(size=(d, d))) * np.geomspace(1e-2, 10, d)
    return rng.standard_normal((n, d)) @ mixing, mixing


def test_distance_is_mahalanobis_of_the_true_covariance() -> None:
    x, mixing = cloud(50_000, 5, seed=0)
    gate = fit_gate(x, np.full(len(x), 3))
    precision = np.linalg.inv(mixing.T @ mixing)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", x[:200], precision, x[:200]) / 5)
    # Only the ridge and the sampling error of the covariance stand between the two.
    assert gate.distance(x[:200], np.full(200, 3)) == pytest.approx(expected, rel=0.1)
    assert np.sqrt(np.mean(gate.distance(x, np.full(len(x), 3)) ** 2)) == pytest.approx(1, rel=0.02)


def test_scale_of_the_features_does_not_matter() -> None:
    x, _ = cloud(3000, 6, seed=1)
    z = np.where(np.arange(3000) % 2, 3, 9)
    new = x[:50] + 0.3
    before = fit_gate(x, z).distance(new, z[:50])
    scale = np.geomspace(1e-2, 1e3, 6)
    assert fit_gate(x * scale, z).distance(new * scale, z[:50]) == pytest.approx(before, rel=1e-6)


def test_each_element_has_its_own_cloud_and_unknown_ones_are_infinitely_far() -> None:
    rng = np.random.default_rng(2)
    z = np.repeat([3, 9], 400)
    x = rng.normal(size=(800, 4)) + np.where(z == 9, 50.0, 0.0)[:, None]
    gate = fit_gate(x, z)
    near, swapped, unknown = gate.distance(np.array([[50.0] * 4, [0.0] * 4, [0.0] * 4]), [9, 9, 11])
    assert near < 0.2
    assert swapped > 20
    assert unknown == np.inf


def test_limit_leaves_the_training_atoms_inside_and_marks_frames_with_one_strange_atom() -> None:
    x, _ = cloud(4000, 4, seed=3)
    z = np.full(4000, 3)
    gate = fit_gate(x, z)
    assert gate.limit == pytest.approx(FACTOR * np.quantile(gate.distance(x, z), QUANTILE))
    same, strange = cloud(4064, 4, seed=3)[0][4000:], x[:64].copy()
    strange[17] += 30 * x.std(axis=0)
    assert outside(gate, [same, strange], [z[:64], z[:64]]).tolist() == [False, True]
    assert frame_distance(gate.distance(strange, z[:64])) == gate.distance(strange, z[:64])[17]
    assert outside(gate, [], []).shape == (0,)


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_atoms_than_features_give_finite_distances(n: int) -> None:
    gate = fit_gate(cloud(n, 16, seed=4)[0], np.full(n, 3))
    assert np.isfinite(gate.distance(cloud(5, 16, seed=5)[0], np.full(5, 3))).all()
    constant = fit_gate(np.ones((n, 16)), np.full(n, 3))
    assert constant.distance(np.ones((1, 16)), [3])[0] == pytest.approx(0, abs=1e-9)
    assert constant.distance(2 * np.ones((1, 16)), [3])[0] > constant.limit


def test_a_model_finds_a_squeezed_cell_strange(model: MaceModel, frames: list[Frame]) -> None:
    def features(some: list[Frame]) -> list[np.ndarray]:
        return [p.node_features for p in model.predict(some, ("energy", "node_features"))]  # type: ignore[misc]

    numbers = [frame.numbers for frame in frames]
    gate = fit_gate(np.concatenate(features(frames)), np.concatenate(numbers))
    squeezed = [Frame(f.numbers, 0.8 * f.positions, 0.8 * f.cell, f.pbc) for f in frames]
    assert not outside(gate, features(frames), numbers).any()
    assert outside(gate, features(squeezed), numbers).all()


def test_what_does_not_go_together_is_refused() -> None:
    gate = fit_gate(np.eye(4), [3, 3, 9, 9])
    with pytest.raises(ValueError, match="same model"):
        gate.distance(np.ones((2, 3)), [3, 9])
    with pytest.raises(ValueError, match="atomic numbers"):
        gate.distance(np.ones((2, 4)), [3])
    with pytest.raises(ValueError, match="at least one"):
        fit_gate(np.zeros((0, 4)), [])
    with pytest.raises(ValueError, match="finite"):
        fit_gate(np.full((2, 4), np.nan), [3, 9])
