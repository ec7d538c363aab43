"""What the figures about diffusion show, and what they say; without evidence they say why there is none yet."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curator.quantities import with_error
from curator.report import figures_diffusion
from curator.report.evidence import Evidence, Tree, items, labels_of, lookup, newest, number, series, tolerance_eV
from curator.report.exhibit import Said, exhibit


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
            caption = f"Round {idx}: where a curve runs along its dashed line, 6 D t, the ions diffuse."
            return caption, figures_diffusion.mean_squared_displacement(curves, measured)
    return f"No mean squared displacement yet: {no_diffusion(evidence)}.", None


def _line(fit: Tree) -> figures_diffusion.Line | None:
    Ea, ln_D0 = number(fit, "Ea_eV"), number(fit, "ln_D0")
    if Ea is None or ln_D0 is None:
        return None
    error = number(fit, "error_eV")
    covariance = number(fit, "covariance", 0, 1) or 0.0
    label = f"Ea = {with_error(Ea, error)} eV"
    return figures_diffusion.Line(Ea, ln_D0, error or 0.0, number(fit, "error_ln_D0") or 0.0, covariance, label)


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
                points.append(figures_diffusion.Point(temperature, None, None, bound, fitted=False))
            continue
        fitted = low is None or high is None or low <= temperature <= high
        points.append(figures_diffusion.Point(temperature, value, number(result, "error_A2_per_ps"), None, fitted))
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
    return caption, figures_diffusion.arrhenius(points, line)


@exhibit("Activation energy against labels")
def activation_energy(evidence: Evidence) -> Said:
    """Activation energy by round."""
    x, y = series(evidence.rounds, "arrhenius", "Ea_eV")
    if not y:
        return f"No activation energy yet: {no_activation_energy(evidence)}.", None
    errors = [
        number(row, "arrhenius", "error_eV") or 0.0
        for row in evidence.rounds
        if number(row, "arrhenius", "Ea_eV") is not None and labels_of(row) is not None
    ]
    if len(y) == 1:
        caption = "Measured once so far: whether it has settled takes another round to tell."
    else:
        step, error = 1e3 * abs(y[-1] - y[-2]), 1e3 * float(np.hypot(errors[-1], errors[-2]))
        caption = (
            f"The newest two differ by {step:.0f} meV, with a standard error of {error:.0f} meV on the difference."
        )
    return caption, figures_diffusion.activation_energy(x, y, errors, tolerance_eV(evidence))


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
        n_labels = labels_of(row)
        for result in items(row, "diffusion"):
            temperature, value = number(result, "temperature_K"), number(result, "D_A2_per_ps")
            measured = lookup(result, "status") == "measured" and value is not None and value > 0
            if measured and n_labels is not None and temperature is not None and value is not None:
                error = number(result, "error_A2_per_ps") or 0.0
                curves.setdefault(temperature, []).append((n_labels, value, error))
    if not curves:
        return f"No diffusivity yet: {no_diffusion(evidence)}.", None
    return "Converged diffusivities stay level, at every temperature.", figures_diffusion.diffusivities(curves)
