"""Card of a distilled model: its teacher, its errors on frames that no training saw, what a step costs, its limits."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from ase.md.verlet import VelocityVerlet

from curator.datasets.digest import sha256_of
from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.label import Record, Theory
from curator.datasets.units import FS
from curator.learners.mace import MaceModel
from curator.learners.metrics import energy_rmse_per_atom, force_errors, stress_rmse

N_STEPS_TEACHER, N_STEPS_STUDENT = 4, 20
ALL = "all"

Errors = dict[str, float | int | None]


def errors_of(model: MaceModel, records: Sequence[Record]) -> Errors:
    """Errors on labelled frames: forces, energies, and stress where the labels have one."""
    predictions = model.predict([record.frame for record in records], ("energy", "forces", "stress"))
    forces = force_errors(predictions, records)
    stress = stress_rmse(predictions, records)
    return {
        "n_frames": len(records),
        "force_rmse_meV_per_A": 1000 * forces.rmse,
        "force_rmse_relative": forces.rmse / forces.reference_rms,
        "energy_rmse_meV_per_atom": 1000 * energy_rmse_per_atom(predictions, records),
        "stress_rmse_meV_per_A3": None if stress is None else 1000 * stress,
    }


def errors_by_kind(
    model: MaceModel, records: Sequence[Record], further: Mapping[str, Sequence[Record]] | None = None
) -> dict[str, Errors]:
    """Errors by kind of configuration, over ``further`` groups that are not empty, and over all."""
    kinds = {record.provenance.source for record in records}
    groups: dict[str, Sequence[Record]] = {
        kind: [r for r in records if r.provenance.source == kind] for kind in sorted(kinds)
    }
    groups |= {**(further or {}), ALL: list(records)}
    return {kind: errors_of(model, members) for kind, members in groups.items() if members}


def cost(model: MaceModel, teacher: Calculator, frame: Frame) -> dict[str, float]:
    """CPU seconds of a step of molecular dynamics, teacher and student on the same structure in the same process."""
    theirs = cpu_s_per_step(teacher, frame, N_STEPS_TEACHER)
    own = cpu_s_per_step(model.calculator(), frame, N_STEPS_STUDENT)
    return {"n_atoms": len(frame), "teacher_cpu_s": theirs, "student_cpu_s": own, "ratio": theirs / own}


def cpu_s_per_step(calculator: Calculator, frame: Frame, n_steps: int) -> float:
    """CPU seconds of one step, after two that warm up."""
    atoms = atoms_from_frame(frame)
    atoms.calc = calculator
    dynamics = VelocityVerlet(atoms, timestep=FS)
    dynamics.run(2)
    began = time.process_time()
    dynamics.run(n_steps)
    return (time.process_time() - began) / n_steps


def make_card(
    name: str,
    model: MaceModel,
    folder: Path,
    records: Sequence[Record],
    theory: Theory,
    *,
    exam: Mapping[str, Any],
    build: Any,
    limits: Sequence[str],
) -> dict[str, Any]:
    """Card as JSON values of a model and its ``frames.h5`` in ``folder``."""
    return {
        "name": name,
        "theory": dataclasses.asdict(theory),
        "model": {
            "hash": model.hash,
            "n_parameters": sum(p.numel() for p in model.module.parameters()),
            "architecture": {k: v for k, v in dataclasses.asdict(model.architecture).items() if k != "heads"},
            "e0s_eV": {chemical_symbols[z]: e0 for z, e0 in model.e0s().items()},
        },
        "sha256": {name: sha256_of(folder / name) for name in ("model.safetensors", "model.json", "frames.h5")},
        "frames": count_frames(records),
        "build": build,
        "exam": dict(exam),
        "limits": list(limits),
        "versions": {name: version(name) for name in ("mace-torch", "torch", "ase", "numpy")},
    }


def write_card(folder: Path, card: Mapping[str, Any], page: str) -> None:
    """Write ``card.json`` and ``CARD.md``."""
    (folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "CARD.md").write_text(page, encoding="utf-8")


def limits_of(model: MaceModel, theory: Theory) -> tuple[str, ...]:
    """What no distilled model can do."""
    a = model.architecture
    symbols = ", ".join(chemical_symbols[z] for z in model.elements)
    return (
        f"It knows {symbols} in configurations like those it learnt from; everything else is extrapolation.",
        f"It is as wrong as its teacher, {theory.method}, and wrong in its own way besides: see the errors.",
        f"All pairs interact within {a.r_max:g} Å, {a.n_interactions} message-passing steps carry information to "
        f"{a.n_interactions * a.r_max:g} Å; there is no long-range electrostatics.",
        "Its atomic energies are least squares over the frames and no energies of free atoms: compare energies at "
        "fixed composition only.",
    )


def markdown(card: Mapping[str, Any]) -> str:
    """Card of `curator distil` as a page for people."""
    model, exam, theory = card["model"], card["exam"], card["theory"]
    weights = "".join(f", {name} SHA-256 {digest}" for name, digest in theory["hashes"].items())
    e0s = ", ".join(f"{symbol} {e0:.3f}" for symbol, e0 in model["e0s_eV"].items())
    steps = exam["cost"]
    spent = card["build"]["cpu_s"]
    parts = [
        f"# {card['name']}",
        f"A small MACE model, distilled by curator from {theory['method']} ({theory['code']}{weights}). The same "
        "numbers, in full, are in `card.json`.",
        describe(model),
        "## Errors against the teacher",
        "On frames no training saw. Relative: force error over the RMS force of the same frames. *own MD* are frames "
        "of this model's own dynamics; a model avoids what it takes for uphill, so they cannot show every error.",
        errors_table(exam["errors_by_kind"]),
        "## Stability and speed",
        _stability(exam),
        f"One step of molecular dynamics of {steps['n_atoms']} atoms takes {1000 * steps['student_cpu_s']:.3g} ms of "
        f"CPU, the teacher {1000 * steps['teacher_cpu_s']:.3g} ms: {steps['ratio']:.3g} times as long.",
        "## Frames",
        frames_table(card["frames"]),
        f"{card['build']['n_failed']} configurations could not be labelled, or had too large a force. The labels took "
        f"{spent['labels']:.0f} s of CPU.",
        f"Atomic energies in eV: {e0s}.",
        "## Limits",
        "\n".join(f"- {limit}" for limit in card["limits"]),
    ]
    return "\n\n".join(parts) + "\n"


def _stability(exam: Mapping[str, Any]) -> str:
    ended = f"{exam['n_exploded']} of {exam['n_trajectories']} trajectories of the final model ended early"
    return "; ".join([ended, *exam["reasons"]]) + "."


def describe(model: Mapping[str, Any]) -> str:
    """One line about a model's size."""
    a = model["architecture"]
    zbl = ", ZBL pair repulsion" if a["pair_repulsion"] else ""
    return (
        f"Model {model['hash'][:12]}, {model['n_parameters']} parameters: {a['hidden_irreps']}, "
        f"cutoff {a['r_max']} Å, {a['n_interactions']} interactions, correlation {a['correlation']}{zbl}, float32."
    )


def errors_table(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """Errors by kind."""
    rows = [
        (
            kind,
            e["n_frames"],
            f"{e['force_rmse_meV_per_A']:.0f}",
            f"{100 * e['force_rmse_relative']:.1f}",
            f"{e['energy_rmse_meV_per_atom']:.1f}",
            "none" if e["stress_rmse_meV_per_A3"] is None else f"{e['stress_rmse_meV_per_A3']:.2f}",
        )
        for kind, e in kinds.items()
    ]
    return table(("kind", "frames", "force meV/Å", "relative %", "energy meV/atom", "stress meV/Å³"), rows)


def frames_table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Frames by kind and split."""
    rows = [(kind, *(n.get(split, 0) for split in ("train", "valid", "test"))) for kind, n in counts.items()]
    return table(("kind", "train", "valid", "test"), rows)


def count_frames(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """Frames by kind and split."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        counts.setdefault(record.provenance.source, Counter())[record.provenance.split] += 1
    return {kind: dict(counts[kind]) for kind in sorted(counts)}


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Table in Markdown."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
