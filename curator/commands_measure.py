"""The command line: what measures models and trajectories, on files."""

from pathlib import Path
from typing import Annotated

import typer

from curator.arguments import Model, bad_input, check_known, load, show
from curator.cli import AsJson, Trust, app
from curator.errors import BadInput


@app.command()
def barrier(
    structure: Annotated[str, typer.Argument(help="A shipped builder, or the file before the hop.")],
    final: Annotated[
        Path | None, typer.Option("--final", help="The file after the hop, same atoms in the same order.")
    ] = None,
    saddle: Annotated[Path | None, typer.Option("--saddle", help="A guess of the saddle.")] = None,
    lattice_constant_A: Annotated[
        float | None, typer.Option("--lattice-constant-A", help="Of a shipped builder.")
    ] = None,
    model: Model = "mini-halides",
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Find the migration barrier of a hop; the saddle is proved to be one."""
    from curator.barrier import find_barrier
    from curator.build import is_builder
    from curator.datasets.extxyz import read_frames
    from curator.datasets.sources import Hop, build_seed

    with bad_input():
        if is_builder(structure, Path()):
            hop = build_seed(structure, lattice_constant_A).hop
            if hop is None:
                raise BadInput(f"{structure}: a perfect crystal has no hop; try {structure}-vacancy")
        else:
            if final is None:
                raise BadInput("--final: is missing; a hop needs its two end points")
            guess = None if saddle is None else read_frames(saddle)[-1]
            hop = Hop(read_frames(Path(structure))[-1], read_frames(final)[-1], guess)
    loaded = load(model, trust)
    check_known(loaded, hop.initial.numbers, model)
    with bad_input():
        found = find_barrier(hop, loaded.calculator())
    content = {
        "barrier_eV": found.barrier_eV,
        "reverse_eV": found.reverse_eV,
        "method": found.method,
        "negative_modes": found.negative_modes,
        "mode_overlap": found.mode_overlap,
        "converged": found.converged,
        "path_eV": found.energies_eV,
        "reasons": found.reasons,
        "n_calls": found.n_calls,
    }
    value = "no barrier" if found.barrier_eV is None else f"barrier {found.barrier_eV:.4f} eV ({found.method})"
    show(as_json, content, [value, *found.reasons])
    if found.barrier_eV is None:
        raise typer.Exit(1)


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
