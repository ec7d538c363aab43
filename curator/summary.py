"""What a round and a campaign add up to, as JSON."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from curator.context import Context, labelled
from curator.exam import EXAM, with_exam
from curator.setup import Setup, foundation_hash
from curator.state import CampaignFolder, Json, read_json, wall_seconds
from curator.uncertainty import FRESH_ARRAYS, pool_fresh_errors, reliability_json
from curator.verdict.convergence import Verdict
from curator.verdict.planning import MDPlan, PlannedTime
from curator.verdict.purchase import md_ps, planned_md


def verdict_json(verdict: Verdict) -> Json:
    """Verdict, reasons, next purchase, and the molecular dynamics that the activation energy takes."""
    plan = verdict.md_plan
    return {
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
        "next_purchase": asdict(verdict.next_purchase),
        "md_plan": None if plan is None else _plan_json(plan),
    }


def _plan_json(plan: MDPlan) -> Json:
    durations_ps = [t.duration_ps for t in plan.temperatures]
    best_K = plan.best_temperatures_K
    return {
        "temperatures": [
            {
                "temperature_K": t.temperature_K,
                "time_ps": t.time_ps,
                "needed_ps": t.needed_ps,
                "cpu_hours": _cpu_hours(t, plan),
            }
            for t in plan.temperatures
        ],
        # As measure.diffusion.duration_ps takes it.
        "duration_ps": durations_ps[0] if len(set(durations_ps)) == 1 else durations_ps,
        "more_ps": plan.more_ps,
        "wanted_error_eV": plan.wanted_eV,
        "errors_eV": {"sampling": plan.sampling_eV, "seeds": plan.seed_eV, "gap": plan.gap_eV},
        "buy": plan.buy,
        "best": None if best_K is None else {"temperatures_K": list(best_K), "time_ps": plan.best_time_ps},
    }


def _cpu_hours(time: PlannedTime, plan: MDPlan) -> float | None:
    """CPU hours of what is still to be simulated, at the pace of what was."""
    if plan.cpu_s_per_ps is None:
        return None
    return max(time.needed_ps - time.time_ps, 0.0) * plan.cpu_s_per_ps / 3600


def _with_price(rounds: Sequence[Json], context: Context) -> Json | None:
    """The newest round's plan with the wall time of what is still to be simulated, and the budget that pays for it.

    As many workers count as find a trajectory.
    """
    diffusion = context.plan.file.measure.diffusion
    plan: Json | None = rounds[-1]["md_plan"] if rounds else None
    if plan is None or diffusion is None:
        return plan
    n_workers = min(context.plan.file.run.n_processes, len(diffusion.temperatures_K) * diffusion.replicas)
    hours = [t["cpu_hours"] for t in plan["temperatures"]]
    known = all(value is not None for value in hours)
    # A trajectory is one task, however long.
    longest = max(hours) / diffusion.replicas if known else None
    planned = planned_md(rounds[-1])
    return plan | {
        "workers": n_workers,
        "wall_hours": None if longest is None else max(sum(hours) / n_workers, longest),
        # As stop.max_md_ps takes it.
        "max_md_ps": None if planned is None else math.ceil(md_ps(rounds, planned)),
    }


def round_cost(context: Context, round_: int, measuring_cpu_s: float) -> Json:
    """CPU seconds of a round by kind, its exam apart, and its wall time.

    Parameters
    ----------
    measuring_cpu_s
        Of the molecular dynamics that measured diffusion.
    """
    bought = [r.label for r in labelled(context) if r.provenance.round == round_ and r.provenance.reason != EXAM]
    explored = sum(run["cpu_s"] for run in exploration_runs(context.folder, round_))
    anchor = context.folder.round(round_) / "measure" / "anchor.json"
    probes = context.folder.round(round_) / "probes" / "probes.json"
    others = sum(read_json(path)["cpu_s"] for path in (anchor, probes) if path.exists())
    return {
        "label_cpu_s": sum(label.cpu_s for label in bought),
        "train_cpu_s": sum(member["cpu_s"] for member in read_json(context.training_file(round_))["members"]),
        "md_cpu_s": explored + others + measuring_cpu_s,
        "wall_s": wall_seconds(context.folder, round_),
    }


def exploration_runs(folder: CampaignFolder, round_: int) -> list[Json]:
    """Trajectories that explored in a round."""
    runs: list[Json] = []
    for kind in ("candidates", "test"):
        path = folder.round(round_) / "explore" / f"{kind}.json"
        if path.exists():
            runs.extend(read_json(path)["runs"])
    return runs


def _of_theory(keys: Collection[tuple[str, str]], theory: str) -> int:
    return sum(key == theory for _, key in keys)


def _calibration(context: Context, n_rounds: int) -> Json | None:
    """How reliable predicted errors were on the random shares of all rounds; None where there is too little."""
    evidence = {}
    for round_ in range(n_rounds):
        with np.load(context.folder.round(round_) / "evidence.npz") as stored:
            evidence[round_] = {name: stored[name] for name in stored if name in FRESH_ARRAYS | {"spread_kind"}}
    return reliability_json(pool_fresh_errors(evidence).reliability())


def campaign_json(context: Context, setup: Setup, rounds: Sequence[Json], *, finished: bool) -> Json:
    """All that ``curator status`` tells of a campaign."""
    file = context.plan.file
    last: Mapping[str, Any] = rounds[-1] if rounds else {}
    cell = read_json(context.folder.setup / "cell.json")
    anchor = setup.anchor
    return {
        "name": file.name,
        "verdict": last.get("verdict"),
        "reasons": last.get("reasons", ["no round is finished"]),
        "next_purchase": last.get("next_purchase"),
        "md_plan": _with_price(rounds, context),
        "state": {"round": len(rounds), "finished": finished},
        "theory": context.theory.key,
        "foundation": {"reference": file.foundation, "hash": foundation_hash(context.folder)},
        "mobile": context.plan.system.mobile,
        "n_labels_total": _of_theory(context.journal.published, context.theory.key),
        "n_failed_labels": _of_theory(context.journal.quarantined, context.theory.key),
        "failed_labels": context.journal.failed_by_reason(context.theory.key),
        "setup": {
            "cell_A": cell["cell_A"],
            "n_atoms": len(setup.frame),
            "lattice_relaxation_calls": cell["n_calls"],
            "foundation": None
            if anchor is None
            else {
                "barrier_eV": anchor.barrier_eV,
                "barrier_reference_eV": anchor.reference_eV,
                "barrier_method": anchor.method,
                "reasons": list(anchor.reasons),
            },
            "probes": setup.probes,
        },
        "tolerance_eV": context.plan.rule.tolerance_eV,
        "calibration": _calibration(context, len(rounds)),
        "budget": {
            "max_rounds": file.stop.max_rounds,
            "max_labels": file.stop.max_labels,
            "max_md_ps": file.stop.max_md_ps,
        },
        "md_ps": md_ps(rounds),
        "rounds": [with_exam(context.folder, row) for row in rounds],
    }
