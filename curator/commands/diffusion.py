"""The command line: diffusivities of trajectories, and of a model."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from curator.cli import AsJson, Trust, app
from curator.commands.arguments import (
    Seed,
    Timestep,
    check_positive,
    potential_named,
    progress_bar,
    refuse,
    show,
    structure_of,
)
from curator.commands.diffusion_files import (
    check_species,
    load_files,
    of_files,
    stated_interval_fs,
    symbols,
    temperature_of_each,
)
from curator.commands.diffusion_lines import arrhenius_lines, extrapolated_line, legend, lines_of, no_fit
from curator.datasets.frame import Frame
from curator.datasets.notice import Notice
from curator.errors import BadInput, bad_input

if TYPE_CHECKING:
    from curator.diffusion.arrhenius import Arrhenius, Extrapolated
    from curator.diffusion.conductivity import Conductivity
    from curator.diffusion.measurement import Diffusivity
    from curator.trajectory import Trajectory

DURATION_PS = 50.0
REPLICAS = 4
"""Of the MD, unless others are asked for."""


@app.command()
def diffusion(
    source: Annotated[
        list[str],
        typer.Argument(
            help="Trajectories: extxyz, ASE, LAMMPS dump, XDATCAR, H5MD; replicas at one temperature, or each at its "
            "own. With --model, a structure to run."
        ),
    ],
    mobile: Annotated[str, typer.Option("--mobile", help="Symbol of the diffusing element.")],
    temperature_K: Annotated[
        list[float],
        typer.Option("--temperature-K", help="One, or one for each trajectory. With --model, any number of them."),
    ],
    frame_interval_fs: Annotated[
        float | None,
        typer.Option(
            "--frame-interval-fs", help="Time between frames of a trajectory; not needed if the files state it."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Run MD with this model: mini-halides, mace:<name>, a path, chgnet:r2scan, lif-fumi-tosi, or a YAML "
            "file with the section label of a campaign.",
        ),
    ] = None,
    duration_ps: Annotated[
        float | None,
        typer.Option("--duration-ps", help=f"Of each MD run, after equilibration; by default {DURATION_PS:g}."),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, help=f"MD runs at each temperature; by default {REPLICAS}.")
    ] = None,
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
    unwrapped: Annotated[
        bool,
        typer.Option(
            "--unwrapped",
            help="Positions were never wrapped into the cell. Without it they are followed across its boundaries; "
            "LAMMPS dumps with xu or ix, and H5MD with images, need neither.",
        ),
    ] = False,
    hop_length_A: Annotated[
        float | None,
        typer.Option(
            "--hop-length-A", help="Summed displacement of the mobile ions in one hop, in Å; guessed by default."
        ),
    ] = None,
    carriers: Annotated[
        int | None,
        typer.Option(
            "--carriers",
            min=1,
            help="Defects, or ions, among which the collective diffusion is divided; by default 1.",
        ),
    ] = None,
    ion_charge: Annotated[
        float | None,
        typer.Option("--ion-charge", help="Of a mobile ion, in e: gives the ionic conductivity as well."),
    ] = None,
    extrapolate_K: Annotated[
        list[float] | None,
        typer.Option("--extrapolate-K", help="Any number of temperatures at which the Arrhenius fit is to be read."),
    ] = None,
    equilibration_ps: Annotated[
        float, typer.Option("--equilibration-ps", help="Left out at the beginning of each trajectory.")
    ] = 2.0,
    liquid: Annotated[bool, typer.Option("--liquid", help="Nothing stays: against the centre of mass.")] = False,
    viscosity_mPa_s: Annotated[
        float | None,
        typer.Option("--viscosity-mPa-s", help="Of the model's liquid, to correct for the size of the cell."),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Measure the diffusivity in trajectories or by MD with a model, or refuse to.

    With several temperatures, an activation energy as well. A refusal is an answer too: its reasons are told, and the
    exit status is 0.
    """
    from curator.diffusion.arrhenius import extrapolated_as_json
    from curator.diffusion.conductivity import conductivity_as_json
    from curator.diffusion.measurement import as_json as to_json
    from curator.diffusion.measurement import fit_arrhenius

    check_positive(
        {
            "--temperature-K": temperature_K,
            "--frame-interval-fs": frame_interval_fs,
            "--duration-ps": duration_ps,
            "--timestep-fs": timestep_fs,
            "--hop-length-A": hop_length_A,
            "--viscosity-mPa-s": viscosity_mPa_s,
            "--extrapolate-K": extrapolate_K,
        }
    )
    check_positive({"--equilibration-ps": equilibration_ps}, or_zero=True)
    if ion_charge is not None and not (np.isfinite(ion_charge) and ion_charge):
        raise BadInput(f"--ion-charge: must not be zero, and finite; got {ion_charge:g}")
    if extrapolate_K and len(set(temperature_K)) < 2:
        raise BadInput("--extrapolate-K: takes two temperatures or more; give --temperature-K more than once")
    if viscosity_mPa_s is not None and len(set(temperature_K)) > 1:
        raise BadInput(
            "--viscosity-mPa-s: one viscosity is given for several temperatures, at which a liquid has several; "
            "measure one temperature at a time, or leave it out"
        )
    if liquid:
        refuse({"--host": host, "--carriers": carriers}, "a liquid has neither host nor carriers")
        refuse({"--ion-charge": ion_charge}, "takes the collective diffusivity, which is not measured in a liquid")
    else:
        refuse({"--viscosity-mPa-s": viscosity_mPa_s}, "goes with --liquid")
    options: dict[str, Any] = {
        "mobile": mobile,
        "host": host,
        "hop_length_A": hop_length_A,
        "equilibration_ps": equilibration_ps,
        "liquid": liquid,
        "viscosity_mPa_s": viscosity_mPa_s,
    }
    if carriers is not None:
        options["n_carriers"] = carriers
    if model is not None:
        if len(source) > 1:
            raise BadInput(f"--model: runs one structure; got {len(source)}")
        if len(set(temperature_K)) < len(temperature_K):
            raise BadInput("--temperature-K: one is given twice; --replicas says how many runs each one has")
        for_files = {"--frame-interval-fs": frame_interval_fs, "--elements": elements, "--unwrapped": unwrapped}
        refuse(for_files, "is for trajectories, not for --model")
        md = _MD(model, duration_ps or DURATION_PS, timestep_fs, replicas or REPLICAS, seed, out, trust)
        measured, numbers, frame_interval_fs = _of_model(source[0], md, temperature_K, options)
    else:
        for_md = {"--duration-ps": duration_ps, "--replicas": replicas, "--timestep-fs": timestep_fs, "--out": out}
        refuse(for_md, "goes with --model")
        files = [Path(path) for path in source]
        temperatures_K = temperature_of_each(files, temperature_K)
        loaded = load_files(files, elements)
        frame_interval_fs = stated_interval_fs(loaded, frame_interval_fs)
        measured = of_files(loaded, temperatures_K, frame_interval_fs, unwrapped, options)
        numbers = next(iter(loaded.values())).numbers
    about = {
        "mobile": mobile,
        "host": None if liquid else host or symbols(numbers, without=mobile),
        "n_carriers": carriers or 1,
        "frame_interval_fs": frame_interval_fs,
        "equilibration_ps": equilibration_ps,
    }
    fit = fit_arrhenius(measured)
    conducting = [_conductivity(found, ion_charge, carriers or 1) for found in measured]
    content = [
        about | to_json(found) | {"conductivity": sigma and conductivity_as_json(sigma)}
        for found, sigma in zip(measured, conducting, strict=True)
    ]
    lines = [
        line
        for found, sigma in zip(measured, conducting, strict=True)
        for line in lines_of(found, carriers or 1, sigma)
    ]
    if model is None and len(measured) == 1:
        show(as_json, content[0], [*lines, *legend(measured)])
        return
    line = None
    if fit is not None:
        elsewhere = [_elsewhere(fit, T, measured, ion_charge, carriers or 1) for T in extrapolate_K or ()]
        line = to_json(fit) | {
            "extrapolated": [
                extrapolated_as_json(found) | {"conductivity": sigma and conductivity_as_json(sigma)}
                for found, sigma in elsewhere
            ]
        }
        lines += [*arrhenius_lines(fit), *(extrapolated_line(found, sigma) for found, sigma in elsewhere)]
    show(as_json, {"diffusion": content, "arrhenius": line}, [*lines, *no_fit(fit, measured), *legend(measured)])


