"""The command line: what fills data sets, with labels made here or elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from curator.arguments import Seed, bad_input, labeller_named, show
from curator.cli import AsJson, Trust, app
from curator.datasets.frame import Frame
from curator.datasets.label import Provenance, Record, Theory
from curator.errors import BadInput, CuratorError

if TYPE_CHECKING:
    from curator.backends.base import LabellerSpec
    from curator.datasets.journal import Journal
    from curator.importing import FileReport


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Outputs of other programs; folders of DeePMD data.")],
    into: Annotated[Path, typer.Option("--into", help="Folder of the data set; made if it is not there.")],
    theory: Annotated[
        str, typer.Option("--theory", help="Name of the level of theory, or the key of one in the data set.")
    ],
    code: Annotated[str | None, typer.Option("--code", help="Program, where the files do not tell.")] = None,
    kind: Annotated[str | None, typer.Option("--format", help="Told from name and content by default.")] = None,
    energy_key: Annotated[str | None, typer.Option("--energy-key", help="Of extxyz; REF_energy by default.")] = None,
    forces_key: Annotated[str | None, typer.Option("--forces-key", help="Of extxyz; REF_forces by default.")] = None,
    stress_key: Annotated[
        str | None, typer.Option("--stress-key", help="Of extxyz; a virial if its name says so.")
    ] = None,
    use_calculator: Annotated[
        bool, typer.Option("--use-calculator", help="Take ASE calculator values in extxyz for labels.")
    ] = False,
    charge: Annotated[int | None, typer.Option("--charge", help="Of every frame, in e; as the files say.")] = None,
    multiplicity: Annotated[int | None, typer.Option("--multiplicity", min=1, help="2S+1 of every frame.")] = None,
    max_force_eV_per_A: Annotated[
        float, typer.Option("--max-force-eV-per-A", min=0.0, help="Frames with a larger force are left out.")
    ] = 100.0,
    split: Annotated[
        str | None, typer.Option("--split", help="train, valid or test, of all; drawn file by file by default.")
    ] = None,
    valid_share: Annotated[float, typer.Option("--valid-share", min=0.0, max=1.0, help="Share of the files.")] = 0.0,
    test_share: Annotated[float, typer.Option("--test-share", min=0.0, max=1.0, help="Share of the files.")] = 0.0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Import labels made elsewhere: VASP, Quantum ESPRESSO, CP2K, DeePMD, extxyz, ASE; all of them, or none."""
    from curator.datasets.codes import FORMATS
    from curator.importing import ImportSettings, import_files

    if kind is not None and kind not in FORMATS:
        raise BadInput(f"--format: no {kind}; there are {', '.join(FORMATS)}")
    if split not in (None, "train", "valid", "test"):
        raise BadInput(f"--split: no {split}; there are train, valid and test")
    if valid_share + test_share > 1:
        raise BadInput(f"--valid-share and --test-share: {valid_share:g} and {test_share:g} are more than all")
    settings = ImportSettings(
        theory,
        code=code,
        kind=kind,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        use_calculator=use_calculator,
        charge=charge,
        multiplicity=multiplicity,
        max_force_eV_per_A=max_force_eV_per_A,
        split=split,  # type: ignore[arg-type]
        valid_share=valid_share,
        test_share=test_share,
        seed=seed,
    )
    report = import_files(files, into, settings)
    content = {
        "theory": report.theory.key,
        "code": report.theory.code,
        "settings": report.theory.settings,
        "into": into,
        "n_imported": report.n_imported,
        "n_isolated_atoms": report.n_isolated,
        "n_left_out": report.left_out,
        "files": [
            {
                "file": file.file,
                "format": file.kind,
                "n_steps": file.n_steps,
                "n_imported": file.n_imported,
                "n_left_out": file.left_out,
                "energy_over_work": None if file.work is None else file.work.ratio,
                "split": file.split,
            }
            for file in report.files
        ],
        "notes": report.notes,
    }
    lines = [_file_line(file) for file in report.files] + [f"note: {note}" for note in report.notes]
    left_out = "".join(f", {n} {reason}" for reason, n in report.left_out.items())
    isolated = f" ({report.n_isolated} of isolated atoms)" if report.n_isolated else ""
    show(
        as_json, content, [*lines, f"{report.n_imported} labels of {report.theory.key}{isolated} into {into}{left_out}"]
    )


