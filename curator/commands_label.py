"""The command line: labels for frames in a file, and for those that a campaign could not label."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from curator.arguments import bad_input, labellers_named, show
from curator.cli import AsJson, Trust, app
from curator.datasets.frame import Frame
from curator.datasets.journal import Failure, Journal
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.errors import BadInput, CuratorError
from curator.state import RESOLVED_FILE, Json

if TYPE_CHECKING:
    from curator.backends.base import LabellerSpec


Published = tuple[dict[tuple[str, str], Label], dict[tuple[str, str], Failure]]
"""Labels and failures by frame hash and theory key."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A label that is asked for: of which frame, by whom, and at which level of theory."""

    frame: Frame
    origin: Provenance
    spec: "LabellerSpec"
    theory: Theory

    @property
    def key(self) -> tuple[str, str]:
        """Frame hash and theory key, as the journal has them."""
        return self.frame.hash, self.theory.key


@dataclass(frozen=True, slots=True)
class Given:
    """What became of the labels that one source was asked for, one for each frame.

    Attributes
    ----------
    theory
        Key of the level of theory; where theories differ by their elements alone, of what they are together: those of
        the frames for a file, of the whole data set for a data set.
    method
        Name of the level of theory.
    records
        The labels.
    failed
        Why there is none, by index of the frame; first the kind of failure.
    died
        What the task died of, by index of the frame.
    n_new
        Labels that were not there before.
    """

    theory: str
    method: str
    records: list[Record]
    failed: dict[int, tuple[str, str]]
    died: dict[int, str]
    n_new: int

    @property
    def n_remedied(self) -> int:
        """Labels that a remedy helped to."""
        return sum(bool(record.label.remedy) for record in self.records)


@app.command()
def label(
    frames: Annotated[
        Path, typer.Argument(help="Frames to label: a file, or a data set, whose labels stay; a campaign with --retry.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="extxyz file with MACE's REF_ keys; labelled.extxyz by default. Labels of label.also go to a file of "
            "their own beside it.",
        ),
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
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --out, whatever it holds.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1)] = 1,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Label frames; finished labels are kept at once, so that a killed run loses none."""
    if retry and ((frames / RESOLVED_FILE).exists() or frames.suffix in (".yaml", ".yml")):
        _retry_campaign(frames, workers, as_json, trust)
        return
    from curator.dataset import dataset_of, frames_named, is_dataset, open_dataset, read_dataset
    from curator.datasets.extxyz import write_records
    from curator.datasets.fence import acquire

    if out is not None and into is not None:
        raise BadInput("--out and --into: give one of them; curator export writes the labels of a data set to files")
    if out is not None and out.suffix not in (".extxyz", ".xyz"):
        raise BadInput(f"--out {out}: labels are written as extxyz; name it *.extxyz or *.xyz")
    with bad_input():
        loaded = frames_named(frames)
    if not loaded:
        raise BadInput(f"{frames}: holds no frames")
    where = into or out or Path("labelled.extxyz")
    folder = where if into is not None else where.with_name(f"{where.name}.journal")
    specs, beside = labellers_named(with_, trust, loaded, folder / "calculations")
    sources = [_with_theories(part) for part in ([specs] if beside is None else [specs, [beside] * len(loaded)])]
    files = [where, *(_beside(where, source[0][1]) for source in sources[1:])]
    if into is None and not force:
        for file, source in zip(files, sources, strict=True):
            _check_kept(file, folder, loaded, [theory for _, theory in source])
    known = read_dataset(frames).provenances if is_dataset(frames) else {}
    with ExitStack() as stack:
        if into is not None:
            journal = stack.enter_context(open_dataset(into))
            known = known | dataset_of(journal).provenances
        else:
            journal = Journal(folder, stack.enter_context(acquire(folder)))
        origins = _origins(frames, loaded, known)
        asked = []
        for source in sources:
            theories = _theories_held(journal, loaded, [theory for _, theory in source])
            named = zip(loaded, origins, [spec for spec, _ in source], theories, strict=True)
            asked.append([Asked(*each) for each in named])
        waiting, before = set() if retry else set(journal.quarantined), set(journal.published)
        died = _label(journal, [one for each in asked for one in each], retry, workers)
        published = _published(journal)
        given = []
        for each in asked:
            theories = [one.theory for one in each]
            whole = _level_of(theories) if into is None else _level_held(journal, theories)[0]
            given.append(_given(published, each, whole, died, before))
    if into is None:
        for file, one in zip(files, given, strict=True):
            if one.records:
                write_records(file, one.records)
    else:
        files = [into] * len(given)
    contents = [_content(one, file) for one, file in zip(given, files, strict=True)]
    lines = []
    for one, part, file in zip(given, asked, files, strict=True):
        lines += _lines(one, part, waiting, file, "" if one is given[0] else f" with {one.method}")
    main, *others = contents
    show(as_json, {"n_frames": len(loaded), **main, "also": others[0] if others else None}, lines)
    if not given[0].records:
        again = "; --retry tries them again" if given[0].failed else ""
        raise CuratorError(f"none of {len(loaded)} frames could be labelled with {with_}{again}")
    if any(len(one.records) < len(loaded) for one in given):
        raise typer.Exit(1)


def _origins(path: Path, frames: Sequence[Frame], known: Mapping[str, Provenance]) -> list[Provenance]:
    """Provenance of each frame: that which it came with, so that it stays in its group and split."""
    from curator.dataset import is_dataset
    from curator.datasets.extxyz import read_group_marks

    marks = [None] * len(frames) if is_dataset(path) else read_group_marks(path)
    source = f"label/{path.name}"
    new = [
        Provenance(-1, source, f"{path.name}/{i}", "train", "import")
        if mark is None
        else Provenance(-1, source, f"{path.name}#{mark}", "train", "group")
        for i, mark in enumerate(marks)
    ]
    return [known.get(frame.hash, origin) for frame, origin in zip(frames, new, strict=True)]


def _with_theories(specs: "Sequence[LabellerSpec]") -> "list[tuple[LabellerSpec, Theory]]":
    from curator.backends.labellers import make_labeller

    with bad_input():
        theories = {spec: make_labeller(spec).theory for spec in dict.fromkeys(specs)}
    return [(spec, theories[spec]) for spec in specs]


def _beside(out: Path, theory: Theory) -> Path:
    """File for the labels of a second source: ``labelled.chgnet-r2scan.extxyz`` beside ``labelled.extxyz``."""
    return out.with_name(f"{out.stem}.{theory.method.replace('/', '-')}{out.suffix}")


def _theories_held(journal: Journal, frames: Sequence[Frame], theories: Sequence[Theory]) -> list[Theory]:
    """Theory of each frame's label: one of the same level of theory, if there is a label of it, is not bought again."""
    _, alike = _level_held(journal, theories)
    return [
        next((each for each in (theory, *alike) if (frame.hash, each.key) in journal.published), theory)
        for frame, theory in zip(frames, theories, strict=True)
    ]


