"""The command line: labels for frames in a file, and for those that a campaign could not label."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from curator.arguments import bad_input, labeller_named, show
from curator.cli import AsJson, Trust, app
from curator.datasets.frame import Frame
from curator.datasets.journal import Journal
from curator.datasets.label import Provenance, Record, Theory
from curator.errors import BadInput, CuratorError
from curator.state import RESOLVED_FILE

if TYPE_CHECKING:
    from curator.backends.base import LabellerSpec

MISSING = "ProgramMissingError: "
Wanted = Sequence[tuple[Frame, Provenance]]


@app.command()
def label(
    frames: Annotated[
        Path, typer.Argument(help="Frames to label: a file, or a data set, whose labels stay; a campaign with --retry.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="extxyz file with MACE's REF_ keys; labelled.extxyz by default.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option("--into", help="Data set to add the labels to, instead of a file of their own.")
    ] = None,
    with_: Annotated[
        str,
        typer.Option(
            "--with",
            help="chgnet:r2scan, gfn1-xtb, lif-fumi-tosi, a MACE model, or a YAML file with the section label of a "
            "campaign.",
        ),
    ] = "chgnet:r2scan",
    retry: Annotated[
        bool, typer.Option("--retry", help="Try frames again whose calculation failed, and that wait in quarantine.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1)] = 1,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Label frames; finished labels are kept at once, so that a killed run loses none."""
    if retry and ((frames / RESOLVED_FILE).exists() or frames.suffix in (".yaml", ".yml")):
        _retry_campaign(frames, workers, as_json, trust)
        return
    from curator.backends.labellers import make_labeller
    from curator.dataset import dataset_of, frames_named, is_dataset, open_dataset, read_dataset
    from curator.datasets.extxyz import write_records
    from curator.datasets.fence import acquire

    if out is not None and into is not None:
        raise BadInput("--out and --into: give one of them; curator export writes the labels of a data set to files")
    with bad_input():
        loaded = frames_named(frames)
    if not loaded:
        raise BadInput(f"{frames}: holds no frames")
    where = into or out or Path("labelled.extxyz")
    folder = where if into is not None else where.with_name(f"{where.name}.journal")
    spec = replace(labeller_named(with_, trust, loaded), scratch=str(folder.absolute() / "calculations"))
    theory = make_labeller(spec).theory
    known = read_dataset(frames).provenances if is_dataset(frames) else {}
    with ExitStack() as stack:
        if into is not None:
            journal = stack.enter_context(open_dataset(into))
            known = known | dataset_of(journal).provenances
        else:
            journal = Journal(folder, stack.enter_context(acquire(folder)))
        wanted = list(zip(loaded, _origins(frames, loaded, known), strict=True))
        waiting = set() if retry else {frame for frame, key in journal.quarantined if key == theory.key}
        died = _label(journal, spec, theory, wanted, retry, workers)
        labels, failures = journal.labels(theory.key), journal.failures(theory.key)
    records = [Record(frame, labels[frame.hash], origin) for frame, origin in wanted if frame.hash in labels]
    if records and into is None:
        write_records(where, records)
    failed = [(i, failures[frame.hash]) for i, frame in enumerate(loaded) if frame.hash in failures]
    content: dict[str, Any] = {
        "theory": theory.key,
        "n_frames": len(loaded),
        "n_labels": len(records),
        "n_remedied": sum(bool(record.label.remedy) for record in records),
        "failed": [{"idx": i, "reason": failure.reason, "message": failure.message} for i, failure in failed],
        "died": [{"idx": i, "message": message} for i, message in died.items()],
    }
    again = {i: " (not tried again)" if loaded[i].hash in waiting else "" for i, _ in failed}
    lines = [f"frame {i}: {failure.reason}{again[i]}: {failure.message}" for i, failure in failed]
    lines += [f"frame {i}: {message}" for i, message in died.items()]
    reasons = _counted([failure.reason for _, failure in failed])
    if records:
        told = f": {reasons}; --retry tries them again" if failed else ""
        n_missing = len(loaded) - len(records)
        lines.append(
            f"wrote {len(records)} labels of {theory.key} to {where}; {n_missing} of {len(loaded)} failed{told}"
        )
    if content["n_remedied"]:
        lines.append(f"{content['n_remedied']} had failed at first; the journal tells what helped")
    show(as_json, content, lines)
    if not records:
        raise CuratorError(f"none of {len(loaded)} frames could be labelled with {with_}")
    if len(records) < len(loaded):
        raise typer.Exit(1)


