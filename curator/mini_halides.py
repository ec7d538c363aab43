"""Recipe of the embedded foundation model `mini-halides`: CHGNet 0.3.0 distilled into a small MACE.

``python -m curator.mini_halides all`` labels, trains and harvests until the model stands, examines it, and puts it
where it ships. Each stage leaves its output in a working folder and is skipped if that is there; within a stage,
labels, trajectories and epochs are kept as well, so a run that was stopped is started again with the same command. It
takes some three hours of one core. Molecular dynamics is chaotic: another machine draws
other thermal frames from the same distribution, and gets a model of the same quality rather than the same bits.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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

from curator.backends.base import LabelFailed, LabellerSpec
from curator.backends.labellers import make_labeller, publish_outcome
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.journal import Journal, acquire, rebuild
from curator.datasets.label import Label, Provenance, Record, Split
from curator.datasets.mini_halides.frames import FOLDER, FRAMES
from curator.datasets.mini_halides.structures import (
    LATTICE_CONSTANT_A,
    Structure,
    contact_structures,
    dumbbell,
    knock_off,
    mixed,
    parts,
    rattled,
    rocksalt_cell,
    static_structures,
    without,
)
from curator.datasets.split import assign_splits
from curator.datasets.store import Store
from curator.learners.architecture import Architecture
from curator.learners.base import TrainEvent
from curator.learners.mace import MaceModel, load_model
from curator.learners.strategies import LossWeights, Strategy, strategy
from curator.learners.train import fit
from curator.md import Gates, MDSettings, frames, run_md
from curator.mini_halides_card import write_card
from curator.mini_halides_exam import examine

SEED = 20240
TEACHER = LabellerSpec("pseudolabel", "chgnet:0.3.0", device="cpu")
MAX_FORCE_EV_PER_A = 30.0
"""A frame on which the teacher's forces exceed this is left out: CHGNet was not trained on such configurations."""
FRACTIONS: dict[Split, float] = {"train": 0.87, "valid": 0.04, "test": 0.09}
ARCHITECTURE = Architecture(
    atomic_numbers=(3, 9, 11, 17, 19, 35),
    r_max=4.5,
    hidden_irreps="32x0e",
    correlation=2,
    max_ell=2,
    pair_repulsion=True,
)
FLAGSHIP_PS, HARVEST_PS, EQUILIBRATION_PS = 1.1, 0.7, 0.3
HARVEST_GATES = Gates(max_force_eV_per_A=20.0, min_distance_ratio=0.55)


def _training(name: str, learning_rate: float, max_epochs: int) -> Strategy:
    """Strategy with a cosine decay and a small energy weight, so that forces outweigh the energies of odd frames."""
    return strategy(
        name,
        learning_rate=learning_rate,
        max_epochs=max_epochs,
        schedule="cosine",
        lr_decay=0.005,
        ema_decay=0.99,
        difference=2.0,
        batch_size=4,
        patience=max_epochs,
        target=LossWeights(energy=3.0, forces=10.0, stress=100.0),
    )


