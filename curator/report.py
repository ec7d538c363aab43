"""The report: one page that opens anywhere, from a campaign in whatever state it is."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

import curator
from curator import captions
from curator.captions import Captioned
from curator.datasets.atomic import write_atomically
from curator.evidence import Evidence, Tree, items, lookup, moment, number, read_evidence
from curator.quantities import duration, factor, scientific, significant, with_error

DASH = "–"
N_FAILURES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the page says first; ``key`` chooses its colour."""

    key: str
    word: str
    sentence: str
    reasons: list[str]
    purchase: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline number; ``share`` between 0 and 1 draws a meter."""

    label: str
    value: str
    unit: str
    note: str
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table; columns in ``prose`` hold words and stand left; without rows only the note is shown."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    note: str = ""
    prose: tuple[int, ...] = ()
    total: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page."""

    key: str
    title: str
    figures: Sequence[Captioned] = ()
    tables: Sequence[Table] = ()
    facts: Sequence[tuple[str, str]] = ()
    listing_title: str = ""
    listing: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the template needs."""

    name: str
    kicker: list[str]
    verdict: Verdict
    tiles: list[Tile]
    sections: list[Section]
    version: str
    written: str


def write_report(campaign_folder: Path, out: Path | None = None) -> Path:
    """Write the report of a campaign, finished or not, as one self-contained HTML file.

    Parameters
    ----------
    campaign_folder
        Folder of the campaign.
    out
        Where the page goes; ``report.html`` in the campaign folder by default. It appears whole or not at all.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    BadInput
        If the folder holds no trace of a campaign.
    """
    evidence = read_evidence(campaign_folder)
    page = _page(evidence, campaign_folder)
    environment = Environment(
        loader=PackageLoader("curator"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = campaign_folder / "report.html" if out is None else out
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, environment.get_template("report.html.j2").render(page=page))
    return path


def _page(evidence: Evidence, folder: Path) -> Page:
    mobile = mobile_species(evidence)
    sections = [
        Section(
            "labels",
            "What did each label buy?",
            [
                captions.force_error(evidence),
                captions.barrier(evidence),
                captions.labels_by_reason(evidence),
                captions.barrier_path(evidence),
            ],
            [_rounds_table(evidence)],
        ),
        Section(
            "accuracy",
            "How accurate is the model?",
            [
                captions.force_parity(evidence),
                captions.energy_parity(evidence),
                captions.learning_curve(evidence),
                captions.forgetting(evidence),
            ],
        ),
        Section(
            "uncertainty",
            "Did the committee know where it was wrong?",
            [captions.calibration(evidence), captions.selection_map(evidence)],
        ),
        Section(
            "diffusion",
            f"How fast does {mobile} diffuse?",
            [
                captions.mean_squared_displacement(evidence),
                captions.arrhenius(evidence),
                captions.activation_energy(evidence),
            ],
            [_diffusion_table(evidence)],
        ),
        Section(
            "cost",
            "What did it cost?",
            [captions.timeline(evidence)],
            [_cost_table(evidence), _failure_table(evidence)],
        ),
        Section(
            "provenance",
            "Where do the numbers come from?",
            facts=_provenance(evidence, folder),
            listing_title="Settings of the campaign, with every default filled in",
            listing=evidence.settings_text,
        ),
    ]
    return Page(
        name=str(lookup(evidence.campaign, "name") or lookup(evidence.settings, "name") or folder.resolve().name),
        kicker=_kicker(evidence),
        verdict=_verdict(evidence),
        tiles=[_Ea_tile(evidence), _barrier_tile(evidence), _force_tile(evidence), _label_tile(evidence)],
        sections=sections,
        version=curator.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def mobile_species(evidence: Evidence) -> str:
    """Symbol of the diffusing species."""
    return str(lookup(evidence.campaign, "mobile") or lookup(evidence.settings, "system", "mobile") or "the defect")


# -- the top of the page ----------------------------------------------------------------------------------------------


def _kicker(evidence: Evidence) -> list[str]:
    n_rounds = len(evidence.rounds)
    facts = [f"{n_rounds} round{'s' * (n_rounds != 1)} finished"]
    stage, idx = lookup(evidence.campaign, "state", "stage"), number(evidence.campaign, "state", "round")
    if lookup(evidence.campaign, "state", "finished"):
        facts.append("campaign finished")
    elif stage:
        facts.append(f"at {stage}" + (f" of round {idx:.0f}" if idx is not None and idx >= 0 else ""))
    if theory := lookup(evidence.campaign, "theory"):
        facts.append(f"labels: {theory}")
    return facts


def _verdict(evidence: Evidence) -> Verdict:
    mobile, tolerance = mobile_species(evidence), captions.tolerance_eV(evidence)
    within = f" within {1e3 * tolerance:.0f} meV" if tolerance else ""
    verdict = lookup(evidence.campaign, "verdict") or lookup(evidence.rounds, -1, "verdict")
    words = {
        "converged": ("Converged", f"The diffusion properties of {mobile} have converged{within}."),
        "not_yet": (
            "Not converged yet",
            f"The diffusion properties of {mobile} have not converged{within}: the model still needs labels.",
        ),
        "undetermined": (
            "Undetermined",
            f"Whether the diffusion of {mobile} has converged{within} cannot be told yet: "
            "the statistical error is too large, and molecular dynamics, not labels, would make it smaller.",
        ),
    }
    none = (
        "No verdict yet",
        "No round is finished, so there is nothing to judge."
        if not evidence.rounds
        else "The rounds so far have not been judged.",
    )
    word, sentence = words.get(str(verdict), none)
    reasons = items(evidence.campaign, "reasons") or items(evidence.rounds, -1, "reasons")
    purchase = lookup(evidence.campaign, "next_purchase") or lookup(evidence.rounds, -1, "next_purchase")
    return Verdict(
        str(verdict) if verdict in words else "none",
        word,
        sentence,
        [str(reason) for reason in reasons],
        _purchase(purchase),
    )


def _purchase(purchase: object) -> str:
    kind, amount = lookup(purchase, "kind"), number(purchase, "amount")
    unit = str(lookup(purchase, "unit") or "")
    if kind == "none":
        return "Next purchase: nothing more is needed."
    if kind not in ("labels", "md"):
        return ""
    what = "labels" if kind == "labels" else "molecular dynamics"
    if amount is None:
        return f"Next purchase: {what}."
    if unit in ("", "labels", "label"):
        return f"Next purchase: {amount:.0f} {what}."
    return f"Next purchase: {amount:g} {unit} of {what}."


def _Ea_tile(evidence: Evidence) -> Tile:
    row = captions.newest(evidence, "arrhenius")
    Ea, error = number(row, "arrhenius", "Ea_eV"), number(row, "arrhenius", "error_eV")
    label = "Activation energy"
    if row is None or Ea is None:
        return Tile(label, DASH, "", f"None yet: {captions.no_activation_energy(evidence)}.")
    note = f"one standard error; round {int(row['round'])}"
    low, high = (number(row, "arrhenius", "temperatures_K", end) for end in (0, 1))
    if low is not None and high is not None:
        note += f", {low:.0f} to {high:.0f} K"
    hops, time_ps = number(row, "arrhenius", "hops"), number(row, "arrhenius", "time_ps")
    if hops is not None and time_ps is not None:
        note += f", {hops:.0f} hops in {_time(time_ps)}"
    return Tile(label, with_error(Ea, error), "eV", note)


def _barrier_tile(evidence: Evidence) -> Tile:
    row = captions.newest(evidence, "barrier_eV")
    value, reference = number(row, "barrier_eV"), number(row, "barrier_reference_eV")
    if value is None:
        return Tile("Migration barrier", DASH, "", "None yet: no round has found the saddle point.")
    note = "not yet compared with the reference"
    if reference is not None:
        gap = 1e3 * (value - reference)
        note = f"reference {significant(reference)} eV, so {abs(gap):.0f} meV too {'high' if gap > 0 else 'low'}"
    return Tile("Migration barrier", significant(value), "eV", note)


def _force_tile(evidence: Evidence) -> Tile:
    row = captions.newest(evidence, "force_rmse_eV_per_A")
    model, foundation = (number(row, "force_rmse_eV_per_A", name) for name in ("model", "foundation"))
    if model is None:
        return Tile("Force error", DASH, "", "None yet: no round has been tested.")
    note = "RMSE on test frames that are never trained on"
    if foundation is not None:
        note = f"RMSE on test frames, {factor(foundation, model)} the foundation's {significant(foundation)}"
    return Tile("Force error", significant(model), "eV/Å", note)


def _label_tile(evidence: Evidence) -> Tile:
    n_labels = number(evidence.campaign, "n_labels_total")
    if n_labels is None:
        n_labels = number(evidence.rounds, -1, "n_labels_total") or 0.0
    budget = number(evidence.campaign, "budget", "max_labels") or number(evidence.settings, "stop", "max_labels")
    n_failed = number(evidence.campaign, "n_failed_labels") or 0.0
    rounds = number(evidence.campaign, "budget", "max_rounds") or number(evidence.settings, "stop", "max_rounds")
    note = f"{len(evidence.rounds)} of at most {rounds:.0f} rounds" if rounds else f"{len(evidence.rounds)} rounds"
    note += f"; {n_failed:.0f} failed" if n_failed else "; none failed"
    share = min(1.0, n_labels / budget) if budget else None
    return Tile("Labels bought", f"{n_labels:.0f}", f"of {budget:.0f}" if budget else "", note, share)


# -- tables -----------------------------------------------------------------------------------------------------------


def _time(time_ps: float) -> str:
    return f"{significant(time_ps / 1000)} ns" if time_ps >= 1000 else f"{significant(time_ps)} ps"


def _cell(value: float | None, write: Callable[[float], str] = significant) -> str:
    return DASH if value is None else write(value)


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _rounds_table(evidence: Evidence) -> Table:
    rows = []
    for row in evidence.rounds:
        energy, gap = number(row, "energy_rmse_eV_per_atom", "model"), number(row, "barrier_gap_eV")
        Ea = number(row, "arrhenius", "Ea_eV")
        splits = [_cell(number(row, f"n_{split}"), _whole) for split in ("train", "valid", "test")]
        rows.append(
            [
                _whole(row["round"]),
                _cell(number(row, "n_labels_total"), _whole),
                _cell(number(row, "n_new_labels"), _whole),
                " / ".join(splits),
                _cell(number(row, "force_rmse_eV_per_A", "model")),
                _cell(None if energy is None else 1e3 * energy),
                _cell(number(row, "barrier_eV")),
                _cell(None if gap is None else 1e3 * gap, lambda value: f"{value:+.0f}".replace("-", "−")),
                DASH if Ea is None else with_error(Ea, number(row, "arrhenius", "error_eV")),
                _cell(number(row, "n_explosions"), _whole),
                str(lookup(row, "verdict") or DASH).replace("_", " "),
            ]
        )
    columns = ["Round", "Labels", "New", "Train / valid / test", "Force RMSE (eV/Å)", "Energy RMSE (meV/atom)", "Barrier (eV)", "Gap to reference (meV)", "Ea (eV)", "Explosions", "Verdict"]  # fmt: skip
    return Table("Round by round", columns, rows, "" if rows else "No round is finished yet.", prose=(10,))


def _diffusion_table(evidence: Evidence) -> Table:
    row = captions.newest(evidence, "diffusion")
    title = "Diffusivities" + ("" if row is None else f" of round {int(row['round'])}")
    rows = []
    for result in items(row, "diffusion"):
        value, error = number(result, "D_A2_per_ps"), number(result, "error_A2_per_ps")
        bound, status = number(result, "bound_A2_per_ps"), str(lookup(result, "status") or DASH)
        angstrom, centimetre = DASH, DASH
        if status == "bound" and bound is not None:
            angstrom, centimetre = f"< {significant(bound, 2)}", f"< {scientific(bound * 1e-4)}"
        elif value is not None and status != "refused":
            angstrom = with_error(value, error)
            centimetre = scientific(value * 1e-4, None if error is None else error * 1e-4)
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
                _cell(number(result, "hops"), _whole),
                _cell(time_ps, _time) + ("" if n_runs is None else f" in {n_runs:.0f} runs"),
                _cell(number(result, "pressure_GPa"), lambda value: significant(value, 2)),
                status,
                "; ".join(str(reason) for reason in items(result, "reasons")),
            ]
        )
    columns = ["T (K)", "D (Å²/ps)", "D (cm²/s)", "95 % interval (Å²/ps)", "Tracer D (Å²/ps)", "Hops", "Dynamics", "Pressure (GPa)", "Status", "Reasons"]  # fmt: skip
    note = (
        f"D is the collective diffusivity of the defect in the frame of the host; the tracer diffusivity sums over all {mobile_species(evidence)} atoms."
        if rows
        else f"No diffusivity yet: {captions.no_diffusion(evidence)}."
    )
    return Table(title, columns, rows, note, prose=(8, 9))


def _cost_table(evidence: Evidence) -> Table:
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
        labels = number(evidence.rounds, -1, "n_labels_total")
        note = f"One label cost {duration(sums[0] / labels)} of CPU time on average." if labels else ""
    columns = ["Round", "Labels (CPU)", "Training (CPU)", "Dynamics (CPU)", "Wall time"]
    return Table("Cost by round", columns, rows, note, total=bool(rows))


def _failure_table(evidence: Evidence) -> Table:
    events = [event for event in evidence.events if lookup(event, "event") in ("task_failed", "label_failed")]
    n_failed, n_exploded = number(evidence.campaign, "n_failed_labels") or 0.0, _sum(evidence.rounds, "n_explosions")
    rows = []
    for event in events[-N_FAILURES_SHOWN:]:
        at, idx = moment(lookup(event, "time")), number(event, "round")
        rows.append(
            [
                DASH if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M"),
                "set-up" if idx is not None and idx < 0 else _cell(idx, _whole),
                captions.stage_name(lookup(event, "stage")),
                str(lookup(event, "task") or lookup(event, "frame") or DASH)[:40],
                str(lookup(event, "error") or lookup(event, "reason") or lookup(event, "message") or "no reason given"),
            ]
        )
    parts = [
        f"{n_failed:.0f} label{'s' * (n_failed != 1)} failed and wait{'s' * (n_failed == 1)} in quarantine, outside training"
        if n_failed
        else "No label failed",
        f"{n_exploded:.0f} trajector{'ies' if n_exploded != 1 else 'y'} exploded; the last sane frames became candidates"
        if n_exploded
        else "no trajectory exploded",
    ]
    note = "; ".join(parts) + "."
    if len(events) > N_FAILURES_SHOWN:
        note += f" The last {N_FAILURES_SHOWN} of {len(events)} failures are shown."
    if evidence.unreadable:
        note += " " + " ".join(evidence.unreadable)
    return Table(
        "Failures and quarantine",
        ["Time (UTC)", "Round", "Stage", "Task or frame", "Reason"],
        rows,
        note,
        prose=(1, 2, 3, 4),
    )


def _sum(rounds: Sequence[Tree], key: str) -> float:
    return sum(number(row, key) or 0.0 for row in rounds)


# -- provenance -------------------------------------------------------------------------------------------------------


def _provenance(evidence: Evidence, folder: Path) -> list[tuple[str, str]]:
    campaign, settings = evidence.campaign, evidence.settings
    facts: list[tuple[str, object]] = [
        ("Theory of the labels", lookup(campaign, "theory")),
        ("Foundation", lookup(campaign, "foundation", "reference") or lookup(settings, "foundation")),
        ("Foundation's hash", lookup(campaign, "foundation", "hash")),
        ("Model's hash", lookup(campaign, "model", "hash") or lookup(evidence.rounds, -1, "model_hash")),
        ("Cell", _lattice(lookup(campaign, "setup", "cell_A"))),
        ("Relaxing the lattice", _calls(number(campaign, "setup", "lattice_relaxation_calls"))),
        ("Barrier's method", lookup(captions.newest(evidence, "barrier_method"), "barrier_method")),
        ("Energies of isolated atoms", _isolated(lookup(evidence.rounds, -1, "e0"))),
        ("Seed", lookup(settings, "seed")),
        ("Versions", _pairs(lookup(settings, "versions") or lookup(campaign, "versions"))),
        ("Hashes", _pairs(lookup(settings, "hashes") or lookup(campaign, "hashes"))),
        ("Resumed", _resumed(evidence.events)),
    ]
    for name in ("campaign.yaml", "frames.h5"):
        if (folder / name).is_file():
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            facts.append((f"SHA-256 of {name}", digest))
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
    return "" if n_calls is None else f"{n_calls:.0f} energy and force calls"


def _isolated(e0: object) -> str:
    values, message = lookup(e0, "values_eV"), lookup(e0, "message")
    energies = ", ".join(
        f"{symbol} {value:.4f} eV" for symbol in values or {} if (value := number(values, symbol)) is not None
    )
    return ". ".join(part for part in (energies, str(message or "")) if part)


def _pairs(tree: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in tree.items()) if isinstance(tree, dict) else ""


def _resumed(events: Sequence[Tree]) -> str:
    n_times = sum(lookup(event, "event") == "resumed" for event in events)
    return f"{n_times} time{'s' * (n_times != 1)}" if n_times else ""
