"""The figures of a report: plain numbers in, inline SVG out.

Every figure is one small panel, so that a page can put two side by side on a laptop and stack them on a phone.
Diffusion has a module of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from curator.report.panel import (
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
    YELLOW,
    legend_above,
    log_axis,
    panel,
    scatter,
)

MODEL, FOUNDATION, REFERENCE = BLUE, ORANGE, INK
REASONS = {
    "random": SKY,
    "hop": BLUE,
    "uncertain": VERMILLION,
    "diverse": GREEN,
    "contact": YELLOW,
    "anchor": PURPLE,
    "test": MUTED,
    "exam": INK,
}


def against_labels(axes: Axes, ylabel: str, n_columns: int, logarithmic: bool = False) -> None:
    """Finish a panel that shows a quantity against the labels bought: axes from zero labels on, grid, legend."""
    axes.set(xlabel="labels bought", ylabel=ylabel)
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    if logarithmic:
        log_axis(axes, "y")
    axes.grid(axis="y")
    legend_above(axes, n_columns)


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
    against_labels(axes, "force RMSE (eV/Å)", 3, logarithmic=True)


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
    against_labels(axes, "migration barrier (eV)", 3)


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
    against_labels(axes, "force RMSE on the probe (eV/Å)", 2)
    axes.set_ylim(0, 1.15 * max([*model, foundation or 0.0]))


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
def calibration(
    axes: Axes,
    predicted: NDArray[Any],
    error: NDArray[Any],
    decile_predicted: Sequence[float],
    decile_true: Sequence[float],
) -> None:
    """Predicted force error against the true one: each atom, and rms over deciles of the prediction, in eV/Å."""
    seen = error > 0
    every = np.concatenate([predicted, error[seen], decile_predicted])
    limits = (every.min() / 1.4, every.max() * 1.4)
    axes.plot(limits, limits, color=INK, lw=0.9, label="identity", zorder=3)
    scatter(axes, predicted[seen], error[seen], s=9, color=SKY, alpha=0.45, label="atom", zorder=2)
    style: dict[str, Any] = {"color": BLUE, "marker": "o", "ms": 6, "mec": PAPER, "mew": 0.8, "ls": "none"}
    axes.plot(decile_predicted, decile_true, label="decile, rms", zorder=4, **style)
    axes.set(xlim=limits, ylim=limits, xlabel="predicted force error (eV/Å)", ylabel="true force error (eV/Å)")
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.set_aspect("equal")
    axes.legend(loc="upper left", markerscale=1.2, handletextpad=0.3)


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
