"""What really happened in a run of VASP: its files are believed, its exit status is not.

VASP ends with status 0 whether it converged or not. OUTCAR says which, in the same words from VASP 5 on, and ends with
an account of the time only if the run came to its end.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from curator.backends.base import one_line
from curator.backends.dft import Calculated, Ended
from curator.backends.leash import SAID_MEMORY, SAID_TIME
from curator.backends.program import OUT_OF_MEMORY, last_lines, text_of, was_killed
from curator.datasets.units import KBAR

OUTPUT, ERRORS = "vasp.out", "vasp.err"

_REACHED, _NOT_REACHED = "aborting loop because EDIFF is reached", "aborting loop EDIFF was not reached"
_FINISHED = "General timing and accounting informations for this job"
_BOX = re.compile(r"^\s*\|(.*[a-z].*)\|\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run was asked for and must confirm.

    Attributes
    ----------
    titles
        Of the POTCARs, in their order.
    n_electrons
        NELECT.
    cutoff_eV
        ENCUT in eV.
    order
        Index of the atom that was given, for each atom in POSCAR.
    """

    titles: Sequence[str]
    n_electrons: float
    cutoff_eV: float
    order: NDArray[np.intp]


def what_ended(folder: Path, status: int | None) -> Ended | None:
    """Tell why a run of VASP is no label; None if it came to its end and converged.

    Parameters
    ----------
    folder
        Where it ran.
    status
        Its exit status; None if it is not known.
    """
    outcar, errors = text_of(folder / "OUTCAR"), text_of(folder / ERRORS)
    said = text_of(folder / OUTPUT) + errors
    if SAID_TIME in errors:
        return Ended("walltime", f"time was over after {_n_steps(outcar)} SCF steps; raise label.walltime_h")
    if SAID_MEMORY in errors or OUT_OF_MEMORY.search(said):
        return Ended("memory", "memory ran out; fewer calculations at once, more nodes, or incar: {NCORE: ...} help")
    finished = _FINISHED in outcar
    if _NOT_REACHED in outcar or (finished and _REACHED not in outcar):
        return Ended("scf", f"not converged after {_n_steps(outcar)} SCF steps{_accuracy(outcar)}")
    if finished and text_of(folder / "vasprun.xml").rstrip().endswith("</modeling>"):
        return None
    complaint = _complaint(said + outcar)
    if complaint:
        return Ended("crash", f"VASP stopped: {complaint}")
    if status and not was_killed(status) and not outcar:
        return Ended("setup", f"VASP did not begin (status {status}: {last_lines(said)}); see label.command")
    if status not in (0, None):
        return Ended("crash", f"VASP ended with status {status}: {last_lines(said)}")
    return Ended("parse", f"the output is cut short: {last_lines(outcar or said)}")


def read_result(folder: Path, asked: Asked) -> Calculated | Ended:
    """Numbers of a run that came to its end, in the order of the atoms that were given."""
    from pymatgen.io.vasp.outputs import Vasprun

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = Vasprun(
                str(folder / "vasprun.xml"),
                parse_dos=False,
                parse_eigen=False,
                parse_projected_eigen=False,
                parse_potcar_file=False,
            )
        (step,) = run.ionic_steps
        energy, forces, stress_kB = step["e_fr_energy"], np.asarray(step["forces"]), np.asarray(step["stress"])
        titles, n_electrons, cutoff_eV = run.potcar_symbols, run.parameters["NELECT"], run.parameters["ENMAX"]
    except Exception as error:
        return Ended("parse", f"vasprun.xml cannot be read: {one_line(error)}")
    for what, wanted, used in (
        ("the POTCARs", list(asked.titles), titles),
        ("NELECT", asked.n_electrons, n_electrons),
        ("ENCUT", asked.cutoff_eV, cutoff_eV),
    ):
        if wanted != used and not (isinstance(wanted, float) and abs(wanted - used) < 1e-6):
            return Ended("crash", f"VASP used other values of {what} than it was given: {used} for {wanted}")
    if len(forces) != len(asked.order):
        return Ended("parse", f"vasprun.xml has forces on {len(forces)} atoms of {len(asked.order)}")
    given = np.empty_like(forces)
    given[asked.order] = forces
    voigt = full_3x3_to_voigt_6_stress(-KBAR * stress_kB)  # VASP's sign is the other one
    return Calculated(float(energy), given, voigt, folder)


def _complaint(text: str) -> str | None:
    """What VASP says of itself, by custodian's list of its complaints, or in the last box that it drew."""
    from custodian.vasp.handlers import VaspErrorHandler

    for name, phrases in VaspErrorHandler.error_msgs.items():
        for phrase in phrases:
            if phrase in text:
                line = next(line for line in text.splitlines() if phrase in line)
                return f"{' '.join(line.strip(' |').split())} ({name})"
    if "I REFUSE TO CONTINUE" in text:
        return " ".join(" ".join(_BOX.findall(text)).split())[:300]
    return None


def _n_steps(outcar: str) -> int:
    return len(re.findall(r"-+ Iteration ", outcar))


def _accuracy(outcar: str) -> str:
    found = re.findall(r"total energy-change \(2\. order\)\s*:\s*(\S+)", outcar)
    return f", last change of the energy {found[-1]} eV" if found else ""
