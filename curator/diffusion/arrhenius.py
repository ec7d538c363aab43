"""Arrhenius fit: an activation energy from diffusivities at several temperatures."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from curator.datasets.units import CM2_PER_S_PER_A2_PER_PS, KB_EV_PER_K
from curator.diffusion.refusals import FEW_HOPS, SOME_HOPS
from curator.quantities import Z975

Floats = NDArray[np.float64]

DOUBT = 0.01
"""Below this probability of its residuals the straight line is called into question."""
NO_LINE = ("kink", "curved", "poor fit", "negative")
"""How the reasons begin for which no single activation energy describes the diffusivities."""


class _Measurement(Protocol):
    """What the fit takes of a diffusivity."""

    @property
    def status(self) -> str: ...
    @property
    def temperature_K(self) -> float | None: ...
    @property
    def D_A2_per_ps(self) -> float | None: ...
    @property
    def error_A2_per_ps(self) -> float | None: ...
    @property
    def bound_A2_per_ps(self) -> float | None: ...
    @property
    def n_hops(self) -> float | None: ...
    @property
    def time_ps(self) -> float: ...
    @property
    def n_trajectories(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Arrhenius:
    """Fit of ``ln D = ln D0 - Ea / kT``.

    Attributes
    ----------
    Ea_eV, error_eV, ci95_eV
        Activation energy in eV, its standard error, and its 95 % interval.
    ln_D0, error_ln_D0
        Logarithm of D0 in Å²/ps, and its standard error.
    covariance
        Of (ln D0, Ea), 2 by 2; the errors are the roots of its diagonal.
    chi2, dof, p_value
        Weighted sum of squared residuals, degrees of freedom, and the probability of a larger sum if the line is right;
        None without a degree of freedom.
    n_temperatures, temperatures_K
        Temperatures in the fit, and the lowest and highest of them.
    n_trajectories, n_hops, time_ps
        Totals behind them.
    reasons
        What to be careful about.
    """

    Ea_eV: float
    error_eV: float
    ci95_eV: tuple[float, float]
    ln_D0: float
    error_ln_D0: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    chi2: float
    dof: int
    p_value: float | None
    n_temperatures: int
    temperatures_K: tuple[float, float]
    n_trajectories: int
    n_hops: float
    time_ps: float
    reasons: tuple[str, ...] = ()

    @property
    def D0_A2_per_ps(self) -> float:
        """D0 in Å²/ps."""
        return float(np.exp(self.ln_D0))

    @property
    def error_D0_A2_per_ps(self) -> float:
        """Its standard error, ``D0`` times that of ``ln D0``."""
        return self.D0_A2_per_ps * self.error_ln_D0


@dataclass(frozen=True, slots=True)
class Extrapolated:
    """Diffusivity of an Arrhenius fit at a temperature.

    Attributes
    ----------
    temperature_K
        Temperature in K.
    D_A2_per_ps, error_A2_per_ps, ci95_A2_per_ps
        Diffusivity in Å²/ps, its standard error, ``D`` times that of ``ln D``, and its 95 % interval.
    reasons
        What to be careful about.
    """

    temperature_K: float
    D_A2_per_ps: float
    error_A2_per_ps: float
    ci95_A2_per_ps: tuple[float, float]
    reasons: tuple[str, ...] = ()


def extrapolate(fit: Arrhenius, temperature_K: float) -> Extrapolated:
    """Diffusivity at another temperature, if the line goes on until there.

    ``ln D = g · (ln D0, Ea)`` with ``g = (1, -1/kT)`` has the variance ``g C g`` of the fit's covariance C, and the
    interval is that of a normal ``ln D``: the errors of the diffusivities, and not their residuals, are behind C.

    Raises
    ------
    ValueError
        If the temperature is not positive.
    """
    if not temperature_K > 0:
        raise ValueError(f"temperature {temperature_K:g} K must be positive")
    ln_D, error = _on_line(temperature_K, np.array([fit.ln_D0, fit.Ea_eV]), np.array(fit.covariance))
    lowest_K, highest_K = fit.temperatures_K
    reasons: tuple[str, ...] = ()
    if temperature_K < lowest_K:
        reasons = (f"extrapolated by {lowest_K - temperature_K:g} K below the lowest",)
    elif temperature_K > highest_K:
        reasons = (f"extrapolated by {temperature_K - highest_K:g} K above the highest",)
    D = float(np.exp(ln_D))
    ends = (float(np.exp(ln_D - Z975 * error)), float(np.exp(ln_D + Z975 * error)))
    return Extrapolated(temperature_K, D, D * error, ends, reasons)


def fit_arrhenius(diffusivities: Sequence[_Measurement]) -> Arrhenius | None:
    """Weighted least-squares fit of ln D over 1/kT to the diffusivities that were measured.

    The weight of ``ln D`` is ``(D / error)²``. Where the residuals exceed the errors, chi²/dof > 1, the covariance is
    multiplied by chi²/dof (scale factor of the Particle Data Group, Phys. Rev. D 110, 030001 (2024), section 5.2.2).

    A line across a change of phase has a wrong slope with a small error. So the line is compared with two lines, with a
    break at each place that leaves two temperatures on either side, and then with a parabola. A reason names what fits
    better, if the drop of chi² has a probability below 1 %, counted for as many comparisons as were made.

    Parameters
    ----------
    diffusivities
        One or more for each temperature. Refusals are left out, and so are bounds, but a reason names a bound that the
        line lies above, beyond its error.

    Returns
    -------
    Arrhenius
        Or None with fewer than two temperatures.
    """
    points = [
        (d.temperature_K, d.D_A2_per_ps, d.error_A2_per_ps, d)
        for d in diffusivities
        if d.status == "measured" and d.temperature_K and d.D_A2_per_ps and d.error_A2_per_ps
    ]
    temperature_K = np.array([point[0] for point in points])
    n_temperatures = len(np.unique(temperature_K))
    if n_temperatures < 2:
        return None
    ln_D = np.log([point[1] for point in points])
    weight = np.array([(point[1] / point[2]) ** 2 for point in points])
    design = np.stack([np.ones_like(temperature_K), -1 / (KB_EV_PER_K * temperature_K)], axis=1)
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    solution = covariance @ (design.T @ (weight * ln_D))
    chi2 = float((weight * (ln_D - design @ solution) ** 2).sum())
    dof = len(points) - 2
    p_value = float(chi2_distribution.sf(chi2, dof)) if dof > 0 else None
    reasons = [reason] if (reason := _bend(temperature_K, ln_D, weight, chi2)) else []
    if p_value is not None:
        covariance *= max(1.0, chi2 / dof)
        if p_value < DOUBT and not reasons:
            reasons.append(
                f"poor fit: chi² is {chi2:.1f} for {dof} degrees of freedom (p = {p_value:.1g}), which has "
                "raised the error; look for a temperature at which the mechanism differs"
            )
    ln_D0, Ea_eV = (float(value) for value in solution)
    if n_temperatures == 2:
        reasons.append("two temperatures: whether ln D is a straight line over 1/T cannot be told; measure a third")
    error_ln_D0, error_eV = (float(value) for value in np.sqrt(np.diag(covariance)))
    if Ea_eV + Z975 * error_eV < 0:
        reasons.append(
            f"negative: D falls as the temperature rises, Ea is {Ea_eV:.3f} ± {error_eV:.3f} eV; look for a change of "
            "phase or of the mechanism, and check that each temperature is that of its trajectories"
        )
    reasons += _few_hops([point[3] for point in points], float(temperature_K.min()))
    reasons += _above_bounds(diffusivities, solution, covariance)
    measured = [point[3] for point in points]
    return Arrhenius(
        Ea_eV=Ea_eV,
        error_eV=error_eV,
        ci95_eV=(Ea_eV - Z975 * error_eV, Ea_eV + Z975 * error_eV),
        ln_D0=ln_D0,
        error_ln_D0=error_ln_D0,
        covariance=(
            (float(covariance[0, 0]), float(covariance[0, 1])),
            (float(covariance[1, 0]), float(covariance[1, 1])),
        ),
        chi2=chi2,
        dof=dof,
        p_value=p_value,
        n_temperatures=n_temperatures,
        temperatures_K=(float(temperature_K.min()), float(temperature_K.max())),
        n_trajectories=sum(d.n_trajectories for d in measured),
        n_hops=sum(d.n_hops or 0.0 for d in measured),
        time_ps=sum(d.time_ps for d in measured),
        reasons=tuple(reasons),
    )


def extrapolated_as_json(found: Extrapolated) -> dict[str, object]:
    """Extrapolated diffusivity as JSON values, with the unit in the name of each key."""
    return {
        "temperature_K": found.temperature_K,
        "D_A2_per_ps": found.D_A2_per_ps,
        "error_A2_per_ps": found.error_A2_per_ps,
        "ci95_A2_per_ps": list(found.ci95_A2_per_ps),
        "D_cm2_per_s": found.D_A2_per_ps * CM2_PER_S_PER_A2_PER_PS,
        "reasons": list(found.reasons),
    }


def arrhenius_as_json(fit: Arrhenius) -> dict[str, object]:
    """Arrhenius fit as JSON values, with the unit in the name of each key."""
    return {
        "Ea_eV": fit.Ea_eV,
        "error_eV": fit.error_eV,
        "ci95_eV": list(fit.ci95_eV),
        "ln_D0": fit.ln_D0,
        "error_ln_D0": fit.error_ln_D0,
        "D0_A2_per_ps": fit.D0_A2_per_ps,
        "D0_cm2_per_s": fit.D0_A2_per_ps * CM2_PER_S_PER_A2_PER_PS,
        "error_D0_A2_per_ps": fit.error_D0_A2_per_ps,
        "covariance": [list(row) for row in fit.covariance],
        "chi2": fit.chi2,
        "dof": fit.dof,
        "p_value": fit.p_value,
        "n_temperatures": fit.n_temperatures,
        "temperatures_K": list(fit.temperatures_K),
        "n_trajectories": fit.n_trajectories,
        "hops": fit.n_hops,
        "time_ps": fit.time_ps,
        "reasons": list(fit.reasons),
    }


def _on_line(temperature_K: float, solution: Floats, covariance: Floats) -> tuple[float, float]:
    """Value of ln D on the line at a temperature, and its standard error."""
    row = np.array([1.0, -1 / (KB_EV_PER_K * temperature_K)])
    return float(row @ solution), float(np.sqrt(row @ covariance @ row))


def _few_hops(measured: Sequence[_Measurement], lowest_K: float) -> list[str]:
    """Whether the lowest temperature is a point by luck: with somewhat fewer hops it would be a bound."""
    n_hops = min((d.n_hops for d in measured if d.temperature_K == lowest_K and d.n_hops), default=SOME_HOPS)
    if n_hops >= SOME_HOPS:
        return []
    return [
        f"few hops: about {n_hops:.0f} at {lowest_K:g} K, the lowest temperature; as fewer than {FEW_HOPS} would have "
        "been a bound, D tends to be too high there, and Ea too low: run longer at that temperature"
    ]


def _above_bounds(diffusivities: Sequence[_Measurement], solution: Floats, covariance: Floats) -> list[str]:
    """Bounds on D that the line lies above, by more than `Z975` of its standard errors there."""
    reasons = []
    for d in diffusivities:
        if d.status == "bound" and d.temperature_K and d.bound_A2_per_ps:
            ln_D, error = _on_line(d.temperature_K, solution, covariance)
            if ln_D - Z975 * error > np.log(d.bound_A2_per_ps):
                reasons.append(
                    f"above a bound: the line gives {np.exp(ln_D):.3g} Å²/ps at {d.temperature_K:g} K, where D is "
                    f"below {d.bound_A2_per_ps:.3g}; it must be steeper there: run longer at that temperature"
                )
    return reasons


def _bend(temperature_K: Floats, ln_D: Floats, weight: Floats, chi2: float) -> str:
    """What fits better than one line beyond chance; empty if nothing does."""
    x = -1 / (KB_EV_PER_K * temperature_K)
    temperatures = np.unique(temperature_K)
    if len(temperatures) < 3:
        return ""
    kinks = []
    # Two temperatures on either side, or a line could bend to a single outlier.
    for below, above in itertools.pairwise(temperatures[1:-1]):
        cold = (temperature_K <= below).astype(np.float64)
        design = np.stack([cold, cold * x, 1 - cold, (1 - cold) * x], axis=1)
        lines, by_lines = _least_squares(design, ln_D, weight)
        kinks.append((float(chi2_distribution.sf(chi2 - by_lines, 2)), below, above, lines[1], lines[3]))
    n_compared = len(kinks) + 1
    if kinks and (p_value := min(kinks)[0] * n_compared) < DOUBT:
        _, below, above, Ea_cold, Ea_hot = min(kinks)
        return (
            f"kink: Ea is {Ea_cold:.3f} eV up to {below:g} K and {Ea_hot:.3f} eV from {above:g} K on "
            f"(p = {p_value:.1g} for one line); the phase may change between them: fit each side by itself"
        )
    middle = float(np.average(x, weights=weight))
    parabola, by_parabola = _least_squares(np.stack([np.ones_like(x), x, (x - middle) ** 2], axis=1), ln_D, weight)
    p_value = float(chi2_distribution.sf(chi2 - by_parabola, 1)) * n_compared
    if p_value >= DOUBT:
        return ""
    cold_Ea, hot_Ea = (float(parabola[1] + 2 * parabola[2] * (end - middle)) for end in (x.min(), x.max()))
    return (
        f"curved: Ea goes from {cold_Ea:.3f} eV at {temperatures[0]:g} K to {hot_Ea:.3f} eV at {temperatures[-1]:g} K "
        f"(p = {p_value:.1g} for one line); the mechanism may change: fit a narrower window"
    )


def _least_squares(design: Floats, values: Floats, weight: Floats) -> tuple[Floats, float]:
    """Weighted least squares: the solution, and the sum of squared residuals."""
    root = np.sqrt(weight)
    solution = np.asarray(np.linalg.lstsq(root[:, None] * design, root * values, rcond=None)[0], dtype=np.float64)
    return solution, float((weight * (values - design @ solution) ** 2).sum())
