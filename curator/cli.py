"""The command line: campaigns. Commands on files are in :mod:`curator.commands`."""

import json
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from ase.calculators.calculator import CalculationFailed
from rich.console import Console

import curator
from curator.backends.base import SetupError
from curator.backends.executor import ExecutorError
from curator.datasets.fence import DriverError
from curator.datasets.journal import JournalDamagedError
from curator.datasets.notice import Notice
from curator.datasets.store import StoreDamagedError
from curator.errors import BadInput, CuratorError, is_disk_full

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NOT_CONVERGED = 1, 2, 3
TEMPLATES = ("lif", "own", "classical")
DEFAULT_TARGET = Path()

INTERRUPTED = 130
"""What typer makes of Ctrl-C during a command."""
STOPPED = "stopped; what has been written is kept, and the same command goes on from it"

app = typer.Typer(
    name="curator",
    help="Active learning and data-set curation for machine-learned interatomic potentials, until diffusion converges.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Target = Annotated[Path, typer.Argument(help="Folder of a campaign, or its YAML file.", show_default="here")]
Trust = Annotated[bool, typer.Option("--trust", help="Load pickled models of unknown origin; they can run any code.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _version(value: bool) -> None:
    if value:
        print(f"curator {curator.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    template: Annotated[str, typer.Argument(help=f"One of {', '.join(TEMPLATES)}.")] = "lif",
    folder: Annotated[Path | None, typer.Argument(help="Where; a folder named after the template by default.")] = None,
) -> None:
    """Write a campaign file to start from."""
    if template not in TEMPLATES:
        raise BadInput(f"{template}: no such template; there are {', '.join(TEMPLATES)}")
    folder = Path(template) if folder is None else folder
    target = folder / "campaign.yaml"
    if target.exists():
        raise BadInput(f"{target}: is there already; choose another folder, or edit it and run: curator run {folder}")
    text = files("curator").joinpath("templates", f"{template}.yaml").read_text(encoding="utf-8")
    name = folder.resolve().name
    if all(letter.isalnum() or letter in "._-" for letter in name) and name[:1].isalnum():
        text = text.replace(f"name: {template}\n", f"name: {name}\n", 1)
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    print(f"wrote {target}; next: curator check {folder}, then curator run {folder}")


@app.command()
def check(
    target: Target = DEFAULT_TARGET,
    convergence: Annotated[
        bool,
        typer.Option("--convergence", help="Calculate one cell at several cutoffs and k-points, where labels are DFT."),
    ] = False,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Check a campaign file and forecast what it will cost."""
    from curator.forecast import forecast

    if convergence:
        _check_convergence(target, as_json, trust)
        return
    told = forecast(target, trust=trust)
    if as_json:
        print(json.dumps(told.numbers, indent=1))
    else:
        for line in told.lines:
            print(line)


def _check_convergence(target: Path, as_json: bool, trust: bool) -> None:
    from dataclasses import asdict

    import numpy as np

    from curator.build import read_plan
    from curator.commands.arguments import progress_bar
    from curator.dft_convergence import convergence_lines, measure_convergence, plot_convergence
    from curator.lattice import unit_cell
    from curator.state import campaign_folder

    folder = campaign_folder(target)
    plan = read_plan(folder, trust=trust)
    if plan.labeller.kind != "dft":
        raise BadInput(f"label.kind: {plan.labeller.kind} has no cutoff and no k-points; --convergence is for dft")
    folder.path.mkdir(parents=True, exist_ok=True)
    spec = plan.labeller.run_in(folder.calculations)
    rng = np.random.default_rng(plan.file.seed)
    with progress_bar() as bar:
        row = bar.add_task("calculations", total=None)
        points = measure_convergence(
            spec, unit_cell(plan), rng, lambda n_done, n_all: bar.update(row, completed=n_done, total=n_all)
        )
    picture = folder.path / "dft-convergence.png"
    plot_convergence(points, picture)
    if as_json:
        print(json.dumps([asdict(point) for point in points], indent=1))
    else:
        print("\n".join([*convergence_lines(points), f"  drawn in {picture}"]))


@app.command()
def run(target: Target = DEFAULT_TARGET, trust: Trust = False) -> None:
    """Run a campaign, or continue it from wherever it stopped.

    Exit status: 0 converged, 1 failed, 2 bad input, 3 ended without convergence.
    """
    from curator.campaign import run as run_campaign

    _as_interrupt(signal.SIGTERM)
    campaign = run_campaign(target, Console(), trust=trust)
    if campaign["verdict"] != "converged":
        raise typer.Exit(EXIT_NOT_CONVERGED)


@app.command()
def status(target: Target = DEFAULT_TARGET, as_json: AsJson = False) -> None:
    """Tell the verdict so far, and what is running."""
    from curator.status import campaign_status, status_lines

    content = campaign_status(target)
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        for line in status_lines(content):
            print(line)


@app.command()
def report(
    target: Target = DEFAULT_TARGET,
    out: Annotated[Path | None, typer.Option(help="Where; report.html of the campaign by default.")] = None,
) -> None:
    """Write the report: one HTML page that opens offline."""
    from curator.report.page import write_report
    from curator.state import campaign_folder

    folder = campaign_folder(target)
    if not folder.evidence.exists():
        raise BadInput(f"{folder.path}: nothing to report yet; run it first: curator run {folder.path}")
    path = folder.report if out is None else out
    write_report(folder.path, path)
    print(path)


@app.command()
def export(
    target: Annotated[
        Path,
        typer.Argument(help="Folder of a campaign or its YAML file, a data set, or a model.", show_default="here"),
    ] = DEFAULT_TARGET,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("export"),
    theory: Annotated[
        str | None, typer.Option("--theory", help="Level of theory, by name or key; of a campaign, its own by default.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only list the levels of theory, and compare them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the data set as extxyz with MACE's keys, and of a campaign the newest model for MACE and LAMMPS."""
    from curator.export import export_campaign, export_dataset, export_model_folder, theory_lines, theory_list
    from curator.state import is_campaign

    if list_:
        content = theory_list(target)
        print(json.dumps(content, indent=1) if as_json else "\n".join(theory_lines(content)))
        return
    if (target / "model.json").is_file() and (target / "model.safetensors").is_file():
        paths = export_model_folder(target, out)
    else:
        paths = export_campaign(target, out, theory) if is_campaign(target) else export_dataset(target, out, theory)
    print(json.dumps([str(path) for path in paths], indent=1) if as_json else "\n".join(map(str, paths)))


@app.command()
def schema() -> None:
    """Print the JSON schema of the campaign file, for editors."""
    from curator.config import CampaignFile

    print(json.dumps(CampaignFile.model_json_schema(), indent=1))


def _as_interrupt(number: signal.Signals) -> None:
    """End on a signal as on Ctrl-C, so that workers are stopped and nothing is left half-written."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(number, interrupt)


def main() -> None:
    """Entry point: every error ends as one to three lines and an exit status."""
    # One thread each: curator runs one process a core, and threads on shared cores make MACE up to 7 times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The libraries below warn of their own affairs at every start; a user can do nothing about any of it.
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", Notice)
    warnings.showwarning = _show_notice
    logging.getLogger().setLevel(logging.ERROR)
    # They add their commands to the app.
    from curator.commands import barrier, diffusion, distil, explore, finetune, import_labels, label, probe, select  # noqa: F401

    sys.exit(_run_app())


def _show_notice(message: Warning | str, *_about: object, **_named: object) -> None:
    print(f"curator: note: {message}", file=sys.stderr)


def _run_app() -> int:
    try:
        result: Any = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return _say(STOPPED, EXIT_FAILED)
    except CuratorError as error:
        return _say(str(error), error.exit_status)
    except (CalculationFailed, DriverError, ExecutorError, JournalDamagedError, StoreDamagedError) as error:
        return _say(str(error), EXIT_FAILED)
    except SetupError as error:
        return _say(str(error), EXIT_BAD_INPUT)
    except (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        return _say(f"{error.filename}: {error.strerror}; choose another place", EXIT_BAD_INPUT)
    except OSError as error:
        return _disk_full(error) if is_disk_full(error) else _unexpected(error)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own complaints about arguments
            return _say(f"{error.format_message()}; see curator --help", EXIT_BAD_INPUT)
        return _unexpected(error)
    if result == INTERRUPTED:
        return _say(STOPPED, EXIT_FAILED)
    return int(result) if isinstance(result, int) else 0


def _say(message: str, status: int) -> int:
    print(f"curator: {message}", file=sys.stderr)
    return status


def _disk_full(error: OSError) -> NoReturn:
    where = error.filename or "while writing"
    _say(f"the disk is full ({where}); what is done is kept: free some space and run again", EXIT_FAILED)
    sys.stdout.flush()
    sys.stderr.flush()
    # An orderly exit would have HDF5 flush once more, and crash in it.
    os._exit(EXIT_FAILED)


def _unexpected(error: Exception) -> int:
    path = Path(f"curator-error-{time.strftime('%Y%m%d-%H%M%S')}.log")
    try:
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        where = f"details are in {path}; please report it"
    except OSError:
        where = "its details could not be written"
    text = " ".join(str(error).split())[:300]
    return _say(f"unexpected {type(error).__name__}: {text}\n{where}", EXIT_FAILED)
