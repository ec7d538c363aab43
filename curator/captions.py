"""What the figures of a report show, and what they say: evidence in, a figure with its caption out.

Where the evidence is missing, the caption says so and why, and there is no figure.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from curator import figures
from curator.evidence import Evidence, Tree, items, lookup, number
from curator.quantities import factor, gap, significant, with_error
from curator.timeline import spans_of
from curator.timeline import timeline as draw_timeline


@dataclass(frozen=True, slots=True)
class Captioned:
    """A figure as the page shows it; without ``svg`` the caption explains what is missing."""

    key: str
    title: str
    caption: str
    svg: str | None = None
    wide: bool = False


Said = tuple[str, str | None]


def exhibit(
    title: str, *, wide: bool = False
) -> Callable[[Callable[[Evidence], Said]], Callable[[Evidence], Captioned]]:
    """Name a function that returns a caption and an SVG; evidence that it trips over costs one figure, not the page."""

    def named(say: Callable[[Evidence], Said]) -> Callable[[Evidence], Captioned]:
        @wraps(say)
        def shown(evidence: Evidence) -> Captioned:
            try:
                caption, svg = say(evidence)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                caption, svg = f"This figure could not be drawn from what the campaign left: {error}.", None
            return Captioned(say.__name__, title, caption, svg, wide)

        return shown

    return named


def tolerance_eV(evidence: Evidence) -> float | None:
    """Tolerance of the campaign in eV."""
    return number(evidence.campaign, "tolerance_eV") or number(evidence.setting("measure", "diffusion", "tolerance_eV"))


def mobile_species(evidence: Evidence) -> str:
    """Symbol of the diffusing species."""
    return str(lookup(evidence.campaign, "mobile") or evidence.setting("system", "mobile") or "the defect")


def newest(evidence: Evidence, key: str) -> Tree | None:
    """Newest round in which ``key`` holds something."""
    return next((row for row in reversed(evidence.rounds) if lookup(row, key)), None)


def _series(rounds: Sequence[Tree], *path: str) -> tuple[list[float], list[float]]:
    """Labels bought and the value at ``path``, of the rounds that have both."""
    pairs = [(number(row, "n_labels_total"), number(row, *path)) for row in rounds]
    kept = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in kept], [y for _, y in kept]


def _numbers(row: Tree, key: str) -> list[float]:
    return [value for item in items(row, key) if (value := number(item)) is not None]


def _first(rounds: Sequence[Tree], *path: str) -> float | None:
    return next((value for row in rounds if (value := number(row, *path)) is not None), None)


# -- what labels buy --------------------------------------------------------------------------------------------------


@exhibit("Force error against labels")
def force_error(evidence: Evidence) -> Said:
    """Force error against labels."""
    x, y = _series(evidence.rounds, "force_rmse_eV_per_A", "model")
    if not y:
        return "No force error yet: no round has trained a model and tested it.", None
    foundation = _first(evidence.rounds, "force_rmse_eV_per_A", "foundation")
    fresh = list(zip(*_series(evidence.rounds, "fresh_force_rmse_eV_per_A"), strict=True))
    caption = f"After {x[-1]:.0f} labels the force error on the test frames is {significant(y[-1])} eV/Å"
    if foundation is not None:
        caption += f", {factor(foundation, y[-1])} the {significant(foundation)} eV/Å of the foundation model"
    if fresh:
        caption += "; diamonds are each round's random frames, before the model had seen them"
    return caption + ".", figures.force_error(x, y, foundation, fresh)


@exhibit("Migration barrier against labels")
def barrier(evidence: Evidence) -> Said:
    """Barrier and its reference against labels."""
    x, y = _series(evidence.rounds, "barrier_eV")
    reference = list(zip(*_series(evidence.rounds, "barrier_reference_eV"), strict=True))
    foundation = number(evidence.campaign, "setup", "foundation", "barrier_eV")
    if not y:
        reasons = [
            *items(evidence.rounds, -1, "barrier_reasons"),
            *items(evidence.campaign, "setup", "foundation", "reasons"),
        ]
        off = evidence.setting("measure", "barrier") is False
        why = "measure.barrier is switched off" if off else "; ".join(map(str, reasons)) or "no round has measured it"
        return f"No migration barrier yet: {why}.", None
    caption = f"The model's barrier is {significant(y[-1])} eV"
    if reference and reference[-1][0] == x[-1]:
        caption += f", {gap(y[-1], reference[-1][1])} the reference between the model's own minimum and saddle"
    else:
        caption += "; the reference has not been calculated for it"
    members = [
        (n_labels, _numbers(row, "barrier_members_eV"))
        for row in evidence.rounds
        if (n_labels := number(row, "n_labels_total")) is not None
    ]
    drawn = figures.barrier(x, y, reference, foundation, tolerance_eV(evidence), members)
    return caption + ".", drawn


@exhibit("What the labels were bought for")
def labels_by_reason(evidence: Evidence) -> Said:
    """Count the new labels of each round by reason."""
    rows = [row for row in evidence.rounds if isinstance(lookup(row, "labels_by_reason"), dict)]
    found = {str(name) for row in rows for name in row["labels_by_reason"]}
    names = [*(name for name in figures.REASONS if name in found), *sorted(found - set(figures.REASONS))]
    if not names:
        return "No labels have been bought yet.", None
    totals = {name: [number(row, "labels_by_reason", name) or 0.0 for row in rows] for name in names}
    bought = {name: list(np.diff(total, prepend=0.0)) for name, total in totals.items()}
    share = totals.get("random", [0.0])[-1] / (sum(total[-1] for total in totals.values()) or 1.0)
    caption = f"Random frames, {share:.0%} of all labels, are the control arm that measures the error without bias."
    return caption, figures.labels_by_reason([int(row["round"]) for row in rows], bought)


@exhibit("Energy along the hop")
def barrier_path(evidence: Evidence) -> Said:
    """Energy along the hop."""
    paths: dict[str, list[float]] = {}
    for row in evidence.rounds:
        energies = _numbers(row, "barrier_path_eV")
        if len(energies) > 1:
            paths[f"round {int(row['round'])}"] = energies
    if not paths:
        return "No path yet: it is drawn once a path over the barrier has been found.", None
    final = list(paths.values())[-1]
    caption = f"The newest path rises by {significant(max(final) - final[0])} eV; earlier rounds are grey."
    if len(final) == 3:
        caption += " Symmetry gives the saddle point by itself, without images in between."
    return caption, figures.barrier_path(paths)


# -- accuracy ---------------------------------------------------------------------------------------------------------


def _test_arrays(evidence: Evidence, quantity: str) -> tuple[int, NDArray[Any], dict[str, NDArray[Any]]] | None:
    found = evidence.latest(f"test_{quantity}_reference", f"test_{quantity}_model")
    if found is None:
        return None
    idx, (reference, model) = found
    series = {"model": model}
    foundation = evidence.arrays[idx].get(f"test_{quantity}_foundation")
    if foundation is not None and foundation.shape == reference.shape:
        series = {"foundation": np.asarray(foundation, dtype=np.float64), "model": model}
    return idx, reference, series


def _rmse(predicted: NDArray[Any], reference: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((predicted - reference) ** 2)))


@exhibit("Forces on the test frames")
def force_parity(evidence: Evidence) -> Said:
    """Compare forces on the test frames."""
    found = _test_arrays(evidence, "forces")
    if found is None:
        return "No force parity yet: no round has left predictions on the test frames.", None
    idx, reference, series = found
    caption = f"Round {idx}, RMSE of a component: " + ", ".join(
        f"{name} {significant(_rmse(values, reference))} eV/Å" for name, values in series.items()
    )
    return caption + ".", figures.force_parity(reference, series)


@exhibit("Energies of the test frames")
def energy_parity(evidence: Evidence) -> Said:
    """Energies of the test frames."""
    found = _test_arrays(evidence, "energies")
    if found is None:
        return "No energy parity yet: no round has left predictions on the test frames.", None
    idx, reference, series = found
    caption = f"Round {idx}, RMSE after taking out the mean: " + ", ".join(
        f"{name} {significant(1e3 * _rmse(values, reference))} meV/atom" for name, values in series.items()
    )
    return caption + ".", figures.energy_parity(reference, series)


@exhibit("What the model forgets")
def forgetting(evidence: Evidence) -> Said:
    """Error on the probe."""
    x, y = _series(evidence.rounds, "probe_force_rmse_eV_per_A", "model")
    if not y:
        return "No forgetting measured: the foundation model brings no probe frames, or no round has used them.", None
    foundation = _first(evidence.rounds, "probe_force_rmse_eV_per_A", "foundation")
    caption = f"On probe frames of the foundation model's own theory the force error is {significant(y[-1])} eV/Å"
    if foundation is not None:
        caption += f", {factor(foundation, y[-1])} that of the foundation model"
    return caption + ".", figures.forgetting(x, y, foundation)


@exhibit("Learning curve of the newest fit")
def learning_curve(evidence: Evidence) -> Said:
    """Show the validation error during the newest fit."""
    found = evidence.latest("learning_epoch", "learning_valid_target")
    if found is None:
        return "No learning curve yet: no round has finished training.", None
    idx, (epoch, target) = found
    if not (np.isfinite(target) & (target > 0)).any():
        return f"No learning curve: round {idx} had no validation error to record.", None
    curves = {"target": target}
    replay = evidence.arrays[idx].get("learning_valid_replay")
    if replay is not None and replay.shape == target.shape and np.isfinite(replay).any():
        curves["replay"] = np.asarray(replay, dtype=np.float64)
    best = int(epoch[np.nanargmin(target)])
    caption = f"Round {idx}: the error on the validation frames is smallest in epoch {best} of {int(epoch[-1])}."
    return caption, figures.learning_curve(epoch, curves)


# -- uncertainty and selection ----------------------------------------------------------------------------------------


@exhibit("Predicted error against true error")
def calibration(evidence: Evidence) -> Said:
    """Predicted against true error."""
    found = evidence.latest("calibrated_eV_per_A", "error_eV_per_A")
    if found is None:
        return "No calibration yet: it compares a committee with labels bought after it, from round 1 on.", None
    idx, (predicted, error) = found
    is_random = np.asarray(evidence.arrays[idx].get("error_is_random", np.zeros(len(error))), dtype=bool)
    if not np.all(evidence.arrays[idx].get("spread_is_known", True)):
        return (
            f"No calibration yet: in round {idx} there was no committee before the labels, only the foundation.",
            None,
        )
    usable = np.isfinite(predicted) & np.isfinite(error) & (predicted > 0) & (error > 0)
    if not usable.any():
        return f"No calibration: round {idx} has no atom with a spread and an error.", None
    predicted, error, is_random = predicted[usable], error[usable], is_random[usable]
    caption = f"Round {idx}, {len(error)} atoms, each as the committee saw it before its label was known"
    if is_random.any():
        ratio = float(np.sqrt(np.mean(predicted[is_random] ** 2) / np.mean(error[is_random] ** 2)))
        caption += f"; on the random share the predicted error is {significant(ratio, 2)} times the true one (rms)"
        if is_random.sum() > 2 and np.ptp(predicted[is_random]) > 0:
            rank = float(spearmanr(predicted[is_random], error[is_random]).statistic)
            caption += f" and ranks the atoms with a correlation of {significant(rank, 2)}"
    return caption + ".", figures.calibration(predicted, error, is_random)


@exhibit("Which frames were chosen")
def selection_map(evidence: Evidence) -> Said:
    """Candidates and chosen frames in descriptor space."""
    found = evidence.latest("map_xy")
    reasons = None if found is None else evidence.arrays[found[0]].get("map_reason")
    if found is None or reasons is None or len(reasons) != len(found[1][0]):
        return "No selection map yet: no round has chosen among candidates.", None
    idx, (xy,) = found
    held = evidence.arrays[idx]
    labelled = np.asarray(held.get("map_labelled_xy", np.empty((0, 2))), dtype=np.float64).reshape(-1, 2)
    explained = np.asarray(held.get("map_explained", []), dtype=np.float64)
    reasons = reasons.astype(str)
    n_chosen = int((reasons != "").sum())
    caption = f"Round {idx}: {n_chosen} of {len(xy)} candidates were bought; near points are similar frames."
    drawn = figures.selection_map(xy, reasons, labelled, [float(share) for share in explained[:2]])
    return caption, drawn


# -- diffusion --------------------------------------------------------------------------------------------------------


def no_diffusion(evidence: Evidence) -> str:
    """Why there is no diffusivity yet, as the end of a sentence."""
    if evidence.setting("measure") is not None and not evidence.setting("measure", "diffusion"):
        return "measure.diffusion is switched off"
    if not evidence.rounds:
        return "no round is finished"
    if row := newest(evidence, "diffusion"):
        reasons = dict.fromkeys(str(reason) for result in row["diffusion"] for reason in items(result, "reasons"))
        return f"round {int(row['round'])} could not measure it at any temperature ({'; '.join(reasons)})"
    return "molecular dynamics to measure it is bought when the barrier has settled, or at the end"


@exhibit("Mean squared displacement of the defect")
def mean_squared_displacement(evidence: Evidence) -> Said:
    """MSD by temperature."""
    for idx in sorted(evidence.arrays, reverse=True):
        held = evidence.arrays[idx]
        curves: dict[float, tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]] = {}
        for name in held:
            match = re.fullmatch(r"msd_T([\d.]+)_lag_ps", name)
            if match and (values := held.get(f"msd_T{match[1]}_A2")) is not None and values.size:
                curves[float(match[1])] = (held[name], values, held.get(f"msd_T{match[1]}_error_A2"))
        if curves:
            rows = items(next((row for row in evidence.rounds if row["round"] == idx), {}), "diffusion")
            measured = {
                temperature: value
                for row in rows
                if (temperature := number(row, "temperature_K")) is not None
                and (value := number(row, "D_A2_per_ps")) is not None
            }
            caption = f"Round {idx}: where a curve runs along its dashed line, 6 D t, the defect diffuses."
            return caption, figures.mean_squared_displacement(curves, measured)
    return f"No mean squared displacement yet: {no_diffusion(evidence)}.", None


def _line(fit: Tree) -> figures.Line | None:
    Ea, ln_D0 = number(fit, "Ea_eV"), number(fit, "ln_D0")
    if Ea is None or ln_D0 is None:
        return None
    error = number(fit, "error_eV")
    covariance = number(fit, "covariance", 0, 1) or 0.0
    label = f"Ea = {with_error(Ea, error)} eV"
    return figures.Line(Ea, ln_D0, error or 0.0, number(fit, "error_ln_D0") or 0.0, covariance, label)


@exhibit("Diffusivity against temperature")
def arrhenius(evidence: Evidence) -> Said:
    """Diffusivity against 1000/T."""
    row = newest(evidence, "diffusion")
    points = []
    fit = lookup(row, "arrhenius") or {}
    low, high = number(fit, "temperatures_K", 0), number(fit, "temperatures_K", 1)
    for result in items(row, "diffusion"):
        temperature, status = number(result, "temperature_K"), lookup(result, "status")
        value, bound = number(result, "D_A2_per_ps"), number(result, "bound_A2_per_ps")
        if temperature is None or (value is None and bound is None) or status == "refused":
            continue
        if status == "bound" or value is None or value <= 0:
            if bound:
                points.append(figures.Point(temperature, None, None, bound, fitted=False))
            continue
        fitted = low is None or high is None or low <= temperature <= high
        points.append(figures.Point(temperature, value, number(result, "error_A2_per_ps"), None, fitted))
    if row is None or not points:
        return f"No diffusivity yet: {no_diffusion(evidence)}.", None
    line = _line(fit)
    if line is None:
        caption = f"Round {int(row['round'])}: too few temperatures are measured for an activation energy."
    else:
        caption = f"Round {int(row['round'])}: {line.label}; the band is one standard error of the weighted fit"
        chi2, dof = number(fit, "chi2"), number(fit, "dof")
        caption += f", χ²/dof = {chi2 / dof:.2g}." if chi2 is not None and dof else "."
    if any(point.value is None for point in points):
        caption += " Arrows are upper bounds, where too few hops were seen."
    return caption, figures.arrhenius(points, line)


@exhibit("Activation energy against labels")
def activation_energy(evidence: Evidence) -> Said:
    """Activation energy by round."""
    x, y = _series(evidence.rounds, "arrhenius", "Ea_eV")
    if not y:
        return f"No activation energy yet: {no_activation_energy(evidence)}.", None
    errors = [
        number(row, "arrhenius", "error_eV") or 0.0
        for row in evidence.rounds
        if number(row, "arrhenius", "Ea_eV") is not None and number(row, "n_labels_total") is not None
    ]
    if len(y) == 1:
        caption = "Measured once so far: whether it has settled takes another round to tell."
    else:
        step, error = 1e3 * abs(y[-1] - y[-2]), 1e3 * float(np.hypot(errors[-1], errors[-2]))
        caption = (
            f"The newest two differ by {step:.0f} meV, with a standard error of {error:.0f} meV on the difference."
        )
    return caption, figures.activation_energy(x, y, errors, tolerance_eV(evidence))


def no_activation_energy(evidence: Evidence) -> str:
    """Why there is no activation energy yet, as the end of a sentence."""
    if newest(evidence, "diffusion") is None:
        return no_diffusion(evidence)
    return "it needs measured diffusivities at two temperatures or more"


@exhibit("Diffusivity against labels")
def diffusivities(evidence: Evidence) -> Said:
    """Follow the diffusivity at each temperature over the rounds."""
    curves: dict[float, list[tuple[float, float, float]]] = {}
    for row in evidence.rounds:
        n_labels = number(row, "n_labels_total")
        for result in items(row, "diffusion"):
            temperature, value = number(result, "temperature_K"), number(result, "D_A2_per_ps")
            measured = lookup(result, "status") == "measured" and value is not None and value > 0
            if measured and n_labels is not None and temperature is not None and value is not None:
                error = number(result, "error_A2_per_ps") or 0.0
                curves.setdefault(temperature, []).append((n_labels, value, error))
    if not curves:
        return f"No diffusivity yet: {no_diffusion(evidence)}.", None
    return "Converged diffusivities stay level, at every temperature.", figures.diffusivities(curves)


# -- cost -------------------------------------------------------------------------------------------------------------


@exhibit("When it ran", wide=True)
def timeline(evidence: Evidence) -> Said:
    """Show the tasks over time."""
    spans = spans_of(evidence.events)
    if not spans:
        return "No timeline yet: the log holds no finished task.", None
    n_failed = sum(span.failed for span in spans)
    caption = f"{len(spans)} tasks, {n_failed or 'none'} of which failed; times when nothing ran are cut out (dashed)."
    return caption, draw_timeline(spans)
