"""Labels from Quantum ESPRESSO's pw.x, run by quacc's recipe."""

import json
import logging
import os
import shlex
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import numpy as np
from ase import Atoms

from curator.backends import leash
from curator.backends.base import LabelFailed, LabellerSpec, cpu_seconds, one_line
from curator.backends.espresso_input import (
    EspressoSettings,
    Pseudopotential,
    espresso_theory,
    input_of,
    input_problem,
    kpoint_grid,
    read_pseudopotential,
)
from curator.backends.espresso_output import ERRORS, INPUT, OUTPUT, Ended, what_ended
from curator.backends.geometry import geometry_problem
from curator.backends.remedies import Remedy, merged, next_remedy
from curator.datasets.frame import frame_from_atoms
from curator.datasets.label import Label, Theory

PROGRAM = "pw.x"
MARGIN_S = 60.0
"""pw.x is told to end by itself this long before it is killed."""
LARGEST_FORCE_EV_PER_A = 1000.0
PSEUDOPOTENTIALS = "pseudopotentials"
KEPT = (INPUT, OUTPUT, ERRORS, "CRASH")


class ProgramMissingError(RuntimeError):
    """The program is not on this machine. It says nothing of the frame, which may be tried again."""


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
        ProgramMissingError
            If pw.x cannot be run here: nothing is wrong with the frame.
        """
        started, key = cpu_seconds(), self.theory.key
        problem = geometry_problem(atoms) or input_problem(atoms, self.settings)
        if problem is not None:
            return LabelFailed("geometry", problem, key)
        binary = split_command(self.command)[1]
        if shutil.which(binary) is None:
            raise ProgramMissingError(f"no program {binary} on this machine; install it, or give label.command")
        frame = frame_from_atoms(atoms)
        folder = self.scratch / frame.hash[:12]
        tried: list[Remedy] = []
        while True:
            result = self._run(atoms, tried, folder)
            if not isinstance(result, Ended):
                shutil.rmtree(folder, ignore_errors=True)
                stress = result["stress"] if atoms.pbc.all() else None
                remedy = "; ".join(each.name for each in tried)
                label = Label(result["energy"], result["forces"], stress, key, remedy=remedy)
                return replace(label, cpu_s=cpu_seconds() - started)
            remedy_next = next_remedy("espresso", result.reason, tried)
            if remedy_next is None:
                after = f" (also with: {'; '.join(each.name for each in tried)})" if tried else ""
                return LabelFailed(result.reason, f"{result.message}{after}; files in {folder}", key)
            tried.append(remedy_next)

    def _run(self, atoms: Atoms, tried: list[Remedy], folder: Path) -> dict[str, Any] | Ended:
        """One calculation: its energy, forces and stress in ASE's units, or why there are none."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        changes = merged(*(remedy.changes for remedy in tried))
        before: Path | None = None
        if tried and tried[-1].first:
            kept = {"control": {"disk_io": "low"}}
            first = self._calculate(atoms, merged(changes, tried[-1].first, kept), folder, None)
            if isinstance(first, Ended):
                return first
            before = first["folder"]
            changes = merged(changes, {"electrons": {"startingpot": "file"}})
        return self._calculate(atoms, changes, folder, before)

    def _calculate(
        self, atoms: Atoms, changes: dict[str, dict[str, object]], folder: Path, before: Path | None
    ) -> dict[str, Any] | Ended:
        quiet_quacc()
        from quacc import JobFailure, change_settings
        from quacc.recipes.espresso.core import static_job

        prefix, binary, suffix = split_command(self.command)
        leashed = [sys.executable, leash.__file__, f"{self.walltime_s:g}", *prefix]
        files = {symbol: read_pseudopotential(Path(p)) for symbol, p in self.settings.pseudopotentials.items()}
        used = {symbol: files[symbol] for symbol in set(atoms.symbols)}
        data = merged(
            input_of(self.settings),
            {"control": {"max_seconds": max(self.walltime_s - MARGIN_S, 0.5 * self.walltime_s)}},
            changes,
        )
        quacc_settings = {
            "RESULTS_DIR": folder,
            "SCRATCH_DIR": None,
            "CREATE_UNIQUE_DIR": True,
            "GZIP_FILES": False,
            "ESPRESSO_BIN_DIR": Path(),
            "ESPRESSO_BINARIES": {"pw": binary},
            "ESPRESSO_PARALLEL_CMD": (shlex.join(leashed), shlex.join(suffix)),
        }
        grid = kpoint_grid(atoms, self.settings.kpoint_spacing_per_A)
        bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        status: int | None = 0
        results: dict[str, Any] = {}
        names = _linked(used, folder / PSEUDOPOTENTIALS)
        data = merged(data, {"control": {"pseudo_dir": str(folder / PSEUDOPOTENTIALS)}})
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
        if ended is None and not {"energy", "forces", "stress"} <= set(results):
            said = results.get("error", "energy, forces or stress are missing")
            return Ended("parse", f"the output cannot be read: {said}")
        if ended is None:
            ended = _absurd(results)
        return ended or {name: results[name] for name in ("energy", "forces", "stress")} | {"folder": where}


def make_espresso(spec: LabellerSpec) -> EspressoLabeller:
    """Labeller of a spec.

    Raises
    ------
    ValueError
        If its settings are wrong.
    """
    settings = EspressoSettings(**json.loads(spec.settings))
    command = spec.command or PROGRAM
    scratch = Path(spec.scratch).absolute() if spec.scratch else Path(tempfile.gettempdir()) / f"curator-{os.getuid()}"
    theory = espresso_theory(settings, split_command(command)[1])
    return EspressoLabeller(theory, settings, command, spec.walltime_s, scratch)


def split_command(command: str) -> tuple[list[str], str, list[str]]:
    """What stands before the program, the program, and what stands after it.

    Raises
    ------
    ValueError
        If no word of the command is a pw.x.
    """
    words = shlex.split(command)
    for idx, word in enumerate(words):
        if Path(word).name.startswith("pw"):
            return words[:idx], word, words[idx + 1 :]
    raise ValueError(f"label.command: {command!r} runs no pw.x; give for instance: mpirun -np 4 pw.x -nk 2")


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


def _absurd(results: dict[str, Any]) -> Ended | None:
    """Why numbers cannot be right; None if they may be."""
    numbers = [np.asarray(results[name], dtype=float) for name in ("energy", "forces", "stress")]
    if not all(np.isfinite(each).all() for each in numbers):
        return Ended("nonfinite", "energy, forces or stress are not finite numbers")
    largest = float(np.abs(numbers[1]).max())
    if largest > LARGEST_FORCE_EV_PER_A:
        return Ended("nonfinite", f"a force of {largest:.3g} eV/Å is no sensible number")
    return None
