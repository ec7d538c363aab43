"""The command line: what measures models and trajectories, on files."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from curator.arguments import bad_input, load, show
from curator.cli import AsJson, Trust, app
from curator.errors import BadInput


@app.command()
def diffusion(
    trajectory: Annotated[list[Path], typer.Argument(help="Trajectories at one temperature, in any format of ASE.")],
    mobile: Annotated[str, typer.Option("--mobile", help="Symbol of the diffusing element.")],
    frame_interval_fs: Annotated[float, typer.Option("--frame-interval-fs", help="Time between frames.")],
    temperature_K: Annotated[float, typer.Option("--temperature-K")],
    hop_length_A: Annotated[float | None, typer.Option("--hop-length-A", help="How far a hop moves the sum.")] = None,
    carriers: Annotated[int, typer.Option("--carriers", min=1, help="Defects that carry the diffusion.")] = 1,
    equilibration_ps: Annotated[float, typer.Option("--equilibration-ps", min=0.0)] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Measure the diffusivity in trajectories, or refuse to; wrapped positions are unwrapped."""
    from curator.diffusion import as_json as to_json
    from curator.diffusion import diffusivity_of_positions
    from curator.positions import load_positions

    for name, value in (("--frame-interval-fs", frame_interval_fs), ("--temperature-K", temperature_K)):
        if value <= 0:
            raise BadInput(f"{name}: must be positive; got {value:g}")
    with bad_input():
        loaded = [load_positions(path) for path in trajectory]
        first = loaded[0]
        for path, other in zip(trajectory, loaded, strict=True):
            if not np.array_equal(other.numbers, first.numbers):
                raise BadInput(f"{path}: has other atoms than {trajectory[0]}")
        found = diffusivity_of_positions(
            [part.positions for part in loaded],
            first.numbers,
            first.cell,
            frame_interval_fs,
            mobile=mobile,
            pbc=first.pbc,
            temperature_K=temperature_K,
            hop_length_A=hop_length_A,
            n_carriers=carriers,
            equilibration_ps=equilibration_ps,
        )
    content = to_json(found)
    if found.D_A2_per_ps is not None:
        line = f"D = {found.D_A2_per_ps:.3g} ± {found.error_A2_per_ps:.2g} Å²/ps ({found.D_A2_per_ps * 1e-4:.3g} cm²/s)"
    elif found.bound_A2_per_ps is not None:
        line = f"D < {found.bound_A2_per_ps:.3g} Å²/ps"
    else:
        line = "refused"
    show(
        as_json,
        content,
        [f"{temperature_K:g} K: {line}, {found.n_hops:.0f} hops in {found.time_ps:.0f} ps", *found.reasons],
    )


@app.command()
def probe(
    model: Annotated[str, typer.Argument(help="Model to examine.")],
    foundation: Annotated[str, typer.Option("--foundation", help="Model to compare with.")] = "mini-halides",
    frames: Annotated[
        Path | None, typer.Option("--frames", help="Labelled frames; the shipped probe by default.")
    ] = None,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Measure what a model has forgotten: force errors on frames of the foundation's own level of theory."""
    from curator.datasets.extxyz import read_records
    from curator.datasets.label import Theory
    from curator.learners.mace import REPLAY
    from curator.learners.metrics import force_rmse
    from curator.learners.replay import probe_records

    examined, reference = load(model, trust), load(foundation, trust)
    with bad_input():
        records = probe_records() if frames is None else read_records(frames, theory=Theory("file", "unknown"))
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
