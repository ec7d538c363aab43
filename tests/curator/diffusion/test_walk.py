"""The estimator of a diffusivity against walks whose diffusivity is known."""

import numpy as np
import pytest
from scipy.linalg import toeplitz
from scipy.optimize import minimize

from curator.diffusion.walk import (
    Spectrum,
    dispersion,
    fit_walk,
    least_times_ps,
    msd_curve,
    plateau,
    remembering,
    spectrum,
)


def walk(rng: np.random.Generator, D: float, noise: float, n: int, interval: float, dim: int = 3) -> np.ndarray:
    steps = rng.normal(scale=np.sqrt(2 * D * interval), size=(n, dim))
    path = np.concatenate([np.zeros((1, dim)), np.cumsum(steps, axis=0)])
    return path + rng.normal(scale=noise, size=path.shape)


def test_it_is_the_maximum_of_the_likelihood():
    rng = np.random.default_rng(1)
    path = walk(rng, 1.5, 0.8, 60, 0.5)
    increments = np.diff(path, axis=0)

    def cost(theta: np.ndarray) -> float:
        spread, noise = np.exp(theta)
        covariance = toeplitz([spread + 2 * noise, -noise, *np.zeros(58)])
        return float(
            3 * np.linalg.slogdet(covariance)[1] + (increments * np.linalg.solve(covariance, increments)).sum()
        )

    best = minimize(cost, np.log([1.5, 0.64]), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-10})
    fit = fit_walk([path], 0.5)
    assert fit.D_A2_per_ps == pytest.approx(np.exp(best.x[0]) / (2 * 0.5), rel=1e-5)
    assert fit.noise_A2 == pytest.approx(np.exp(best.x[1]), rel=1e-5)


@pytest.mark.parametrize("stride", [1, 4])
def test_bias_and_error_of_gaussian_walks(stride: int):
    rng = np.random.default_rng(2)
    fits = [fit_walk([walk(rng, 0.7, 0.5, n, 1.0) for n in (150, 250)], 1.0, stride) for _ in range(300)]
    D = np.array([fit.D_A2_per_ps for fit in fits])
    error = np.array([fit.error_A2_per_ps for fit in fits])
    assert D.mean() == pytest.approx(0.7, abs=4 * D.std() / np.sqrt(300) + 0.01)
    # The error is right, and at a stride of several frames it is not too small.
    assert 0.9 < error.mean() / D.std() < (1.1 if stride == 1 else 1.5)
    covered = np.mean(np.abs(D - 0.7) < 1.96 * error)
    assert covered > 0.92
    if stride == 1:
        assert np.mean([fit.noise_A2 for fit in fits]) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize(("moving", "n_times_fewer"), [(3, 1), (2, 1.5), (1, 3)])
def test_the_error_knows_how_many_coordinates_move(moving: int, n_times_fewer: float):
    rng = np.random.default_rng(9)
    D, error, found = [], [], []
    for _ in range(200):
        path = np.zeros((301, 3))
        path[:, :moving] = walk(rng, 1.0, 0.0, 300, 1.0, moving)
        fit = fit_walk([path], 1.0)
        D.append(fit.D_A2_per_ps)
        error.append(fit.error_A2_per_ps)
        found.append(dispersion(spectrum([path]), 1, 2 * fit.D_A2_per_ps, fit.noise_A2))
    assert np.mean(D) == pytest.approx(moving / 3, rel=0.03)
    # At least 1, hence above it on average.
    assert np.mean(found) == pytest.approx(n_times_fewer, rel=0.12)
    assert np.mean(error) == pytest.approx(np.std(D), rel=0.15)


def test_what_paths_have_in_common_is_no_dispersion():
    """A path with twice the hops of another has modes that scatter about its own mean."""
    rng = np.random.default_rng(10)
    paths = [walk(rng, D, 0.0, 300, 1.0, 30) for D in (0.5, 1.0, 2.0)]
    assert dispersion(spectrum([paths[1]]), 1, 2.0, 0.0) < 1.2
    # Of the three, E[D²] / E[D]² = 1.29.
    assert dispersion(spectrum(paths), 1, 2 * 7 / 6, 0.0) == pytest.approx(1.29, rel=0.15)


