"""Exam of a student of `curator distil` on frames that no training saw, and its card."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curator.backends.labellers import labeller_calculator, make_labeller
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.journal import Journal
from curator.distil.card import cost, errors_by_kind, limits_of, make_card, markdown, write_card
from curator.distil.recipe import Recipe
from curator.distil.stages import Distillation, labelled
from curator.learners.mace import MaceModel
from curator.state import plain_json
from curator.trajectory import read_trajectory


def examine_student(
    run: Distillation, model: MaceModel, given: Sequence[Frame], recipe: Recipe, out: Path
) -> dict[str, Any]:
    """Errors, stability and cost of the final student; written to ``out`` as ``card.json`` and ``CARD.md``."""
    records = labelled(run)
    theory = make_labeller(run.teacher).theory
    last = recipe.loops + 1
    trajectories = [read_trajectory(folder) for folder in sorted((run.work / f"md-{last}").iterdir())]
    exploded = [trajectory.reason for trajectory in trajectories if trajectory.status == "exploded"]
    largest = max(given, key=len)
    repeats = max(recipe.supercells, key=lambda each: int(np.prod(each)))
    exam = {
        "errors_by_kind": errors_by_kind(model, [r for r in records if r.provenance.split == "test"]),
        "n_trajectories": len(trajectories),
        "n_exploded": len(exploded),
        "reasons": exploded,
        "cost": cost(
            model,
            labeller_calculator(run.teacher),
            frame_from_atoms(atoms_from_frame(largest).repeat(repeats)),
        ),
    }
    build = {
        "seed": run.seed,
        "recipe": dataclasses.asdict(recipe),
        "training": dict(model.metadata),
        "n_failed": len(Journal(run.journal).failures(theory.key)),
        "cpu_s": {"labels": sum(record.label.cpu_s for record in records)},
    }
    limits = limits_of(model, theory)
    card: dict[str, Any] = plain_json(
        make_card(out.resolve().name, model, out, records, theory, exam=exam, build=build, limits=limits)
    )
    write_card(out, card, markdown(card))
    return card
