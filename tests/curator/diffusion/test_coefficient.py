"""Errors of diffusion coefficients: does the 95 % interval cover the known answer in 95 % of the walks?"""

import kmc
import numpy as np
import pytest

from curator.diffusion.coefficient import (
    Coefficient,
    chi2_coefficient,
    haven_ratio,
    length_for_memory,
    measure_sum,
    measure_tracer,
    measure_walk,
    shared,
)

INTERVAL_PS = 0.1


def measured_walks(
    n_repeats: int, n_carriers: int, n_hops: int, time_ps: float, n_replicas: int = 1, **hops: float
) -> tuple[np.ndarray, np.ndarray]:
    """D over the known one, of the sum of one carrier or of each of several, and whether the interval holds it."""
    rng = np.random.default_rng([n_carriers, n_hops, n_replicas])
    rate = n_hops / (n_carriers * time_ps * n_replicas)
    D = kmc.known_D(rate, hops.get("correlation", 0.0))
    ratio, covered = [], []
    for _ in range(n_repeats):
        runs = [
            kmc.hoppers(rng, n_carriers, rate, time_ps, INTERVAL_PS, vibration_A=0.3, **hops) for _ in range(n_replicas)
        ]
        paths = [run.reshape(len(run), -1) for run in runs]
        if n_carriers == 1:
            walk = measure_walk(paths, INTERVAL_PS, kmc.HOP_LENGTH_A)
        else:
            walk = measure_tracer(paths, INTERVAL_PS, kmc.HOP_LENGTH_A, 1 / rate)
        low, high = walk.coefficient.ci95_A2_per_ps
        ratio.append(walk.coefficient.D_A2_per_ps / D)
        covered.append(low < D < high)
    return np.array(ratio), np.array(covered)


SETTINGS = [
    (1, 40, 100, 1, {}),
    (1, 100, 12.5, 8, {}),
    (1, 100, 200, 1, {"back_jumps": 0.3}),
    (1, 1000, 50, 4, {}),
    (16, 40, 100, 1, {}),
    (16, 320, 25, 4, {}),
    (1, 400, 50, 4, {"back_jumps": 0.5}),
    (1, 400, 50, 4, {"correlation": -0.2}),
    (16, 1000, 100, 2, {"correlation": -0.2}),
]


@pytest.mark.parametrize(("n_carriers", "n_hops", "time_ps", "n_replicas", "hops"), SETTINGS)
def test_bias_and_coverage(n_carriers: int, n_hops: int, time_ps: float, n_replicas: int, hops: dict[str, float]):
    ratio, covered = measured_walks(100, n_carriers, n_hops, time_ps, n_replicas, **hops)
    ln_ratio = np.log(ratio)
    assert abs(ln_ratio.mean()) < 0.05 + 2 * ln_ratio.std() / np.sqrt(100)
    # 95 % of 100, within three binomial errors.
    assert covered.mean() >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("n_carriers", "n_hops", "time_ps", "n_replicas", "hops"), SETTINGS)
def test_bias_and_coverage_of_many_walks(
    n_carriers: int, n_hops: int, time_ps: float, n_replicas: int, hops: dict[str, float]
):
    ratio, covered = measured_walks(2000, n_carriers, n_hops, time_ps, n_replicas, **hops)
    assert abs(np.log(ratio).mean()) < 0.05
    assert 0.93 <= covered.mean() <= 0.97


def tracers_of_an_interstitial(n_repeats: int, time_ps: float, n_replicas: int) -> tuple[np.ndarray, np.ndarray]:
    """D over the known one of the ions around an interstitial with 100 hops, and whether the interval holds it."""
    rng = np.random.default_rng([100, n_replicas])
    rate = 100 / (time_ps * n_replicas)
    mobile = kmc.NUMBERS == 3
    D = kmc.TRACER_CORRELATION * kmc.known_D(rate) / mobile.sum()
    ratio, covered = [], []
    for _ in range(n_repeats):
        runs = [kmc.collinear(rng, rate, time_ps, INTERVAL_PS)[:, mobile] for _ in range(n_replicas)]
        paths = [run.reshape(len(run), -1) for run in runs]
        walk = measure_tracer(paths, INTERVAL_PS, kmc.HOP_LENGTH_A, 1 / rate)
        low, high = walk.coefficient.ci95_A2_per_ps
        ratio.append(walk.coefficient.D_A2_per_ps / D)
        covered.append(low < D < high)
    return np.array(ratio), np.array(covered)


def test_tracer_of_an_interstitial():
    """Few ions move, one pushing the next: their modes scatter as if they were nine and not 33."""
    ratio, covered = tracers_of_an_interstitial(100, 200, 1)
    assert abs(np.log(ratio).mean()) < 0.05 + 2 * np.log(ratio).std() / np.sqrt(100)
    assert covered.mean() >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("time_ps", "n_replicas"), [(200, 1), (50, 4)])
