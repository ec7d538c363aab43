"""The command line: fine-tuning a model on labelled frames."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from ase.data import chemical_symbols

from curator.cli import AsJson, Trust, app
from curator.commands.arguments import Model, Seed, Theory, check_known, load, progress_bar, show
from curator.commands.finetune_report import content_of, lines_of, tested
from curator.commands.probe import probes_after_fit
from curator.datasets.label import Record
from curator.datasets.notice import Notice
from curator.errors import BadInput, CuratorError, bad_input
from curator.learners.strategies import REPLAY_FRAMES, E0Choice, Strategy
from curator.state import CAMPAIGN_FILE, RESOLVED_FILE, plain_json

if TYPE_CHECKING:
    from curator.learners.mace import MaceModel
    from curator.learners.train import FitReport


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Frames of a training run: the target's, isolated atoms among those to train on, and the replayed ones."""

    train: list[Record]
    valid: list[Record]
    test: list[Record]
    replay_train: list[Record]
    replay_valid: list[Record]


@app.command()
def finetune(
    train: Annotated[
        Path, typer.Argument(help="Labelled frames; a data set tells which are to train, to validate and to test with.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.")] = Path("model"),
    model: Model = "mini-halides",
    valid: Annotated[Path | None, typer.Option("--valid", help="Labelled frames for early stopping.")] = None,
    test: Annotated[
        Path | None,
        typer.Option("--test", help="Labelled frames that the training never sees; the test frames, where it tells."),
    ] = None,
    theory: Theory = None,
    strategy: Annotated[str, typer.Option("--strategy")] = "multihead_replay",
    defaults: Annotated[str, typer.Option("--defaults", help="small_data or paper.")] = "small_data",
    e0: Annotated[
        str,
        typer.Option(
            "--e0",
            help="Energies of isolated atoms: estimated, foundation, isolated (those in the file), average, or values "
            "in eV such as Li=-1.9,F=-0.6; the rest estimated.",
        ),
    ] = "estimated",
    lora_rank: Annotated[int | None, typer.Option("--lora-rank", min=1, help="Rank of adapters.")] = None,
    lora_alpha: Annotated[
        float | None, typer.Option("--lora-alpha", help="Scale of adapters times their rank; the rank by default.")
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option("--replay", help="extxyz file of replayed frames; for pseudolabel_replay, any structures."),
    ] = None,
    replay_frames: Annotated[
        int, typer.Option("--replay-frames", min=1, help="Frames to take for replay.")
    ] = REPLAY_FRAMES,
    replay_per_epoch: Annotated[
        int | None, typer.Option("--replay-per-epoch", min=1, help="How many of them an epoch replays.")
    ] = None,
    replay_choice: Annotated[
        str,
        typer.Option(
            "--replay-choice", help="random, farthest (in features) or elements (alike of each chemical system)."
        ),
    ] = "random",
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1)] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    energy_key: Annotated[str | None, typer.Option("--energy-key", help="REF_energy by default.")] = None,
    forces_key: Annotated[str | None, typer.Option("--forces-key", help="REF_forces by default.")] = None,
    use_calculator: Annotated[
        bool, typer.Option("--use-calculator", help="Take ASE calculator values for labels.")
    ] = False,
    probes: Annotated[
        bool, typer.Option("--probes/--no-probes", help="Probe the model afterwards, see curator probe.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the model in the folder of --out.")] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Fine-tune a model on labelled frames."""
    from curator.labelled import labelled_records
    from curator.learners.lora import save_adapters
    from curator.learners.mace import MaceModel, export_model

    keys = {"energy_key": energy_key, "forces_key": forces_key, "use_calculator": use_calculator}
    given = {
        "max_epochs": epochs,
        "batch_size": batch_size,
        "lora_rank": lora_rank,
        "lora_alpha": lora_alpha,
        "replay_per_epoch": replay_per_epoch,
    }
    with bad_input():
        row = _row(strategy, defaults, {key: value for key, value in given.items() if value is not None}, replay)
        e0s = _e0_choice(e0)
        training, validation, held_out = labelled_records(train, keys, valid=valid, test=test, theory=theory)
        _check_out(out, force)
    base = load(model, trust)
    _check_elements(base if row.from_foundation else None, training, {"--valid": validation, "--test": held_out}, model)
    replayed: tuple[list[Record], list[Record]] = ([], [])
    if row.replay != "none":
        base, replayed = _replayed(base, row, model, replay, replay_frames, replay_choice, seed)
    data = Data(training, validation, held_out, *replayed)
    _check_batch(row, data)
    before = _check_labels(base, data, train, replay) if row.from_foundation else None
    with bad_input():
        tuned, report = _trained(base, data, row, e0s, seed, out)
    tests = tested(tuned, base if row.from_foundation else None, held_out)
    content = content_of(
        tuned, report, training, validation, row, out=out, foundation=model, e0=e0, before=before, tests=tests
    )
    tuned = MaceModel(tuned.architecture, tuned.module, {**tuned.metadata, **content["card"]}, tuned.head)
    tuned.save(out)
    (out / "adapters.safetensors").unlink(missing_ok=True)
    if report.adapters:
        save_adapters(out / "adapters.safetensors", report.adapters, base=base.hash, strategy=row)
    export_model(tuned, out / "model.model")
    _checkpoint(out).unlink(missing_ok=True)
    if probes:
        content["probes"] = plain_json(probes_after_fit(tuned, base, model, training, seed))
        metadata = {**tuned.metadata, "probes": content["probes"]}
        MaceModel(tuned.architecture, tuned.module, metadata, tuned.head).save(out)
    show(as_json, {key: value for key, value in content.items() if key != "card"}, lines_of(content))


def _row(name: str, defaults: str, given: dict[str, Any], replay: str | None) -> Strategy:
    """Row of the table of strategies; what it has no use for is refused."""
    from curator.learners.strategies import REPLAYS_NOTHING, UnusedOverrideError
    from curator.learners.strategies import strategy as row_of

    try:
        row = row_of(name, defaults=defaults, **given)  # type: ignore[arg-type]
    except UnusedOverrideError as error:
        raise BadInput(f"--{error.key.replace('_', '-')}: {error}") from error
    if row.replay == "none" and replay is not None:
        raise BadInput(f"--replay: {name} {REPLAYS_NOTHING}")
    return row


def _e0_choice(text: str) -> E0Choice:
    """Policy of E0s, or values in eV by atomic number of a text such as ``Li=-1.9,F=-0.6``."""
    from curator.build import e0_choice

    try:
        return e0_choice(text if text.isalpha() else _e0_values(text))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"--e0: {str(error).replace('Li: -1.9', 'Li=-1.9')}") from error


def _e0_values(text: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for part in text.split(","):
        symbol, _, value = (word.strip() for word in part.partition("="))
        try:
            energy = float(value)
        except ValueError:
            energy = np.nan
        if not np.isfinite(energy):
            raise BadInput(f"--e0: {part!r} is no value in eV of an element; write, for example, Li=-1.9")
        if symbol in values:
            raise BadInput(f"--e0: {symbol} has two values, {values[symbol]:g} and {energy:g}; give one")
        values[symbol] = energy
    return values


def _checkpoint(out: Path) -> Path:
    """State of a run that was not finished, from which the same command goes on."""
    return out.resolve().with_name(f"{out.resolve().name}.checkpoint")


def _check_out(out: Path, force: bool) -> None:
    """Raise :class:`BadInput` unless a model can be written, and without loss of anything else, before hours of it."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: is a file; name a folder")
    kept = (CAMPAIGN_FILE, RESOLVED_FILE, "journal", "frames.h5")
    if any((out / name).exists() for name in kept):
        raise BadInput(f"--out {out}: holds a data set, a campaign or a distilled model; name another folder")
    if out.is_dir() and any(out.iterdir()) and not force:
        what = "a model" if (out / "model.json").exists() else "other files"
        raise BadInput(f"--out {out}: holds {what}; choose another folder, or overwrite it with --force")
    checkpoint = _checkpoint(out)
    if checkpoint.is_dir():
        raise BadInput(f"--out {out}: {checkpoint} is a folder, and is where the state of the training goes; move it")
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        for folder in (checkpoint.parent, *([out] if out.is_dir() else [])):
            with TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written there ({error.strerror}); choose another folder") from error


