"""Card of `mini-halides`: what it is, how good it is, what it must not be used for, and where it comes from."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from curator.datasets.label import Record, Theory
from curator.distil.card import describe, errors_table, frames_table, make_card, table, write_card
from curator.learners.mace import MaceModel

LIMITS: tuple[str, ...] = (
    "It knows Li, Na, K, F, Cl and Br in ionic solids near their normal density, and their melts roughly; molecules, "
    "isolated atoms, charged defects and other elements are out of its reach.",
    "It is as wrong as its teacher: CHGNet 0.3.0 stands for PBE, is known to soften potential energy surfaces "
    "(B. Deng et al., arXiv:2405.07105), and its LiF interstitial barrier is below that of others.",
    "It is a starting point for fine-tuning. Its own barrier and its own diffusivity are not results.",
    "All pairs interact within 4.5 Å, two message-passing steps carry information to 9 Å; there is no long-range "
    "electrostatics.",
    "A lone interstitial or vacancy makes the cell non-stoichiometric. The energy of an atom added or removed is a "
    "fit over such cells; use energies at fixed composition only.",
)
LICENCES: tuple[str, ...] = (
    "mini-halides (weights and frames): MIT, like the rest of curator.",
    "CHGNet 0.3.0, whose predictions are the labels: modified BSD licence, Copyright (c) 2023, The Regents of the "
    "University of California (file LICENSE in its wheel). Cite B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023).",
    "MPtrj, on which CHGNet was trained: use is bound to the Materials Project's terms of use (README of CHGNet), "
    "which ask for attribution under CC BY 4.0. No frame of MPtrj is in these files.",
)


def write_halides_card(
    model: MaceModel, folder: Path, records: Sequence[Record], theory: Theory, exam: Mapping[str, Any], build: Any
) -> dict[str, Any]:
    """Card of the model and frames in ``folder``, written there as ``card.json`` and ``CARD.md``."""
    card = make_card("mini-halides", model, folder, records, theory, exam=exam, build=build, limits=LIMITS)
    card |= {"licences": list(LICENCES), "versions": card["versions"] | {"chgnet": version("chgnet")}}
    write_card(folder, card, markdown(card))
    return card


def markdown(card: Mapping[str, Any]) -> str:
    """Card as a page for people."""
    exam, model = card["exam"], card["model"]
    parts = [
        "# mini-halides",
        "A small MACE model of the nine alkali halides LiF to KBr, distilled by curator from CHGNet 0.3.0, so that a "
        "campaign can start with no download. Everything on this page is measured by "
        "`python -m curator.distil.mini_halides validate`; the same numbers, in full, are in `card.json`.",
        describe(model),
        "## Errors against the teacher",
        "On frames no training saw. Relative: force error over the RMS force of the same frames.",
        errors_table(
            exam["errors_by_kind"]
            | {"own MD at 1000 K": exam["own_trajectories"], "MD of the classical LiF": exam["foreign_trajectories"]}
        )
        + "\n\nThe last two rows: LiF with an interstitial, 65 atoms; the classical potential ran at 600 to 1000 K.",
        "## Lattice constants",
        lattice_table(exam["lattice_constants_A"], "CHGNet"),
        "## Barrier of the LiF interstitial",
        "Collinear knock-off hop in 65 atoms; the last column is the teacher's energy difference between the model's "
        "own saddle and minimum. Anchors of this very hop were trained on.",
        _barriers(exam["barrier"]),
        "## Stability and speed",
        _survival(exam),
        "## Frames",
        frames_table(card["frames"]),
        "## How it was made",
        _build(card),
        "## Limits",
        "\n".join(f"- {limit}" for limit in card["limits"]),
        "## Licences",
        "\n".join(f"- {licence}" for licence in card["licences"]),
    ]
    return "\n\n".join(parts) + "\n"


def lattice_table(found: Mapping[str, Mapping[str, float]], teacher: str) -> str:
    """Lattice constants of model and teacher, a row for each salt."""
    rows = [(k, f"{v['model']:.3f}", f"{v['teacher']:.3f}", f"{v['deviation_percent']:+.2f}") for k, v in found.items()]
    return table(("salt", "model Å", f"{teacher} Å", "deviation %"), rows)


def _barriers(barriers: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            f"{b['lattice_constant_A']:.4f}",
            *(energy_text(b[f"{who}_eV"]) for who in ("model", "teacher", "teacher_at_model")),
        )
        for b in barriers
    ]
    found = table(("lattice constant Å", "model eV", "CHGNet eV", "CHGNet at the model's geometries eV"), rows)
    missing = [
        f"Of {who} at {b['lattice_constant_A']:g} Å: {'; '.join(reasons)}."
        for b in barriers
        for who, reasons in b["reasons"].items()
        if reasons
    ]
    return "\n\n".join([found, *missing])


def _survival(exam: Mapping[str, Any]) -> str:
    survival, cost, walls = exam["survival"], exam["cpu_s_per_md_step"], exam["wall_eV"]
    height, lowest = min((height, pair) for of_salt in walls.values() for pair, height in of_salt.items())
    n_survived = survival["n_trajectories"] - survival["n_exploded"]
    return (
        f"{n_survived} of {survival['n_trajectories']} trajectories of {survival['duration_ps']:g} ps at "
        f"{survival['temperature_K']:g} K (LiF with an interstitial, 65 atoms) ran to their end; the largest force was "
        f"{survival['max_force_eV_per_A']:.1f} eV/Å. Pushing two neighbours in a crystal together costs at least "
        f"{height:.1f} eV ({lowest}) before the energy falls again.\n\n"
        f"One MD step of 65 atoms takes {1000 * cost['model']:.0f} ms of CPU, CHGNet's own calculator "
        f"{1000 * cost['chgnet_stock_calculator']:.0f} ms: {cost['ratio']:.0f} times as long."
    )


def _build(card: Mapping[str, Any]) -> str:
    e0s = ", ".join(f"{symbol} {e0:.3f}" for symbol, e0 in card["model"]["e0s_eV"].items())
    return (
        "`make mini-halides` rebuilds everything from the weights in CHGNet's wheel: structures without a force field "
        "are labelled and a crude model is trained; it harvests LiF with an interstitial, relaxed and thermal; a first "
        "model harvests all salts and their mixtures; the final model goes on from the first with all frames. A group "
        "of correlated frames is in one split only. "
        f"{card['build']['note']}\n\n"
        "CHGNet's energies include the Materials Project's MP2020 corrections. The atomic energies (eV) are least "
        f"squares over the frames and no energies of free atoms: {e0s}."
    )


def energy_text(value_eV: float | None) -> str:
    """Energy in eV, which there may be none of."""
    return "none" if value_eV is None else f"{value_eV:.3f}"
