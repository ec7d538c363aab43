"""Recipe of the embedded foundation model `mini-halides`: CHGNet 0.3.0 distilled into a small MACE.

``python -m curator.distil.mini_halides all`` labels, trains and harvests until the model stands, examines it, and puts
it where it ships; a run that was stopped is started again with the same command. It takes some three hours of one core.
``generations`` makes the two smaller editions, of two versions of the teacher, in some twenty minutes. Molecular
dynamics is chaotic: another machine draws other thermal frames from the same distribution, and gets a model of the
same quality rather than the same bits.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.optimize import FIRE

from curator.backends.base import LabellerSpec
from curator.backends.labellers import make_labeller
from curator.datasets.frame import frame_from_atoms
from curator.datasets.journal import Journal, rebuild
from curator.datasets.label import Split
from curator.datasets.mini_halides.frames import CARD, FOLDER, FRAMES, GENERATIONS, NAME
from curator.datasets.mini_halides.structures import (
    CHGNET_LATTICE_CONSTANTS_A,
    contact_structures,
    dumbbell,
    knock_off,
    mixed,
    parts,
    rocksalt_cell,
    static_structures,
)
from curator.datasets.store import Store
from curator.datasets.variations import Structure, rattled, without
from curator.distil.mini_halides_card import write_halides_card
from curator.distil.mini_halides_exam import examine
from curator.distil.mini_halides_small import corpus, examine_small, shipped_splits, write_small_card
from curator.distil.stages import Distillation, Start, deal, harvest, label, labelled, train, training
from curator.learners.architecture import Architecture
from curator.learners.mace import MaceModel, load_model

SEED = 20240
TEACHER = LabellerSpec("pseudolabel", "chgnet:0.3.0", device="cpu")
FRACTIONS: dict[Split, float] = {"train": 0.87, "valid": 0.04, "test": 0.09}
ARCHITECTURE = Architecture(
    atomic_numbers=(3, 9, 11, 17, 19, 35),
    r_max=4.5,
    hidden_irreps="32x0e",
    correlation=2,
    max_ell=2,
    pair_repulsion=True,
)
FLAGSHIP_PS, HARVEST_PS = 1.1, 0.7
CRUDE = training("scratch", learning_rate=1e-2, max_epochs=24)
FIRST = training("scratch", learning_rate=1e-2, max_epochs=80)
FINAL = training("naive", learning_rate=5e-3, max_epochs=60)

app = typer.Typer(help="Rebuild the embedded foundation model.", no_args_is_help=True, add_completion=False)
Work = Annotated[Path, typer.Argument(help="Working folder; whatever is there is continued.")]
DEFAULT_WORK = Path("build/mini-halides")
tell = partial(print, flush=True)


@app.command("build")
def build(work: Work = DEFAULT_WORK) -> None:
    """Run every stage that is not done yet; the model ends up in WORK/final, the frames in WORK/final/frames.h5."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    run = Distillation(work, TEACHER, ARCHITECTURE, SEED, tell=tell)

    def label_stage(draw: Callable[[], Iterable[Structure]], stage: int) -> None:
        label(run, draw, lambda drawn: deal(drawn, FRACTIONS, SEED, stage), stage)

    def first_structures() -> Iterator[Structure]:
        return chain(
            static_structures(np.random.default_rng([SEED, 1])), contact_structures(np.random.default_rng([SEED, 4]))
        )

    label_stage(first_structures, 1)
    model = train(run, "crude", CRUDE, last_stage=1)
    label_stage(lambda: visited(run, model, flagship_starts, 2), 2)
    model = train(run, "first", FIRST, last_stage=2)
    label_stage(lambda: visited(run, model, starts, 3), 3)
    train(run, "final", FINAL, last_stage=3, base=model)
    if not (work / "final" / FRAMES.name).exists():
        rebuild(Journal(run.journal), work / "final" / FRAMES.name)


@app.command("validate")
def validate(
    work: Work = DEFAULT_WORK,
    note: Annotated[str, typer.Option(help="How this build departs from the recipe, for the card.")] = "",
) -> None:
    """Examine WORK/final and write its card; half an hour, most of it molecular dynamics."""
    torch.set_num_threads(1)
    folder = work / "final"
    model = load_model(folder)
    with Store(folder / FRAMES.name, "r") as store:
        records = store.records()
    probes = [record for record in records if record.provenance.split == "test"]
    exam = examine(model, probes, TEACHER, work)
    card = write_halides_card(
        model,
        folder,
        records,
        make_labeller(TEACHER).theory,
        exam,
        {"seed": SEED, "training": dict(model.metadata), "note": note},
    )
    print(json.dumps(card["exam"], indent=1))


@app.command("ship")
def ship(work: Work = DEFAULT_WORK) -> None:
    """Copy model, frames and card of WORK/final into the package."""
    _copy(work / "final", FOLDER)


def _copy(folder: Path, shipped: Path) -> None:
    shipped.mkdir(exist_ok=True)
    for name in ("model.safetensors", "model.json", "frames.h5", "card.json", "CARD.md"):
        shutil.copyfile(folder / name, shipped / name)


