"""How much molecular dynamics an activation energy takes, at which temperatures, and whether to buy it or labels.

The variance of ln D falls with the time that was simulated, ``σ² = v / t``: v is close to one over the rate of hops,
and is taken from what was measured, so that it holds what the estimator loses. With x = 1/kT and weights t / v the
activation energy of a straight line has the variance ``1 / Σ (t / v)(x - x̄)²``. For two temperatures the least time
for a given variance V is ``(√v₁ + √v₂)² / (V (x₁ - x₂)²)``, spent in the proportion √v, rate to the power of minus one
half; what is spent between them adds little to the slope, and is there to see a curvature and the diffusivity itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import lambertw

from curator.datasets.units import KB_EV_PER_K
from curator.diffusion.refusals import MAX_RELATIVE_ERROR
from curator.quantities import Z975
from curator.verdict.equivalence import MARGIN_OVER_ERROR
from curator.verdict.history import FinishedRound, MeasuredPoint
from curator.verdict.rule import StopRule

Floats = NDArray[np.float64]

EXCESS_VARIANCE: float = 1.25
"""Variance of ln D times the hops that were seen; it would be 1 if each hop were observed by itself."""
LEAST_SHARE: float = 0.5
"""Where other errors leave less than this share of what a test allows, molecular dynamics cannot buy the rest."""


@dataclass(frozen=True, slots=True)
class PlannedTime:
    """Molecular dynamics at one temperature, all trajectories together, equilibration left out: so far, and needed."""

    temperature_K: float
    time_ps: float
    needed_ps: float
    n_trajectories: float

    @property
    def duration_ps(self) -> int:
        """Length of each trajectory that makes up what is needed."""
        return math.ceil(self.needed_ps / self.n_trajectories - 1e-9)


@dataclass(frozen=True, slots=True)
class MDPlan:
    """What it takes to know the activation energy as well as the stopping rule asks.

    Attributes
    ----------
    temperatures
        Time at each temperature.
    wanted_eV
        Standard error of the activation energy, from sampling alone, that they are to reach.
    sampling_eV, seed_eV, gap_eV
        What the error is made of today: of sampling (None without a fit), of what training leaves to chance, and
        the barrier's gap to the reference (None without one). The first is bought down with molecular dynamics, the
        others with labels.
    buy
        Which of the two helps more: ``md``, ``labels``, or ``none`` where all is known well enough.
    cpu_s_per_ps
        CPU seconds that a picosecond of one trajectory took; None if that is not known.
    best_temperatures_K, best_time_ps
        Three temperatures within the range of those in use that would have been cheapest, and their time; None where
        the activation energy is not known well enough to say.
    """

    temperatures: tuple[PlannedTime, ...]
    wanted_eV: float
    sampling_eV: float | None
    seed_eV: float
    gap_eV: float | None
    buy: Literal["md", "labels", "none"]
    cpu_s_per_ps: float | None
    best_temperatures_K: tuple[float, float, float] | None
    best_time_ps: float | None

    @property
    def more_ps(self) -> float:
        """Molecular dynamics still to be bought, all temperatures and trajectories together."""
        return sum(max(t.needed_ps - t.time_ps, 0.0) for t in self.temperatures)


def error_of_Ea(temperature_K: ArrayLike, variance_ln_D: ArrayLike) -> float:
    """Standard error in eV of the activation energy fitted to ln D of these variances, each of shape ``(n,)``."""
    x = 1 / (KB_EV_PER_K * np.asarray(temperature_K, dtype=np.float64))
    weight = 1 / np.asarray(variance_ln_D, dtype=np.float64)
    return float(1 / np.sqrt(weight @ (x - weight @ x / weight.sum()) ** 2))


def hops_for(temperature_K: ArrayLike, tolerance_eV: float) -> float:
    """Hops at each of some temperatures that let an activation energy agree with its like within a tolerance."""
    one_hop_each = np.full(np.shape(temperature_K), EXCESS_VARIANCE)
    return (error_of_Ea(temperature_K, one_hop_each) / (tolerance_eV / MARGIN_OVER_ERROR)) ** 2


def cheapest_times(
    temperature_K: ArrayLike, variance_ps: ArrayLike, error_eV: float, at_least_ps: ArrayLike = 0.0
) -> Floats:
    """Least time at each temperature with which the activation energy has a standard error.

    Parameters
    ----------
    temperature_K
        Temperatures in K, shape ``(n,)``, two or more.
    variance_ps
        Variance of ln D times the time it was measured in, shape ``(n,)``, ps.
    error_eV
        Standard error in eV that is wanted.
    at_least_ps
        Time that is spent anyway, in ps, shape ``(n,)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(n,)``, ps. The lowest and the highest temperature share by ``√variance_ps``, as the two-point design
        above; the others keep to what is spent anyway.
    """
    temperature, variance = np.asarray(temperature_K, dtype=np.float64), np.asarray(variance_ps, dtype=np.float64)
    least = np.broadcast_to(np.asarray(at_least_ps, dtype=np.float64), temperature.shape)
    ends = (temperature == temperature.min()) | (temperature == temperature.max())
    share = np.where(ends, np.sqrt(variance), 0.0)
    tiny = 1e-9 * share.max()

    def times(scale: float) -> Floats:
        return np.maximum(least, scale * share)

    def excess(scale: float) -> float:
        return error_of_Ea(temperature, variance / (times(scale) + tiny)) - error_eV

    if excess(0.0) <= 0:
        return times(0.0)
    x = 1 / (KB_EV_PER_K * temperature[ends])
    enough = share.sum() / (error_eV * np.ptp(x)) ** 2
    return times(float(brentq(excess, 0.0, 1.01 * enough, xtol=1e-9 * enough)))


def best_temperatures(Ea_eV: float, lowest_K: float, highest_K: float) -> tuple[float, float, float]:
    """Three temperatures within a range at which an activation energy is cheapest to measure.

    The highest is the highest allowed. Relative to it the lower one costs ``(1 + e^u)² / u²`` with u = Ea (x - x_high)
    / 2: less lever above, fewer hops below the optimum, u = 1 + W(1/e) = 1.278 with Lambert's W. The third lies
    midway in 1/T, where a curvature shows most.
    """
    hot = 1 / (KB_EV_PER_K * highest_K)
    cold = min(hot + 2 * (1 + float(lambertw(math.exp(-1)).real)) / Ea_eV, 1 / (KB_EV_PER_K * lowest_K))
    low_K, middle_K, high_K = (1 / (KB_EV_PER_K * x) for x in (cold, (cold + hot) / 2, hot))
    return low_K, middle_K, high_K


def plan_md(now: FinishedRound, rule: StopRule, seed_eV: float, earlier: Sequence[FinishedRound] = ()) -> MDPlan | None:
    """Molecular dynamics that brings the round's errors to what its agreement with earlier rounds takes.

    Parameters
    ----------
    now
        The round whose trajectories can be continued.
    rule
        What counts as converged.
    seed_eV
        Standard error of the activation energy that no dynamics lowers; over kT, also of ln D.
    earlier
        Rounds it is to agree with, at the same temperatures; where none is known, they are taken to be as good as
        this one.

    Returns
    -------
    MDPlan
        Or None with fewer than two temperatures, or where no time was simulated to scale from.
    """
    if len(now.points) < 2 or not all(point.time_ps > 0 for point in now.points):
        return None
    temperature_K = np.array(now.temperatures_K)
    time_ps = np.array([point.time_ps for point in now.points])
    variance_ps = time_ps * np.array([_variance_ln_D(point) for point in now.points])
    # What a fit adds for its chi² is not planned for: chance, which another look corrects, or a curvature, which stays.
    others_eV = [r.Ea.with_error_of(seed_eV).error for r in earlier if r.Ea]
    total_eV = _wanted(rule.tolerance_eV, others_eV)
    wanted_eV = _by_sampling(total_eV, seed_eV)
    seed_ln_D = [seed_eV / point.kT_eV for point in now.points]
    others_ln_D = [
        [math.hypot(e.error, seed) for r in earlier if (e := r.points[i].ln_D)] for i, seed in enumerate(seed_ln_D)
    ]
    total_ln_D = [_wanted(math.log(rule.diffusivity_factor), errors) for errors in others_ln_D]
    wanted_ln_D = np.array([_by_sampling(total, seed) for total, seed in zip(total_ln_D, seed_ln_D, strict=True)])
    seed_share = max(seed_eV / total_eV, *(seed / total for seed, total in zip(seed_ln_D, total_ln_D, strict=True)))
    at_least_ps = np.maximum(time_ps, variance_ps / wanted_ln_D**2)
    needed_ps = cheapest_times(temperature_K, variance_ps, wanted_eV, at_least_ps)

    best_K, best_ps = _best(now, temperature_K, variance_ps, wanted_eV, float(wanted_ln_D.min()))
    more_ps = float((needed_ps - time_ps).sum())
    return MDPlan(
        temperatures=tuple(
            PlannedTime(point.temperature_K, point.time_ps, float(needed), point.n_trajectories)
            for point, needed in zip(now.points, needed_ps, strict=True)
        ),
        wanted_eV=wanted_eV,
        sampling_eV=None if now.Ea is None else now.Ea.error,
        seed_eV=seed_eV,
        gap_eV=now.gap_eV,
        buy=_better_purchase(now, rule, seed_share, more_ps),
        cpu_s_per_ps=now.md_cpu_s_per_ps,
        best_temperatures_K=best_K,
        best_time_ps=best_ps,
    )


def twice_the_time(plan: MDPlan) -> MDPlan:
    """A plan that doubles what was simulated: a fair look where errors are as planned and still leave a doubt."""
    twice = tuple(replace(t, needed_ps=2 * t.time_ps) for t in plan.temperatures)
    return replace(plan, temperatures=twice, buy="md")


def _variance_ln_D(point: MeasuredPoint) -> float:
    """Variance of ln D at the time simulated so far; where there is no D, of the hops that were counted, or of one."""
    if point.is_measured and point.ln_D is not None:
        return point.ln_D.error**2
    # Bounded for want of time rather than of hops: its error is above the largest that is measured.
    least = MAX_RELATIVE_ERROR**2 if point.status == "bound" else 0.0
    return max(EXCESS_VARIANCE / max(point.hops, 1.0), least)


def _wanted(tolerance: float, others: Sequence[float]) -> float:
    """Standard error with which an estimate usually passes against others of these standard errors."""
    both = 2 * (tolerance / MARGIN_OVER_ERROR) ** 2
    return math.sqrt(max(both - max(others, default=math.sqrt(both / 2)) ** 2, both / 4))


def _by_sampling(total: float, seed: float) -> float:
    """Standard error that sampling may have of a total, beside what training leaves to chance."""
    return math.sqrt(max(total**2 - seed**2, (LEAST_SHARE * total) ** 2))


def _better_purchase(
    now: FinishedRound, rule: StopRule, seed_share: float, more_ps: float
) -> Literal["md", "labels", "none"]:
    if seed_share**2 > 1 - LEAST_SHARE**2 or (now.gap_eV is not None and abs(now.gap_eV) >= rule.tolerance_eV / 2):
        return "labels"
    return "md" if more_ps > 0 else "none"


def _best(
    now: FinishedRound, temperature_K: Floats, variance_ps: Floats, error_eV: float, error_ln_D: float
) -> tuple[tuple[float, float, float] | None, float | None]:
    """Cheapest temperatures within the range of those in use, and their time, if rates follow the Arrhenius line.

    Until the activation energy is known, the barrier stands for it.
    """
    Ea_eV = now.barrier_eV
    if now.Ea is not None and now.Ea.value >= Z975 * now.Ea.error:
        Ea_eV = now.Ea.value
    if Ea_eV is None or Ea_eV <= 0:
        return None, None
    best_K = best_temperatures(Ea_eV, float(temperature_K.min()), float(temperature_K.max()))
    x, best_x = 1 / (KB_EV_PER_K * temperature_K), 1 / (KB_EV_PER_K * np.array(best_K))
    variance = np.exp(np.mean(np.log(variance_ps) - Ea_eV * x) + Ea_eV * best_x)
    return best_K, float(cheapest_times(best_K, variance, error_eV, variance / error_ln_D**2).sum())