def _level_held(journal: Journal, theories: Iterable[Theory]) -> tuple[Theory, list[Theory]]:
    """Level of theory of one source with what a journal holds of it, and which theories that are."""
    from curator.dataset import dataset_of
    from curator.datasets.theories import united

    level, alike = _level_of(theories), []
    for other in dataset_of(journal).theories.values():
        both = united((level, other))
        if both is not None:
            level = both
            alike.append(other)
    return level, alike


def _level_of(theories: Iterable[Theory]) -> Theory:
    """Level of theory of one source."""
    from curator.datasets.theories import united

    level = united({theory.key: theory for theory in theories}.values())
    assert level is not None, "the theories of one source differ by elements alone"
    return level


def _check_kept(file: Path, folder: Path, frames: Sequence[Frame], theories: Sequence[Theory]) -> None:
    """Raise :class:`BadInput` if a file holds anything but labels that will be written into it again.

    Parameters
    ----------
    file
        File to be written.
    folder
        Of the journal of its labels, if this is not the first time.
    frames, theories
        What it is to hold labels of.
    """
    from curator.datasets.extxyz import read_own_records

    if not file.exists():
        return
    again: dict[str, float] = {}
    if folder.is_dir():
        journal = Journal(folder)
        labels, _ = _published(journal)
        keys = zip(frames, _theories_held(journal, frames, theories), strict=True)
        again = {frame.hash: labels[key].energy for frame, its in keys if (key := (frame.hash, its.key)) in labels}
    held: list[Record] = []
    try:
        held = read_own_records(file)
        kept = all(isclose(r.label.energy, again[r.frame.hash], rel_tol=1e-9, abs_tol=1e-9) for r in held)
    except (ValueError, KeyError):
        kept = False
    if not kept:
        what = "labels of other frames, or of another level of theory" if held else "no labels that curator wrote"
        raise BadInput(f"{file}: is there already, with {what}; choose another --out, or overwrite it with --force")


def _published(journal: Journal) -> Published:
    """Labels and last failures by frame hash and theory key; what has a label has not failed."""
    labels: dict[tuple[str, str], Label] = {}
    failures: dict[tuple[str, str], Failure] = {}
    for content in journal.read():
        if isinstance(content, Record):
            labels[content.frame.hash, content.label.theory] = content.label
        else:
            failures[content.frame.hash, content.theory] = content
    return labels, {key: failure for key, failure in failures.items() if key not in labels}


