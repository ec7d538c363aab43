"""The figures about diffusion: plain numbers in, inline SVG out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from curator.datasets.units import CM2_PER_S_PER_A2_PER_PS, KB_EV_PER_K
from curator.report.figures import MODEL, against_labels
from curator.report.panel import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    RULE,
    SKY,
    VERMILLION,
    legend_above,
    log_axis,
    panel,
    times_power,
)


@panel(height_in=3.4)
def mean_squared_displacement(
    axes: Axes,
    curves: Mapping[float, tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]],
    diffusivities_A2_per_ps: Mapping[float, float],
) -> None:
    """Draw collective MSD (Å²) against lag (ps) by temperature, bands of one standard error, dashed 6 D t."""
    for (temperature, (lag, msd, error)), colour in zip(sorted(curves.items()), _ramp(len(curves)), strict=True):
        keep = (lag > 0) & (msd > 0)
        lag, msd = lag[keep], msd[keep]
        axes.plot(lag, msd, color=colour, label=f"{temperature:.0f} K")
        if error is not None:
            error = error[keep]
            axes.fill_between(lag, np.maximum(msd - error, 0.05 * msd), msd + error, color=colour, alpha=0.2, lw=0)
        if temperature in diffusivities_A2_per_ps and len(lag):
            slope = 6 * diffusivities_A2_per_ps[temperature]
            axes.plot(lag, slope * lag, color=colour, lw=0.9, ls=(0, (3, 2)))
    axes.set(xlabel="lag (ps)", ylabel="collective MSD (Å²)")
    axes.autoscale_view()
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.grid(axis="y")
    legend_above(axes, 4)


def _ramp(n: int) -> Sequence[str]:
    """Cold to hot, by temperature."""
    chosen = {1: (BLUE,), 2: (BLUE, VERMILLION), 3: (BLUE, GREEN, VERMILLION)}
    return chosen.get(n, [(SKY, BLUE, GREEN, ORANGE, VERMILLION, PURPLE)[idx % 6] for idx in range(n)])


@dataclass(frozen=True, slots=True)
class Point:
    """Diffusivity at one temperature, in Å²/ps; ``value`` None means that only an upper ``bound`` is known."""

    temperature_K: float
    value: float | None
    error: float | None
    bound: float | None
    fitted: bool


@dataclass(frozen=True, slots=True)
class Line:
    """``ln D = ln_D0 - Ea / kT`` with D in Å²/ps, its standard errors and the covariance of Ea and ln D0."""

    Ea_eV: float
    ln_D0: float
    error_Ea_eV: float
    error_ln_D0: float
    covariance: float
    label: str


def ln_D_of(line: Line, temperature_K: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logarithm of the diffusivity on the fitted line, and its standard error, errors propagated linearly."""
    beta = 1 / (KB_EV_PER_K * temperature_K)
    variance = line.error_ln_D0**2 + (beta * line.error_Ea_eV) ** 2 - 2 * beta * line.covariance
    return line.ln_D0 - line.Ea_eV * beta, np.sqrt(np.maximum(variance, 0.0))


@panel(height_in=3.6)
def arrhenius(axes: Axes, points: Sequence[Point], line: Line | None) -> None:
    """Diffusivity against 1000/T: values, upper bounds as arrows, the weighted fit and its band of one error."""
    inverse = np.array([1000 / point.temperature_K for point in points])
    pad = 0.08 * (np.ptp(inverse) or 0.5)
    x = np.linspace(inverse.min() - pad, inverse.max() + pad, 80)
    if line is not None:
        middle, width = ln_D_of(line, 1000 / x)
        axes.fill_between(x, np.exp(middle - width), np.exp(middle + width), color=MODEL, alpha=0.18, lw=0)
        axes.plot(x, np.exp(middle), color=MODEL, lw=1.2, label=line.label)
    drawn = set()
    for at, point in zip(inverse, points, strict=True):
        name = "measured" if point.fitted else "bound" if point.value is None else "not in the fit"
        label = None if name in drawn else name
        drawn.add(name)
        style: dict[str, Any] = {"color": MODEL if point.fitted else MUTED, "lw": 1.2, "label": label}
        if point.value is not None:
            face = MODEL if point.fitted else PAPER
            ends = np.array([[min(point.error or 0.0, 0.95 * point.value)], [point.error or 0.0]])
            axes.errorbar(at, point.value, ends, fmt="o", mfc=face, capsize=2.5, **style)
        elif point.bound is not None:
            axes.errorbar(at, point.bound, np.array([[0.45 * point.bound], [0.0]]), uplims=True, fmt="_", ms=9, **style)
    axes.set(xlim=(x[0], x[-1]), xlabel="1000 / T (1/K)", ylabel="D (Å²/ps)")
    axes.margins(y=0.1)
    log_axis(axes, "y")
    axes.grid(axis="y")
    right = axes.secondary_yaxis("right", functions=(_to_cm2_per_s, _to_A2_per_ps))
    right.set_ylabel("D (cm²/s)")
    right.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    right.yaxis.set_major_formatter(FuncFormatter(times_power))
    right.yaxis.set_minor_formatter(NullFormatter())
    top = axes.secondary_xaxis("top")
    top.set_xticks(inverse, [f"{point.temperature_K:.0f}" for point in points])
    top.set_xlabel("T (K)")
    axes.legend(loc="lower left")


def _to_cm2_per_s(D: Any) -> Any:
    return D * CM2_PER_S_PER_A2_PER_PS


def _to_A2_per_ps(D: Any) -> Any:
    return D / CM2_PER_S_PER_A2_PER_PS


@panel()
def activation_energy(
    axes: Axes, n_labels: Sequence[float], Ea_eV: Sequence[float], error_eV: Sequence[float], tolerance_eV: float | None
) -> None:
    """Activation energy after each round with its standard error, and the tolerance around the newest."""
    if tolerance_eV:
        low, high = Ea_eV[-1] - tolerance_eV, Ea_eV[-1] + tolerance_eV
        axes.axhspan(low, high, color=RULE, lw=0, alpha=0.7, label=f"newest ± {1e3 * tolerance_eV:.0f} meV")
    axes.errorbar(n_labels, Ea_eV, error_eV, fmt="o-", color=MODEL, lw=1.4, capsize=2.5, label="activation energy")
    against_labels(axes, "Ea (eV)", 2)


@panel()
def diffusivities(axes: Axes, curves: Mapping[float, Sequence[tuple[float, float, float]]]) -> None:
    """Diffusivity (Å²/ps) at each temperature against labels bought: ``(n_labels, D, standard error)``."""
    for (temperature, rows), colour in zip(sorted(curves.items()), _ramp(len(curves)), strict=True):
        n_labels, D, error = (np.array(column) for column in zip(*rows, strict=True))
        ends = np.array([np.minimum(error, 0.95 * D), error])
        axes.errorbar(n_labels, D, ends, fmt="o-", color=colour, lw=1.4, capsize=2.5, label=f"{temperature:.0f} K")
    against_labels(axes, "D (Å²/ps)", 4, logarithmic=True)
