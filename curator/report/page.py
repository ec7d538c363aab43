"""The report: one page that opens anywhere, from a campaign in whatever state it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

import curator
from curator.datasets.atomic import write_atomically
from curator.quantities import DASH, factor, gap, is_known, picoseconds, significant, with_error
from curator.report import captions, captions_diffusion
from curator.report.evidence import (
    Evidence,
    Tree,
    items,
    lookup,
    mobile_species,
    newest,
    number,
    read_evidence,
    tolerance_eV,
)
from curator.report.exhibit import Captioned
from curator.report.tables import (
    Table,
    cost_table,
    diffusion_table,
    failure_table,
    plan_table,
    provenance,
    purchase_table,
    rounds_table,
    theory_table,
)
from curator.report.tables_probes import probe_table
from curator.verdict.purchase import purchase_in_words


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the page says first; ``key`` chooses its colour."""

    key: str
    word: str
    sentence: str
    reasons: list[str]
    purchase: str
    exam: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline number; ``share`` between 0 and 1 draws a meter."""

    label: str
    value: str
    unit: str
    note: str
    share: float | None = None


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
            [rounds_table(evidence)],
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
            [probe_table(evidence)],
        ),
        Section(
            "uncertainty",
            "Did the model know where it was wrong?",
            [captions.calibration(evidence), captions.selection_map(evidence)],
        ),
        Section(
            "diffusion",
            f"How fast does {mobile} diffuse?",
            [
                captions_diffusion.mean_squared_displacement(evidence),
                captions_diffusion.arrhenius(evidence),
                captions_diffusion.activation_energy(evidence),
                captions_diffusion.diffusivities(evidence),
            ],
            [diffusion_table(evidence), purchase_table(evidence), plan_table(evidence)],
        ),
        Section(
            "cost",
            "What did it cost?",
            [captions.timeline(evidence)],
            [cost_table(evidence), failure_table(evidence)],
        ),
        Section(
            "provenance",
            "Where do the numbers come from?",
            tables=[theory_table(evidence)],
            facts=provenance(evidence),
            listing_title="Settings of the campaign, with every default filled in",
            listing=evidence.settings_text,
        ),
    ]
    return Page(
        name=str(lookup(evidence.campaign, "name") or evidence.setting("name") or folder.resolve().name),
        kicker=_kicker(evidence),
        verdict=_verdict(evidence),
        tiles=[_Ea_tile(evidence), _barrier_tile(evidence), _force_tile(evidence), _label_tile(evidence)],
        sections=sections,
        version=curator.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


# -- the top of the page ----------------------------------------------------------------------------------------------


def _kicker(evidence: Evidence) -> list[str]:
    n_rounds = len(evidence.rounds)
    facts = [f"{n_rounds} round{'s' * (n_rounds != 1)} finished"]
    if lookup(evidence.campaign, "state", "finished"):
        ends = [lookup(event, "ended") for event in evidence.events if lookup(event, "event") == "verdict"]
        facts.append("campaign ended" + (f": {ends[-1]}" if ends and ends[-1] else ""))
    else:
        facts.append(f"round {n_rounds} under way" if evidence.campaign else "not begun")
    theory = lookup(evidence.campaign, "theory") or lookup(evidence.settings, "theory", "key")
    return [*facts, f"labels by {theory}"] if theory else facts


def _verdict(evidence: Evidence) -> Verdict:
    tolerance = tolerance_eV(evidence)
    what, limit = f"The diffusion of {mobile_species(evidence)}", tolerance
    if evidence.setting("measure") is not None and not evidence.setting("measure", "diffusion"):
        # Without molecular dynamics nothing but the barrier was judged, within half of the tolerance.
        what, limit = (
            f"The migration barrier of {mobile_species(evidence)}",
            None if tolerance is None else tolerance / 2,
        )
    within = "" if limit is None else f" within {1e3 * limit:.0f} meV"
    verdict = lookup(evidence.campaign, "verdict") or lookup(evidence.rounds, -1, "verdict")
    words = {
        "converged": ("Converged", f"{what} has converged{within}."),
        "not_yet": (
            "Not converged" if lookup(evidence.campaign, "state", "finished") else "Not converged yet",
            f"{what} has not converged{within}: the model still changes, and needs more labels.",
        ),
        "undetermined": (
            "Undetermined",
            f"{what} may have converged{within}, but the statistical error is too large to tell; molecular dynamics, "
            "not labels, would make it smaller.",
        ),
    }
    judged = "No round is finished, so there is nothing to judge."
    if evidence.rounds:
        judged = "The rounds so far have not been judged."
    none = ("No verdict yet", judged)
    word, sentence = words.get(str(verdict), none)
    reasons = items(evidence.campaign, "reasons") or items(evidence.rounds, -1, "reasons")
    purchase = lookup(evidence.campaign, "next_purchase") or lookup(evidence.rounds, -1, "next_purchase")
    return Verdict(
        str(verdict) if verdict in words else "none",
        word,
        sentence,
        [str(reason) for reason in reasons],
        _purchase(purchase, evidence.campaign, verdict == "converged"),
        _exam(evidence),
    )


def _purchase(purchase: Tree | None, campaign: Tree, converged: bool) -> str:
    if converged:
        return "Next purchase: nothing more is needed."
    told = purchase_in_words(purchase, campaign) if purchase else ""
    return f"Next purchase: {told}." if told else ""


def _exam(evidence: Evidence) -> str:
    """What the newest exam found; nothing where none was taken."""
    row = next((row for row in reversed(evidence.rounds) if lookup(row, "n_exam_labels") is not None), None)
    if row is None:
        return ""
    barrier, reference = number(row, "barrier_heldout_eV"), number(row, "barrier_heldout_reference_eV")
    if barrier is None:
        hop = f"a second hop has no barrier to compare ({'; '.join(map(str, items(row, 'barrier_heldout_reasons')))})"
    else:
        hop = f"the barrier of a second hop is {significant(barrier)} eV"
        hop += " and has no reference" if reference is None else f", {gap(barrier, reference)} the reference"
    model, foundation = (number(row, "final_force_rmse_eV_per_A", name) for name in ("model", "foundation"))
    if model is None:
        test = f"there are no fresh frames ({'; '.join(map(str, items(row, 'final_test_reasons')))})"
    else:
        n_frames = number(row, "n_final_frames") or 0.0
        test = f"the force error on {n_frames:.0f} fresh frames of its own dynamics is {significant(model)} eV/Å"
        if foundation is not None:
            test += f", {factor(foundation, model)} the foundation's {significant(foundation)}"
    return f"Exam of round {int(row['round'])}, on what the model was never trained on: {hop}; {test}."


def _Ea_tile(evidence: Evidence) -> Tile:
    row = newest(evidence, "arrhenius")
    Ea, error = number(row, "arrhenius", "Ea_eV"), number(row, "arrhenius", "error_eV")
    label = "Activation energy"
    if row is None or Ea is None:
        return Tile(label, DASH, "", f"None yet: {captions_diffusion.no_activation_energy(evidence)}.")
    note = f"one standard error; round {int(row['round'])}"
    low, high = (number(row, "arrhenius", "temperatures_K", end) for end in (0, 1))
    if low is not None and high is not None:
        note += f", {low:.0f} to {high:.0f} K"
    hops, time_ps = number(row, "arrhenius", "hops"), number(row, "arrhenius", "time_ps")
    if hops is not None and time_ps is not None:
        note += f", {hops:.0f} hops in {picoseconds(time_ps)}"
    if error is not None and not is_known(Ea, error):
        return Tile(label, DASH, "", f"Not known yet, {Ea:.2f} ± {error:.2f} eV; {note}.")
    return Tile(label, with_error(Ea, error), "eV", note)


def _barrier_tile(evidence: Evidence) -> Tile:
    row = newest(evidence, "barrier_eV")
    value, reference = number(row, "barrier_eV"), number(row, "barrier_reference_eV")
    foundation = number(evidence.campaign, "setup", "foundation", "barrier_eV")
    before = "" if foundation is None else f"; the foundation gave {significant(foundation)} eV"
    if value is None:
        return Tile("Migration barrier", DASH, "", f"None yet: no round has found the saddle point{before}.")
    note = "not yet compared with the reference"
    if reference is not None:
        note = f"{gap(value, reference)} the reference, {significant(reference)} eV"
    return Tile("Migration barrier", significant(value), "eV", note + before)


def _force_tile(evidence: Evidence) -> Tile:
    row = newest(evidence, "force_rmse_eV_per_A")
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
    budget = number(evidence.campaign, "budget", "max_labels") or number(evidence.setting("stop", "max_labels"))
    n_failed = number(evidence.campaign, "n_failed_labels") or 0.0
    rounds = number(evidence.campaign, "budget", "max_rounds") or number(evidence.setting("stop", "max_rounds"))
    note = f"{len(evidence.rounds)} of at most {rounds:.0f} rounds" if rounds else f"{len(evidence.rounds)} rounds"
    note += f"; {n_failed:.0f} failed" if n_failed else "; none failed"
    share = min(1.0, n_labels / budget) if budget else None
    return Tile("Labels bought", f"{n_labels:.0f}", f"of {budget:.0f}" if budget else "", note, share)