def _check_elements(
    base: "MaceModel | None", training: list[Record], others: dict[str, list[Record]], model: str
) -> None:
    """Raise :class:`BadInput` if a frame holds an element that the foundation, or from scratch the data, lacks."""
    learnt = {int(z) for record in training for z in record.frame.numbers}
    if base is not None:
        check_known(base, np.array(sorted(learnt)), model)
    known = learnt if base is None else set(base.elements)
    for option, record in ((option, record) for option, records in others.items() for record in records):
        if missing := {int(z) for z in record.frame.numbers} - known:
            symbols = ", ".join(chemical_symbols[z] for z in sorted(missing))
            where = record.provenance.source.removeprefix("import/")
            who = "no training frame does" if base is None else f"{model} does not know"
            raise BadInput(f"{option}: frame {where} holds {symbols}, which {who}; leave such frames out")


def _replayed(
    base: "MaceModel", row: Strategy, model: str, replay: str | None, n: int, choice: str, seed: int
) -> "tuple[MaceModel, tuple[list[Record], list[Record]]]":
    """The foundation as it is replayed, and frames to replay."""
    from curator.datasets.extxyz import MissingLabelError
    from curator.learners.mace import keep_head
    from curator.learners.reference import own_frames
    from curator.learners.replay import replay_records

    pseudolabels = row.replay == "pseudolabels"
    if replay is None and own_frames(model) is None:
        raise BadInput(
            f"--replay: {row.name} needs frames to replay and {model} brings none; give a file, or use naive"
        )
    if pseudolabels and len(base.heads) > 1:
        base = keep_head(base, base.head)
    with bad_input():
        try:
            records = replay_records(
                replay or model,
                base.elements,
                n,
                np.random.default_rng(seed),
                choose=choice,  # type: ignore[arg-type]
                model=base,
                pseudolabels=pseudolabels,
            )
        except MissingLabelError as error:
            raise BadInput(
                f"--replay: {error.finding}; label them at the foundation's level of theory as REF_energy and "
                "REF_forces, or take pseudolabel_replay, which needs no labels"
            ) from error
    return base, records