def _file_line(file: "FileReport") -> str:
    left_out = "".join(f", {n} {reason}" for reason, n in file.left_out.items())
    checked = "" if file.work is None else f"; energies follow the forces to {abs(file.work.ratio - 1):.1%}"
    split = f" to {file.split}" if file.split else ""
    return f"{file.file} ({file.kind}): {file.n_imported} of {file.n_steps}{split}{left_out}{checked}"


@app.command()
def label(
    frames: Annotated[Path, typer.Argument(help="Frames to label: a file, or a data set, whose labels stay.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="extxyz file with MACE's REF_ keys; labelled.extxyz by default.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option("--into", help="Data set to add the labels to, instead of a file of their own.")
    ] = None,
    with_: Annotated[
        str, typer.Option("--with", help="chgnet:r2scan, lif-fumi-tosi, a MACE model, ...")
    ] = "chgnet:r2scan",
    workers: Annotated[int, typer.Option("--workers", min=1)] = 1,
    trust: Trust = False,
) -> None:
    """Label frames; finished labels are kept at once, so that a killed run loses none."""
    from curator.backends.labellers import make_labeller
    from curator.dataset import dataset_of, frames_named, is_dataset, open_dataset, read_dataset
    from curator.datasets.extxyz import write_records
    from curator.datasets.fence import acquire
    from curator.datasets.journal import Journal

    if out is not None and into is not None:
        raise BadInput("--out and --into: give one of them; curator export writes the labels of a data set to files")
    with bad_input():
        loaded = frames_named(frames)
    if not loaded:
        raise BadInput(f"{frames}: holds no frames")
    spec = labeller_named(with_, trust)
    theory = make_labeller(spec).theory
    known = read_dataset(frames).provenances if is_dataset(frames) else {}
    if into is not None:
        with open_dataset(into) as journal:
            known = known | dataset_of(journal).provenances
            origins = _origins(frames, loaded, known)
            labels = _label(loaded, origins, spec, theory, journal, workers, into / "workers")
        where = into
    else:
        where = out or Path("labelled.extxyz")
        folder = where.with_name(f"{where.name}.journal")
        origins = _origins(frames, loaded, known)
        with acquire(folder) as fence:
            labels = _label(loaded, origins, spec, theory, Journal(folder, fence), workers, folder / "workers")
    records = [Record(f, labels[f.hash], o) for f, o in zip(loaded, origins, strict=True) if f.hash in labels]
    if not records:
        raise CuratorError(f"none of {len(loaded)} frames could be labelled with {with_}")
    if into is None:
        write_records(where, records)
    print(f"wrote {len(records)} labels of {theory.key} to {where}; {len(loaded) - len(records)} failed")
    if len(records) < len(loaded):
        raise typer.Exit(1)


def _origins(path: Path, frames: list[Frame], known: dict[str, Provenance]) -> list[Provenance]:
    """Provenance of each frame: that which it came with, so that it stays in its group and split."""
    new = [Provenance(-1, f"label/{path.name}", f"{path.name}/{i}", "train", "import") for i in range(len(frames))]
    return [known.get(frame.hash, origin) for frame, origin in zip(frames, new, strict=True)]


def _label(
    frames: list[Frame],
    origins: list[Provenance],
    spec: "LabellerSpec",
    theory: Theory,
    journal: "Journal",
    workers: int,
    folder: Path,
) -> dict[str, Any]:
    """Label what has no label of this level of theory yet; the labels there are then, by frame hash."""
    from curator.backends.base import LabelFailed
    from curator.backends.executor import Failed, Task, open_executor
    from curator.backends.labellers import label_frame, publish_outcome

    todo = [i for i, frame in enumerate(frames) if (frame.hash, theory.key) not in journal.published]
    tasks = [Task(label_frame, (spec, frames[i]), f"label {i}") for i in todo]
    kind: Any = "serial" if workers == 1 else "local"
    with (
        open_executor(kind, workers, folder) as executor,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        row = bar.add_task("label", total=len(frames), completed=len(frames) - len(todo))
        for outcome in executor.run("label", tasks):
            idx = todo[outcome.index]
            if isinstance(outcome, Failed):
                # Says nothing about the frame, which may be tried again.
                print(f"frame {idx}: {outcome.error}")
            else:
                if isinstance(outcome.value, LabelFailed):
                    print(f"frame {idx}: {outcome.value.reason}: {outcome.value.message}")
                publish_outcome(journal, frames[idx], outcome.value, origins[idx], theory)
            bar.advance(row)
    return dict(journal.labels(theory.key))
