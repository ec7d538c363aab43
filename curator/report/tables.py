"""The tables of a report, and the list of where its numbers come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from curator.datasets.units import CM2_PER_S_PER_A2_PER_PS as CM2
from curator.quantities import DASH, MINUS, duration, picoseconds, scientific, significant, with_error
from curator.report.captions_diffusion import no_diffusion
from curator.report.evidence import (
    Evidence,
    Tree,
    items,
    labels_of,
    lookup,
    mobile_species,
    moment,
    new_labels_of,
    newest,
    number,
)
from curator.report.timeline import stage_name

N_FAILURES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Table:
    """A table; columns in ``prose`` hold words and stand left; without rows only the note is shown."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    note: str = ""
    prose: tuple[int, ...] = ()
    total: bool = False


def _cell(value: float | None, write: Callable[[float], str] = significant) -> str:
    return DASH if value is None else write(value)


def _whole(value: float) -> str:
    return f"{value:.0f}"


def rounds_table(evidence: Evidence) -> Table:
    """Every round in a line."""
    rows = []
    for row in evidence.rounds:
        energy, gap = number(row, "energy_rmse_eV_per_atom", "model"), number(row, "barrier_gap_eV")
        Ea = number(row, "arrhenius", "Ea_eV")
        splits = [_cell(number(row, f"n_{split}"), _whole) for split in ("train", "valid", "test")]
        rows.append(
            [
                _whole(row["round"]),
                _cell(labels_of(row), _whole),
                _cell(new_labels_of(row), _whole),
                " / ".join(splits),
                _cell(number(row, "force_rmse_eV_per_A", "model")),
                _cell(None if energy is None else 1e3 * energy),
                _cell(number(row, "barrier_eV")),
                _cell(None if gap is None else 1e3 * gap, lambda value: f"{value:+.0f}".replace("-", MINUS)),
                DASH if Ea is None else with_error(Ea, number(row, "arrhenius", "error_eV")),
                _cell(number(row, "n_explosions"), _whole),
                str(lookup(row, "verdict") or DASH).replace("_", " "),
            ]
        )
    columns = (
        "Round",
        "Labels",
        "New",
        "Train / valid / test",
        "Force RMSE (eV/Å)",
        "Energy RMSE (meV/atom)",
        "Barrier (eV)",
        "Gap to reference (meV)",
        "Ea (eV)",
        "Explosions",
        "Verdict",
    )
    note = (
        "Splits are those at the end of the round, with the labels of the anchor, which only the next round learns; "
        "the labels of an exam come on top."
    )
    return Table("Round by round", columns, rows, note if rows else "No round is finished yet.", prose=(10,))