def _check_batch(row: Strategy, data: Data) -> None:
    n = len(learnt_of(data.train)) + len(data.replay_train)
    if row.batch_size > n:
        there = "there is 1 frame" if n == 1 else f"there are {n} frames"
        raise BadInput(
            f"a batch of {row.batch_size} is larger than the data: {there} to train on; set --batch-size to {n}"
            f"{'' if n == 1 else ' or less'}"
        )


def learnt_of(training: Sequence[Record]) -> list[Record]:
    """Frames to train on without isolated atoms."""
    from curator.learners.e0 import is_isolated_atom

    return [record for record in training if not is_isolated_atom(record)]


def _check_labels(base: "MaceModel", data: Data, train: Path, replay: str | None) -> float | None:
    """Refuse labels that have another unit or sign, and tell of odd ones.

    Returns
    -------
    float or None
        Force error of the foundation on the frames to train on, in eV/Å; None where there are others to validate with,
        whose errors tell more.
    """
    from curator.learners.mace import REPLAY
    from curator.learners.metrics import force_rmse
    from curator.learners.plausible import N_COMPARED, check_energies, check_forces, outliers
    from curator.learners.replay import N_CHECKED

    learnt = learnt_of(data.train)
    part = learnt[:: -(-len(learnt) // N_COMPARED)] if data.valid else learnt
    predictions = base.predict([record.frame for record in part])
    with bad_input():
        check_forces(predictions, part, str(train))
        if replay is not None and data.replay_train:
            some = data.replay_train[:N_CHECKED]
            known = base.with_head(REPLAY) if REPLAY in base.heads else base
            check_forces(known.predict([record.frame for record in some]), some, f"--replay {replay}")
    energies = base.predict([record.frame for record in learnt], ("energy",)) if data.valid else predictions
    with bad_input():
        check_energies(energies, learnt, str(train))
    for note in outliers(energies, learnt):
        warnings.warn(f"{train}: {note}", Notice, stacklevel=2)
    return None if data.valid else force_rmse(predictions, learnt)


def _trained(
    base: "MaceModel", data: Data, row: Strategy, e0: E0Choice, seed: int, out: Path
) -> "tuple[MaceModel, FitReport]":
    """Train with a progress bar; weights of a training that diverged are kept."""
    from curator.learners.architecture import for_elements
    from curator.learners.base import TrainEvent
    from curator.learners.loop import TrainingDiverged
    from curator.learners.train import fit

    numbers = np.concatenate([record.frame.numbers for record in data.train])
    with progress_bar() as bar:
        task = bar.add_task("training", total=row.max_epochs)

        def on_event(event: TrainEvent) -> None:
            error = event.valid_force_rmse.get("target")
            told = "" if error is None else f": valid {1000 * error:.0f} meV/Å"
            bar.update(task, completed=event.epoch, description=f"training{told}")

        try:
            return fit(
                base if row.from_foundation else None,
                data.train,
                data.valid,
                row,
                seed=seed,
                e0=e0,
                replay_train=data.replay_train,
                replay_valid=data.replay_valid,
                checkpoint=_checkpoint(out),
                on_event=on_event,
                architecture=None if row.from_foundation else for_elements(base.architecture, numbers),
                device=str(base.device),
            )
        except TrainingDiverged as error:
            if error.model is None:
                raise
            error.model.save(out)
            raise CuratorError(f"{error}; {out} holds weights of epoch {error.model.metadata['epoch']}") from error
