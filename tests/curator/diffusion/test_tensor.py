"""Diffusivity tensors of walks that are slower in some directions."""

import kmc
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from curator.diffusion.coefficient import measure_walk
from curator.diffusion.tensor import Tensor, describe, diffusivity_tensor


def measured(
    rng: np.random.Generator, shape: np.ndarray, n_carriers: int = 1, rate_per_ps: float = 1.0, time_ps: float = 100.0
) -> tuple[Tensor, np.ndarray]:
    """Tensor of carriers whose hops are deformed by a matrix, and the known one."""
    hops = kmc.hoppers(rng, n_carriers, rate_per_ps, time_ps, 0.1, vibration_A=0.0) @ shape.T
    hops += rng.normal(scale=0.2, size=hops.shape)
    path = hops.reshape(len(hops), -1)
    length = kmc.HOP_LENGTH_A * np.sqrt(np.trace(shape @ shape.T) / 3)
    walk = measure_walk([path], 0.1, float(length))
    return diffusivity_tensor([path], 0.1, walk), kmc.known_D(rate_per_ps) * shape @ shape.T


@pytest.mark.parametrize("n_carriers", [1, 8])
def test_components_and_their_errors(n_carriers: int):
    rng = np.random.default_rng(n_carriers)
    turn = Rotation.from_euler("xyz", [20, 30, 40], degrees=True).as_matrix()
    shape = turn @ np.diag([1.0, 0.8, 0.5])
    pairs = [measured(rng, shape, n_carriers) for _ in range(150)]
    known = pairs[0][1]
    D, error = (np.array([getattr(found, name) for found, _ in pairs]) for name in ("D_A2_per_ps", "error_A2_per_ps"))
    assert np.allclose(D, D.transpose(0, 2, 1))
    assert D.mean(axis=0) == pytest.approx(known, abs=4 * D.std(axis=0).max() / np.sqrt(150))
    ratio = np.sqrt((error**2).mean(axis=0)) / D.std(axis=0)
    # The share of counting is an upper bound.
    assert (ratio > 0.85).all()
    assert (ratio < 1.6).all()
    assert np.abs((D - known) / error).max() < 6
    principal = np.array([found.principal_A2_per_ps for found, _ in pairs])
    assert principal.sum(axis=1) == pytest.approx(np.trace(D, axis1=1, axis2=2))
    assert (np.diff(principal, axis=1) <= 0).all()


def test_a_third_of_the_trace_is_the_diffusivity():
    rng = np.random.default_rng(3)
    path = kmc.hoppers(rng, 1, 2.0, 200, 0.1)[:, 0]
    walk = measure_walk([path], 0.1, kmc.HOP_LENGTH_A)
    tensor = diffusivity_tensor([path], 0.1, walk)
    for trace in (np.trace(tensor.D_A2_per_ps), tensor.principal_A2_per_ps.sum()):
        assert trace / 3 == pytest.approx(walk.coefficient.D_A2_per_ps)


def test_planes_and_channels_are_recognised_and_space_is_not_taken_for_them():
    rng = np.random.default_rng(4)
    turn = Rotation.from_euler("xyz", [0, 90, 0], degrees=True).as_matrix()
    for shape, n, axis, said in [
        (np.diag([1.0, 1.0, 0.0]), 2, [0, 0, 1], "two-dimensional: along ["),
        (turn @ np.diag([1.0, 1.0, 0.0]), 2, [1, 0, 0], "two-dimensional: along ["),
        (np.diag([0.0, 1.0, 0.0]), 1, [0, 1, 0], "one-dimensional: across ["),
    ]:
        found = [measured(rng, shape, time_ps=200)[0] for _ in range(10)]
        assert [tensor.n_dimensions for tensor in found] == [n] * 10
        assert [describe(tensor).startswith(said) for tensor in found] == [True] * 10
        closed = [tensor.axes[2 if n == 2 else 0] for tensor in found]
        assert np.abs(np.array(closed) @ axis) == pytest.approx(np.ones(10), abs=0.01)
    assert "[0.00 1.00 0.00] D is at most " in describe(found[0])
    space = [measured(rng, np.eye(3))[0] for _ in range(50)]
    assert [describe(tensor) for tensor in space] == [""] * 50
    # A slow direction is no closed one, and few hops prove nothing.
    assert describe(measured(rng, np.diag([1.0, 1.0, 0.45]), time_ps=200)[0]) == ""
    assert describe(measured(rng, np.diag([1.0, 1.0, 0.0]), rate_per_ps=0.12)[0]) == ""
