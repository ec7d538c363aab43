"""The command line: diffusivities of trajectories, and of a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from curator.cli import AsJson, Trust, app
from curator.commands.arguments import Seed, Timestep, bad_input, potential_named, show, structure_of
from curator.errors import BadInput

if TYPE_CHECKING:
    from curator.diffusion.measurement import Arrhenius, Diffusivity


@app.command()
def diffusion(
    source: Annotated[
        list[str],
        typer.Argument(
            help="Replicas of a trajectory at one temperature: extxyz, ASE, LAMMPS dump, XDATCAR, H5MD. With --model, "
            "a structure to run."
        ),
    ],
    mobile: Annotated[str, typer.Option("--mobile", help="Symbol of the diffusing element.")],
    temperature_K: Annotated[
        list[float], typer.Option("--temperature-K", help="With --model, may be given several times.")
    ],
    frame_interval_fs: Annotated[
        float | None, typer.Option("--frame-interval-fs", help="Time between frames of a trajectory.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Run MD with this model: mini-halides, mace:<name>, a path, chgnet:r2scan, lif-fumi-tosi, or a YAML "
            "file with the section label of a campaign.",
        ),
    ] = None,
    duration_ps: Annotated[float, typer.Option("--duration-ps", help="Of each MD run, after equilibration.")] = 50.0,
    replicas: Annotated[int, typer.Option("--replicas", min=1, help="MD runs at each temperature.")] = 4,
    timestep_fs: Timestep = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder that keeps the MD, to continue or lengthen it.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", help="Element that stays and is the frame of reference; all others by default."),
    ] = None,
    elements: Annotated[
        str | None, typer.Option("--elements", help="Of the types 1, 2, ... of a LAMMPS dump or H5MD: Li,F.")
    ] = None,
    hop_length_A: Annotated[
        float | None,
        typer.Option(
            "--hop-length-A", help="Summed displacement of the mobile ions in one hop, in Å; guessed by default."
        ),
    ] = None,
    carriers: Annotated[
        int,
        typer.Option("--carriers", min=1, help="Defects, or ions, among which the collective diffusion is divided."),
    ] = 1,
    equilibration_ps: Annotated[float, typer.Option("--equilibration-ps", min=0.0)] = 2.0,
    liquid: Annotated[bool, typer.Option("--liquid", help="Nothing stays: against the centre of mass.")] = False,
    viscosity_mPa_s: Annotated[
        float | None,
        typer.Option("--viscosity-mPa-s", help="Of the model's liquid, to correct for the size of the cell."),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Measure the diffusivity in trajectories or by MD with a model, or refuse to; wrapped positions are unwrapped."""
    from curator.diffusion.measurement import as_json as to_json
    from curator.diffusion.measurement import diffusivity_of_positions, fit_arrhenius, measure_diffusion

    for value in temperature_K:
        if value <= 0:
            raise BadInput(f"--temperature-K: must be positive; got {value:g}")
    options: dict[str, Any] = {
        "mobile": mobile,
        "host": host,
        "hop_length_A": hop_length_A,
        "n_carriers": carriers,
        "equilibration_ps": equilibration_ps,
        "liquid": liquid,
        "viscosity_mPa_s": viscosity_mPa_s,
    }
    if viscosity_mPa_s is not None and not (liquid and viscosity_mPa_s > 0):
        raise BadInput(f"--viscosity-mPa-s: must be positive and goes with --liquid; got {viscosity_mPa_s:g}")
    if model is not None:
        if len(source) > 1:
            raise BadInput(f"--model: runs one structure; got {len(source)}")
        measured = []
        for trajectories in _run(
            source[0], model, temperature_K, duration_ps + equilibration_ps, timestep_fs, replicas, seed, out, trust
        ):
            with bad_input():
                measured.append(measure_diffusion(trajectories, **options))
        fit = fit_arrhenius(measured)
        content: dict[str, Any] = {
            "diffusion": [to_json(found) for found in measured],
            "arrhenius": None if fit is None else to_json(fit),
        }
        show(
            as_json,
            content,
            [*(line for found in measured for line in _lines(found, carriers)), *_arrhenius_lines(fit)],
        )
        return
    if frame_interval_fs is None or frame_interval_fs <= 0:
        raise BadInput("--frame-interval-fs: the time between the frames of a trajectory must be given and positive")
    if len(temperature_K) > 1:
        raise BadInput("--temperature-K: trajectories have one temperature; measure each by itself")
    with bad_input():
        positions, common = _load([Path(path) for path in source], elements)
        found = diffusivity_of_positions(
            positions, frame_interval_fs=frame_interval_fs, temperature_K=temperature_K[0], **common, **options
        )
    show(as_json, to_json(found), _lines(found, carriers))


