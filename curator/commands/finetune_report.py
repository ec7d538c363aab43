"""What `curator finetune` tells: as JSON, as lines, and in the card of the model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols

from curator.datasets.label import Record
from curator.datasets.theories import count_theories
from curator.learners.strategies import Strategy
from curator.state import Json

if TYPE_CHECKING:
    from curator.learners.mace import MaceModel
    from curator.learners.train import FitReport


def content_of(
    tuned: "MaceModel",
    report: "FitReport",
    training: Sequence[Record],
    validation: Sequence[Record],
    row: Strategy,
    *,
    out: Path,
    foundation: str,
    e0: str,
    before: float | None,
    tests: Mapping[str, Any],
) -> dict[str, Any]:
    """What there is to tell of a training; ``card`` of it goes into the model's metadata.

    Parameters
    ----------
    foundation, e0
        As the user named them.
    before
        Force error of the foundation on the frames to train on, in eV/Å; None from scratch, and where the frames to
        validate with tell it.
    tests
        As `tested` returns them.
    """
    from curator.learners.e0 import is_isolated_atom
    from curator.learners.metrics import energy_rmse_per_atom, force_rmse
    from curator.learners.samples import group_of

    learnt = [record for record in training if not is_isolated_atom(record)]
    predictions = tuned.predict([record.frame for record in learnt])
    groups = Counter(group for record in learnt if row.difference and (group := group_of(record)) is not None)
    errors = {
        "start_force_rmse_eV_per_A": before,
        "start_energy_rmse_eV_per_atom": report.e0.start_energy_rmse,
        "train_force_rmse_eV_per_A": force_rmse(predictions, learnt),
        "train_energy_rmse_eV_per_atom": energy_rmse_per_atom(predictions, learnt),
        "start_valid_force_rmse_eV_per_A": dict(report.start_force_rmse),
        "start_valid_energy_rmse_eV_per_atom": dict(report.start_energy_rmse),
        "valid_force_rmse_eV_per_A": dict(report.valid_force_rmse),
        "valid_energy_rmse_eV_per_atom": dict(report.valid_energy_rmse),
        **{name: value for name, value in tests.items() if name != "n_test"},
    }
    card = {
        "foundation_name": foundation if row.from_foundation else None,
        "e0_policy": e0,
        "e0_eV": {chemical_symbols[number]: value for number, value in report.e0.values.items()},
        "n_train": len(learnt),
        "n_valid": len(validation),
        "n_test": tests["n_test"],
        "epochs": report.epochs,
        "best_epoch": report.best_epoch,
        "errors": errors,
    }
    told = ("foundation_name", "n_train", "n_valid", "n_test", "epochs", "best_epoch", "e0_policy")
    return {
        "out": out,
        "strategy": row.name,
        **{key: card[key] for key in told},
        "n_groups": len(groups),
        "groups": dict(groups),
        **errors,
        "n_parameters": report.n_parameters,
        "n_trainable": report.n_trainable,
        "e0": card["e0_eV"],
        "e0_message": report.e0.message,
        "theory": next(iter(count_theories(learnt))),
        "cpu_s": report.cpu_s,
        "probes": None,
        "card": card,
    }


def tested(tuned: "MaceModel", untuned: "MaceModel | None", records: Sequence[Record]) -> dict[str, Any]:
    """Errors of a model on frames that its training has not seen, and of the one that it began with.

    Errors of the energy are about their mean, which forces, barriers and diffusion do not know of, and which the E0s
    of a foundation would be in; None for a single frame, and where there is none to test with.
    """
    from curator.learners.metrics import energy_rmse_per_atom, force_rmse

    found: dict[str, Any] = {"n_test": len(records)}
    for name, model in (("start_test", untuned), ("test", tuned)):
        force, energy = None, None
        if model is not None and records:
            predictions = model.predict([record.frame for record in records])
            force = force_rmse(predictions, records)
            energy = energy_rmse_per_atom(predictions, records, centred=True) if len(records) > 1 else None
        found |= {f"{name}_force_rmse_eV_per_A": force, f"{name}_energy_rmse_eV_per_atom": energy}
    return found


def lines_of(content: Mapping[str, Any]) -> list[str]:
    """The same for a person: every error with that of the start beside it."""
    from curator.report.tables_probes import probe_cells

    n_valid, n_test, found = content["n_valid"], content["n_test"], content["probes"]
    best = f"best {content['best_epoch']}" if n_valid else "the last one's weights, for want of frames to validate with"
    share = content["n_trainable"] / content["n_parameters"]
    start = content["foundation_name"] or "random weights"
    lines = [
        f"{content['strategy']} from {start}: {counted(content['epochs'], 'epoch')}, {best}; "
        f"{content['cpu_s']:.0f} s of CPU; {share:.1%} trainable",
        f"{counted(content['n_train'], 'frame')} of {content['theory']} to train on, {n_valid} to validate with"
        f"{f', {n_test} to test with' if n_test else ''}"
        f"{_groups_told(content['groups'])}",
        f"E0 {content['e0_policy']}: " + ", ".join(f"{symbol} {value:.4f}" for symbol, value in content["e0"].items()),
    ]
    lines += [content["e0_message"]] if content["e0_message"] else []
    lines.append(
        "train target: forces "
        + _change(content["start_force_rmse_eV_per_A"], content["train_force_rmse_eV_per_A"], "meV/Å", 0)
        + ", energies "
        + _change(content["start_energy_rmse_eV_per_atom"], content["train_energy_rmse_eV_per_atom"], "meV/atom", 1)
    )
    scratch = content["foundation_name"] is None
    for head, error in content["valid_force_rmse_eV_per_A"].items():
        force, energy = (
            None if scratch else content[f"start_valid_{name}"][head]
            for name in ("force_rmse_eV_per_A", "energy_rmse_eV_per_atom")
        )
        lines.append(
            f"valid {head}: forces {_change(force, error, 'meV/Å', 0)}, energies "
            f"{_change(energy, content['valid_energy_rmse_eV_per_atom'][head], 'meV/atom', 1)}"
        )
    lines += _test_lines(content) if n_test else []
    if found:
        lines += _forgotten(found["forgetting"])
        lines += [f"{name}: {told}" for name, told in probe_cells(found).items()]
    return [*lines, f"wrote {content['out']} and {content['out'] / 'model.model'} (for MACE)"]


def _test_lines(content: Mapping[str, Any]) -> list[str]:
    """Errors on frames that the training has not seen."""
    force, energy = "test_force_rmse_eV_per_A", "test_energy_rmse_eV_per_atom"
    told = f"test: forces {_change(content[f'start_{force}'], content[force], 'meV/Å', 0)}"
    if content[energy] is not None:
        change = _change(content[f"start_{energy}"], content[energy], "meV/atom", 1)
        told += f", energies about their mean {change}"
    return [told]


def counted(n: int, noun: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _change(before: float | None, after: float, unit: str, digits: int) -> str:
    """An error, and what it was before training, in thousandths."""
    began = "" if before is None else f" (foundation {1000 * before:.{digits}f})"
    return f"{1000 * after:.{digits}f} {unit}{began}"


def _forgotten(errors: Json | None) -> list[str]:
    """Errors on the frames that measure forgetting, if the foundation brings some."""
    if not errors:
        return []
    told = [
        _change(errors["foundation"][key], errors["model"][key], "meV/Å", 0)
        for key in ("force_rmse_eV_per_A", "median_frame_force_rmse_eV_per_A")
    ]
    return [f"{errors['model']['n_frames']} probe frames: forces {told[0]}, of the median frame {told[1]}"]


def _groups_told(groups: Mapping[str, int]) -> str:
    """How many groups there are by what is learnt of them."""
    if not groups:
        return ""
    alone = sum(n == 1 for n in groups.values())
    told = f"; energy differences are learnt within {counted(len(groups) - alone, 'group')}"
    return f"{told}, not in {alone} of a single frame" if alone else told
