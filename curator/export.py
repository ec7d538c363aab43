"""Taking the results of a campaign elsewhere: data as extxyz, the model for the MACE ecosystem and LAMMPS."""

from pathlib import Path
from typing import cast

from curator.anchor import anchor_frames
from curator.build import build_plan, hop_length_A, n_carriers
from curator.config import read_campaign_file
from curator.config_measure import Diffusion
from curator.dataset import read_dataset, read_labelled
from curator.datasets.extxyz import write_records
from curator.datasets.label import Record
from curator.datasets.theories import compare_theories, count_theories, levels_of, marks_of
from curator.errors import BadInput
from curator.lammps import MODEL, write_lammps_input
from curator.learners.lammps import export_lammps_model
from curator.learners.mace import export_model, load_model
from curator.setup import structure_in_cell
from curator.state import CampaignFolder, Json, campaign_folder, is_campaign, plain_json, read_json, write_json
from curator.trajectory import MDSettings


def export_campaign(target: Path, out: Path, theory: str | None = None) -> list[Path]:
    """Write ``train``, ``valid`` and ``test.extxyz`` with MACE's ``REF_*`` keys, and the newest model.

    The model comes in our own format, for MACE and, with an input that repeats the measurement of its diffusion, for
    LAMMPS.

    Parameters
    ----------
    target, out
        The campaign; where to.
    theory
        Level of theory of the labels, by name or key; the campaign's own if None.

    Returns
    -------
    list
        Files written.

    Raises
    ------
    BadInput
        If the campaign has no such labels, or what its file names is gone.
    """
    folder = campaign_folder(target)
    if not folder.evidence.exists():
        raise BadInput(f"{folder.path}: has no labels yet; run it first: curator run {folder.path}")
    # Not from the store, which only the driver of a running campaign may open.
    records = read_labelled(folder.path, theory or read_json(folder.evidence)["theory"])
    written = _write_splits(records, out)
    n_rounds = folder.n_rounds_done()
    if n_rounds:
        model = load_model(folder.round(n_rounds - 1) / "model" / "member-0")
        export_model(model, out / "model.model")
        model.save(out / "model")
        written += [out / "model.model", out / "model"]
        written += _lammps_input(folder, n_rounds - 1, out / "lammps")
        export_lammps_model(model, out / "lammps" / MODEL)
        written.append(out / "lammps" / MODEL)
    about = {
        "theory": records[0].label.theory,
        "model_hash": model.hash if n_rounds else None,
        "n_labels": len(records),
    }
    write_json(out / "provenance.json", about | {"campaign": read_json(folder.evidence)["name"]})
    return [*written, out / "provenance.json"]


def export_dataset(target: Path, out: Path, theory: str | None = None) -> list[Path]:
    """Write ``train``, ``valid`` and ``test.extxyz`` of one level of theory of a data set.

    Returns
    -------
    list
        Files written.

    Raises
    ------
    BadInput
        If there is no data set, or the level of theory is not there or not the only one that may be meant.
    """
    records = read_labelled(target, theory)
    written = _write_splits(records, out)
    write_json(out / "provenance.json", {"theory": records[0].label.theory, "n_labels": len(records)})
    return [*written, out / "provenance.json"]


def export_model_folder(target: Path, out: Path) -> list[Path]:
    """Write the predicting head of a model of ours for MACE and for LAMMPS.

    Returns
    -------
    list
        Files written.
    """
    model = load_model(target)
    out.mkdir(parents=True, exist_ok=True)
    export_model(model, out / "model.model")
    export_lammps_model(model, out / MODEL)
    return [out / "model.model", out / MODEL]


def theory_list(target: Path) -> Json:
    """Levels of theory of a data set or a campaign, and how they differ where a frame has labels of two.

    Raises
    ------
    BadInput
        If there is none.
    """
    held = read_dataset(campaign_folder(target).path if is_campaign(target) else target)
    theories = []
    counts = count_theories(held.records)
    level_of = {key: level for level, parts in levels_of(counts, held.theories).items() for key in parts}
    marks = marks_of({key: held.theories.get(key) for key in counts})
    for key, n_labels in counts.items():
        known = held.theories.get(key)
        told = {} if known is None else {"code": known.code, "settings": known.settings, "details": known.details}
        theories.append({"theory": key, "level": level_of[key], "n_labels": n_labels, "marks": marks[key], **told})
    compared = [
        {
            "theories": pair.theories,
            "n_frames": pair.n_frames,
            "force_rms_eV_per_A": pair.force_rms_eV_per_A,
            "energy_rms_eV_per_atom": pair.energy_rms_eV_per_atom,
        }
        for pair in compare_theories(held.records)
    ]
    return cast(Json, plain_json({"theories": theories, "compared": compared}))


def theory_lines(content: Json) -> list[str]:
    """The same for a person."""
    lines = []
    for item in content["theories"]:
        whole = "" if item["level"] == item["theory"] else f"for some elements of {item['level']}"
        about = (item["theory"], item.get("code", ""), ", ".join(item["marks"]), whole)
        lines.append(f"{item['n_labels']:>8}  {'  '.join(filter(None, about))}")
    for pair in content["compared"]:
        energy = pair["energy_rms_eV_per_atom"]
        told = "too few frames to compare energies" if energy is None else f"energies {1000 * energy:.1f} meV/atom"
        lines.append(
            f"{' and '.join(pair['theories'])}, {pair['n_frames']} frames: forces "
            f"{1000 * pair['force_rms_eV_per_A']:.0f} meV/Å, {told} (RMS differences; atomic energies taken off)"
        )
    return lines


def _write_splits(records: list[Record], out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for split in ("train", "valid", "test"):
        part = [record for record in records if record.provenance.split == split]
        if part:
            write_records(out / f"{split}.extxyz", part)
            written.append(out / f"{split}.extxyz")
    return written


def _lammps_input(folder: CampaignFolder, round_: int, out: Path) -> list[Path]:
    """Input that measures what the campaign measures, or would by default if it leaves diffusion out."""
    file = read_campaign_file(folder.campaign_file)
    # Where it ran need not be where it is exported, and nothing is labelled.
    run, label = file.run.model_copy(update={"device": "cpu"}), file.label.model_copy(update={"also": None})
    file = file.model_copy(update={"run": run, "label": label})
    plan = build_plan(file, folder.campaign_file.resolve().parent)
    frame, hop, _ = structure_in_cell(plan, folder)
    found = [] if hop is None else anchor_frames(folder.round(round_) / "measure", hop)
    settings = plan.file.measure.diffusion or Diffusion()
    # LAMMPS takes one length for all temperatures, which a user may change.
    duration_ps = max(settings.durations_ps) + settings.equilibration_ps
    return write_lammps_input(
        out,
        found[0] if found else frame,
        [MDSettings(T, duration_ps, timestep_fs=settings.timestep_fs) for T in settings.temperatures_K],
        mobile=plan.system.mobile,
        replicas=settings.replicas,
        equilibration_ps=settings.equilibration_ps,
        n_carriers=n_carriers(plan, frame, hop),
        hop_length_A=hop_length_A(plan, hop),
        seed=plan.file.seed,
    )
