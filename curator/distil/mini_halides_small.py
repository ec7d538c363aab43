"""The smaller editions of `mini-halides`: their corpus, their exam and their cards.

One architecture, one schedule, a fifth of the frames, two versions of the teacher: with `mini-halides` itself they are
three foundations of known and different quality, by which it can be studied what a better one is worth.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from curator.backends.base import LabellerSpec
from curator.backends.labellers import labeller_calculator
from curator.datasets.label import Record, Split, Theory
from curator.datasets.mini_halides.frames import probe_records, replay_records
from curator.datasets.mini_halides.structures import CHGNET_LATTICE_CONSTANTS_A
from curator.datasets.sources import build_seed
from curator.datasets.variations import Structure
from curator.distil.card import describe, errors_by_kind, errors_table, frames_table, make_card, table, write_card
from curator.distil.mini_halides_card import LICENCES, LIMITS, energy_text, lattice_table
from curator.distil.mini_halides_exam import lattice_constants, own_barrier, thermal_and_condensed
from curator.learners.mace import MaceModel
from curator.md import run_md
from curator.trajectory import MDSettings

SHARE = 5
"""They learn one in this many frames."""
SURVIVAL_TEMPERATURE_K, SURVIVAL_PS = 1000.0, 2.0


def corpus(seed: Sequence[int]) -> Iterator[Structure]:
    """Fifth of the frames of each kind that `mini-halides` learnt from, drawn at random, and all of its probes."""
    rng = np.random.default_rng(seed)
    kinds: dict[str, list[Record]] = {}
    for record in replay_records():
        kinds.setdefault(record.provenance.source, []).append(record)
    for kind in sorted(kinds):
        n = len(kinds[kind])
        yield from (_structure(kinds[kind][i]) for i in sorted(rng.permutation(n)[: -(-n // SHARE)].tolist()))
    yield from map(_structure, probe_records())


def shipped_splits(drawn: Collection[Structure]) -> dict[str, Split]:
    """Splits that the groups have in `mini-halides`, so that the probes of one edition are those of all."""
    shipped = {r.provenance.group: r.provenance.split for r in (*replay_records(), *probe_records())}
    return {structure.group: shipped[structure.group] for structure in drawn}


def examine_small(model: MaceModel, probes: Sequence[Record], teacher: LabellerSpec, work: Path) -> dict[str, Any]:
    """All results, as JSON values: against its own teacher, and its forces against the teacher of `mini-halides`."""
    reference = labeller_calculator(teacher)
    best = probe_records()
    seed = build_seed("lif-interstitial", CHGNET_LATTICE_CONSTANTS_A["LiF"])
    settings = MDSettings(temperature_K=SURVIVAL_TEMPERATURE_K, duration_ps=SURVIVAL_PS)
    folder = work / f"survival-{model.hash[:12]}"
    trajectory = run_md(seed.frame, model.calculator(), settings, seed=1, folder=folder, model=model.hash)
    barrier, teacher_at_model_eV = own_barrier(model, reference, CHGNET_LATTICE_CONSTANTS_A["LiF"])
    return {
        "errors_by_kind": errors_by_kind(model, probes, thermal_and_condensed(probes)),
        "forces_against_chgnet_0.3.0": {
            kind: {key: errors[key] for key in ("n_frames", "force_rmse_meV_per_A", "force_rmse_relative")}
            for kind, errors in errors_by_kind(model, best, thermal_and_condensed(best)).items()
        },
        "lattice_constants_A": lattice_constants(model, reference),
        "barrier": {
            "lattice_constant_A": CHGNET_LATTICE_CONSTANTS_A["LiF"],
            "model_eV": barrier.barrier_eV,
            "teacher_at_model_eV": teacher_at_model_eV,
            "method": barrier.method,
            "reasons": list(barrier.reasons),
        },
        "survival": {
            "temperature_K": SURVIVAL_TEMPERATURE_K,
            "duration_ps": SURVIVAL_PS,
            "status": trajectory.status,
            "reason": trajectory.reason,
            "max_force_eV_per_A": float(trajectory.max_forces_eV_per_A.max()),
        },
    }


def write_small_card(
    name: str,
    model: MaceModel,
    folder: Path,
    records: Sequence[Record],
    theory: Theory,
    *,
    exam: Mapping[str, Any],
    build: Any,
) -> dict[str, Any]:
    """Card of an edition and its frames in ``folder``, written there as ``card.json`` and ``CARD.md``."""
    limits = (
        LIMITS[0],
        f"It is as wrong as its teacher, {theory.method}, and learnt a fifth of the frames: it is there to be compared "
        "with mini-halides, which is better.",
        *LIMITS[2:],
    )
    card = make_card(name, model, folder, records, theory, exam=exam, build=build, limits=limits)
    licences = [licence.replace("0.3.0", theory.method.removeprefix("chgnet-")) for licence in LICENCES]
    card |= {"licences": licences, "versions": card["versions"] | {"chgnet": version("chgnet")}}
    write_card(folder, card, markdown(card))
    return card


def markdown(card: Mapping[str, Any]) -> str:
    """Card as a page for people."""
    exam, theory = card["exam"], card["theory"]
    survival, barrier = exam["survival"], exam["barrier"]
    best = [
        (kind, e["n_frames"], f"{e['force_rmse_meV_per_A']:.0f}", f"{100 * e['force_rmse_relative']:.1f}")
        for kind, e in exam["forces_against_chgnet_0.3.0"].items()
    ]
    ended = f"ended early: {survival['reason']}" if survival["reason"] else "ran to its end"
    parts = [
        f"# {card['name']}",
        f"A smaller edition of `mini-halides`: the same architecture, trained from scratch on a fifth of its frames, "
        f"labelled by {theory['method']}. `python -m curator.distil.mini_halides generations` makes it; the same "
        "numbers, in full, are in `card.json`.",
        describe(card["model"]),
        "## Errors against its teacher",
        "On the probe frames of `mini-halides`, which no training saw. Relative: force error over the RMS force of the "
        "same frames.",
        errors_table(exam["errors_by_kind"]),
        "## Forces against CHGNet 0.3.0, the teacher of mini-halides",
        "The same frames. The level of theory differs for an edition of another teacher.",
        table(("kind", "frames", "force meV/Å", "relative %"), best),
        "## Lattice constants",
        lattice_table(exam["lattice_constants_A"], "teacher"),
        "## Barrier and stability",
        f"Knock-off hop of the LiF interstitial, 65 atoms at {barrier['lattice_constant_A']} Å: "
        f"{energy_text(barrier['model_eV'])} eV; its teacher at the same geometries "
        f"{energy_text(barrier['teacher_at_model_eV'])} eV. A trajectory of {survival['duration_ps']:g} ps at "
        f"{survival['temperature_K']:g} K {ended}.",
        "## Frames",
        "Those of `train` and `valid` are what a strategy with replay goes on learning, with the labels of the "
        "edition's own teacher.",
        frames_table(card["frames"]),
        "## Limits",
        "\n".join(f"- {limit}" for limit in card["limits"]),
        "## Licences",
        "\n".join(f"- {licence}" for licence in card["licences"]),
    ]
    return "\n\n".join(parts) + "\n"


def _structure(record: Record) -> Structure:
    return Structure(record.frame, record.provenance.source, record.provenance.group)
