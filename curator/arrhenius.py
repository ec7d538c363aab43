"""Arrhenius fit: an activation energy from diffusivities at several temperatures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from curator.datasets.units import KB_EV_PER_K

CURVATURE_CHI2_PER_DOF = 2.0
"""Above this the straight line is called into question."""


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
    def n_hops(self) -> float: ...
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
    chi2, dof
        Weighted sum of squared residuals, and degrees of freedom.
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
    n_temperatures: int
    temperatures_K: tuple[float, float]
    n_trajectories: int
    n_hops: float
    time_ps: float
    reasons: tuple[str, ...] = ()


def fit_arrhenius(diffusivities: Sequence[_Measurement]) -> Arrhenius | None:
    """Weighted least-squares fit of ln D over 1/kT to the diffusivities that were measured.

    The weight of ``ln D`` is ``(D / error)²``. Where the residuals exceed the errors, chi²/dof > 1, the covariance is
    multiplied by chi²/dof (scale factor of the Particle Data Group, Phys. Rev. D 110, 030001 (2024), section 5.2.2).

    Parameters
    ----------
    diffusivities
        One or more for each temperature; bounds and refusals are left out.

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
    reasons = []
    if dof > 0:
        covariance *= max(1.0, chi2 / dof)
        if chi2 / dof > CURVATURE_CHI2_PER_DOF:
            reasons.append(f"chi²/dof is {chi2 / dof:.1f}: the Arrhenius plot may be curved")
    ln_D0, Ea_eV = (float(value) for value in solution)
    error_ln_D0, error_eV = (float(value) for value in np.sqrt(np.diag(covariance)))
    measured = [point[3] for point in points]
    return Arrhenius(
        Ea_eV=Ea_eV,
        error_eV=error_eV,
        ci95_eV=(Ea_eV - 1.96 * error_eV, Ea_eV + 1.96 * error_eV),
        ln_D0=ln_D0,
        error_ln_D0=error_ln_D0,
        covariance=(
            (float(covariance[0, 0]), float(covariance[0, 1])),
            (float(covariance[1, 0]), float(covariance[1, 1])),
        ),
        chi2=chi2,
        dof=dof,
        n_temperatures=n_temperatures,
        temperatures_K=(float(temperature_K.min()), float(temperature_K.max())),
        n_trajectories=sum(d.n_trajectories for d in measured),
        n_hops=sum(d.n_hops for d in measured),
        time_ps=sum(d.time_ps for d in measured),
        reasons=tuple(reasons),
    )


def arrhenius_as_json(fit: Arrhenius) -> dict[str, object]:
    """Arrhenius fit as JSON values, with the unit in the name of each key."""
    return {
        "Ea_eV": fit.Ea_eV,
        "error_eV": fit.error_eV,
        "ci95_eV": list(fit.ci95_eV),
        "ln_D0": fit.ln_D0,
        "error_ln_D0": fit.error_ln_D0,
        "covariance": [list(row) for row in fit.covariance],
        "chi2": fit.chi2,
        "dof": fit.dof,
        "n_temperatures": fit.n_temperatures,
        "temperatures_K": list(fit.temperatures_K),
        "n_trajectories": fit.n_trajectories,
        "hops": fit.n_hops,
        "time_ps": fit.time_ps,
        "reasons": list(fit.reasons),
    }