def _load(paths: Sequence[Path], elements: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Positions of replicas, and what they have in common."""
    from curator.diffusion.trajectory_files import SAME_CELL_A, load_positions

    loaded = [load_positions(path, elements.split(",") if elements else None) for path in paths]
    first = loaded[0]
    for path, other in zip(paths, loaded, strict=True):
        if not np.array_equal(other.numbers, first.numbers):
            raise BadInput(f"{path}: has other atoms than {paths[0]}")
        if not np.allclose(other.cell, first.cell, rtol=0, atol=SAME_CELL_A):
            raise BadInput(f"{path}: has another cell than {paths[0]}; replicas share it")
    return [part.positions for part in loaded], {"numbers": first.numbers, "cell": first.cell, "pbc": first.pbc}


def _run(
    structure: str,
    model: str,
    temperatures_K: Sequence[float],
    duration_ps: float,
    timestep_fs: float | None,
    replicas: int,
    seed: int,
    out: Path | None,
    trust: bool,
) -> list[list[Any]]:
    """Trajectories at each temperature."""
    from curator.md import run_md
    from curator.trajectory import MDSettings, timestep_for

    frame = structure_of(structure)
    step_fs = timestep_fs or timestep_for(frame)
    calculator, identity = potential_named(model, trust, frame)
    everything = []
    with Progress(console=Console(stderr=True), transient=True) as bar, bad_input():
        for i, temperature_K in enumerate(temperatures_K):
            trajectories = []
            for replica in range(replicas):
                name = f"T{temperature_K:g}-r{replica}"
                row = bar.add_task(f"MD {temperature_K:g} K, replica {replica}", total=duration_ps)
                trajectories.append(
                    run_md(
                        frame,
                        calculator,
                        MDSettings(temperature_K, duration_ps, step_fs),
                        seed=[seed, i, replica],
                        folder=None if out is None else out / name,
                        model=identity,
                        on_progress=lambda done, total, row=row: bar.update(row, completed=done, total=total),  # type: ignore[misc]
                    )
                )
            everything.append(trajectories)
    return everything


def _lines(found: "Diffusivity", carriers: int) -> list[str]:
    """A diffusivity for a person."""
    of = "" if found.collective is None else f" of each of {carriers} carriers" if carriers > 1 else " of one carrier"
    if found.D_A2_per_ps is not None:
        in_cm = f"{found.D_A2_per_ps * 1e-4:.3g} cm²/s"
        line = f"D{of} = {found.D_A2_per_ps:.3g} ± {found.error_A2_per_ps:.2g} Å²/ps ({in_cm})"
    elif found.bound_A2_per_ps is not None:
        line = f"D < {found.bound_A2_per_ps:.3g} Å²/ps"
    else:
        line = "refused"
    lines = [f"{found.temperature_K:g} K: {line}, {found.n_hops:.0f} hops in {found.time_ps:.0f} ps"]
    if found.collective is not None and (tracer := found.tracer) is not None:
        lines.append(f"D of an ion, the tracer's = {tracer.D_A2_per_ps:.3g} ± {tracer.error_A2_per_ps:.2g} Å²/ps")
    return [*lines, *found.reasons]


def _arrhenius_lines(fit: "Arrhenius | None") -> list[str]:
    """An activation energy for a person."""
    if fit is None:
        return []
    low, high = fit.temperatures_K
    fitted = "" if fit.p_value is None else f", chi² {fit.chi2:.1f} for {fit.dof}, p = {fit.p_value:.2g}"
    return [
        f"Ea = {fit.Ea_eV:.3f} ± {fit.error_eV:.3f} eV",
        f"D0 = {fit.D0_A2_per_ps:.3g} ± {fit.error_D0_A2_per_ps:.2g} Å²/ps",
        f"from {fit.n_temperatures} temperatures, {low:g} to {high:g} K, {fit.n_trajectories} trajectories, "
        f"{fit.n_hops:.0f} hops in {fit.time_ps:.0f} ps{fitted}",
        *fit.reasons,
    ]
