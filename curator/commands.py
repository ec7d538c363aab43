"""The command line: the stages that make data and models, each by itself, on files."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from curator.arguments import Model, Seed, Structure, bad_input, check_known, labeller_named, load, show, structure_of
from curator.cli import AsJson, Trust, app
from curator.config import EXPLORE_EQUILIBRATION_PS
from curator.datasets.frame import Frame
from curator.errors import BadInput, CuratorError


@app.command()
def explore(
    structure: Structure,
    out: Annotated[Path, typer.Option("--out", help="extxyz file of the candidates.")] = Path("candidates.extxyz"),
    model: Model = "mini-halides",
    temperature_K: Annotated[
        list[float] | None, typer.Option("--temperature-K", help="May be given several times; 600 by default.")
    ] = None,
    duration_ps: Annotated[
        float,
        typer.Option(
            "--duration-ps", help=f"Length of each run; its first {EXPLORE_EQUILIBRATION_PS:g} ps yield no candidates."
        ),
    ] = 2.0,
    interval_ps: Annotated[float, typer.Option("--interval-ps", help="Time between candidates.")] = 0.1,
    seed: Seed = 0,
    trust: Trust = False,
) -> None:
    """Run molecular dynamics and keep frames that may be worth a label."""
    from curator.explore import candidates_of
    from curator.md import run_md
    from curator.round import write_candidates
    from curator.trajectory import MDSettings

    if duration_ps < EXPLORE_EQUILIBRATION_PS + interval_ps - 1e-9:
        raise BadInput(
            f"--duration-ps: a run of {duration_ps:g} ps yields no candidate: {EXPLORE_EQUILIBRATION_PS:g} ps are left "
            f"out, and candidates are {interval_ps:g} ps apart; give a longer --duration-ps or a shorter --interval-ps"
        )
    frame, loaded = structure_of(structure), load(model, trust)
    check_known(loaded, frame.numbers, model)
    candidates = []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for idx, temperature in enumerate(temperature_K or [600.0]):
            with bad_input():
                settings = MDSettings(temperature, duration_ps, frame_interval_fs=1000 * interval_ps)
            row = bar.add_task(f"MD {temperature:g} K", total=duration_ps)
            trajectory = run_md(
                frame,
                loaded.calculator(),
                settings,
                seed=[seed, idx],
                on_progress=lambda done, total, row=row: bar.update(row, completed=done, total=total),  # type: ignore[misc]
            )
            found = candidates_of(
                trajectory,
                group=f"T{temperature:g}",
                source=f"explore/T{temperature:g}",
                equilibration_ps=EXPLORE_EQUILIBRATION_PS,
            )
            candidates.extend(found)
            print(f"{temperature:g} K: {len(found)} candidates; {trajectory.reason or 'ran to its end'}")
    if not candidates:
        raise CuratorError("no trajectory gave a sane frame; lower the temperature or choose another model")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_candidates(out, candidates)
    print(f"wrote {len(candidates)} candidates to {out}")


@app.command()
def select(
    candidates: Annotated[Path, typer.Argument(help="Frames to choose from.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many.")] = 16,
    out: Annotated[Path, typer.Option("--out", help="extxyz file of the chosen frames.")] = Path("selected.extxyz"),
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="One model, or each member of a committee; mini-halides by default."),
    ] = None,
    labelled: Annotated[Path | None, typer.Option("--labelled", help="Frames to be different from.")] = None,
    random_share: Annotated[float, typer.Option("--random-share", min=0.0, max=1.0)] = 0.125,
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Choose frames: a random share, then what is uncertain and different from what is labelled."""
    from ase.io import write

    from curator.datasets.atomic import atomic_path
    from curator.datasets.extxyz import read_frames
    from curator.datasets.frame import atoms_from_frame
    from curator.selection import frame_descriptor
    from curator.selection import select as choose
    from curator.uncertainty import committee_spread, frame_score

    with bad_input():
        frames = read_frames(candidates)
        known = [] if labelled is None else read_frames(labelled)
    references = model or ["mini-halides"]
    members = [load(reference, trust) for reference in references]
    for reference, member in zip(references, members, strict=True):
        check_known(member, np.concatenate([frame.numbers for frame in [*frames, *known]]), reference)
    elements = sorted({int(number) for frame in frames for number in frame.numbers})

    def descriptors(part: list[Frame]) -> list[NDArray[np.float64]]:
        features = [p.node_features for p in members[0].predict(part, ("energy", "forces", "node_features"))]
        pairs = zip(features, part, strict=True)
        return [frame_descriptor(found, frame.numbers, elements) for found, frame in pairs if found is not None]

    scores = None
    if len(members) > 1:
        forces = [member.predict(frames) for member in members]
        spreads = [committee_spread(np.array([m[i].forces for m in forces])) for i in range(len(frames))]
        scores = np.array([frame_score(spread) for spread in spreads])
    with bad_input():
        chosen = choose(
            descriptors(frames),
            descriptors(known) if known else [],
            scores,
            n_select=min(n, len(frames)),
            random_share=random_share,
            rng=np.random.default_rng(seed),
        )
    images = []
    for idx, reason in zip(chosen.idx, chosen.reasons, strict=True):
        atoms = atoms_from_frame(frames[idx])
        atoms.info["reason"] = reason
        images.append(atoms)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as aside:
        write(aside, images, format="extxyz")
    content = {"idx": chosen.idx, "reasons": chosen.reasons, "scores": chosen.scores, "out": out}
    lines = [f"{idx:>6}  {reason}" for idx, reason in zip(chosen.idx, chosen.reasons, strict=True)]
    show(as_json, content, [*lines, f"wrote {len(images)} frames to {out}"])


