"""How much dynamics an activation energy takes, against a table and against brute force."""

import math
from itertools import product

import numpy as np
import pytest
from histories import BARRIER_EV, RULE, Campaign

from curator.datasets.units import KB_EV_PER_K
from curator.verdict.history import read_round
from curator.verdict.planning import (
    EXCESS_VARIANCE,
    best_temperatures,
    cheapest_times,
    error_of_Ea,
    plan_md,
    twice_the_time,
)

ATTEMPTS_PER_PS = 10.0
LN_2_WANTED = math.log(2) / 4.2


def variance_ps(temperature_K, Ea_eV: float) -> np.ndarray:
    """Variance of ln D times the time, of hops at a rate ``10 exp(-Ea / kT)`` per ps."""
    rate = ATTEMPTS_PER_PS * np.exp(-Ea_eV / (KB_EV_PER_K * np.asarray(temperature_K, dtype=float)))
    return EXCESS_VARIANCE / rate


@pytest.mark.parametrize(
    ("Ea_eV", "temperature_K", "equal_ns", "shared_ns"),
    [
        (0.24, (600, 800, 1000, 1200), 1.04, 0.90),
        (0.24, (800, 1000, 1200, 1400), 1.05, 0.95),
        (0.24, (600, 1200), 0.76, 0.60),
        (0.24, (700, 1400), 0.55, 0.46),
        (0.24, (600, 900, 1400), 0.58, 0.48),
        (0.24, (500, 800, 1400), 0.56, 0.52),
        (0.30, (600, 1200), 2.33, 1.69),
        (0.30, (700, 1400), 1.42, 1.09),
        (0.30, (600, 900, 1400), 1.43, 1.28),
        (0.30, (500, 800, 1400), 1.52, 1.73),
    ],
)
def test_errors_are_those_of_the_analytic_designs(Ea_eV, temperature_K, equal_ns, shared_ns):
    """Nanoseconds for 0.02 eV, with equal times and with rate to the -1/2, of which a middle one takes half."""
    variance = variance_ps(temperature_K, Ea_eV)
    shared = np.sqrt(variance) * ([1, 0.5, 1] if len(variance) == 3 else 1)
    for total_ns, share in ((equal_ns, np.ones_like(variance)), (shared_ns, shared)):
        time_ps = 1000 * total_ns * share / share.sum()
        assert error_of_Ea(temperature_K, variance / time_ps) == pytest.approx(0.02, rel=0.012)


@pytest.mark.parametrize(("Ea_eV", "temperature_K", "ns"), [(0.24, (600, 1200), 0.60), (0.3, (700, 1400), 1.09)])
def test_two_temperatures_share_by_the_root_of_the_rate(Ea_eV, temperature_K, ns):
    variance = variance_ps(temperature_K, Ea_eV)
    time_ps = cheapest_times(temperature_K, variance, 0.02)
    assert time_ps.sum() == pytest.approx(1000 * ns, rel=0.01)
    assert time_ps[0] / time_ps[1] == pytest.approx(math.sqrt(variance[0] / variance[1]), rel=1e-6)
    assert error_of_Ea(temperature_K, variance / time_ps) == pytest.approx(0.02, rel=1e-6)


@pytest.mark.parametrize(
    ("Ea_eV", "temperature_K", "error_eV"),
    [
        (0.24, (600.0, 900.0, 1400.0), 0.02),
        (0.24, (600.0, 900.0, 1400.0), 0.01),
        (0.30, (500.0, 700.0, 1000.0), 0.012),
        (0.12, (500.0, 800.0, 1000.0), 0.02),
    ],
)
def test_no_allotment_is_cheaper(Ea_eV, temperature_K, error_eV):
    """Against a search over all shares, each temperature being asked for its own diffusivity as well."""
    variance = variance_ps(temperature_K, Ea_eV)
    at_least_ps = variance / LN_2_WANTED**2
    planned_ps = cheapest_times(temperature_K, variance, error_eV, at_least_ps)
    assert error_of_Ea(temperature_K, variance / planned_ps) <= error_eV * (1 + 1e-6)
    assert (planned_ps >= at_least_ps).all()

    cheapest_ps = math.inf
    for shares in product(np.linspace(0.02, 0.96, 48), repeat=2):
        if sum(shares) > 0.98:
            continue
        share = np.array([*shares, 1 - sum(shares)])
        # The error falls with the root of the total, and so the total follows.
        total_ps = (error_of_Ea(temperature_K, variance / share) / error_eV) ** 2
        total_ps = max(total_ps, float((at_least_ps / share).max()))
        cheapest_ps = min(cheapest_ps, total_ps)
    assert planned_ps.sum() <= 1.005 * cheapest_ps