CRUDE = _training("scratch", learning_rate=1e-2, max_epochs=24)
FIRST = _training("scratch", learning_rate=1e-2, max_epochs=80)
FINAL = _training("naive", learning_rate=5e-3, max_epochs=60)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a harvest trajectory begins, and how hot and long it is."""

    kind: str
    name: str
    frame: Frame
    temperature_K: float
    duration_ps: float


app = typer.Typer(help="Rebuild the embedded foundation model.", no_args_is_help=True, add_completion=False)
Work = Annotated[Path, typer.Argument(help="Working folder; whatever is there is continued.")]
DEFAULT_WORK = Path("build/mini-halides")


@app.command("build")
def build(work: Work = DEFAULT_WORK) -> None:
    """Run every stage that is not done yet; the model ends up in WORK/final, the frames in WORK/final/frames.h5."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    drawn = (static_structures(np.random.default_rng([SEED, 1])), contact_structures(np.random.default_rng([SEED, 4])))
    label(chain(*drawn), 1, work)
    model = train(work, "crude", CRUDE, last_stage=1)
    label(harvest(model, flagship_starts, 2, work), 2, work)
    model = train(work, "first", FIRST, last_stage=2)
    label(harvest(model, starts, 3, work), 3, work)
    train(work, "final", FINAL, last_stage=3, base=model)
    if not (work / "final" / FRAMES.name).exists():
        rebuild(Journal(work / "journal"), work / "final" / FRAMES.name)


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
    card = write_card(
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
    for name in ("model.safetensors", "model.json", "frames.h5", "card.json", "CARD.md"):
        shutil.copyfile(work / "final" / name, FOLDER / name)


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
    for formula, a in LATTICE_CONSTANT_A.items():
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


def harvest(
    model: MaceModel, plan: Callable[[np.random.Generator], Iterable[Start]], stage: int, work: Path
) -> Iterator[Structure]:
    """Configurations a model visits: relaxed ones first, then thermal ones."""
    calculator = model.calculator()
    yield from _anchors(calculator, stage)
    yield from _thermal(calculator, plan(np.random.default_rng([SEED, stage])), stage, work / f"md-{stage}")


def _thermal(calculator: Calculator, plan: Iterable[Start], stage: int, folder: Path) -> Iterator[Structure]:
    """Frames 200 fs apart of each trajectory; of one that explodes, also the last sane ones."""
    for idx, start in enumerate(plan):
        settings = MDSettings(
            temperature_K=start.temperature_K,
            duration_ps=start.duration_ps,
            friction_per_ps=5.0,
            frame_interval_fs=200.0,
        )
        name = f"{idx:03d}-{start.name}"
        trajectory = run_md(
            start.frame,
            calculator,
            settings,
            seed=(SEED, stage, idx),
            gates=HARVEST_GATES,
            folder=folder / name,
        )
        kept = [f for f, t in zip(frames(trajectory), trajectory.times_ps, strict=True) if t > EQUILIBRATION_PS]
        for frame in (*kept, *trajectory.last_frames[-2:]):
            yield Structure(frame, start.kind, f"md/{stage}/{name}")


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


def label(structures: Iterable[Structure], stage: int, work: Path) -> None:
    """Label structures with the teacher and publish them to the journal; nothing is calculated twice.

    Whole groups are dealt into splits, kind by kind, so that each split has its share of every kind. Anchors are
    always trained on.
    """
    done = work / f"labelled-{stage}"
    if done.exists():
        return
    drawn = list(structures)
    splits: dict[str, Split] = {}
    for number, kind in enumerate(sorted({structure.kind for structure in drawn})):
        groups = {structure.group for structure in drawn if structure.kind == kind}
        if kind == "anchor-65":
            splits |= dict.fromkeys(groups, "train")
        else:
            splits |= assign_splits(groups, FRACTIONS, np.random.default_rng([SEED, stage, 2, number]))
    labeller = make_labeller(TEACHER)
    theory = labeller.theory
    with acquire(work) as fence:
        journal = Journal(work / "journal", fence)
        settled = journal.published | journal.quarantined
        for idx, structure in enumerate(drawn):
            if (structure.frame.hash, theory.key) in settled:
                continue
            reason = "anchor" if structure.kind == "anchor-65" else "import"
            origin = Provenance(stage, structure.kind, structure.group, splits[structure.group], reason)
            outcome = labeller.label(atoms_from_frame(structure.frame))
            if isinstance(outcome, Label) and np.abs(outcome.forces).max() > MAX_FORCE_EV_PER_A:
                outcome = LabelFailed("geometry", f"a force exceeds {MAX_FORCE_EV_PER_A:g} eV/Å", theory.key)
            publish_outcome(journal, structure.frame, outcome, origin, theory)
            if idx % 100 == 0:
                print(f"label {stage}: {idx} of {len(drawn)}", flush=True)
    done.touch()


# Model ----------------------------------------------------------------------------------------------------------------


def train(work: Path, name: str, how: Strategy, *, last_stage: int, base: MaceModel | None = None) -> MaceModel:
    """Model ``work/name``, trained on the labels of the stages up to ``last_stage`` unless it is there already."""
    folder = work / name
    if (folder / "model.json").exists():
        return load_model(folder)
    labelled = [
        content
        for content in Journal(work / "journal").read()
        if isinstance(content, Record) and content.provenance.round <= last_stage
    ]
    # Without validation frames the last weights are returned: the learning rate has decayed, and the lowest error on
    # a few dozen frames picks an early epoch by chance.
    model, report = fit(
        base,
        [record for record in labelled if record.provenance.split == "train"],
        [],
        how,
        seed=SEED,
        e0="estimated" if base is None else "foundation",
        architecture=ARCHITECTURE if base is None else None,
        checkpoint=work / f"{name}.checkpoint",
        on_event=_print_event,
    )
    print(f"{name}: {report.cpu_s:.0f} CPU s", flush=True)
    model.save(folder)
    return model


def _print_event(event: TrainEvent) -> None:
    print(f"epoch {event.epoch}/{event.n_epochs}: loss {event.loss:.5f}, lr {event.learning_rate:.1e}", flush=True)


if __name__ == "__main__":
    app()
