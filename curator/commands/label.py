"""The command line: labels for frames in a file, and for those that a campaign could not label."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import isclose
from pathlib import Path
from typing import Annotated

import typer

from curator.cli import AsJson, Trust, app
from curator.commands.arguments import labellers_named, show
from curator.commands.label_requests import (
    Asked,
    Given,
    given_of,
    label_missing,
    level_held,
    level_of,
    origins_of,
    published_in,
    theories_held,
    with_theories,
)
from curator.datasets.frame import Frame
from curator.datasets.journal import Journal
from curator.datasets.label import Record, Theory
from curator.errors import BadInput, CuratorError, bad_input
from curator.state import RESOLVED_FILE, Json


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
    from curator.dataset import dataset_folder, dataset_of, frames_named, is_dataset, open_dataset, read_dataset
    from curator.datasets.extxyz import write_records
    from curator.datasets.fence import acquire

    if out is not None and into is not None:
        raise BadInput("--out and --into: give one of them; curator export writes the labels of a data set to files")
    if out is not None and out.suffix not in (".extxyz", ".xyz"):
        raise BadInput(f"--out {out}: labels are written as extxyz; name it *.extxyz or *.xyz")
    into = None if into is None else dataset_folder(into)
    with bad_input():
        loaded = frames_named(frames)
    if not loaded:
        raise BadInput(f"{frames}: holds no frames")
    where = into or out or Path("labelled.extxyz")
    folder = where if into is not None else where.with_name(f"{where.name}.journal")
    specs, beside = labellers_named(with_, trust, loaded, folder / "calculations")
    sources = [with_theories(part) for part in ([specs] if beside is None else [specs, [beside] * len(loaded)])]
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
        origins = origins_of(frames, loaded, known)
        asked = []
        for source in sources:
            theories = theories_held(journal, loaded, [theory for _, theory in source])
            named = zip(loaded, origins, [spec for spec, _ in source], theories, strict=True)
            asked.append([Asked(*each) for each in named])
        waiting, before = set() if retry else set(journal.quarantined), set(journal.published)
        died = label_missing(journal, [one for each in asked for one in each], retry, workers)
        published = published_in(journal)
        given = []
        for each in asked:
            theories = [one.theory for one in each]
            whole = level_of(theories) if into is None else level_held(journal, theories)[0]
            given.append(given_of(published, each, whole, died, before))
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


def _beside(out: Path, theory: Theory) -> Path:
    """File for the labels of a second source: ``labelled.chgnet-r2scan.extxyz`` beside ``labelled.extxyz``."""
    return out.with_name(f"{out.stem}.{theory.method.replace('/', '-')}{out.suffix}")


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
        labels, _ = published_in(journal)
        keys = zip(frames, theories_held(journal, frames, theories), strict=True)
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


def _retry_campaign(target: Path, workers: int, as_json: bool, trust: bool) -> None:
    """Label what waits in a campaign's quarantine, with its labeller or that of label.also; a round trains on it."""
    from curator.backends.labellers import make_labeller
    from curator.build import read_plan
    from curator.datasets.fence import acquire
    from curator.datasets.journal import open_store
    from curator.resolved import check_same_campaign
    from curator.state import campaign_folder

    folder = campaign_folder(target)
    plan = read_plan(folder, trust=trust)
    specs = [spec.run_in(folder.calculations) for spec in (plan.labeller, plan.also) if spec is not None]
    with bad_input():
        theories = [make_labeller(spec).theory for spec in specs]
    if not folder.journal.is_dir():
        raise BadInput(f"{target}: has not begun; start it with: curator run {target}")
    with acquire(folder.journal) as fence:
        check_same_campaign(folder, plan, theories[0])
        journal = Journal(folder.journal, fence)
        asked = [
            Asked(failure.frame, failure.provenance, spec, theory)
            for spec, theory in zip(specs, theories, strict=True)
            for failure in journal.failures(theory.key).values()
        ]
        if not asked:
            raise BadInput(f"{target}: nothing waits in quarantine")
        died = label_missing(journal, asked, True, workers)
        labels, failures = published_in(journal)
        open_store(folder.store, journal).close()
    failed = [
        {"source": one.origin.source, "theory": one.theory.key, "reason": failure.reason, "message": failure.message}
        for one in asked
        if (failure := failures.get(one.key)) is not None
    ]
    dead = [{"source": one.origin.source, "message": died[one.key]} for one in asked if one.key in died]
    n_labels = sum(one.key in labels for one in asked)
    content = {
        "theory": theories[0].key,
        "n_tried": len(asked),
        "n_labels": n_labels,
        "failed": failed,
        "died": dead,
    }
    lines = [f"{each['source']}: {each['reason']}: {each['message']}" for each in failed]
    lines += [f"{each['source']}: {each['message']}" for each in dead]
    lines.append(f"{n_labels} of {len(asked)} frames in quarantine have a label now; the next round trains on them")
    show(as_json, content, lines)
    if n_labels < len(asked):
        raise typer.Exit(1)
