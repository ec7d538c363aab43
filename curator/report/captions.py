"""What the figures of a report show, and what they say: evidence in, a figure with its caption out.

Where the evidence is missing, the caption says so and why, and there is no figure. Diffusion has a module of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curator.quantities import factor, gap, significant
from curator.report import figures
from curator.report.evidence import Evidence, Tree, items, labels_of, lookup, number, series, tolerance_eV
from curator.report.exhibit import Said, exhibit
from curator.report.timeline import spans_of
from curator.report.timeline import timeline as draw_timeline
from curator.uncertainty import N_RELIABILITY, pool_fresh_errors


def _numbers(row: Tree, key: str) -> list[float]:
    return [value for item in items(row, key) if (value := number(item)) is not None]


def _first(rounds: Sequence[Tree], *path: str | int) -> float | None:
    return next((value for row in rounds if (value := number(row, *path)) is not None), None)


# -- what labels buy --------------------------------------------------------------------------------------------------


@exhibit("Force error against labels")
def force_error(evidence: Evidence) -> Said:
    """Force error against labels."""
    x, y = series(evidence.rounds, "force_rmse_eV_per_A", "model")
    if not y:
        return "No force error yet: no round has trained a model and tested it.", None
    foundation = _first(evidence.rounds, "force_rmse_eV_per_A", "foundation")
    fresh = list(zip(*series(evidence.rounds, "fresh_force_rmse_eV_per_A"), strict=True))
    caption = f"After {x[-1]:.0f} labels the force error on the test frames is {significant(y[-1])} eV/Å"
    if foundation is not None:
        caption += f", {factor(foundation, y[-1])} the {significant(foundation)} eV/Å of the foundation model"
    if fresh:
        caption += "; diamonds are each round's random frames, before the model had seen them"
    return caption + ".", figures.force_error(x, y, foundation, fresh)


@exhibit("Migration barrier against labels")
def barrier(evidence: Evidence) -> Said:
    """Barrier and its reference against labels."""
    x, y = series(evidence.rounds, "barrier_eV")
    reference = list(zip(*series(evidence.rounds, "barrier_reference_eV"), strict=True))
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
        if (n_labels := labels_of(row)) is not None
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
    """Energy along the hop, of rounds whose saddle was proved."""
    paths: dict[str, list[float]] = {}
    for row in evidence.rounds:
        energies = _numbers(row, "barrier_path_eV")
        if len(energies) > 1 and number(row, "barrier_eV") is not None:
            paths[f"round {int(row['round'])}"] = energies
    if not paths:
        return "No path yet: it is drawn once a path over the barrier has been found.", None
    final = list(paths.values())[-1]
    caption = f"The newest path rises by {significant(max(final) - final[0])} eV; earlier rounds are grey."
    if len(final) == 3:
        caption += " Symmetry gives the saddle point by itself, without images in between."
    return caption, figures.barrier_path(paths)


# -- accuracy ---------------------------------------------------------------------------------------------------------


def _rmse(predicted: NDArray[Any], reference: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((predicted - reference) ** 2)))


def _parity(
    evidence: Evidence,
    quantity: str,
    what: str,
    write: Callable[[float], str],
    draw: Callable[[NDArray[Any], dict[str, NDArray[Any]]], str],
) -> Said:
    found = evidence.latest(f"test_{quantity}_reference", f"test_{quantity}_model")
    if found is None:
        return f"No parity of {quantity} yet: no round has left predictions on the test frames.", None
    idx, (reference, model) = found
    predicted = {"model": model}
    foundation = evidence.arrays[idx].get(f"test_{quantity}_foundation")
    if foundation is not None and foundation.shape == reference.shape:
        predicted = {"foundation": np.asarray(foundation, dtype=np.float64), "model": model}
    errors = ", ".join(f"{name} {write(_rmse(values, reference))}" for name, values in predicted.items())
    return f"Round {idx}, {what}: {errors}.", draw(reference, predicted)


@exhibit("Forces on the test frames")
def force_parity(evidence: Evidence) -> Said:
    """Compare forces on the test frames."""
    return _parity(evidence, "forces", "RMSE of a component", lambda x: f"{significant(x)} eV/Å", figures.force_parity)


@exhibit("Energies of the test frames")
def energy_parity(evidence: Evidence) -> Said:
    """Compare energies of the test frames."""
    what = "RMSE after taking out the mean"
    return _parity(evidence, "energies", what, lambda x: f"{significant(1e3 * x)} meV/atom", figures.energy_parity)


@exhibit("What the model forgets")
def forgetting(evidence: Evidence) -> Said:
    """Error on the probe."""
    x, y = series(evidence.rounds, "probe_force_rmse_eV_per_A", "model")
    if not y:
        return "No forgetting measured: the foundation model brings no probe frames, or no round has used them.", None
    foundation = _first(evidence.rounds, "probe_force_rmse_eV_per_A", "foundation")
    caption = f"On probe frames of the foundation model's own theory the force error is {significant(y[-1])} eV/Å"
    if foundation is not None:
        caption += f", {factor(foundation, y[-1])} that of the foundation model"
    caption += "."
    newest, key = evidence.rounds[::-1], "probe_median_frame_force_rmse_eV_per_A"
    before, after = (_first(newest, key, of) for of in ("foundation", "model"))
    if before is not None and after is not None:
        caption += (
            f" That of the median frame is {significant(after)} eV/Å, of the foundation model {significant(before)}: "
            "a few frames with atoms pushed together weigh most in the first number."
        )
    return caption, figures.forgetting(x, y, foundation)


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
    caption = f"Round {idx}: the error on the validation frames is smallest in epoch {best} of {int(epoch[-1])}"
    kept = _first([row for row in evidence.rounds if row["round"] == idx], "training", 0, "best_epoch")
    if kept is not None and kept != best:
        caption += f"; the weights of epoch {kept:.0f}, which are as good within the error, were kept"
    caption += "."
    return caption, figures.learning_curve(epoch, curves)


# -- uncertainty and selection ----------------------------------------------------------------------------------------


@exhibit("Predicted error against true error")
def calibration(evidence: Evidence) -> Said:
    """Predicted against true error on the random shares of all rounds."""
    pooled = pool_fresh_errors(evidence.arrays)
    found = pooled.reliability()
    if found is None:
        n_atoms = len(pooled.error_eV_per_A)
        why = f"there are {n_atoms} atoms, and {N_RELIABILITY} are needed" if n_atoms else "there are none yet"
        return (
            "No calibration yet: it compares predicted errors with labels bought later, for frames drawn at "
            f"random from round 1 on; {why}.",
            None,
        )
    rounds = f"round {pooled.rounds[0]}" if len(pooled.rounds) == 1 else f"{len(pooled.rounds)} rounds"
    source = "the last layer of the model" if pooled.kind == "last_layer" else "the committee"
    caption = (
        f"{found.n_atoms} atoms of {found.n_frames} random frames of {rounds}, each predicted from {source} before its "
        f"label was known. The predicted 68 % interval holds {found.coverage68:.0%} of the errors, that of 95 % "
        f"{found.coverage95:.0%}; over the deciles the true error is {found.calibration_error:.0%} off the predicted "
        "one on average"
    )
    if found.rank_correlation is not None:
        caption += f"; atoms are ranked with a correlation of {significant(found.rank_correlation, 2)}"
    drawn = figures.calibration(
        pooled.predicted_eV_per_A, pooled.error_eV_per_A, found.predicted_eV_per_A, found.true_eV_per_A
    )
    return caption + ".", drawn


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
    outside = np.asarray(held.get("map_outside", []), dtype=bool)
    if outside.shape == reasons.shape:
        n_bought = int((outside & (reasons != "")).sum())
        caption += (
            f" {int(outside.sum())} held an atom too far from all labelled ones for the model to be believed there; "
            f"{n_bought} of these were bought."
        )
    drawn = figures.selection_map(xy, reasons, labelled, [float(share) for share in explained[:2]])
    return caption, drawn


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