@app.command()
def label(
    frames: Annotated[Path, typer.Argument(help="Frames to label.")],
    out: Annotated[Path, typer.Option("--out", help="extxyz file with MACE's REF_ keys.")] = Path("labelled.extxyz"),
    with_: Annotated[
        str, typer.Option("--with", help="chgnet:r2scan, lif-fumi-tosi, a MACE model, ...")
    ] = "chgnet:r2scan",
    workers: Annotated[int, typer.Option("--workers", min=1)] = 1,
    trust: Trust = False,
) -> None:
    """Label frames; finished labels are kept beside the output, so that a killed run loses none."""
    from curator.backends.base import LabelFailed
    from curator.backends.executor import Failed, Task, open_executor
    from curator.backends.labellers import label_frame, make_labeller, publish_outcome
    from curator.datasets.extxyz import read_frames, write_records
    from curator.datasets.fence import acquire
    from curator.datasets.journal import Journal
    from curator.datasets.label import Provenance, Record

    with bad_input():
        loaded = read_frames(frames)
    spec = labeller_named(with_, trust)
    theory = make_labeller(spec).theory
    folder = out.with_name(f"{out.name}.journal")
    origins = [
        Provenance(-1, f"label/{frames.name}", f"{frames.name}/{i}", "train", "import") for i in range(len(loaded))
    ]
    with acquire(folder) as fence:
        journal = Journal(folder, fence)
        todo = [i for i, frame in enumerate(loaded) if (frame.hash, theory.key) not in journal.published]
        tasks = [Task(label_frame, (spec, loaded[i]), f"label {i}") for i in todo]
        kind: Any = "serial" if workers == 1 else "local"
        with (
            open_executor(kind, workers, folder / "workers") as executor,
            Progress(console=Console(stderr=True), transient=True) as bar,
        ):
            row = bar.add_task("label", total=len(loaded), completed=len(loaded) - len(todo))
            for outcome in executor.run("label", tasks):
                idx = todo[outcome.index]
                if isinstance(outcome, Failed):
                    # Says nothing about the frame, which may be tried again.
                    print(f"frame {idx}: {outcome.error}")
                else:
                    if isinstance(outcome.value, LabelFailed):
                        print(f"frame {idx}: {outcome.value.reason}: {outcome.value.message}")
                    publish_outcome(journal, loaded[idx], outcome.value, origins[idx], theory)
                bar.advance(row)
        labels = journal.labels(theory.key)
    records = [Record(f, labels[f.hash], o) for f, o in zip(loaded, origins, strict=True) if f.hash in labels]
    if not records:
        raise CuratorError(f"none of {len(loaded)} frames could be labelled with {with_}")
    write_records(out, records)
    print(f"wrote {len(records)} labels of {theory.key} to {out}; {len(loaded) - len(records)} failed")
    if len(records) < len(loaded):
        raise typer.Exit(1)