def test_time_that_is_spent_is_used_and_never_asked_back():
    temperature_K = (600.0, 900.0, 1400.0)
    variance = variance_ps(temperature_K, 0.24)
    free = cheapest_times(temperature_K, variance, 0.02)
    spent = np.array([0.0, 200.0, 600.0])
    planned = cheapest_times(temperature_K, variance, 0.02, spent)
    assert (planned >= spent).all()
    assert planned[0] < free[0]
    assert cheapest_times(temperature_K, variance, 0.02, 10 * free) == pytest.approx(10 * free)


@pytest.mark.parametrize("Ea_eV", [0.15, 0.24, 0.4, 0.7])
def test_the_best_temperatures_are_the_best(Ea_eV):
    low_K, middle_K, high_K = best_temperatures(Ea_eV, 200.0, 1400.0)
    assert high_K == pytest.approx(1400)
    assert 2 / middle_K == pytest.approx(1 / low_K + 1 / high_K)

    def total_ps(lowest_K: float) -> float:
        pair = (lowest_K, 1400.0)
        return float(cheapest_times(pair, variance_ps(pair, Ea_eV), 0.02).sum())

    grid = np.arange(200.0, 1350.0, 1.0)
    assert low_K == pytest.approx(grid[np.argmin([total_ps(T) for T in grid])], abs=1.0)


def test_temperatures_are_kept_within_their_range():
    assert best_temperatures(0.1, 600.0, 900.0)[0] == pytest.approx(600.0)


def planned(error_ln_D: float = 0.2, **changes):
    """A plan for a round of 100 ps at each temperature."""
    content = Campaign(bias_eV=0.0, seed_eV=0.0).round(3) | Campaign(bias_eV=0.0, error_ln_D=error_ln_D).md(3)
    content["arrhenius"]["error_eV"] = error_of_Ea((500, 700, 1000), np.full(3, error_ln_D**2))
    return plan_md(read_round(content | changes), RULE, seed_eV=0.004)


def test_a_plan_reaches_what_the_rule_needs():
    plan = planned()
    assert plan is not None
    assert math.hypot(plan.wanted_eV, 0.004) == pytest.approx(RULE.tolerance_eV / 4.2)
    needed_ps = [t.needed_ps for t in plan.temperatures]
    reached_eV = error_of_Ea((500, 700, 1000), 0.2**2 * 100 / np.array(needed_ps))
    assert reached_eV == pytest.approx(plan.wanted_eV, rel=1e-3)
    assert plan.sampling_eV is not None
    assert plan.sampling_eV > plan.wanted_eV
    assert (plan.buy, plan.seed_eV) == ("md", 0.004)
    # Two trajectories at each temperature, so half the time for each.
    assert [t.duration_ps for t in plan.temperatures] == [math.ceil(ps / 2) for ps in needed_ps]


def test_a_good_round_needs_nothing_more_and_can_be_doubled():
    plan = planned(0.05)
    assert plan is not None
    assert (plan.more_ps, plan.buy) == (0.0, "none")
    assert [t.needed_ps for t in twice_the_time(plan).temperatures] == [200.0] * 3
    assert (twice_the_time(plan).more_ps, twice_the_time(plan).buy) == (300.0, "md")


def test_a_temperature_without_a_diffusivity_is_scaled_by_its_hops():
    content = Campaign(bias_eV=0.0, error_ln_D=0.1).md(3)
    content["diffusion"][0] |= {"status": "bound", "D_A2_per_ps": None, "error_A2_per_ps": None, "hops": 4.0}
    plan = planned(diffusion=content["diffusion"], arrhenius=None)
    assert plan is not None
    assert plan.sampling_eV is None
    # The barrier stands for the activation energy.
    assert plan.best_temperatures_K == pytest.approx(best_temperatures(BARRIER_EV, 500, 1000))
    # At the least what its own ln D takes: 1.25 / 4 after 100 ps, to come to (ln 2 / 4.2)².
    assert plan.temperatures[0].needed_ps >= 100 * 1.25 / 4 / LN_2_WANTED**2 - 1e-6


def test_a_gap_to_the_reference_is_closed_with_labels():
    plan = planned(barrier_gap_eV=0.03)
    assert plan is not None
    assert plan.buy == "labels"


def test_nothing_is_planned_from_nothing():
    assert planned(diffusion=[]) is None
    assert planned(diffusion=Campaign().md(0)["diffusion"][:1]) is None
    empty = [{"temperature_K": T, "status": "refused", "time_ps": 0.0} for T in (500, 700)]
    assert planned(diffusion=empty, arrhenius=None) is None
