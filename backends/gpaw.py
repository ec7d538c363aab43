"""Labels from GPAW, which runs in a Python of its own."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from curator.backends import gpaw_run
from curator.backends.base import LabelFailed, LabellerSpec, one_line
from curator.backends.dft import Calculated, Ended, electrons_problem, kpoint_grid, label_with_remedies, spin_of
from curator.backends.gpaw_run import OUTPUT
from curator.backends.leash import SAID_MEMORY, SAID_TIME
from curator.backends.program import (
    OUT_OF_MEMORY,
    last_lines,
    run_leashed,
    scratch_of,
    split_command,
    text_of,
    was_killed,
)
from curator.backends.remedies import Input, merged
from curator.datasets.label import Label, Theory

PRESETS: Mapping[str, Mapping[str, float]] = {
    "pbe": {"cutoff_eV": 800.0, "kpoint_spacing_per_A": 0.35, "convergence_eV": 1e-5},
    "pbe-strict": {"cutoff_eV": 1000.0, "kpoint_spacing_per_A": 0.25, "convergence_eV": 1e-6},
    "pbe-quick": {"cutoff_eV": 500.0, "kpoint_spacing_per_A": 0.5, "convergence_eV": 1e-4},
}
"""Set-ups of insulators; docs/dft-codes.md tells what is known of them."""
FUNCTIONALS: Mapping[str, str] = {"lda": "LDA", "pbe": "PBE", "rpbe": "RPBE", "revpbe": "revPBE"}
"""Those that gpaw-data has setups for, by GPAW's names."""
NAME, EXAMPLE = "python", "mpirun -np 4 env/bin/gpaw python"
INPUT, RESULT, SAID, ERRORS = "input.json", "result.json", "gpaw.out", "gpaw.err"
ABOUT_S = 120.0
EIGENSTATES_PER_EV = 1e-3


@dataclass(frozen=True, slots=True)
class GpawSettings:
    """Everything that is set in GPAW for all frames alike.

    Attributes
    ----------
    elements
        Symbols that are to be calculated.
    functional
        One of `FUNCTIONALS`.
    cutoff_eV
        Plane-wave cutoff in eV.
    kpoint_spacing_per_A
        Largest distance of k-points in 1/Å, with the factor 2π; grids are centred on Γ.
    convergence_eV
        Change of the energy in eV per valence electron at which the SCF cycle ends; the density to as many electrons,
        and the eigenstates to a thousandth of it in eV².
    smearing_eV
        Gaussian smearing in eV; 0 for fixed occupations.
    charge
        Total charge in e.
    multiplicity
        Spin multiplicity; 0 and 1 calculate without spin.
    setups
        Name of a setup by symbol, such as ``v3``; the plain one where there is none.
    """

    elements: tuple[str, ...]
    functional: str
    cutoff_eV: float
    kpoint_spacing_per_A: float
    convergence_eV: float
    smearing_eV: float = 0.0
    charge: int = 0
    multiplicity: int = 0
    setups: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.functional not in FUNCTIONALS:
            raise ValueError(f"functional: {self.functional!r} is unknown; there are {', '.join(FUNCTIONALS)}")
        object.__setattr__(self, "elements", tuple(sorted(self.elements)))


@dataclass(frozen=True, slots=True)
class GpawLabeller:
    """Labels with GPAW.

    Attributes
    ----------
    theory
        Level of theory of its labels.
    settings
        Parameters of GPAW.
    command
        A Python that has GPAW: ``env/bin/python``, or ``mpirun -np 4 env/bin/gpaw python``.
    walltime_s
        Longest time of one run in seconds.
    scratch
        Each calculation runs in a folder of its own in here; that of a failed one stays.
    """

    theory: Theory
    settings: GpawSettings
    command: str
    walltime_s: float
    scratch: Path

    def label(self, atoms: Atoms) -> Label | LabelFailed:
        """Label of ``atoms``, which are not changed; a failed calculation is returned, never raised.

        Raises
        ------
        SetupError
            If there is no such Python here: nothing is wrong with the frame.
        """
        return label_with_remedies(
            "gpaw",
            self.theory.key,
            atoms,
            self.scratch,
            partial(self._calculate, atoms),
            input_problem=partial(input_problem, atoms, self.settings),
            command=split_gpaw(self.command)[:2],
        )

    def _calculate(self, atoms: Atoms, changes: Input, folder: Path, _: Path | None) -> Calculated | Ended:
        settings = self.settings
        unpaired = max(settings.multiplicity - 1, 0)
        grid = kpoint_grid(atoms, settings.kpoint_spacing_per_A)
        parameters = merged({"gpaw": parameters_of(settings)}, changes)["gpaw"]
        content = about_of(settings) | {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.tolist(),
            "magnetic_moments": [unpaired / len(atoms)] * len(atoms),
            "parameters": parameters | {"kpts": {"size": grid, "gamma": True}},
        }
        prefix, binary, suffix = split_gpaw(self.command)
        words = [*prefix, binary, *suffix, *_script(folder, json.dumps(content))]
        status = run_leashed(words, folder, self.walltime_s, SAID, ERRORS)
        return judged(folder, status, self.theory.hashes)


def parameters_of(settings: GpawSettings) -> dict[str, Any]:
    """Parameters of GPAW for all frames alike, nothing left to a default that changes the answer."""
    occupations: dict[str, object] = {"name": "fermi-dirac", "width": 0.0}
    if settings.smearing_eV > 0:
        occupations = {"name": "methfessel-paxton", "order": 0, "width": settings.smearing_eV}
    polarized = settings.multiplicity > 1
    limit = settings.convergence_eV
    return {
        "mode": {"name": "pw", "ecut": settings.cutoff_eV},
        "occupations": occupations | ({"fixmagmom": True} if polarized else {}),
        "convergence": {"energy": limit, "density": limit, "eigenstates": EIGENSTATES_PER_EV * limit},
        "charge": settings.charge,
        "spinpol": polarized,
        "maxiter": 200,
    }


