"""Distillation in stages: a teacher labels structures, a small model is trained on them and finds further ones.

Each stage leaves its output in a working folder and is skipped if that is there. Within a stage labels, trajectories
and epochs are kept as well, so a run that was stopped goes on where it was.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator

from curator.backends.base import LabelFailed, LabellerSpec
from curator.backends.labellers import make_labeller, publish_outcome
from curator.datasets.fence import acquire
from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.journal import Journal
from curator.datasets.label import Label, Provenance, Record, Split
from curator.datasets.split import assign_splits
from curator.datasets.variations import Structure
from curator.learners.architecture import Architecture
from curator.learners.base import TrainEvent
from curator.learners.mace import MaceModel, load_model
from curator.learners.strategies import LossWeights, Strategy, strategy
from curator.learners.train import fit
from curator.md import run_md
from curator.trajectory import Gates, MDSettings, frames

MAX_FORCE_EV_PER_A = 30.0
"""A frame on which the teacher's forces exceed this is left out: no teacher was trained on such configurations."""
HARVEST_GATES = Gates(max_force_eV_per_A=20.0, min_distance_ratio=0.55)
HARVEST_INTERVAL_FS = 200.0
EQUILIBRATION_PS = 0.3
ANCHOR = "anchor"
"""Kinds of this name are always trained on, and their differences of total energy within a group are learnt."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """What all stages share.

    Attributes
    ----------
    work
        Working folder; whatever is there is continued.
    teacher
        What makes the labels.
    architecture
        Of the student.
    seed
        Of everything random.
    max_force_eV_per_A
        Frames on which the teacher's forces exceed this are left out.
    tell
        Called with a line of text now and then.
    """

    work: Path
    teacher: LabellerSpec
    architecture: Architecture
    seed: int
    max_force_eV_per_A: float = MAX_FORCE_EV_PER_A
    tell: Callable[[str], None] = print

    @property
    def journal(self) -> Path:
        """Folder of the labels."""
        return self.work / "journal"


@dataclass(frozen=True, slots=True)
class Start:
    """Where a harvest trajectory begins, and how hot and long it is."""

    kind: str
    name: str
    frame: Frame
    temperature_K: float
    duration_ps: float
    timestep_fs: float = 2.0


def training(name: str, learning_rate: float, max_epochs: int) -> Strategy:
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


def deal(
    structures: Collection[Structure],
    fractions: Mapping[Split, float],
    seed: int,
    stage: int,
    fixed: Mapping[str, Mapping[str, Split]] | None = None,
) -> dict[str, Split]:
    """Split of each group, dealt kind by kind, so that each split has its share of every kind.

    Parameters
    ----------
    structures
        Of one stage.
    fractions
        Share of each split.
    seed, stage
        Source of randomness.
    fixed
        By kind, groups of earlier stages whose splits count towards the shares.
    """
    splits: dict[str, Split] = {}
    for number, kind in enumerate(sorted({structure.kind for structure in structures})):
        groups = {structure.group for structure in structures if structure.kind == kind}
        if kind.startswith(ANCHOR):
            splits |= dict.fromkeys(groups, "train")
        else:
            rng = np.random.default_rng([seed, stage, 2, number])
            splits |= assign_splits(groups, fractions, rng, (fixed or {}).get(kind))
    return splits


def label(
    run: Distillation,
    draw: Callable[[], Iterable[Structure]],
    split: Callable[[list[Structure]], Mapping[str, Split]],
    stage: int,
) -> None:
    """Label structures with the teacher and publish them to the journal; nothing is calculated twice.

    Parameters
    ----------
    run
        Who teaches, and where.
    draw
        Makes the structures; called only if the stage is not done.
    split
        Split of each of their groups.
    stage
        Number that goes into the provenance.
    """
    done = run.work / f"labelled-{stage}"
    if done.exists():
        return
    drawn = list(draw())
    splits = split(drawn)
    labeller = make_labeller(run.teacher)
    theory = labeller.theory
    with acquire(run.work) as fence:
        journal = Journal(run.journal, fence)
        settled = journal.published | journal.quarantined
        for idx, structure in enumerate(drawn):
            if (structure.frame.hash, theory.key) in settled:
                continue
            reason = "anchor" if structure.kind.startswith(ANCHOR) else "import"
            origin = Provenance(stage, structure.kind, structure.group, splits[structure.group], reason)
            outcome = labeller.label(atoms_from_frame(structure.frame))
            if isinstance(outcome, Label) and np.abs(outcome.forces).max() > run.max_force_eV_per_A:
                outcome = LabelFailed("geometry", f"a force exceeds {run.max_force_eV_per_A:g} eV/Å", theory.key)
            publish_outcome(journal, structure.frame, outcome, origin, theory)
            if idx % 100 == 0:
                run.tell(f"label {stage}: {idx} of {len(drawn)}")
    done.touch()


def labelled(run: Distillation, last_stage: int | None = None) -> list[Record]:
    """Labels of the stages up to ``last_stage``, or of all."""
    return [
        content
        for content in Journal(run.journal).read()
        if isinstance(content, Record) and (last_stage is None or content.provenance.round <= last_stage)
    ]


def train(run: Distillation, name: str, how: Strategy, *, last_stage: int, base: MaceModel | None = None) -> MaceModel:
    """Model ``name``, trained on the labels of the stages up to ``last_stage`` unless it is there already."""
    folder = run.work / name
    if (folder / "model.json").exists():
        return load_model(folder)

    def tell(event: TrainEvent) -> None:
        at = f"epoch {event.epoch}/{event.n_epochs}"
        run.tell(f"{name}: {at}: loss {event.loss:.5f}, lr {event.learning_rate:.1e}")

    # Without validation frames the last weights are returned: the learning rate has decayed, and the lowest error on
    # a few dozen frames picks an early epoch by chance.
    model, report = fit(
        base,
        [record for record in labelled(run, last_stage) if record.provenance.split == "train"],
        [],
        how,
        seed=run.seed,
        e0="estimated" if base is None else "foundation",
        architecture=run.architecture if base is None else None,
        checkpoint=run.work / f"{name}.checkpoint",
        on_event=tell,
    )
    run.tell(f"{name}: {report.cpu_s:.0f} CPU s")
    model.save(folder)
    return model


def harvest(run: Distillation, calculator: Calculator, starts: Iterable[Start], stage: int) -> Iterator[Structure]:
    """Frames 200 fs apart of each trajectory of a student; of one that explodes, also the last sane ones."""
    for idx, start in enumerate(starts):
        settings = MDSettings(
            temperature_K=start.temperature_K,
            duration_ps=start.duration_ps,
            timestep_fs=start.timestep_fs,
            friction_per_ps=5.0,
            frame_interval_fs=HARVEST_INTERVAL_FS,
        )
        name = f"{idx:03d}-{start.name}"
        trajectory = run_md(
            start.frame,
            calculator,
            settings,
            seed=(run.seed, stage, idx),
            gates=HARVEST_GATES,
            folder=run.work / f"md-{stage}" / name,
        )
        kept = [f for f, t in zip(frames(trajectory), trajectory.times_ps, strict=True) if t > EQUILIBRATION_PS]
        for frame in (*kept, *trajectory.last_frames[-2:]):
            yield Structure(frame, start.kind, f"md/{stage}/{name}")
