"""The command line: what measures models and trajectories, on files."""

from pathlib import Path
from typing import Annotated

import typer

from curator.arguments import bad_input, load, show
from curator.cli import AsJson, Trust, app
from curator.errors import BadInput


@app.command()
def probe(
    model: Annotated[str, typer.Argument(help="Model to examine.")],
    foundation: Annotated[str, typer.Option("--foundation", help="Model to compare with.")] = "mini-halides",
    frames: Annotated[
        Path | None,
        typer.Option("--frames", help="Labelled frames; by default the foundation's own, else the shipped ones."),
    ] = None,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Measure what a model has forgotten: force errors on frames of the foundation's own level of theory."""
    from curator.datasets.extxyz import read_records
    from curator.datasets.label import Theory
    from curator.learners.mace import REPLAY
    from curator.learners.metrics import force_rmse
    from curator.learners.reference import MINI_HALIDES, own_frames
    from curator.learners.replay import probe_records

    examined, reference = load(model, trust), load(foundation, trust)
    probed = MINI_HALIDES if own_frames(foundation) is None else foundation
    with bad_input():
        records = probe_records(probed) if frames is None else read_records(frames, theory=Theory("file", "unknown"))
    if REPLAY in examined.heads:
        examined = examined.with_head(REPLAY)
    known = set(examined.elements) & set(reference.elements)
    records = [record for record in records if {int(number) for number in record.frame.numbers} <= known]
    if not records:
        raise BadInput(f"none of the probe frames holds only elements that {model} and {foundation} know")
    part = [record.frame for record in records]
    errors = {
        name: force_rmse(m.predict(part), records) for name, m in (("foundation", reference), ("model", examined))
    }
    content = {"n_frames": len(records), "force_rmse_eV_per_A": errors}
    line = (
        f"{len(records)} frames: foundation {1000 * errors['foundation']:.0f}, model {1000 * errors['model']:.0f} meV/Å"
    )
    show(as_json, content, [line])
