"""Taking the results of a campaign elsewhere: data as extxyz, the model for the MACE ecosystem."""

from pathlib import Path

from curator.datasets.extxyz import write_records
from curator.datasets.journal import Journal
from curator.datasets.label import Record
from curator.errors import BadInput
from curator.learners.mace import export_model, load_model
from curator.state import campaign_folder, read_json, write_json


def export_campaign(target: Path, out: Path) -> list[Path]:
    """Write ``train``, ``valid`` and ``test.extxyz`` with MACE's ``REF_*`` keys, and the newest model.

    Returns
    -------
    list
        Files written.

    Raises
    ------
    BadInput
        If the campaign has no labels yet.
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
    about = {"theory": theory, "model_hash": model.hash if n_rounds else None, "n_labels": len(records)}
    write_json(out / "provenance.json", about | {"campaign": read_json(folder.evidence)["name"]})
    return [*written, out / "provenance.json"]