def diffusion_table(evidence: Evidence) -> Table:
    """Diffusivities of the newest round that measured any."""
    row = newest(evidence, "diffusion")
    title = "Diffusivities" + ("" if row is None else f" of round {int(row['round'])}")
    rows = []
    for result in items(row, "diffusion"):
        value, error = number(result, "D_A2_per_ps"), number(result, "error_A2_per_ps")
        bound, status = number(result, "bound_A2_per_ps"), str(lookup(result, "status") or DASH)
        angstrom, centimetre = DASH, DASH
        if status == "bound" and bound is not None:
            angstrom, centimetre = f"< {significant(bound, 2)}", f"< {scientific(bound * CM2, digits=2)}"
        elif value is not None and status != "refused":
            angstrom = with_error(value, error)
            centimetre = scientific(value * CM2, None if error is None else error * CM2)
        ends = [number(result, "ci95_A2_per_ps", end) for end in (0, 1)]
        tracer = number(result, "tracer", "D_A2_per_ps")
        time_ps, n_runs = number(result, "time_ps"), number(result, "n_trajectories")
        rows.append(
            [
                _cell(number(result, "temperature_K"), _whole),
                angstrom,
                centimetre,
                DASH if None in ends else " to ".join(significant(end, 2) for end in ends if end is not None),
                DASH if tracer is None else with_error(tracer, number(result, "tracer", "error_A2_per_ps")),
                _cell(number(result, "haven_ratio"), lambda value: significant(value, 2)),
                _cell(number(result, "hops"), _whole),
                _cell(time_ps, picoseconds) + ("" if n_runs is None else f" in {n_runs:.0f} runs"),
                _cell(number(result, "pressure_GPa"), lambda value: significant(value, 2)),
                status,
                "; ".join(str(reason) for reason in items(result, "reasons")),
            ]
        )
    columns = (
        "T (K)",
        "D (Å²/ps)",
        "D (cm²/s)",
        "95 % interval (Å²/ps)",
        "Tracer D (Å²/ps)",
        "Haven ratio",
        "Hops",
        "Dynamics",
        "Pressure (GPa)",
        "Status",
        "Reasons",
    )
    if not rows:
        return Table(title, columns, rows, f"No diffusivity yet: {no_diffusion(evidence)}.")
    note = (
        f"D is that of the summed displacement of all {mobile_species(evidence)} in the frame of the host, shared by "
        "the carriers: that of the defect where a hop is followed, else of one of the mobile ions. The tracer D is "
        "that of a single ion, and the Haven ratio the sum of these over that of D."
    )
    remarks = [str(reason) for reason in items(row, "arrhenius", "reasons")]
    if remarks:
        note += f" Activation energy: {'; '.join(remarks)}."
    return Table(title, columns, rows, note, prose=(9, 10))


def purchase_table(evidence: Evidence) -> Table:
    """What dynamics was bought beyond the first measurement of a round, and what it brought."""
    rows = []
    for row in evidence.rounds:
        for measurement in (*items(row, "measured_before"), row) if items(row, "measured_before") else ():
            points = items(measurement, "diffusion")
            Ea, error = number(measurement, "arrhenius", "Ea_eV"), number(measurement, "arrhenius", "error_eV")
            n_measured = sum(lookup(point, "status") == "measured" for point in points)
            rows.append(
                [
                    _whole(row["round"]),
                    picoseconds(sum(number(point, "time_ps") or 0.0 for point in points)),
                    f"{n_measured} of {len(points)}",
                    DASH if Ea is None else with_error(Ea, error),
                    _cell(error),
                    str(lookup(measurement, "verdict") or DASH).replace("_", " "),
                ]
            )
    columns = ("Round", "Dynamics so far", "Temperatures measured", "Ea (eV)", "Error of Ea (eV)", "Verdict")
    note = "" if rows else "None: no round was measured for longer than measure.diffusion asked for at first."
    return Table("What more dynamics brought", columns, rows, note, prose=(5,))


def plan_table(evidence: Evidence) -> Table:
    """Molecular dynamics that the tolerance takes, by temperature."""
    plan = lookup(evidence.campaign, "md_plan")
    title, columns = "Dynamics that the tolerance takes", ("T (K)", "So far", "Needed", "CPU time to go")
    rows = []
    for row in items(plan, "temperatures"):
        hours = number(row, "cpu_hours")
        times = [_cell(number(row, key), picoseconds) for key in ("time_ps", "needed_ps")]
        rows.append([_cell(number(row, "temperature_K"), _whole), *times, _cell(hours, lambda h: duration(3600 * h))])
    if not rows:
        if lookup(evidence.campaign, "verdict") == "converged":
            return Table(title, columns, rows, "Nothing more: the activation energy is known well enough.")
        why = "No plan yet: the newest round has not measured at two temperatures or more."
        return Table(title, columns, rows, why)
    errors = {name: number(plan, "errors_eV", name) for name in ("sampling", "seeds", "gap")}
    parts = {
        "sampling": f"{_cell(errors['sampling'])} eV from the dynamics",
        "seeds": f"{_cell(errors['seeds'])} eV from the scatter between trainings",
        "gap": f"a gap of the barrier to the reference of {_cell(errors['gap'])} eV",
    }
    told = ", ".join(text for name, text in parts.items() if errors[name] is not None)
    wanted = _cell(number(plan, "wanted_error_eV"))
    note = f"Two rounds usually agree with a statistical error of {wanted} eV in Ea. The error today: {told}."
    wall_hours, workers = number(plan, "wall_hours"), number(plan, "workers")
    if wall_hours and workers:
        note += f" What is missing takes about {duration(3600 * wall_hours)} with {workers:.0f} workers."
    return Table(title, columns, rows, note)


