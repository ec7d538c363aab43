from dataclasses import replace

import numpy as np
import pytest
import torch

from curator.datasets.frame import Frame
from curator.learners.architecture import build_module
from curator.learners.last_layer import RIDGE, fit_last_layer, last_layer_spread
from curator.learners.mace import MaceModel

from .conftest import SMALL

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def double() -> MaceModel:
    return MaceModel(SMALL, build_module(SMALL, seed=3, dtype=torch.float64))


def forces_by_weight(model: MaceModel, frame: Frame) -> np.ndarray:
    """Change of the forces with each weight of the last layers: the model is linear in them, so a difference is exact.

    Units differ from the features' by the norm of a layer and the scale of the energy; shape (n_weights, n_atoms, 3).
    """
    (before,) = model.predict([frame])
    rows = []
    for readout, name in zip(model.module.readouts, ("linear", "linear_2"), strict=True):
        layer = getattr(readout, name)
        for i in range(layer.weight.numel()):
            with torch.no_grad():
                layer.weight[i] += 1.0
            (after,) = model.predict([frame])
            with torch.no_grad():
                layer.weight[i] -= 1.0
            norm = np.sqrt(layer.weight.numel()) / model.architecture.heads[0].scale
            rows.append(norm * (after.forces - before.forces))
    return np.array(rows)


def test_spread_is_the_variance_of_the_linear_model(double: MaceModel, frames: list[Frame]) -> None:
    """Against the textbook formula with derivatives taken by moving each weight of the model itself."""
    train, new = frames[:2], frames[2]
    J = np.concatenate([forces_by_weight(double, f).reshape(12, -1) for f in train], axis=1)
    H = J @ J.T
    C = np.linalg.inv(H + RIDGE * np.trace(H) / len(H) * np.eye(len(H)))
    Jn = forces_by_weight(double, new)
    expected = np.sqrt(np.einsum("ink,ij,jnk->n", Jn, C, Jn) / 3)
    (found,) = last_layer_spread(double, fit_last_layer(double, train, RNG), [new])
    assert found == pytest.approx(expected, rel=1e-6)


def test_few_directions_estimate_it_without_bias(double: MaceModel, frames: list[Frame]) -> None:
    exact = np.concatenate(last_layer_spread(double, fit_last_layer(double, frames, RNG), frames))
    squares = [
        np.concatenate(
            last_layer_spread(
                double, fit_last_layer(double, frames, np.random.default_rng(seed), n_directions=4), frames
            )
        )
        ** 2
        for seed in range(40)
    ]
    assert np.mean(np.mean(squares, axis=0) / exact**2) == pytest.approx(1, abs=0.1)


def test_batches_and_heads_do_not_change_it(frames: list[Frame]) -> None:
    heads = (SMALL.heads[0], replace(SMALL.heads[0], name="replay"))
    two = replace(SMALL, heads=heads)
    model = MaceModel(two, build_module(two, seed=1, dtype=torch.float64))
    one_by_one = last_layer_spread(model, fit_last_layer(model, frames, RNG, batch_size=1), frames, batch_size=1)
    together = last_layer_spread(model, fit_last_layer(model, frames, RNG), frames)
    for a, b in zip(one_by_one, together, strict=True):
        assert a == pytest.approx(b, rel=1e-6)
        assert (a > 0).all()
    assert last_layer_spread(model, fit_last_layer(model, frames, RNG), []) == []


def test_more_training_frames_leave_less_freedom(double: MaceModel, frames: list[Frame]) -> None:
    (few,) = last_layer_spread(double, fit_last_layer(double, frames[:1], RNG), frames[2:])
    (many,) = last_layer_spread(double, fit_last_layer(double, frames, RNG), frames[2:])
    assert many.mean() < few.mean()


def test_the_last_layer_of_another_model_is_refused(double: MaceModel, model: MaceModel, frames: list[Frame]) -> None:
    with pytest.raises(ValueError, match="fit it again"):
        last_layer_spread(model, fit_last_layer(double, frames[:1], RNG), frames)
    with pytest.raises(ValueError, match="0 training frames"):
        fit_last_layer(double, [], RNG)
