"""The command line: a small, fast model from a large, slow one."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from curator.cli import AsJson, Trust, app
from curator.commands.arguments import Seed, Timestep, check_calculates, labeller_named, show, structure_of
from curator.datasets.frame import Frame
from curator.distil.recipe import Recipe
from curator.errors import BadInput, bad_input
from curator.state import Json

DEFAULT = Recipe()
POOR_RELATIVE = 0.2
"""Force error over the RMS force above which a student is called poor."""


@app.command()
def distil(
    teacher: Annotated[
        str, typer.Option("--teacher", help="chgnet:r2scan, mace:<name>, the path of a model, lif-fumi-tosi, ...")
    ],
    structures: Annotated[
        list[str], typer.Option("--structures", help="File of one or more structures; may be given several times.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model; whatever is there is continued.")] = Path(
        "student"
    ),
    supercell: Annotated[
        list[str] | None, typer.Option("--supercell", help="Repeats such as 2x2x1; may be given several times.")
    ] = None,
    rattle_A: Annotated[
        list[float] | None,
        typer.Option("--rattle-A", help="Displacement of a copy; may be given several times. 0.03, 0.1, 0.2."),
    ] = None,
    copies: Annotated[int, typer.Option("--copies", help="Of each structure and displacement.")] = DEFAULT.copies,
    strain: Annotated[float, typer.Option("--strain", help="Largest isotropic strain of a copy.")] = DEFAULT.strain,
    vacancies: Annotated[
        int, typer.Option("--vacancies", help="Copies of each structure that lack an atom.")
    ] = DEFAULT.vacancies,
    contacts: Annotated[int, typer.Option("--contacts", help="Copies with two atoms close.")] = DEFAULT.contacts,
    temperature_K: Annotated[
        list[float] | None,
        typer.Option("--temperature-K", help="Of the students' MD; may be given several times. 500, 1000."),
    ] = None,
    duration_ps: Annotated[float, typer.Option("--duration-ps", help="Of each trajectory.")] = DEFAULT.duration_ps,
    replicas: Annotated[
        int, typer.Option("--replicas", help="Trajectories of each structure and temperature.")
    ] = DEFAULT.replicas,
    timestep_fs: Timestep = None,
    loops: Annotated[int, typer.Option("--loops", help="Harvests of a student's MD, each learnt.")] = DEFAULT.loops,
    crude_epochs: Annotated[
        int, typer.Option("--crude-epochs", help="Epochs of the first student.")
    ] = DEFAULT.crude_epochs,
    epochs: Annotated[int, typer.Option("--epochs", help="Epochs of each later student.")] = DEFAULT.epochs,
    channels: Annotated[int, typer.Option("--channels", min=1)] = 32,
    r_max: Annotated[float, typer.Option("--r-max", help="Cutoff in Å.")] = 4.5,
    interactions: Annotated[int, typer.Option("--interactions", min=1, max=4)] = 2,
    correlation: Annotated[int, typer.Option("--correlation", min=1, max=4)] = 2,
    max_ell: Annotated[int, typer.Option("--max-ell", min=0, max=4)] = 2,
    max_force: Annotated[
        float, typer.Option("--max-force-eV-per-A", help="Frames with a larger force are left out.")
    ] = DEFAULT.max_force_eV_per_A,
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Distil a labeller into a small MACE model that runs many times faster."""
    from curator.distil.exam import examine_student
    from curator.distil.run import distil as run_stages
    from curator.distil.stages import Distillation
    from curator.learners.architecture import Architecture

    given = [frame for name in structures for frame in _structures(name)]
    spec = labeller_named(teacher, trust)
    work = out / "work"
    card_path = out / "card.json"
    with bad_input():
        recipe = Recipe(
            supercells=tuple(_repeats(text) for text in supercell or ["1x1x1"]),
            rattles_A=tuple(rattle_A or DEFAULT.rattles_A),
            copies=copies,
            strain=strain,
            vacancies=vacancies,
            contacts=contacts,
            temperatures_K=tuple(temperature_K or DEFAULT.temperatures_K),
            duration_ps=duration_ps,
            replicas=replicas,
            timestep_fs=timestep_fs,
            loops=loops,
            crude_epochs=crude_epochs,
            epochs=epochs,
            max_force_eV_per_A=max_force,
        )
        if not 1.0 < r_max <= 12.0:
            raise BadInput(f"--r-max: {r_max:g} Å is out of range; MACE models take 3 to 7 Å")
    if not work.exists():
        for frame in given:
            check_calculates(spec, frame)
    elements = tuple(sorted({int(z) for frame in given for z in frame.numbers}))
    architecture = Architecture(
        elements,
        r_max=r_max,
        hidden_irreps=f"{channels}x0e",
        n_interactions=interactions,
        correlation=correlation,
        max_ell=max_ell,
        pair_repulsion=True,
    )
    # Standard output belongs to the result.
    tell = partial(print, file=sys.stderr, flush=True)
    run = Distillation(work, spec, architecture, seed, max_force, tell)
    with bad_input():
        model = run_stages(run, given, recipe, out)
    if not card_path.exists():
        examine_student(run, model, given, recipe, out)
    card = json.loads(card_path.read_text(encoding="utf-8"))
    errors, cost = card["exam"]["errors_by_kind"]["all"], card["exam"]["cost"]
    content: dict[str, Any] = {"out": out, **card}
    lines = [
        f"{errors['n_frames']} frames that no training saw: forces {errors['force_rmse_meV_per_A']:.0f} meV/Å, "
        f"{errors['force_rmse_relative']:.1%} of their rms",
        _speed_told(cost),
        f"wrote {out}: the model, model.model (for MACE), frames.h5 and CARD.md; next: foundation: {out}",
    ]
    if errors["force_rmse_relative"] > POOR_RELATIVE:
        lines.append(
            f"the student is poor: its force error is above {POOR_RELATIVE:.0%} of the forces themselves; give more "
            "structures, copies or epochs"
        )
    show(as_json, content, lines)


def _speed_told(cost: Json) -> str:
    """How long a step takes, and how many times faster or slower than the teacher's that is."""
    student_ms, teacher_ms, ratio = 1000 * cost["student_cpu_s"], 1000 * cost["teacher_cpu_s"], cost["ratio"]
    compared = f"{ratio:.3g} times faster" if ratio >= 1 else f"{1 / ratio:.3g} times slower than the teacher"
    steps = f"{student_ms:.3g} ms of CPU, the teacher {teacher_ms:.3g} ms"
    return f"a step of {cost['n_atoms']} atoms takes {steps}: {compared}"


def _structures(name: str) -> list[Frame]:
    """All structures of a file, or that of a shipped builder."""
    from curator.datasets.extxyz import read_frames
    from curator.system import is_builder

    if is_builder(name, Path()):
        return [structure_of(name)]
    with bad_input():
        return read_frames(Path(name))


def _repeats(text: str) -> tuple[int, int, int]:
    try:
        repeats = [int(part) for part in text.split("x")]
    except ValueError:
        repeats = []
    if len(repeats) != 3 or min(repeats) < 1:
        raise BadInput(f"--supercell: {text!r} is no supercell; write repeats such as 2x2x1")
    return repeats[0], repeats[1], repeats[2]
