"""Taking the results of a campaign elsewhere: data as extxyz, the model for the MACE ecosystem and LAMMPS."""

from pathlib import Path

from curator.anchor import anchor_frames
from curator.build import build_plan, n_carriers
from curator.config import Diffusion, read_campaign_file
from curator.datasets.extxyz import write_records
from curator.datasets.journal import Journal
from curator.datasets.label import Record
from curator.errors import BadInput
from curator.lammps import MODEL, write_lammps_input
from curator.learners.lammps import export_lammps_model
from curator.learners.mace import export_model, load_model
from curator.positions import hop_length
from curator.setup import structure_in_cell
from curator.state import CampaignFolder, campaign_folder, read_json, write_json
from curator.trajectory import MDSettings


def export_campaign(target: Path, out: Path) -> list[Path]:
    """Write ``train``, ``valid`` and ``test.extxyz`` with MACE's ``REF_*`` keys, and the newest model.

    The model comes in our own format, for MACE and, with an input that repeats the measurement of its diffusion, for
    LAMMPS.

    Returns
    -------
    list
        Files written.

    Raises
    ------
    BadInput
        If the campaign has no labels yet, or what its file names is gone.
    """
    folder = campaign_folder(target)
    if not folder.evidence.exists():
        raise BadInput(f"{folder.path}: has no labels yet; run it first: curator run {folder.path}")
    theory = read_json(folder.evidence)["theory"]
    out.mkdir(parents=True, exist_ok=True)
    written = []
    # Not from the store, which only the driver of a running campaign may open.
    published = [content for content in Journal(folder.journal).read() if isinstance(content, Record)]
    records = [record for record in published if record.label.theory == theory]
    for split in ("train", "valid", "test"):
        part = [record for record in records if record.provenance.split == split]
        if part:
            write_records(out / f"{split}.extxyz", part)
            written.append(out / f"{split}.extxyz")
    n_rounds = folder.n_rounds_done()
    if n_rounds:
        model = load_model(folder.round(n_rounds - 1) / "model" / "member-0")
        export_model(model, out / "model.model")
        model.save(out / "model")
        written += [out / "model.model", out / "model"]
        written += _lammps_input(folder, n_rounds - 1, out / "lammps")
        export_lammps_model(model, out / "lammps" / MODEL)
        written.append(out / "lammps" / MODEL)
    about = {"theory": theory, "model_hash": model.hash if n_rounds else None, "n_labels": len(records)}
    write_json(out / "provenance.json", about | {"campaign": read_json(folder.evidence)["name"]})
    return [*written, out / "provenance.json"]


def _lammps_input(folder: CampaignFolder, round_: int, out: Path) -> list[Path]:
    """Input that measures what the campaign measures, or would by default if it leaves diffusion out."""
    file = read_campaign_file(folder.campaign_file)
    # Where it ran need not be where it is exported.
    file = file.model_copy(update={"run": file.run.model_copy(update={"device": "cpu"})})
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
        mobile=plan.mobile,
        replicas=settings.replicas,
        equilibration_ps=settings.equilibration_ps,
        n_carriers=n_carriers(plan, frame, hop),
        hop_length_A=None if hop is None else hop_length(hop.initial, hop.final, plan.mobile),
        seed=plan.file.seed,
    )