def _elsewhere(
    fit: "Arrhenius", temperature_K: float, measured: "Sequence[Diffusivity]", ion_charge: float | None, carriers: int
) -> "tuple[Extrapolated, Conductivity | None]":
    """What the fit gives at a temperature, in the cell of the lowest one that was measured."""
    from curator.diffusion.arrhenius import extrapolate
    from curator.diffusion.conductivity import conductivity_of

    found = extrapolate(fit, temperature_K)
    coldest = min((d for d in measured if d.main is not None), key=lambda d: d.temperature_K or 0.0)
    if ion_charge is None or coldest.volume_A3 is None:
        return found, None
    return found, conductivity_of(found, temperature_K, coldest.volume_A3, ion_charge, carriers)


def _conductivity(found: "Diffusivity", ion_charge: float | None, carriers: int) -> "Conductivity | None":
    """Conductivity where the charge is given."""
    from curator.diffusion.conductivity import conductivity

    if ion_charge is None:
        return None
    with bad_input("--ion-charge"):
        return conductivity(found, ion_charge, carriers)


@dataclass(frozen=True, slots=True)
class _MD:
    """What the user says of the MD."""

    model: str
    duration_ps: float
    timestep_fs: float | None
    replicas: int
    seed: int
    out: Path | None
    trust: bool


