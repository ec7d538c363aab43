"""More molecular dynamics for a round that has been measured: when, how long, and what it brought.

Trajectories are continued, never begun anew, and what was found before stays in the round's JSON. Dynamics is bought
for a round that is undetermined, and for no other: a model that explodes, or that still changes, needs labels.
"""

import math
from collections.abc import Sequence

from curator.config_measure import Diffusion
from curator.state import Json

MEASUREMENT = (
    "diffusion",
    "arrhenius",
    "md_cpu_s_per_ps",
    "measured_with",
    "n_explosions",
    "verdict",
    "reasons",
    "next_purchase",
    "md_plan",
)
"""What a further measurement changes in a round's JSON, its cost apart."""
RAISE = "raise stop.max_rounds or stop.max_labels, whichever ended it, and run again"
"""What buys labels for a campaign that has ended."""
N_MEASUREMENTS = 3
"""Measurements of a round, the first counted, that a budget may buy; docs/convergence.md tells what more would do."""


def more_md(rounds: Sequence[Json], asked: Diffusion | None, max_md_ps: float | None) -> Diffusion | None:
    """How the newest round is to be measured once more, or None if it is not.

    What the user asks for comes first, and costs what it costs. Then comes what is planned, whole or not at all: half
    of a plan is a verdict that is undetermined again. After ``N_MEASUREMENTS`` no plan is followed: each further look
    is one more chance to agree by noise.

    Parameters
    ----------
    rounds
        As in ``round.json``, oldest first, each with its verdict.
    asked
        ``measure.diffusion`` of the campaign file.
    max_md_ps
        Most measuring dynamics of the whole campaign in ps, up to which the plan is followed; None never follows it.
    """
    last = rounds[-1]
    if last["verdict"] != "undetermined" or asked is None:
        return None
    if not last["diffusion"]:
        return asked
    there = Diffusion.model_validate(last["measured_with"])
    wanted = _continued(there, asked)
    if _trajectories(wanted) != _trajectories(there):
        return wanted
    planned = planned_md(last)
    if planned is None or max_md_ps is None or md_ps(rounds, planned) > max_md_ps:
        return None
    return planned


def planned_md(last: Json) -> Diffusion | None:
    """How a round is to be measured next by its plan, or None if a budget buys no dynamics for it."""
    plan = last["md_plan"]
    if last["next_purchase"]["kind"] != "md" or plan is None or len(measurements(last)) >= N_MEASUREMENTS:
        return None
    there, duration_ps = Diffusion.model_validate(last["measured_with"]), plan["duration_ps"]
    if isinstance(duration_ps, list):
        length_ps = dict(zip((t["temperature_K"] for t in plan["temperatures"]), duration_ps, strict=True))
        duration_ps = tuple(length_ps[T] for T in there.temperatures_K)
    planned = _continued(there, there.model_copy(update={"duration_ps": duration_ps}))
    return None if planned.durations_ps == there.durations_ps else planned


def md_ps(rounds: Sequence[Json], newest: Diffusion | None = None) -> float:
    """Measuring dynamics of a campaign in ps, all trajectories together without their equilibration.

    Parameters
    ----------
    newest
        Count what the newest round would have with these settings, not what it has.
    """
    if newest is not None:
        return md_ps(rounds[:-1]) + newest.replicas * sum(newest.durations_ps)
    return math.fsum(point["time_ps"] for content in rounds for point in content["diffusion"])


def measured_again(last: Json, measured: Json) -> Json:
    """A round's JSON with a further measurement; the one before, if there was one, joins ``measured_before``."""
    before = [{key: last[key] for key in MEASUREMENT}] if last["diffusion"] else []
    return last | measured | {"measured_before": [*last.get("measured_before", []), *before]}


def measurements(content: Json) -> list[Json]:
    """All measurements of a round that was measured, oldest first."""
    return [*content.get("measured_before", []), content]


def summed_up(measurement: Json) -> Json:
    """Time, and activation energy with its error, of a measurement; null where it gave none."""
    fit = measurement["arrhenius"] or {}
    return {"time_ps": md_ps([measurement]), "Ea_eV": fit.get("Ea_eV"), "error_eV": fit.get("error_eV")}


def in_words(measurement: Json) -> str:
    """The same in words."""
    sums = summed_up(measurement)
    known = "no Ea" if sums["Ea_eV"] is None else f"Ea {sums['Ea_eV']:.3f} ± {sums['error_eV']:.3f} eV"
    return f"{sums['time_ps']:.0f} ps, {known}"


def purchase_in_words(purchase: Json, content: Json) -> str:
    """What to buy next, and what to write into the campaign file for it; empty where it is nothing.

    Parameters
    ----------
    purchase
        ``next_purchase`` of the newest round.
    content
        What ``campaign.json`` holds.
    """
    if purchase["kind"] == "none" or not purchase["amount"]:
        return ""
    state, budget, plan = (content.get(key) or {} for key in ("state", "budget", "md_plan"))
    ended = state.get("finished", False)
    if purchase["kind"] == "labels":
        return f"{purchase['amount']:g} labels" + (f"; {RAISE}" if ended else "")
    told = f"{purchase['amount']:g} ps of MD, all temperatures and replicas together"
    if plan:
        told += f", on top of what there is: write measure.diffusion.duration_ps: {plan['duration_ps']}"
        if isinstance(plan["duration_ps"], list):
            temperatures_K = ", ".join(f"{time['temperature_K']:g}" for time in plan["temperatures"])
            told += f" with temperatures_K: [{temperatures_K}]"
        if plan.get("max_md_ps") is not None:
            limit_ps = budget.get("max_md_ps")
            told += f", or stop.max_md_ps: {plan['max_md_ps']}" + (f", not {limit_ps:g}" if limit_ps else "")
    n_more, n_done, most = purchase.get("rounds") or 0, state.get("round", 0), budget.get("max_rounds", 0)
    if n_more and (ended or n_done + n_more > most):
        rounds = f"stop.max_rounds to {n_done + n_more}, and " if n_done + n_more > most else ""
        told += f"; {n_more} more round{'s' * (n_more > 1)} must agree with it: raise {rounds}"
        told += "stop.max_labels by their labels"
    return told


def _continued(there: Diffusion, asked: Diffusion) -> Diffusion:
    """What is asked for, with no trajectory less or shorter than there is, at the time step of those."""
    length_ps = dict(zip(there.temperatures_K, there.durations_ps, strict=True))
    each = zip(asked.temperatures_K, asked.durations_ps, strict=True)
    return asked.model_copy(
        update={
            "duration_ps": tuple(max(duration_ps, length_ps.get(T, 0.0)) for T, duration_ps in each),
            "replicas": max(asked.replicas, there.replicas),
            "timestep_fs": there.timestep_fs,
        }
    )


def _trajectories(settings: Diffusion) -> tuple[object, ...]:
    """The settings that trajectories, and what is taken of them, depend on."""
    return settings.temperatures_K, settings.durations_ps, settings.replicas, settings.equilibration_ps
