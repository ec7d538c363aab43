"""The figures of a report: plain numbers in, inline SVG out.

Every figure is one small panel, so that a page can put two side by side on a laptop and stack them on a phone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from curator.datasets.units import CM2_PER_S_PER_A2_PER_PS, KB_EV_PER_K
from curator.panel import (
    BLUE,
    GREEN,
    INK,
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
    scatter,
    times_power,
)

MODEL, FOUNDATION, REFERENCE = BLUE, ORANGE, INK
REASONS = {"random": SKY, "uncertain": VERMILLION, "diverse": GREEN, "anchor": PURPLE, "test": MUTED}


# -- what labels buy --------------------------------------------------------------------------------------------------


@panel()
def force_error(
    axes: Axes,
    n_labels: Sequence[float],
    model_eV_per_A: Sequence[float],
    foundation_eV_per_A: float | None,
    fresh: Sequence[tuple[float, float]] = (),
) -> None:
    """Force error on the test frames against labels bought; the foundation model stands at zero labels."""
    x, y = list(n_labels), list(model_eV_per_A)
    if foundation_eV_per_A is not None:
        axes.axhline(foundation_eV_per_A, color=FOUNDATION, lw=1, ls=(0, (4, 3)))
        axes.plot([0], [foundation_eV_per_A], "s", color=FOUNDATION, label="foundation", clip_on=False, zorder=4)
        axes.plot([0, *x[:1]], [foundation_eV_per_A, *y[:1]], color=MODEL, lw=1, ls=":")
    axes.plot(x, y, "o-", color=MODEL, label="model", zorder=3)
    if fresh:
        axes.plot(*zip(*fresh, strict=True), "D", color=PAPER, mec=VERMILLION, label="model on frames new to it")
    axes.set(xlabel="labels bought", ylabel="force RMSE (eV/Å)")
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    log_axis(axes, "y")
    axes.grid(axis="y")
    legend_above(axes, 3)


@panel()
def barrier(
    axes: Axes,
    n_labels: Sequence[float],
    model_eV: Sequence[float],
    reference: Sequence[tuple[float, float]],
    foundation_eV: float | None,
    tolerance_eV: float | None,
    members: Sequence[tuple[float, Sequence[float]]] = (),
) -> None:
    """Migration barrier of the model against labels bought, the other members of the committee as dots."""
    if reference:
        x_reference, y_reference = (np.array([values[0], *values]) for values in zip(*reference, strict=True))
        x_reference[0] = 0.0
        axes.plot(x_reference, y_reference, color=REFERENCE, lw=1.2, label="reference")
        if tolerance_eV:
            half = tolerance_eV / 2
            label = f"± {1e3 * half:.0f} meV"
            axes.fill_between(
                x_reference, y_reference - half, y_reference + half, color=RULE, lw=0, alpha=0.7, label=label
            )
    if foundation_eV is not None:
        axes.plot([0], [foundation_eV], "s", color=FOUNDATION, label="foundation", clip_on=False, zorder=4)
        axes.plot([0, *n_labels[:1]], [foundation_eV, *model_eV[:1]], color=MODEL, lw=1, ls=":")
    axes.plot(n_labels, model_eV, "o-", color=MODEL, label="model", zorder=3)
    dots = [(at, value) for at, values in members for value in values[1:]]
    if dots:
        axes.plot(*zip(*dots, strict=True), ".", color=MODEL, alpha=0.5, label="other members")
    axes.set(xlabel="labels bought", ylabel="migration barrier (eV)")
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    axes.grid(axis="y")
    legend_above(axes, 3)


@panel()
def labels_by_reason(axes: Axes, rounds: Sequence[int], counts: Mapping[str, Sequence[float]]) -> None:
    """Labels bought in each round, stacked by the reason for which a frame was chosen."""
    bottom = np.zeros(len(rounds))
    for name, count in counts.items():
        colour = REASONS.get(name, ORANGE)
        axes.bar(rounds, count, bottom=bottom, width=0.62, color=colour, ec=PAPER, lw=0.8, label=name)
        bottom += np.asarray(count)
    for idx, total in zip(rounds, bottom, strict=True):
        axes.annotate(f"{total:.0f}", (idx, total), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.set(xlabel="round", ylabel="new labels")
    axes.set_xlim(min(rounds) - 0.6, max(max(rounds), min(rounds) + 3) + 0.6)
    axes.set_xticks(rounds[:: 1 + len(rounds) // 12])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    legend_above(axes, 5)


@panel()
def barrier_path(axes: Axes, paths: Mapping[str, Sequence[float]]) -> None:
    """Energy along the path of the hop, relative to its start; the newest path is the strong one."""
    for order, (name, energy) in enumerate(reversed(list(paths.items()))):
        style: dict[str, Any] = {"color": MUTED, "lw": 0.8, "ms": 2.5, "alpha": 0.6}
        if order == 0:
            style = {"color": MODEL, "zorder": 3}
        energies = np.asarray(energy) - energy[0]
        axes.plot(np.linspace(0, 1, len(energies)), energies, "o-", label=name if order < 2 else None, **style)
    axes.set(xlabel="path from start (0) to end (1) of the hop", ylabel="energy (eV)")
    axes.grid(axis="y")
    legend_above(axes, 2)


# -- accuracy ---------------------------------------------------------------------------------------------------------


def _parity(
    axes: Axes, reference: NDArray[Any], series: Mapping[str, NDArray[Any]], quantity: str, size: float
) -> None:
    colours = {"foundation": FOUNDATION, "model": MODEL}
    everything = np.concatenate([reference.ravel(), *(values.ravel() for values in series.values())])
    low, high = everything.min(), everything.max()
    pad = 0.05 * (high - low or 1.0)
    limits = (low - pad, high + pad)
    axes.plot(limits, limits, color=MUTED, lw=0.8, zorder=1)
    for name, values in series.items():
        scatter(axes, reference.ravel(), values.ravel(), s=size, color=colours[name], alpha=0.55, label=name, zorder=2)
    axes.set(xlim=limits, ylim=limits, xlabel=f"reference {quantity}", ylabel=f"predicted {quantity}")
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.legend(loc="upper left", markerscale=1.8 if size < 10 else 1.0, handletextpad=0.2)


@panel(height_in=3.7)
def force_parity(axes: Axes, reference: NDArray[Any], series: Mapping[str, NDArray[Any]]) -> None:
    """Force components (eV/Å) on the test frames: reference against foundation and model."""
    _parity(axes, reference, series, "force (eV/Å)", size=7)


@panel(height_in=3.7)
def energy_parity(axes: Axes, reference: NDArray[Any], series: Mapping[str, NDArray[Any]]) -> None:
    """Centred energies (eV/atom) of the test frames, drawn in meV/atom."""
    in_meV = {name: 1e3 * values for name, values in series.items()}
    _parity(axes, 1e3 * reference, in_meV, "energy − mean (meV/atom)", size=22)


@panel()
def forgetting(axes: Axes, n_labels: Sequence[float], model: Sequence[float], foundation: float | None) -> None:
    """Force error (eV/Å) on probe frames of the pretraining data, which the campaign never asked about."""
    if foundation is not None:
        axes.axhline(foundation, color=FOUNDATION, lw=1.2, ls=(0, (4, 3)), label="foundation")
    axes.plot(n_labels, model, "o-", color=MODEL, label="model")
    axes.set(xlabel="labels bought", ylabel="force RMSE on the probe (eV/Å)")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.15 * max([*model, foundation or 0.0]))
    axes.grid(axis="y")
    legend_above(axes, 2)


@panel()
def learning_curve(axes: Axes, epoch: NDArray[Any], curves: Mapping[str, NDArray[Any]]) -> None:
    """Draw the force error (eV/Å) on validation frames over the epochs of one fit."""
    for (name, values), colour in zip(curves.items(), (BLUE, ORANGE), strict=False):
        keep = np.isfinite(values) & (values > 0)
        axes.plot(epoch[keep], values[keep], color=colour, label=name)
        if keep.any():
            best = np.flatnonzero(keep)[np.argmin(values[keep])]
            axes.plot(epoch[best], values[best], "o", color=PAPER, mec=colour, mew=1.4)
    axes.set(xlabel="epoch", ylabel="validation force RMSE (eV/Å)")
    log_axis(axes, "y")
    axes.grid(axis="y")
    legend_above(axes, 2)


# -- uncertainty and selection ----------------------------------------------------------------------------------------


@panel(height_in=3.7)
def calibration(axes: Axes, predicted: NDArray[Any], error: NDArray[Any], is_random: NDArray[Any]) -> None:
    """Calibrated committee error against the true force error of each atom, both positive, in eV/Å."""
    both = np.concatenate([predicted, error])
    limits = (both.min() / 1.4, both.max() * 1.4)
    axes.plot(limits, limits, color=INK, lw=0.9, label="identity", zorder=3)
    for chosen, colour, label, size in ((~is_random, MUTED, "chosen frames", 6), (is_random, SKY, "random share", 11)):
        if chosen.any():
            scatter(axes, predicted[chosen], error[chosen], s=size, color=colour, alpha=0.6, label=label, zorder=2)
    axes.set(xlim=limits, ylim=limits, xlabel="predicted force error (eV/Å)", ylabel="true force error (eV/Å)")
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.set_aspect("equal")
    axes.legend(loc="upper left", markerscale=1.8, handletextpad=0.3)


@panel(height_in=3.7)
def selection_map(
    axes: Axes, xy: NDArray[Any], reasons: NDArray[Any], labelled_xy: NDArray[Any], explained: Sequence[float]
) -> None:
    """Candidates in the first two principal components of the descriptors; the chosen ones by reason."""
    not_chosen = reasons == ""
    scatter(axes, xy[not_chosen, 0], xy[not_chosen, 1], s=9, color=MUTED, alpha=0.35, label="candidate")
    if labelled_xy.size:
        scatter(
            axes,
            labelled_xy[:, 0],
            labelled_xy[:, 1],
            s=14,
            marker="x",
            linewidths=0.8,
            color=MUTED,
            label="labelled before",
        )
    for name in [*(r for r in REASONS if (reasons == r).any()), *sorted(set(reasons) - set(REASONS) - {""})]:
        picked = xy[reasons == name]
        colour = REASONS.get(name, ORANGE)
        axes.scatter(picked[:, 0], picked[:, 1], s=34, color=colour, ec=PAPER, lw=0.8, label=str(name), zorder=3)
    names = ["first", "second"]
    shares = [f" ({share:.0%} of the variance)" for share in explained] or ["", ""]
    axes.set(xlabel=f"{names[0]} component{shares[0]}", ylabel=f"{names[1]} component{shares[1]}")
    axes.tick_params(labelbottom=False, labelleft=False, length=0)
    legend_above(axes, 3)


# -- diffusion --------------------------------------------------------------------------------------------------------


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
    axes.set(xlabel="labels bought", ylabel="Ea (eV)")
    axes.set_xlim(left=0)
    axes.margins(y=0.15)
    axes.grid(axis="y")
    legend_above(axes, 2)


@panel()
def diffusivities(axes: Axes, curves: Mapping[float, Sequence[tuple[float, float, float]]]) -> None:
    """Diffusivity (Å²/ps) at each temperature against labels bought: ``(n_labels, D, standard error)``."""
    for (temperature, rows), colour in zip(sorted(curves.items()), _ramp(len(curves)), strict=True):
        n_labels, D, error = (np.array(column) for column in zip(*rows, strict=True))
        ends = np.array([np.minimum(error, 0.95 * D), error])
        axes.errorbar(n_labels, D, ends, fmt="o-", color=colour, lw=1.4, capsize=2.5, label=f"{temperature:.0f} K")
    axes.set(xlabel="labels bought", ylabel="D (Å²/ps)")
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    log_axis(axes, "y")
    axes.grid(axis="y")
    legend_above(axes, 4)