def _of_model(
    structure: str, md: _MD, temperatures_K: Sequence[float], options: dict[str, Any]
) -> "tuple[list[Diffusivity], NDArray[np.int32], float]":
    """Diffusivity at each temperature; atomic numbers, and the time between frames in fs."""
    from curator.diffusion.measurement import coldest_first, measure_diffusion

    frame = structure_of(structure)
    check_species(frame.numbers, structure, options["mobile"], options["host"])
    _check_long_enough(md)
    everything = _run(frame, md, temperatures_K, options["equilibration_ps"])
    with bad_input():
        measured = coldest_first(
            temperatures_K,
            lambda T, guessed_A: measure_diffusion(everything[T], guessed_hop_length_A=guessed_A, **options),
        )
    return measured, frame.numbers, everything[temperatures_K[0]][0].settings.stored_interval_fs


def _check_long_enough(md: _MD) -> None:
    """Say so before MD is run that no diffusivity can be measured in."""
    from curator.diffusion.walk import shortest_run_ps

    needed_ps = shortest_run_ps(md.replicas)
    if md.duration_ps >= needed_ps:
        return
    later = "with --out it could be lengthened" if md.out is None else f"lengthen the MD in {md.out} by this command"
    warnings.warn(
        f"--duration-ps: {md.duration_ps:g} ps are too short to measure a diffusivity; with --replicas {md.replicas} "
        f"it takes {needed_ps:g} ps; {later}",
        Notice,
        stacklevel=2,
    )


def _run(
    frame: Frame, md: _MD, temperatures_K: Sequence[float], equilibration_ps: float
) -> "dict[float, list[Trajectory]]":
    """Trajectories at each temperature."""
    from curator.md import run_md
    from curator.trajectory import MDSettings, measuring_seed, timestep_for

    step_fs = md.timestep_fs or timestep_for(frame)
    total_ps = md.duration_ps + equilibration_ps
    calculator, identity = potential_named(md.model, md.trust, frame)
    everything = {}
    with progress_bar() as bar, bad_input():
        for temperature_K in temperatures_K:
            trajectories = []
            for replica in range(md.replicas):
                folder = None if md.out is None else md.out / f"T{temperature_K:g}-r{replica}"
                row = bar.add_task(f"MD {temperature_K:g} K, replica {replica}", total=total_ps)
                trajectories.append(
                    run_md(
                        frame,
                        calculator,
                        MDSettings(temperature_K, total_ps, step_fs),
                        seed=measuring_seed([md.seed], temperature_K, replica, folder),
                        folder=folder,
                        model=identity,
                        on_progress=lambda done, total, row=row: bar.update(row, completed=done, total=total),  # type: ignore[misc]
                    )
                )
            everything[temperature_K] = trajectories
    return everything