def test_many_tracers_of_an_interstitial(time_ps: float, n_replicas: int):
    ratio, covered = tracers_of_an_interstitial(2000, time_ps, n_replicas)
    assert abs(np.log(ratio).mean()) < 0.05
    assert 0.93 <= covered.mean() <= 0.97


def test_hops_along_one_axis():
    """Three coordinates of which one moves: a chi-squared variable of a third of the degrees of freedom."""
    rng = np.random.default_rng(3)
    rate, covered = 20.0, 0
    for _ in range(200):
        steps = kmc.HOP_LENGTH_A * (2 * rng.binomial(n := rng.poisson(rate * INTERVAL_PS, 500), 0.5) - n)
        path = rng.normal(scale=0.1, size=(501, 3))
        path[1:, 0] += np.cumsum(steps)
        low, high = measure_walk([path], INTERVAL_PS, kmc.HOP_LENGTH_A).coefficient.ci95_A2_per_ps
        covered += low < kmc.known_D(rate) < high
    assert covered >= 180


def test_an_interval_reaches_down_to_what_later_back_jumps_leave():
    rng = np.random.default_rng(4)
    runs = [kmc.hoppers(rng, 1, 2.0, 50, INTERVAL_PS, correlation=-0.3)[:, 0] for _ in range(4)]
    walk = measure_walk(runs, INTERVAL_PS, kmc.HOP_LENGTH_A)
    fit, later = walk.plateau.fit.D_A2_per_ps, walk.plateau.remembering_A2_per_ps
    assert later < fit
    unknown = walk.coefficient.error_A2_per_ps / walk.coefficient.D_A2_per_ps * fit
    low, high = chi2_coefficient(fit, unknown).ci95_A2_per_ps
    assert walk.coefficient.ci95_A2_per_ps == pytest.approx((low * later / fit, high))
    tracer = measure_tracer(runs, INTERVAL_PS, kmc.HOP_LENGTH_A, 0.5)
    assert tracer.coefficient.D_A2_per_ps == pytest.approx(walk.coefficient.D_A2_per_ps * (1 + later / fit) / 2)


def test_the_interval_is_that_of_the_variance_of_a_normal_sample():
    """An error of 1/√20 is that of a sum of 40 squares: of the textbook's s² / σ², from 0.6741 to 1.6371 of s²."""
    found = chi2_coefficient(1.0, 1 / np.sqrt(20))
    low, high = found.ci95_A2_per_ps
    assert (low, high) == (pytest.approx(0.6741, abs=1e-4), pytest.approx(1.6371, abs=1e-4))
    assert low < 1 < found.D_A2_per_ps < high


def test_the_logarithm_of_a_coefficient_is_unbiased():
    rng = np.random.default_rng(0)
    for dof in (8, 20, 100):
        drawn = rng.chisquare(dof, size=2000) / dof
        ln_D = [np.log(chi2_coefficient(D, D * np.sqrt(2 / dof)).D_A2_per_ps) for D in drawn]
        assert np.mean(ln_D) == pytest.approx(0, abs=4 * np.std(ln_D) / np.sqrt(2000))


def test_a_coefficient_of_nothing_is_compatible_with_zero():
    assert chi2_coefficient(0.0, 0.0).ci95_A2_per_ps == (0.0, 0.0)
    assert chi2_coefficient(0.1, 0.2) == Coefficient(0.1, 0.2, (0.0, pytest.approx(0.1 + 1.96 * 0.2)))


def test_a_share_is_a_part_of_everything():
    assert shared(Coefficient(4.0, 1.0, (2.0, 8.0)), 4) == Coefficient(1.0, 0.25, (0.5, 2.0))


def test_the_errors_of_a_haven_ratio_add_in_squares():
    """3 % and 4 % are 5 %; thirty ions of 0.01 Å²/ps against a sum of 0.6."""
    ratio, error = haven_ratio(Coefficient(0.01, 0.0003, (0, 1)), Coefficient(0.6, 0.024, (0, 1)), 30)
    assert (ratio, error) == (pytest.approx(0.5), pytest.approx(0.025))
    one = Coefficient(0.6, 0.024, (0, 1))
    assert haven_ratio(one, one, 1) == (1.0, 0.0)


