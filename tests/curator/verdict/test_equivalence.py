"""Equivalence tests and trends against what they claim."""

import math

import numpy as np
import pytest

from curator.verdict.equivalence import Estimate, compare, drift


@pytest.mark.parametrize(
    ("difference", "error", "outcome"),
    [(0.0, 0.01, "agrees"), (0.04, 0.01, "unclear"), (0.0, 0.03, "unclear"), (0.2, 0.01, "differs")],
)
def test_equivalence(difference, error, outcome):
    assert compare("Ea", Estimate(0.1, error), Estimate(0.1 + difference, error), 0.05).outcome == outcome


def test_a_trend_is_the_weighted_least_squares_line():
    rounds, errors = [2, 3, 5, 6], np.array([0.01, 0.02, 0.01, 0.03])
    values = 0.1 + 0.004 * np.array(rounds)
    found = drift("Ea", rounds, [Estimate(v, e) for v, e in zip(values, errors, strict=True)], 3, 0.05)
    covariance = np.polyfit(rounds, values, 1, w=1 / errors, cov="unscaled")[1]
    assert f"is 0.012 ± {3 * math.sqrt(covariance[0, 0]):.3f} in 3 rounds" in found.text
    assert found.outcome == "agrees"


def test_a_trend_sees_what_pairs_do_not():
    """Steps of 0.02 eV a round: each pair is within the tolerance, three rounds of it are not."""
    values = [Estimate(0.12 + 0.02 * k, 0.002) for k in range(4)]
    assert compare("Ea", values[3], values[1], 0.05).outcome == "agrees"
    assert drift("Ea", range(4), values, 3, 0.05).outcome == "differs"


def test_equivalence_errs_at_its_nominal_rate():
    """At a true difference just at the tolerance, either claim is made in 5 % of the cases."""
    rng = np.random.default_rng(0)
    error = 0.008
    outcomes = [
        compare("x", Estimate(rng.normal(0, error), error), Estimate(rng.normal(0.05, error), error), 0.05).outcome
        for _ in range(4000)
    ]
    for claim in ("agrees", "differs"):
        assert outcomes.count(claim) / 4000 == pytest.approx(0.05, abs=0.01)
    equal = [
        compare("x", Estimate(rng.normal(0, s), s), Estimate(rng.normal(0, s), s), 0.05).outcome
        for s in [0.05 / 4.2] * 4000
    ]
    assert equal.count("agrees") / 4000 == pytest.approx(0.8, abs=0.03)