def about_of(settings: GpawSettings) -> dict[str, Any]:
    """What tells which setups GPAW uses: the name of each, and the functional."""
    setups = {symbol: settings.setups.get(symbol, "paw") for symbol in settings.elements}
    return {"setups": setups, "xc": FUNCTIONALS[settings.functional]}


def input_problem(atoms: Atoms, settings: GpawSettings) -> str | None:
    """Tell why GPAW cannot be asked about a configuration; None if it can."""
    missing = sorted(set(atoms.symbols) - set(settings.elements))
    if missing:
        return f"the level of theory names no setup of {', '.join(missing)}"
    if atoms.cell.rank < 3:
        return "plane waves need three cell vectors; put the atoms in a box"
    # A setup leaves out whole shells of the core, so that the number of electrons is odd where Z is.
    smearing = {"smearing_eV": settings.smearing_eV}
    return electrons_problem(atoms, atomic_numbers, settings.charge, settings.multiplicity, smearing)


def judged(folder: Path, status: int | None, hashes: Mapping[str, str]) -> Calculated | Ended:
    """Tell what a run gave: the files are believed, the exit status is not.

    Parameters
    ----------
    folder
        Where it ran.
    status
        Its exit status; None if it is not known.
    hashes
        Of the setups that were asked for, by symbol.
    """
    output, errors = text_of(folder / OUTPUT), text_of(folder / ERRORS)
    if SAID_TIME in errors:
        return Ended("walltime", "time was over; raise label.walltime_h")
    if SAID_MEMORY in errors or OUT_OF_MEMORY.search(errors):
        return Ended("memory", "memory ran out; fewer calculations at once, or more processes of MPI, would help")
    if not (folder / RESULT).exists():
        if status and not output and not was_killed(status):
            return Ended("setup", f"GPAW did not begin (status {status}: {last_lines(errors)}); see label.command")
        if status in (0, None):
            return Ended("parse", f"there is no result: {last_lines(output)}")
        return Ended("crash", f"GPAW ended with status {status}: {last_lines(errors or output)}")
    try:
        result = json.loads((folder / RESULT).read_text())
        if "not_converged" in result:
            return Ended("scf", f"not converged: {result['not_converged']}")
        found = Calculated(float(result["energy"]), np.array(result["forces"]), np.array(result["stress"]), folder)
    except (ValueError, KeyError) as error:
        return Ended("parse", f"the result cannot be read: {one_line(error)}")
    if result["setups"] != dict(hashes):
        return Ended("crash", "GPAW used other setups than at first; have they been changed meanwhile?")
    if not re.search(r"^Converged (in|after) \d+", output, re.MULTILINE):
        return Ended("scf", f"the output does not say that it converged: {last_lines(output)}")
    return found


def make_gpaw(spec: LabellerSpec) -> GpawLabeller:
    """Labeller of a spec.

    Raises
    ------
    ValueError
        If its settings are wrong, or the Python that is named has no GPAW or lacks a setup.
    """
    settings, command = GpawSettings(**json.loads(spec.settings)), spec.command or sys.executable
    about = about_gpaw(command, json.dumps(about_of(settings), sort_keys=True))
    lacking = [symbol for symbol, value in about["setups"].items() if value is None]
    if lacking:
        xc = FUNCTIONALS[settings.functional]
        raise ValueError(f"GPAW has no setup of {', '.join(lacking)} for {xc}; pip install gpaw-data, or mend setups")
    theory = Theory(
        method=settings.functional,
        code="gpaw",
        settings={
            "parameters": {key: value for key, value in parameters_of(settings).items() if key != "maxiter"},
            "kpoint_spacing_per_A": settings.kpoint_spacing_per_A,
            "spin": spin_of(settings.multiplicity),
        },
        hashes=about["setups"],
        versions={"gpaw": about["version"]},
    )
    return GpawLabeller(theory, settings, command, spec.walltime_s, scratch_of(spec))


@lru_cache(maxsize=8)
def about_gpaw(command: str, content: str) -> dict[str, Any]:
    """Version of the GPAW that a command runs, and hashes of its setups.

    Raises
    ------
    ValueError
        If it has no GPAW.
    """
    _, binary, suffix = split_gpaw(command)
    with tempfile.TemporaryDirectory() as folder:
        words = [binary, *suffix, *_script(Path(folder), content)]
        try:
            run = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=ABOUT_S, check=False)
            said = last_lines(run.stderr)
            if (Path(folder) / RESULT).exists():
                return dict(json.loads((Path(folder) / RESULT).read_text()))
        except (OSError, subprocess.TimeoutExpired) as error:
            said = one_line(error)
    raise ValueError(
        f"no GPAW in {binary}: {said.rsplit(' / ', 1)[-1]}. Debian: apt install libxc-dev libopenblas-dev "
        "libopenmpi-dev; then pip install gpaw gpaw-data, into an environment of its own if need be, and name its "
        "Python in label.command"
    )


def split_gpaw(command: str) -> tuple[list[str], str, list[str]]:
    """What stands before the program, the program, and what stands after it: a Python, or ``gpaw python``."""
    try:
        return split_command(command, "gpaw", EXAMPLE)
    except ValueError:
        return split_command(command, NAME, EXAMPLE)


def _script(folder: Path, content: str) -> list[str]:
    """Words that run the script on an input; both lie in the folder, where nothing of curator is in its way."""
    (folder / INPUT).write_text(content)
    script = Path(gpaw_run.__file__)
    shutil.copyfile(script, folder / script.name)
    return [script.name, INPUT, RESULT]