def cost_table(evidence: Evidence) -> Table:
    """CPU and wall time of every round."""
    keys = ("label_cpu_s", "train_cpu_s", "md_cpu_s", "wall_s")
    costs = [[number(row, "cost", key) for key in keys] for row in evidence.rounds]
    rows = [
        [_whole(row["round"]), *(_cell(value, duration) for value in cost)]
        for row, cost in zip(evidence.rounds, costs, strict=True)
    ]
    note = "No costs yet: no round is finished."
    if rows:
        sums = [sum(value or 0.0 for value in column) for column in zip(*costs, strict=True)]
        rows.append(["All", *(duration(value) for value in sums)])
        labels = sum(new_labels_of(row) or 0.0 for row in evidence.rounds)
        note = f"One label cost {duration(sums[0] / labels)} of CPU time on average. " if labels else ""
        note += "The set-up, before round 0, is not among them."
    columns = ["Round", "Labels (CPU)", "Training (CPU)", "Dynamics (CPU)", "Wall time"]
    return Table("Cost by round", columns, rows, note, total=bool(rows))


def failure_table(evidence: Evidence) -> Table:
    """What went wrong, why, and what became of it."""
    # A label that failed is logged by itself; the task it failed in would tell it twice.
    events = [
        event
        for event in evidence.events
        if lookup(event, "event") == "label_failed"
        or (lookup(event, "event") == "task_failed" and lookup(event, "role") != "label")
    ]
    rows = [_exploded(run) for run in evidence.explosions] + [_failed(event) for event in events]
    n_failed, n_exploded = number(evidence.campaign, "n_failed_labels") or 0.0, _sum(evidence.rounds, "n_explosions")
    labels = f"{_counted(n_failed, 'failed label waits', 'failed labels wait')} in quarantine, outside training"
    runs = f"{_counted(n_exploded, 'trajectory', 'trajectories')} exploded and left candidates, not diffusivities"
    note = f"{labels if n_failed else 'No label failed'}; {runs if n_exploded else 'no trajectory exploded'}."
    if len(rows) > N_FAILURES_SHOWN:
        note += f" The last {N_FAILURES_SHOWN} of {len(rows)} failures are shown."
    columns = ("Time (UTC)", "Round", "Stage", "Task or frame", "Reason")
    notes = " ".join([note, *evidence.unreadable])
    return Table("Failures and quarantine", columns, rows[-N_FAILURES_SHOWN:], notes, prose=(1, 2, 3, 4))


def _failed(event: Tree) -> list[str]:
    at, idx = moment(lookup(event, "time")), number(event, "round")
    reasons = [str(lookup(event, key)) for key in ("reason", "message", "error") if lookup(event, key)]
    return [
        DASH if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M"),
        "set-up" if idx is not None and idx < 0 else _cell(idx, _whole),
        stage_name(lookup(event, "stage")),
        str(lookup(event, "task") or str(lookup(event, "frame") or DASH)[:12]),
        ": ".join(reasons) or "no reason given",
    ]


def _exploded(run: Tree) -> list[str]:
    name, why = str(lookup(run, "run") or DASH), str(lookup(run, "reason") or lookup(run, "status"))
    return [DASH, _cell(number(run, "round"), _whole), "explore", name, why]


def _counted(n: float, one: str, many: str) -> str:
    return f"{n:.0f} {one if n == 1 else many}"