@app.command()
def finetune(
    train: Annotated[Path, typer.Argument(help="Labelled frames.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.")] = Path("model"),
    model: Model = "mini-halides",
    valid: Annotated[Path | None, typer.Option("--valid", help="Labelled frames for early stopping.")] = None,
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
    replay_frames: Annotated[int, typer.Option("--replay-frames", min=1)] = 64,
    replay_choice: Annotated[
        str, typer.Option("--replay-choice", help="random, farthest (in features) or elements (alike of each set).")
    ] = "random",
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1)] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    energy_key: Annotated[str | None, typer.Option("--energy-key", help="REF_energy by default.")] = None,
    forces_key: Annotated[str | None, typer.Option("--forces-key", help="REF_forces by default.")] = None,
    use_calculator: Annotated[
        bool, typer.Option("--use-calculator", help="Take ASE calculator values for labels.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Fine-tune a model on labelled frames."""
    from curator.build import e0_choice
    from curator.datasets.extxyz import MissingLabelError, read_isolated_atoms, read_records
    from curator.datasets.label import Theory
    from curator.learners.base import TrainEvent
    from curator.learners.e0 import isolated_atom
    from curator.learners.loop import TrainingDiverged
    from curator.learners.lora import save_adapters
    from curator.learners.mace import export_model, keep_head
    from curator.learners.reference import own_frames
    from curator.learners.replay import replay_records
    from curator.learners.strategies import strategy as row_of
    from curator.learners.train import fit

    keys = {"energy_key": energy_key, "forces_key": forces_key, "use_calculator": use_calculator}
    with bad_input():
        given = {"max_epochs": epochs, "batch_size": batch_size, "lora_rank": lora_rank, "lora_alpha": lora_alpha}
        overrides = {key: value for key, value in given.items() if value is not None}
        row = row_of(strategy, defaults=defaults, **overrides)  # type: ignore[arg-type]
        values = e0_choice(_e0_values(e0) if "=" in e0 else e0)
        theory = Theory(method="file", code="unknown", settings={"file": train.name})
        try:
            training = read_records(train, theory=theory, **keys)  # type: ignore[arg-type]
            validation = [] if valid is None else read_records(valid, theory=theory, **keys)  # type: ignore[arg-type]
        except MissingLabelError as error:
            option = "--use-calculator" if error.calculated else f"--{error.what}-key"
            raise BadInput(
                f"{error.finding}; say which one it is with {option}, or label the frames first: curator label"
            ) from error
        atoms = read_isolated_atoms(train, energy_key=energy_key, use_calculator=use_calculator)
        training += [isolated_atom(number, energy, theory.key) for number, energy in atoms.items()]
    base = load(model, trust)
    check_known(base, np.concatenate([record.frame.numbers for record in training]), model)
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
                architecture=None if row.from_foundation else base.architecture,
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
    content = {
        "out": out,
        "epochs": report.epochs,
        "best_epoch": report.best_epoch,
        "n_parameters": report.n_parameters,
        "n_trainable": report.n_trainable,
        "start_energy_rmse_eV_per_atom": report.e0.start_energy_rmse,
        "valid_force_rmse_eV_per_A": dict(report.valid_force_rmse),
        "e0": {str(number): value for number, value in report.e0.values.items()},
        "e0_message": report.e0.message,
        "cpu_s": report.cpu_s,
    }
    share = report.n_trainable / report.n_parameters
    lines = [f"{report.epochs} epochs, best {report.best_epoch}, {report.cpu_s:.0f} s of CPU; {share:.1%} trainable"]
    if report.e0.start_energy_rmse is not None:
        lines += [f"energies began {1000 * report.e0.start_energy_rmse:.1f} meV/atom off"]
    lines += [f"valid {head}: forces {1000 * error:.0f} meV/Å" for head, error in report.valid_force_rmse.items()]
    lines += [report.e0.message] if report.e0.message else []
    show(as_json, content, [*lines, f"wrote {out} and {out / 'model.model'} (for MACE)"])


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
