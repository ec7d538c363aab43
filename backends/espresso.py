"""Labels from Quantum ESPRESSO's pw.x, run by quacc's recipe."""

import json
import logging
import os
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import numpy as np
from ase import Atoms

from curator.backends.base import LabelFailed, LabellerSpec, one_line
from curator.backends.dft import Calculated, Ended, kpoint_grid, label_with_remedies
from curator.backends.espresso_input import (
    EspressoSettings,
    Pseudopotential,
    espresso_theory,
    input_of,
    input_problem,
    numbered,
    read_pseudopotential,
)
from curator.backends.espresso_output import ERRORS, INPUT, OUTPUT, what_ended
from curator.backends.program import leashed, scratch_of, split_command
from curator.backends.remedies import Input, merged
from curator.datasets.label import Label, Theory

PROGRAM, NAME, EXAMPLE = "pw.x", "pw", "mpirun -np 4 pw.x -nk 2"
MARGIN_S = 60.0
"""pw.x is told to end by itself this long before it is killed."""
PSEUDOPOTENTIALS = "pseudopotentials"
KEPT = (INPUT, OUTPUT, ERRORS, "CRASH")


@dataclass(frozen=True, slots=True)
class EspressoLabeller:
    """Labels with pw.x.

    Attributes
    ----------
    theory
        Level of theory of its labels.
    settings
        Input of pw.x.
    command
        How it is run: ``pw.x``, or ``mpirun -np 4 pw.x -nk 2``.
    walltime_s
        Longest time of one run in seconds.
    scratch
        Each calculation runs in a folder of its own in here; that of a failed one stays.
    """

    theory: Theory
    settings: EspressoSettings
    command: str
    walltime_s: float
    scratch: Path

    def label(self, atoms: Atoms) -> Label | LabelFailed:
        """Label of ``atoms``, which are not changed; a failed calculation is returned, never raised.

        Raises
        ------
        SetupError
            If pw.x cannot be run here: nothing is wrong with the frame.
        """
        return label_with_remedies(
            "espresso",
            self.theory.key,
            atoms,
            self.scratch,
            partial(self._calculate, atoms),
            input_problem=partial(input_problem, atoms, self.settings),
            command=split_command(self.command, NAME, EXAMPLE)[:2],
        )

    def _calculate(self, atoms: Atoms, changes: Input, folder: Path, before: Path | None) -> Calculated | Ended:
        quiet_quacc()
        from quacc import JobFailure, change_settings
        from quacc.recipes.espresso.core import static_job

        prefix, binary, suffix = split_command(self.command, NAME, EXAMPLE)
        paths = self.settings.pseudopotentials
        used = {symbol: read_pseudopotential(Path(paths[symbol])) for symbol in set(atoms.symbols)}
        names = _linked(used, folder / PSEUDOPOTENTIALS)
        own = {
            "max_seconds": max(self.walltime_s - MARGIN_S, 0.5 * self.walltime_s),
            "pseudo_dir": str(folder / PSEUDOPOTENTIALS),
        }
        data = numbered(merged(input_of(self.settings), {"control": own}, changes), atoms.symbols)
        quacc_settings = {
            "RESULTS_DIR": folder,
            "SCRATCH_DIR": None,
            "CREATE_UNIQUE_DIR": True,
            "GZIP_FILES": False,
            "ESPRESSO_BIN_DIR": Path(),
            "ESPRESSO_BINARIES": {"pw": binary},
            "ESPRESSO_PARALLEL_CMD": (shlex.join(leashed(prefix, self.walltime_s)), shlex.join(suffix)),
        }
        grid = kpoint_grid(atoms, self.settings.kpoint_spacing_per_A)
        bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        status: int | None = 0
        results: dict[str, Any] = {}
        with change_settings(quacc_settings):
            try:
                done = static_job(
                    bare,
                    preset=None,
                    input_data=data,
                    pseudopotentials=names,
                    kpts=None if grid == (1, 1, 1) else grid,
                    prev_outdir=before,
                )
                where, results = Path(done["dir_name"]), done["results"]
            except JobFailure as failure:
                where, cause = Path(failure.directory), failure.parent_error
                status = cause.returncode if isinstance(cause, CalledProcessError) else None
                if status is None:
                    results = {"error": one_line(cause or failure)}
        functional = "" if "input_dft" in data["system"] else next(iter(used.values())).functional
        ended = what_ended(where, status, {symbol: file.md5 for symbol, file in used.items()}, functional)
        for name in KEPT:
            with suppress(FileNotFoundError):
                shutil.copyfile(where / name, folder / name)
        if ended is not None or data["control"]["disk_io"] == "none":
            shutil.rmtree(where, ignore_errors=True)
        if ended is not None:
            return ended
        if not {"energy", "forces", "stress"} <= set(results):
            said = results.get("error", "energy, forces or stress are missing")
            return Ended("parse", f"the output cannot be read: {said}")
        forces, stress = (np.asarray(results[name], dtype=float) for name in ("forces", "stress"))
        return Calculated(float(results["energy"]), forces, stress, where)


def make_espresso(spec: LabellerSpec) -> EspressoLabeller:
    """Labeller of a spec.

    Raises
    ------
    ValueError
        If its settings are wrong.
    """
    settings = EspressoSettings(**json.loads(spec.settings))
    command = spec.command or PROGRAM
    theory = espresso_theory(settings, split_command(command, NAME, EXAMPLE)[1])
    return EspressoLabeller(theory, settings, command, spec.walltime_s, scratch_of(spec))


def quiet_quacc() -> None:
    """Have quacc run its recipes here and now, whatever the user's own settings of it are, and say little."""
    os.environ["QUACC_WORKFLOW_ENGINE"] = "None"
    logging.getLogger("quacc").setLevel(logging.ERROR)


def _linked(files: dict[str, Pseudopotential], folder: Path) -> dict[str, str]:
    """Names of links to pseudopotentials in one folder; with their hash, so that no other file bears them."""
    folder.mkdir(exist_ok=True)
    names = {symbol: f"{symbol}.{file.sha256[:12]}.upf" for symbol, file in files.items()}
    for symbol, name in names.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(files[symbol].path.resolve())
    return names