def test_a_parabola_is_too_high_by_what_is_undone_later():
    n, stride = 2000, 10
    phase = np.arange(1, n + 1) * np.pi / (n + 1)
    curve = 2 - 2 * np.cos(phase)
    for level, decay in ((1.0, 2 / stride), (1.0, 6 / stride)):
        whole = Spectrum(level + 30 * curve / (1 + curve / decay**2), curve, (n + 1) / np.arange(1, n + 1), 3)
        at_once = fit_walk(whole, 0.5, stride).D_A2_per_ps
        later = fit_walk(remembering(whole, stride), 0.5, stride).D_A2_per_ps
        assert at_once > 1.01 * level
        # Decays as slow as the stride may hide are met, faster ones lie between.
        assert later == pytest.approx(level, rel=1e-4) if decay == 2 / stride else later < level


def test_vibrations_alone_do_not_diffuse():
    rng = np.random.default_rng(3)
    fits = [fit_walk([rng.normal(size=(400, 3))], 1.0) for _ in range(20)]
    assert max(fit.D_A2_per_ps for fit in fits) < 1e-3
    assert fit_walk([np.zeros((10, 3))], 1.0).D_A2_per_ps == 0.0


def test_units_scale():
    path = walk(np.random.default_rng(4), 1.0, 0.3, 200, 1.0)
    one, other = fit_walk([path], 1.0, 2), fit_walk([3 * path], 0.1, 2)
    assert other.D_A2_per_ps == pytest.approx(90 * one.D_A2_per_ps, rel=1e-6)
    assert other.error_A2_per_ps == pytest.approx(90 * one.error_A2_per_ps, rel=1e-4)


def test_the_plateau_steps_over_vibrations_that_are_not_white():
    rng = np.random.default_rng(5)
    interval, n = 0.1, 40000
    vibration = np.zeros((n + 1, 3))
    memory = np.exp(-interval / 1.0)
    for i in range(n):
        vibration[i + 1] = memory * vibration[i] + rng.normal(scale=2.0 * np.sqrt(1 - memory**2), size=3)
    path = walk(rng, 1.0, 0.0, n, interval) + vibration
    assert fit_walk([path], interval).D_A2_per_ps > 3.0
    found = plateau([path], interval)
    assert found is not None
    fit = found.fit
    assert found.n_agree > 2
    assert fit.stride * interval >= 3.0
    assert fit.D_A2_per_ps == pytest.approx(1.0, abs=3 * fit.error_A2_per_ps)


def test_the_plateau_of_white_noise_is_the_shortest_stride():
    rng = np.random.default_rng(6)
    chosen = [plateau([walk(rng, 1.0, 0.5, 1000, 0.1)], 0.1) for _ in range(40)]
    strides = [found.fit.stride for found in chosen if found is not None]
    assert len(strides) == 40
    assert np.median(strides) == 10
    assert plateau([walk(rng, 1.0, 0.5, 100, 0.1)], 0.1) is None


@pytest.mark.parametrize(("interval_ps", "stride"), [(0.1, 10), (0.099, 10), (0.05, 20), (0.3, 5), (2.0, 1)])
def test_the_shortest_stride_is_about_a_picosecond(interval_ps: float, stride: int):
    path = walk(np.random.default_rng(3), 1.0, 0.0, 400, interval_ps)
    found = plateau([path], interval_ps)
    assert found is not None
    assert found.fit.stride == stride
    assert least_times_ps(interval_ps) == pytest.approx((8 * stride * interval_ps, 16 * stride * interval_ps))


def test_a_walk_in_a_cage_does_not_diffuse():
    rng = np.random.default_rng(8)
    for _ in range(5):
        cage = np.zeros((3001, 3))
        for i in range(3000):
            cage[i + 1] = 0.97 * cage[i] + rng.normal(scale=0.3, size=3)
        found = plateau([cage], 0.1)
        assert found is not None
        assert found.shortest.D_A2_per_ps > 0.2
        assert found.fit.stride > found.shortest.stride
        assert found.n_agree == 0 or found.fit.D_A2_per_ps < 0.1


def test_too_few_increments_are_refused():
    with pytest.raises(ValueError, match="two modes"):
        fit_walk([np.zeros((2, 3))], 1.0)


def test_msd_curve_of_a_known_walk():
    rng = np.random.default_rng(7)
    curves = [msd_curve([walk(rng, 0.5, 0.2, 200, 0.5) for _ in range(3)], 0.5, n_lags=8) for _ in range(150)]
    lag = curves[0].lag_ps
    assert lag[0] == 0.5
    assert lag[-1] == 50.0
    values = np.array([curve.msd_A2 for curve in curves])
    expected = 6 * 0.5 * lag + 6 * 0.2**2
    assert np.allclose(values.mean(axis=0), expected, rtol=0.1)
    claimed = np.array([curve.error_A2 for curve in curves]).mean(axis=0)
    ratio = claimed / values.std(axis=0)
    assert (ratio > 0.75).all()
    assert (ratio < 1.6).all()