def test_replicas_that_agree_leave_the_error_alone_and_others_replace_it():
    rng = np.random.default_rng(1)
    n_replaced = 0
    for _ in range(60):
        paths = [kmc.hoppers(rng, 1, 1.0, 50, INTERVAL_PS)[:, 0] for _ in range(4)]
        n_replaced += measure_walk(paths, INTERVAL_PS, kmc.HOP_LENGTH_A).replicas_disagree
    assert n_replaced <= 4
    paths = [kmc.hoppers(rng, 1, rate, 100, INTERVAL_PS)[:, 0] for rate in (0.3, 0.3, 2.0, 2.0)]
    walk = measure_walk(paths, INTERVAL_PS, kmc.HOP_LENGTH_A)
    assert walk.replicas_disagree
    low, high = walk.coefficient.ci95_A2_per_ps
    assert low < kmc.known_D(0.3) * 1.5
    assert high > kmc.known_D(2.0)
    assert measure_walk(paths[:3], INTERVAL_PS, kmc.HOP_LENGTH_A).replica_error_A2_per_ps is None


def test_the_replica_error_is_that_of_their_mean():
    rng = np.random.default_rng(2)
    walks = []
    for _ in range(60):
        paths = [kmc.hoppers(rng, 1, 1.0, 50, INTERVAL_PS)[:, 0] for _ in range(8)]
        walks.append(measure_walk(paths, INTERVAL_PS, kmc.HOP_LENGTH_A))
    D = np.array([walk.coefficient.D_A2_per_ps for walk in walks])
    claimed = np.sqrt(np.mean([walk.replica_error_A2_per_ps**2 for walk in walks]))
    assert claimed == pytest.approx(D.std(), rel=0.3)


def test_a_replica_of_two_frames_has_no_scatter():
    rng = np.random.default_rng(5)
    paths = [np.cumsum(rng.normal(size=(n, 3)), axis=0) for n in (100, 100, 100, 100, 2)]
    walk, without = (measure_walk(given, 1.0, 3.0) for given in (paths, paths[:4]))
    assert walk.plateau.fit.stride == 1
    assert walk.replica_error_A2_per_ps == without.replica_error_A2_per_ps > 0


def test_too_short_is_nothing():
    assert measure_walk([np.zeros((20, 3))], INTERVAL_PS, 1.0) is None
    assert measure_tracer([np.zeros((20, 3))], INTERVAL_PS, 1.0, 10.0) is None


@pytest.mark.parametrize(
    ("residence_ps", "n_carriers", "n_paths", "length_ps"),
    # Strides are 1, 2, 3, 5 or 7 times a power of ten; eight of them in a path, sixteen in all for three coordinates.
    [(10.0, 1, 1, 320.0), (10.0, 1, 2, 160.0), (10.0, 16, 1, 160.0), (11.0, 16, 3, 240.0), (0.1, 16, 1, 8.0)],
)
def test_the_length_that_shows_a_memory_is_the_shortest(
    residence_ps: float, n_carriers: int, n_paths: int, length_ps: float
):
    assert length_for_memory(residence_ps, 0.1, 3 * n_carriers, n_paths) == pytest.approx(length_ps)
    rng = np.random.default_rng(0)

    def stride_ps(n_frames: int) -> float:
        paths = [np.cumsum(rng.normal(size=(n_frames, 3 * n_carriers)), axis=0) for _ in range(n_paths)]
        walk = measure_tracer(paths, 0.1, 1.0, residence_ps)
        return 0.0 if walk is None else walk.plateau.fit.stride * 0.1

    n_frames = round(length_ps / 0.1) + 1
    assert stride_ps(n_frames) >= max(1.0, 2 * residence_ps) > stride_ps(n_frames - 10)


def test_sum_of_carriers_that_remember_their_hops():
    """The sum alone cannot tell that its ions hop back; with them as witnesses the interval holds the known D."""
    n_carriers, n_hops, time_ps = 16, 1000, 100.0
    rng = np.random.default_rng(0)
    covered = {"sum alone": 0, "with its ions": 0}
    for _ in range(60):
        runs = [
            kmc.hoppers(rng, n_carriers, n_hops / (2 * n_carriers * time_ps), time_ps, INTERVAL_PS, correlation=-0.2)
            for _ in range(2)
        ]
        D = n_carriers * kmc.known_D(n_hops / (2 * n_carriers * time_ps), -0.2)
        sums, ions = [run.sum(axis=1) for run in runs], [run.reshape(len(run), -1) for run in runs]
        for name, walk in (
            ("sum alone", measure_walk(sums, INTERVAL_PS, kmc.HOP_LENGTH_A)),
            ("with its ions", measure_sum(sums, ions, INTERVAL_PS, kmc.HOP_LENGTH_A, n_carriers)),
        ):
            low, high = walk.coefficient.ci95_A2_per_ps
            covered[name] += low < D < high
    assert covered["sum alone"] < 30
    assert covered["with its ions"] >= 52