def _given(
    published: Published,
    asked: Sequence[Asked],
    whole: Theory,
    died: Mapping[tuple[str, str], str],
    before: Collection[tuple[str, str]] = (),
) -> Given:
    labels, failures = published
    return Given(
        whole.key,
        whole.method,
        [
            Record(one.frame, replace(labels[one.key], theory=whole.key), one.origin)
            for one in asked
            if one.key in labels
        ],
        {
            i: (failures[one.key].reason, failures[one.key].message)
            for i, one in enumerate(asked)
            if one.key in failures
        },
        {i: died[one.key] for i, one in enumerate(asked) if one.key in died},
        len({one.key for one in asked if one.key in labels} - set(before)),
    )


def _content(given: Given, place: Path) -> Json:
    return {
        "theory": given.theory,
        "out": str(place),
        "n_labels": len(given.records),
        "n_new": given.n_new,
        "n_remedied": given.n_remedied,
        "failed": [{"idx": i, "reason": reason, "message": said} for i, (reason, said) in given.failed.items()],
        "died": [{"idx": i, "message": message} for i, message in given.died.items()],
    }


def _lines(given: Given, asked: Sequence[Asked], waiting: set[tuple[str, str]], place: Path, source: str) -> list[str]:
    again = {i: " (not tried again)" if asked[i].key in waiting else "" for i in given.failed}
    lines = [f"frame {i}{source}: {reason}{again[i]}: {said}" for i, (reason, said) in given.failed.items()]
    lines += [f"frame {i}{source}: {message}" for i, message in given.died.items()]
    if given.records:
        told = f": {_counted(given.failed)}; --retry tries them again" if given.failed else ""
        n_labels = len(given.records)
        new = "" if given.n_new == n_labels else f" ({given.n_new} of them new)"
        lines.append(
            f"{n_labels} labels of {given.theory} in {place}{new}; {len(asked) - n_labels} of {len(asked)} failed{told}"
        )
    if given.n_remedied:
        lines.append(f"{given.n_remedied} had failed at first; the journal tells what helped")
    return lines


def _counted(failed: Mapping[int, tuple[str, str]]) -> str:
    reasons = [reason for reason, _ in failed.values()]
    return ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))


def _label(journal: Journal, asked: Sequence[Asked], retry: bool, workers: int) -> dict[tuple[str, str], str]:
    """Label what has no label and, unless ``retry``, no failure either; what died by frame and theory, and of what."""
    from curator.backends.executor import Failed, Task, open_executor
    from curator.backends.labellers import label_frame, publish_outcome

    settled = journal.published if retry else journal.published | journal.quarantined
    todo = [one for one in asked if one.key not in settled]
    tasks = [Task(label_frame, (one.spec, one.frame), f"label {i}") for i, one in enumerate(todo)]
    died: dict[tuple[str, str], str] = {}
    kind: Any = "serial" if workers == 1 else "local"
    with (
        open_executor(kind, workers, journal.folder / "workers") as executor,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        row = bar.add_task("label", total=len(asked), completed=len(asked) - len(todo))
        for outcome in executor.run("label", tasks):
            one = todo[outcome.index]
            if isinstance(outcome, Failed):
                # Says nothing about the frame, which may be tried again.
                if outcome.kind == "setup":
                    raise BadInput(outcome.error)
                died[one.key] = outcome.error
            else:
                publish_outcome(journal, one.frame, outcome.value, one.origin, one.theory)
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
    spec = plan.labeller.run_in(folder.calculations)
    with bad_input():
        theory = make_labeller(spec).theory
    if not folder.journal.is_dir():
        raise BadInput(f"{target}: has not begun; start it with: curator run {target}")
    with acquire(folder.journal) as fence:
        journal = Journal(folder.journal, fence)
        waiting = list(journal.failures(theory.key).values())
        if not waiting:
            raise BadInput(f"{target}: nothing waits in quarantine")
        asked = [Asked(failure.frame, failure.provenance, spec, theory) for failure in waiting]
        died = _label(journal, asked, True, workers)
        given = _given(_published(journal), asked, theory, died)
        with Store(folder.store) as store:
            store.append(given.records)
    content = {
        "theory": theory.key,
        "n_tried": len(asked),
        "n_labels": len(given.records),
        "failed": [{"reason": reason, "message": said} for reason, said in given.failed.values()],
        "died": list(given.died.values()),
    }
    lines = [f"{asked[i].origin.source}: {reason}: {said}" for i, (reason, said) in given.failed.items()]
    lines += list(given.died.values())
    lines.append(
        f"{len(given.records)} of {len(asked)} frames in quarantine have a label now; the next round trains on them"
    )
    show(as_json, content, lines)
    if len(given.records) < len(asked):
        raise typer.Exit(1)
