"""Distillation of any labeller into a small MACE over structures that a user gives: the general recipe.

The teacher labels the structures rattled and strained, with atoms missing and with pairs pushed close. A crude student
learns them; its own molecular dynamics finds the thermal configurations that the next student learns, as often as is
asked. What the last student visits is labelled as well and never learnt: it shows what the model is worth.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from curator.backends.labellers import make_labeller
from curator.datasets.atomic import write_atomically
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.journal import Journal, rebuild
from curator.datasets.label import Split
from curator.datasets.mini_halides.frames import FRAMES
from curator.datasets.variations import Structure, rattled
from curator.distil.recipe import Recipe, variations
from curator.distil.stages import Distillation, Start, deal, harvest, label, labelled, train, training
from curator.learners.mace import MaceModel, export_model
from curator.trajectory import timestep_for

FRACTIONS: dict[Split, float] = {"train": 0.9, "test": 0.1}
START_RATTLE_A = 0.02
OWN_MD = "own MD"
"""Kind of the frames of the final student's own dynamics."""
_SETTINGS = "recipe.json"


def distil(run: Distillation, given: Sequence[Frame], recipe: Recipe, out: Path) -> MaceModel:
    """Run every stage that is not done yet; the model, and the frames it learnt, end up in ``out``.

    Parameters
    ----------
    run
        Teacher, architecture, seed and working folder.
    given
        Structures to start from.
    recipe
        What is made of them.
    out
        Folder of the model (``model.safetensors``, ``model.json``, ``model.model`` for MACE) and of ``frames.h5``,
        whose split ``test`` was never learnt.

    Raises
    ------
    ValueError
        If the working folder was begun with other settings, or the teacher can label nothing.
    """
    run.work.mkdir(parents=True, exist_ok=True)
    _keep_settings(run, given, recipe)

    def split(drawn: list[Structure], stage: int) -> dict[str, Split]:
        return deal(drawn, FRACTIONS, run.seed, stage, _dealt(run, stage))

    label(run, lambda: variations(given, recipe, np.random.default_rng([run.seed, 0])), partial(split, stage=0), 0)
    _check_labels(run)
    model = train(run, "student-0", training("scratch", 1e-2, recipe.crude_epochs), last_stage=0)
    for loop in range(1, recipe.loops + 1):
        label(run, partial(_visited, run, model, given, recipe, loop), partial(split, stage=loop), loop)
        name, learning_rate, base = ("scratch", 1e-2, None) if loop == 1 else ("naive", 5e-3, model)
        model = train(run, f"student-{loop}", training(name, learning_rate, recipe.epochs), last_stage=loop, base=base)
    once = dataclasses.replace(recipe, replicas=1)
    last = recipe.loops + 1
    label(run, partial(_visited, run, model, given, once, last, OWN_MD), _tested, last)
    if not (out / "model.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        rebuild(Journal(run.journal), out / FRAMES.name)
        export_model(model, out / "model.model")
        model.save(out)
    return model


def starts(given: Sequence[Frame], recipe: Recipe, rng: np.random.Generator, kind: str = "md") -> Iterator[Start]:
    """Where trajectories begin: each structure and supercell, rattled a little, at each temperature."""
    for (idx, frame), repeats in product(enumerate(given), recipe.supercells):
        for temperature_K, replica in product(recipe.temperatures_K, range(recipe.replicas)):
            begin = frame_from_atoms(rattled(atoms_from_frame(frame).repeat(repeats), START_RATTLE_A, rng))
            name = f"{idx}-{len(begin)}-atoms-{temperature_K:g}K-{replica}"
            step_fs = recipe.timestep_fs or timestep_for(frame)
            yield Start(kind, name, begin, temperature_K, recipe.duration_ps, timestep_fs=step_fs)


def _visited(
    run: Distillation, model: MaceModel, given: Sequence[Frame], recipe: Recipe, stage: int, kind: str = "md"
) -> Iterator[Structure]:
    begin = starts(given, recipe, np.random.default_rng([run.seed, stage]), kind)
    return harvest(run, model.calculator(), begin, stage)


def _tested(drawn: Sequence[Structure]) -> dict[str, Split]:
    return {structure.group: "test" for structure in drawn}


def _dealt(run: Distillation, stage: int) -> dict[str, dict[str, Split]]:
    """Splits of the groups labelled before this stage, by kind; a killed run has some of this stage's own as well."""
    dealt: dict[str, dict[str, Split]] = {}
    for record in labelled(run, stage - 1) if run.journal.is_dir() else []:
        origin = record.provenance
        dealt.setdefault(origin.source, {})[origin.group] = origin.split
    return dealt


def _check_labels(run: Distillation) -> None:
    journal = Journal(run.journal)
    theory = make_labeller(run.teacher).theory
    if not journal.published:
        failures = journal.failures(theory.key).values()
        first = next(iter(failures)).message
        raise ValueError(f"{run.teacher.model} can label none of {len(failures)} structures; the first: {first}")


def _keep_settings(run: Distillation, given: Sequence[Frame], recipe: Recipe) -> None:
    """Write what the folder was begun with, or refuse to go on with something else."""
    settings = {
        "teacher": make_labeller(run.teacher).theory.key,
        "structures": [frame.hash for frame in given],
        "architecture": dataclasses.asdict(run.architecture),
        "seed": run.seed,
        **dataclasses.asdict(recipe),
    }
    settings = json.loads(json.dumps(settings))
    path = run.work / _SETTINGS
    if not path.exists():
        write_atomically(path, json.dumps(settings, indent=1) + "\n")
        return
    begun = json.loads(path.read_text())
    other = [key for key, value in settings.items() if begun.get(key) != value]
    if other:
        raise ValueError(
            f"{run.work}: was begun with another {', another '.join(other)}; choose another folder, or remove this one"
        )
