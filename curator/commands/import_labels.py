"""The command line: what fills data sets with labels made elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curator.cli import AsJson, app
from curator.commands.arguments import Seed, show
from curator.errors import BadInput

if TYPE_CHECKING:
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