def _origins(path: Path, frames: Sequence[Frame], known: Mapping[str, Provenance]) -> list[Provenance]:
    """Provenance of each frame: that which it came with, so that it stays in its group and split."""
    new = [Provenance(-1, f"label/{path.name}", f"{path.name}/{i}", "train", "import") for i in range(len(frames))]
    return [known.get(frame.hash, origin) for frame, origin in zip(frames, new, strict=True)]


def _label(
    journal: Journal, spec: "LabellerSpec", theory: Theory, wanted: Wanted, retry: bool, workers: int
) -> dict[int, str]:
    """Label frames that have no label and, unless ``retry``, no failure either; what died by index, and of what."""
    from curator.backends.executor import Failed, Task, open_executor
    from curator.backends.labellers import label_frame, publish_outcome

    settled = journal.published if retry else journal.published | journal.quarantined
    todo = [i for i, (frame, _) in enumerate(wanted) if (frame.hash, theory.key) not in settled]
    tasks = [Task(label_frame, (spec, wanted[i][0]), f"label {i}") for i in todo]
    died: dict[int, str] = {}
    kind: Any = "serial" if workers == 1 else "local"
    with (
        open_executor(kind, workers, journal.folder / "workers") as executor,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        row = bar.add_task("label", total=len(wanted), completed=len(wanted) - len(todo))
        for outcome in executor.run("label", tasks):
            idx = todo[outcome.index]
            if isinstance(outcome, Failed):
                # Says nothing about the frame, which may be tried again.
                if outcome.error.startswith(MISSING):
                    raise BadInput(outcome.error.removeprefix(MISSING))
                died[idx] = outcome.error
            else:
                publish_outcome(journal, wanted[idx][0], outcome.value, wanted[idx][1], theory)
            bar.advance(row)
    return died


def _retry_campaign(target: Path, workers: int, as_json: bool, trust: bool) -> None:
    """Label what waits in a campaign's quarantine; the next round trains on it."""
    from curator.backends.labellers import make_labeller
    from curator.build import build_plan
    from curator.config import read_campaign_file
    from curator.datasets.fence import acquire
    from curator.datasets.store import Store
    from curator.state import campaign_folder

    folder = campaign_folder(target)
    base = folder.campaign_file.resolve().parent
    plan = build_plan(read_campaign_file(folder.campaign_file), base, trust=trust)
    with bad_input():
        theory = make_labeller(plan.labeller).theory
    if not folder.journal.is_dir():
        raise BadInput(f"{target}: has not begun; start it with: curator run {target}")
    with acquire(folder.journal) as fence:
        journal = Journal(folder.journal, fence)
        waiting = list(journal.failures(theory.key).values())
        if not waiting:
            raise BadInput(f"{target}: nothing waits in quarantine")
        wanted = [(failure.frame, failure.provenance) for failure in waiting]
        spec = replace(plan.labeller, scratch=str(folder.calculations))
        died = _label(journal, spec, theory, wanted, True, workers)
        labels, failures = journal.labels(theory.key), journal.failures(theory.key)
        records = [Record(frame, labels[frame.hash], origin) for frame, origin in wanted if frame.hash in labels]
        with Store(folder.store) as store:
            store.append(records)
    content = {
        "theory": theory.key,
        "n_tried": len(wanted),
        "n_labels": len(records),
        "failed": [{"reason": failure.reason, "message": failure.message} for failure in failures.values()],
        "died": list(died.values()),
    }
    lines = [f"{failure.provenance.source}: {failure.reason}: {failure.message}" for failure in failures.values()]
    lines += list(died.values())
    lines.append(
        f"{len(records)} of {len(wanted)} frames in quarantine have a label now; the next round trains on them"
    )
    show(as_json, content, lines)
    if len(records) < len(wanted):
        raise typer.Exit(1)


def _counted(reasons: Sequence[str]) -> str:
    return ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
