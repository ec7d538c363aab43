"""What really happened in a run of pw.x: its files are believed, its exit status and its last line are not.

pw.x ends with status 2 both when it did not converge and when its time was over, and says "JOB DONE." either way; with
``scf_must_converge=.false.`` it even succeeds, and calls the last step converged. A pseudopotential that is missing may
be replaced by another of the same name that came with the program.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from curator.backends.base import FailureReason
from curator.backends.dft import Ended
from curator.backends.leash import SAID_MEMORY, SAID_TIME
from curator.backends.program import OUT_OF_MEMORY, last_lines, text_of

OUTPUT, ERRORS, INPUT = "pw.out", "pw.err", "pw.in"

_ACHIEVED, _NOT_ACHIEVED = "convergence has been achieved", "convergence NOT achieved"
_ROUTINE = re.compile(r"Error in routine\s+(\S+)\s*\((-?\d+)\):\s*\n\s*(.+)")
_SCF_ROUTINES = ("cdiaghg", "rdiaghg", "c_bands", "cegterg", "regterg", "mix_rho", "electrons")
_ACCURACY = re.compile(r"estimated scf accuracy\s*<\s*(\S+)\s*Ry")
_PSEUDO = re.compile(r"PseudoPot\. #\s*\d+ for\s+(\S+)\s+read from file:\s*\n\s*(.+?)\s*\n\s*MD5 check sum:\s*(\w+)")


def what_ended(folder: Path, status: int | None, md5_of: Mapping[str, str], functional: str) -> Ended | None:
    """Tell why a run of pw.x is no label; None if it is one.

    Parameters
    ----------
    folder
        Where it ran.
    status
        Its exit status; None if it is not known.
    md5_of
        MD5 of the pseudopotential that was asked for, by symbol.
    functional
        Functional that they were made for; empty if the input names another one.
    """
    output, errors = text_of(folder / OUTPUT), text_of(folder / ERRORS)
    crash = text_of(folder / "CRASH")
    if SAID_TIME in errors or "Maximum CPU time exceeded" in output:
        return Ended("walltime", f"time was over after {_n_iterations(output)} SCF steps; raise label.walltime_h")
    if SAID_MEMORY in errors or OUT_OF_MEMORY.search(output + errors + crash):
        return Ended("memory", "memory ran out; fewer calculations at once, or more nodes, would help")
    wrong = _wrong_pseudopotential(output, md5_of)
    if wrong:
        return Ended("crash", wrong)
    if _NOT_ACHIEVED in output or _only_says_converged(output):
        return Ended("scf", f"not converged after {_n_iterations(output)} SCF steps{_accuracy(output)}")
    routine = _ROUTINE.search(output) or _ROUTINE.search(crash)
    if routine:
        name, number, said = routine.groups()
        kind: FailureReason = "scf" if name in _SCF_ROUTINES else "crash"
        return Ended(kind, f"pw.x stopped in {name} ({number}): {' '.join(said.split())}")
    if status not in (0, None):
        return Ended("crash", f"pw.x ended with status {status}: {last_lines(errors or output)}")
    if _ACHIEVED not in output or "JOB DONE" not in output:
        return Ended("parse", f"the output is cut short: {last_lines(output)}")
    used = re.search(r"Exchange-correlation\s*=\s*(\S+)", output)
    if functional and used and used[1].upper() != functional.upper():
        return Ended("crash", f"pw.x calculated with {used[1]}, the pseudopotentials are for {functional}")
    return None


def _wrong_pseudopotential(output: str, md5_of: Mapping[str, str]) -> str | None:
    for symbol, path, md5 in _PSEUDO.findall(output):
        if symbol in md5_of and md5 != md5_of[symbol]:
            return f"pw.x read another pseudopotential of {symbol} than it was given: {path}"
    return None


def _n_iterations(output: str) -> int:
    return len(re.findall(r"iteration #", output))


def _only_says_converged(output: str) -> bool:
    """Whether the estimated accuracy never fell below the threshold, whatever the output says at its end."""
    threshold = re.search(r"scf convergence threshold\s*=\s*(\S+)", output)
    reached = _ACCURACY.findall(output)
    return threshold is not None and bool(reached) and float(reached[-1]) > float(threshold[1])


def _accuracy(output: str) -> str:
    found = _ACCURACY.findall(output)
    return f", estimated accuracy {found[-1]} Ry" if found else ""
