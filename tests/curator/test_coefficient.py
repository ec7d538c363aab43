"""Errors of diffusion coefficients: does the 95 % interval cover the known answer in 95 % of the walks?"""

import kmc
import numpy as np
import pytest
from scipy.stats import chi2

from curator.coefficient import Coefficient, chi2_coefficient, measure_sum, measure_tracer, measure_walk, shared

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


def test_the_tracer_sees_hops_that_remember_the_last():
    """Not all of it: what two residence times leave costs the interval some of its coverage, 91 % of 500 walks."""
    ratio, covered = measured_walks(80, 16, 1000, 100, 2, correlation=-0.2)
    assert abs(np.log(ratio).mean()) < 0.05 + 2 * np.log(ratio).std() / np.sqrt(80)
    assert covered.mean() > 0.8


def test_a_coefficient_of_counted_hops_has_the_interval_of_a_poisson_count():
    found = chi2_coefficient(1.0, 1 / np.sqrt(20))
    low, high = found.ci95_A2_per_ps
    # Garwood's interval of 20 counts, whose upper end takes one count more.
    assert 1 / high == pytest.approx(chi2.ppf(0.025, 40) / 40)
    assert low == pytest.approx(40 / chi2.ppf(0.975, 40))
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


def test_too_short_is_nothing():
    assert measure_walk([np.zeros((20, 3))], INTERVAL_PS, 1.0) is None
    assert measure_tracer([np.zeros((20, 3))], INTERVAL_PS, 1.0, 10.0) is None


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