@app.command("generations")
def generations(work: Work = DEFAULT_WORK) -> None:
    """Build, examine and ship the smaller editions: one architecture, a fifth of the frames, two teachers."""
    torch.set_num_threads(1)
    for name, shipped in GENERATIONS.items():
        chgnet = name.removeprefix(f"{NAME}:").removesuffix("-small")
        run = Distillation(
            work / shipped.name, replace(TEACHER, model=f"chgnet:{chgnet}"), ARCHITECTURE, SEED, tell=tell
        )
        run.work.mkdir(parents=True, exist_ok=True)
        label(run, lambda: corpus([SEED, 5]), shipped_splits, 1)
        model = train(run, "final", FIRST, last_stage=1)
        folder = run.work / "final"
        if not (folder / FRAMES.name).exists():
            rebuild(Journal(run.journal), folder / FRAMES.name)
        if not (folder / CARD.name).exists():
            records = labelled(run)
            exam = examine_small(model, [r for r in records if r.provenance.split == "test"], run.teacher, run.work)
            theory = make_labeller(run.teacher).theory
            built = {"seed": SEED, "training": dict(model.metadata)}
            write_small_card(name, model, folder, records, theory, exam=exam, build=built)
        _copy(folder, shipped)


@app.command("all")
def run_all(work: Work = DEFAULT_WORK) -> None:
    """Build, validate and ship."""
    build(work)
    validate(work)
    ship(work)


# Frames ---------------------------------------------------------------------------------------------------------------


def flagship_starts(rng: np.random.Generator, n_cells: int = 2) -> Iterator[Start]:
    """Trajectories of LiF with an interstitial from 500 to 1400 K in ``n_cells`` layers of 2 x 2 conventional cells."""
    for temperature_K in (500.0, 700.0, 900.0, 1100.0, 1400.0):
        for place, progress in (("octant", 0.0), ("dumbbell", 0.5)):
            atoms = knock_off("LiF", progress, (2, 2, n_cells), float(rng.uniform(0.98, 1.02)))
            yield _start(f"md-{len(atoms)}", f"LiF-{place}", atoms, temperature_K, FLAGSHIP_PS, rng)


def starts(rng: np.random.Generator) -> Iterator[Start]:
    """Trajectories of LiF with an interstitial in both cells, of all nine salts and of their mixtures."""
    yield from flagship_starts(rng, 2)
    yield from flagship_starts(rng, 1)
    for formula, a in CHGNET_LATTICE_CONSTANTS_A.items():
        primitive = bulk(formula, "rocksalt", a=a).repeat(2)
        for temperature_K in (500.0, 1000.0, 1800.0):
            expanded = primitive.copy()
            expanded.set_cell(primitive.cell.array * rng.uniform(0.97, 1.08), scale_atoms=True)
            yield _start("md-16", formula, expanded, temperature_K, HARVEST_PS, rng)
        vacant = without(rocksalt_cell(formula, (2, 2, 1)), parts(formula)[0], rng)
        yield _start("md-31", f"{formula}-vacancy", vacant, 900.0, HARVEST_PS, rng)
        yield _start("md-64", formula, rocksalt_cell(formula, (2, 2, 2)), 1000.0, HARVEST_PS, rng)
        if formula != "LiF":
            for temperature_K in (600.0, 1000.0):
                atoms = knock_off(formula, 0.0, (2, 2, 1), float(rng.uniform(0.98, 1.03)))
                yield _start("md-33", formula, atoms, temperature_K, HARVEST_PS, rng)
    for n in range(12):
        yield _start("md-16", f"mixed-{n}", mixed(16, rng), float(rng.choice([500, 1000, 1500])), HARVEST_PS, rng)


def _start(
    kind: str, name: str, atoms: Atoms, temperature_K: float, duration_ps: float, rng: np.random.Generator
) -> Start:
    frame = frame_from_atoms(rattled(atoms, 0.02, rng))
    return Start(kind, f"{name}-{temperature_K:.0f}K", frame, temperature_K, duration_ps)


def visited(
    run: Distillation, model: MaceModel, plan: Callable[[np.random.Generator], Iterable[Start]], stage: int
) -> Iterator[Structure]:
    """Configurations a model visits: relaxed ones first, then thermal ones."""
    calculator = model.calculator()
    yield from _anchors(calculator, stage)
    yield from harvest(run, calculator, plan(np.random.default_rng([SEED, stage])), stage)


def _anchors(calculator: Calculator, stage: int) -> Iterator[Structure]:
    """LiF with an interstitial relaxed to its minimum and its saddle points, then rattled a little.

    Symmetric starts stay symmetric, so a plain relaxation of a dumbbell ends at its saddle point. All anchors of one
    lattice constant form a group, whose differences of total energy enter the loss.
    """
    rng = np.random.default_rng([SEED, stage, 1])
    for scale in (0.98, 0.99, 1.0, 1.01):
        anchors = [knock_off("LiF", 0.0, (2, 2, 2), scale), knock_off("LiF", 0.5, (2, 2, 2), scale)]
        if scale == 1.0:
            anchors.append(dumbbell("LiF", np.array([1.0, 1.0, 0.0]), (2, 2, 2)))
        for atoms in anchors:
            atoms.calc = calculator
            FIRE(atoms, logfile=None, maxstep=0.1).run(fmax=0.03, steps=80)
            atoms.calc = None
            for sigma_A in (0.0, 0.02, 0.04, 0.06):
                yield Structure(frame_from_atoms(rattled(atoms, sigma_A, rng)), "anchor-65", f"anchor/{stage}/{scale}")


if __name__ == "__main__":
    app()
