"""The command line: fine-tuning a model on labelled frames."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase.data import chemical_symbols
from rich.console import Console
from rich.progress import Progress

from curator.cli import AsJson, Trust, app
from curator.commands.arguments import (
    Model,
    Seed,
    Theory,
    bad_input,
    check_known,
    load,
    show,
)
from curator.commands.probe import probes_after_fit
from curator.errors import BadInput, CuratorError
from curator.learners.strategies import REPLAY_FRAMES
from curator.state import plain_json


@app.command()
def finetune(
    train: Annotated[
        Path, typer.Argument(help="Labelled frames; of a data set, those to train on and to validate with.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.")] = Path("model"),
    model: Model = "mini-halides",
    valid: Annotated[Path | None, typer.Option("--valid", help="Labelled frames for early stopping.")] = None,
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
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Fine-tune a model on labelled frames."""
    from curator.build import e0_choice
    from curator.labelled import training_records
    from curator.learners.architecture import for_elements
    from curator.learners.base import TrainEvent
    from curator.learners.e0 import is_isolated_atom
    from curator.learners.loop import TrainingDiverged
    from curator.learners.lora import save_adapters
    from curator.learners.mace import MaceModel, export_model, keep_head
    from curator.learners.metrics import energy_rmse_per_atom, force_rmse
    from curator.learners.reference import own_frames
    from curator.learners.replay import replay_records
    from curator.learners.samples import group_of
    from curator.learners.strategies import strategy as row_of
    from curator.learners.train import fit
    from curator.report.tables_probes import probe_cells

    keys = {"energy_key": energy_key, "forces_key": forces_key, "use_calculator": use_calculator}
    with bad_input():
        given = {
            "max_epochs": epochs,
            "batch_size": batch_size,
            "lora_rank": lora_rank,
            "lora_alpha": lora_alpha,
            "replay_per_epoch": replay_per_epoch,
        }
        overrides = {key: value for key, value in given.items() if value is not None}
        row = row_of(strategy, defaults=defaults, **overrides)  # type: ignore[arg-type]
        values = e0_choice(_e0_values(e0) if "=" in e0 else e0)
        training, validation = training_records(train, valid, theory, keys)
    base = load(model, trust)
    numbers = np.concatenate([record.frame.numbers for record in training])
    if row.from_foundation:
        check_known(base, numbers, model)
    elif unlearnt := {int(z) for record in validation for z in record.frame.numbers} - {int(z) for z in numbers}:
        symbols = ", ".join(chemical_symbols[z] for z in sorted(unlearnt))
        raise BadInput(f"{valid}: holds {symbols}, which no training frame does; leave those frames out")
    replayed: tuple[list[Any], list[Any]] = ([], [])
    if row.replay != "none":
        if replay is None and own_frames(model) is None:
            raise BadInput(
                f"--replay: {strategy} needs frames to replay and {model} brings none; give a file, or use naive"
            )
        if row.replay == "pseudolabels" and len(base.heads) > 1:
            base = keep_head(base, base.head)
        with bad_input():
            replayed = replay_records(
                replay or model,
                base.elements,
                replay_frames,
                np.random.default_rng(seed),
                choose=replay_choice,  # type: ignore[arg-type]
                model=base,
                pseudolabels=row.replay == "pseudolabels",
            )
    with Progress(console=Console(stderr=True), transient=True) as bar, bad_input():
        task = bar.add_task("training", total=row.max_epochs)

        def on_event(event: TrainEvent) -> None:
            error = event.valid_force_rmse.get("target")
            told = "" if error is None else f": valid {1000 * error:.0f} meV/Å"
            bar.update(task, completed=event.epoch, description=f"training{told}")

        try:
            tuned, report = fit(
                base if row.from_foundation else None,
                training,
                validation,
                row,
                seed=seed,
                e0=values,
                replay_train=replayed[0],
                replay_valid=replayed[1],
                checkpoint=out.with_name(f"{out.name}.checkpoint"),
                on_event=on_event,
                architecture=None if row.from_foundation else for_elements(base.architecture, numbers),
                device=str(base.device),
            )
        except TrainingDiverged as error:
            if error.model is None:
                raise
            error.model.save(out)
            raise CuratorError(f"{error}; {out} holds weights of epoch {error.model.metadata['epoch']}") from error
    out.mkdir(parents=True, exist_ok=True)
    tuned.save(out)
    if report.adapters:
        save_adapters(out / "adapters.safetensors", report.adapters, base=base.hash, strategy=row)
    export_model(tuned, out / "model.model")
    out.with_name(f"{out.name}.checkpoint").unlink(missing_ok=True)
    found = None
    if probes:
        found = plain_json(probes_after_fit(tuned, base, model, training, seed))
        MaceModel(tuned.architecture, tuned.module, {**tuned.metadata, "probes": found}, tuned.head).save(out)
    learnt = [record for record in training if not is_isolated_atom(record)]
    predictions = tuned.predict([record.frame for record in learnt])
    groups = Counter(group for record in learnt if row.difference and (group := group_of(record)) is not None)
    content: dict[str, Any] = {
        "out": out,
        "n_train": len(learnt),
        "n_valid": len(validation),
        "n_groups": len(groups),
        "train_force_rmse_eV_per_A": force_rmse(predictions, learnt),
        "train_energy_rmse_eV_per_atom": energy_rmse_per_atom(predictions, learnt),
        "epochs": report.epochs,
        "best_epoch": report.best_epoch,
        "n_parameters": report.n_parameters,
        "n_trainable": report.n_trainable,
        "start_energy_rmse_eV_per_atom": report.e0.start_energy_rmse,
        "valid_force_rmse_eV_per_A": dict(report.valid_force_rmse),
        "e0": {str(number): value for number, value in report.e0.values.items()},
        "e0_message": report.e0.message,
        "cpu_s": report.cpu_s,
        "probes": found,
    }
    share = report.n_trainable / report.n_parameters
    best = f"best {report.best_epoch}" if validation else "the last one's weights, for want of frames to validate with"
    lines = [f"{report.epochs} epochs, {best}; {report.cpu_s:.0f} s of CPU; {share:.1%} trainable"]
    lines += [f"{len(learnt)} frames to train on, {len(validation)} to validate with{_groups_told(groups)}"]
    if report.e0.start_energy_rmse is not None:
        lines += [f"energies began {1000 * report.e0.start_energy_rmse:.1f} meV/atom off"]
    forces, energies = (1000 * content[f"train_{name}"] for name in ("force_rmse_eV_per_A", "energy_rmse_eV_per_atom"))
    lines += [f"train target: forces {forces:.0f} meV/Å, energies {energies:.1f} meV/atom"]
    lines += [f"valid {head}: forces {1000 * error:.0f} meV/Å" for head, error in report.valid_force_rmse.items()]
    lines += [report.e0.message] if report.e0.message else []
    lines += [f"{name}: {told}" for name, told in probe_cells(found).items()] if found else []
    show(as_json, content, [*lines, f"wrote {out} and {out / 'model.model'} (for MACE)"])


def _groups_told(groups: Mapping[str, int]) -> str:
    """How many groups there are by what is learnt of them."""
    if not groups:
        return ""
    alone = sum(n == 1 for n in groups.values())
    told = f"; energy differences are learnt within {len(groups) - alone} groups"
    return f"{told}, not in {alone} of a single frame" if alone else told


def _e0_values(text: str) -> dict[str, float]:
    """Values in eV by element of a text such as ``Li=-1.9,F=-0.6``."""
    values = {}
    for part in text.split(","):
        symbol, _, value = part.partition("=")
        try:
            values[symbol.strip()] = float(value)
        except ValueError:
            raise BadInput(f"--e0: {part!r} is no value in eV of an element; write, for example, Li=-1.9") from None
    return values