def _sum(rounds: Sequence[Tree], key: str) -> float:
    return sum(number(row, key) or 0.0 for row in rounds)


def theory_table(evidence: Evidence) -> Table:
    """Which levels of theory each round's model has learnt from."""
    rows = []
    for idx, model in sorted(evidence.models.items()):
        theories = lookup(model, "metadata", "theories")
        learnt, replayed = (_theories(lookup(theories, head)) for head in ("target", "replay"))
        if learnt:
            rows.append([_whole(idx), str(lookup(model, "hash") or DASH)[:12], learnt, replayed or DASH])
    columns = ["Round", "Model", "Trained on (frames)", "Replayed (frames)"]
    return Table("Levels of theory", columns, rows, "" if rows else "No model has been trained yet.", prose=(1, 2, 3))


def _theories(counts: object) -> str:
    return ", ".join(f"{key} ({n})" for key, n in counts.items()) if isinstance(counts, dict) else ""


# -- provenance -------------------------------------------------------------------------------------------------------


def provenance(evidence: Evidence) -> list[tuple[str, str]]:
    """Everything needed to say where a number comes from, as names and values."""
    campaign, settings = evidence.campaign, evidence.settings
    own = {name: lookup(settings, "provenance", name) for name in ("curator", "python")}
    versions = [_pairs({name: version for name, version in own.items() if version})]
    versions.append(_pairs(lookup(settings, "provenance", "versions")))
    facts: list[tuple[str, object]] = [
        ("Theory of the labels", lookup(campaign, "theory") or lookup(settings, "theory", "key")),
        ("Settings of the theory", _pairs(lookup(settings, "theory", "settings"))),
        ("Hashes of the theory", _pairs(lookup(settings, "theory", "hashes"))),
        ("Foundation", lookup(campaign, "foundation", "reference") or evidence.setting("foundation")),
        ("Hash of the foundation", lookup(campaign, "foundation", "hash") or lookup(settings, "foundation", "hash")),
        ("Hash of the newest model", lookup(evidence.model, "hash")),
        ("Strategy", lookup(settings, "strategy", "name") or evidence.setting("learn", "strategy")),
        ("Cell", _lattice(lookup(campaign, "setup", "cell_A"))),
        ("Relaxing the lattice", _calls(number(campaign, "setup", "lattice_relaxation_calls"))),
        ("Barrier found by", lookup(newest(evidence, "barrier_method"), "barrier_method")),
        ("Energies of isolated atoms", _isolated(lookup(evidence.rounds, -1, "e0"))),
        ("Seed", evidence.setting("seed")),
        ("Versions", ", ".join(part for part in versions if part)),
        ("Resumed", _resumed(evidence.events)),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _lattice(cell_A: object) -> str:
    try:
        cell = np.array(cell_A, dtype=np.float64).reshape(3, 3)
    except (TypeError, ValueError):
        return ""
    lengths = np.linalg.norm(cell, axis=1)
    if not lengths.all():
        return ""
    cosines = [cell[i] @ cell[j] / lengths[i] / lengths[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return f"{' × '.join(f'{length:.4f}' for length in lengths)} Å, angles {', '.join(f'{a:.2f}' for a in angles)}°"


def _calls(n_calls: float | None) -> str:
    return "" if n_calls is None else _counted(n_calls, "energy and force call", "energy and force calls")


def _isolated(e0: object) -> str:
    values, message = lookup(e0, "values_eV"), lookup(e0, "message")
    energies = ", ".join(
        f"{symbol} {value:.4f} eV".replace("-", MINUS)
        for symbol in values or {}
        if (value := number(values, symbol)) is not None
    )
    return ". ".join(part for part in (energies, str(message or "")) if part)


def _pairs(tree: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in tree.items()) if isinstance(tree, dict) else ""


def _resumed(events: Sequence[Tree]) -> str:
    n_times = sum(lookup(event, "event") == "resumed" for event in events)
    return f"{n_times} time{'s' * (n_times != 1)}" if n_times else ""
