"""What really happened in a run of pw.x: its files are believed, its exit status and its last line are not.

pw.x ends with status 2 both when it did not converge and when its time was over, and says "JOB DONE." either way; with
``scf_must_converge=.false.`` it even succeeds, and calls the last step converged. A pseudopotential that is missing may
be replaced by another of the same name that came with the program.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curator.backends.dft import Ended
from curator.backends.leash import SAID_MEMORY, SAID_TIME
from curator.backends.program import OUT_OF_MEMORY, last_lines, text_of, was_killed
from curator.datasets.espresso import (
    accuracies_Ry,
    functional_named,
    functional_used,
    potentials_read,
    threshold_Ry,
)

OUTPUT, ERRORS, INPUT = "pw.out", "pw.err", "pw.in"

_BEGUN = "Program PWSCF"
_ACHIEVED, _NOT_ACHIEVED = "convergence has been achieved", "convergence NOT achieved"
_ROUTINE = re.compile(r"Error in routine\s+(\S+)\s*\((-?\d+)\):\s*\n\s*(.+)")
_CRASH = re.compile(r"from\s+(\S+)\s*: error #\s*(-?\d+)\s*\n\s*(.+)")
_SCF_ROUTINES = ("cdiaghg", "rdiaghg", "c_bands", "cegterg", "regterg", "mix_rho", "electrons")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Words with which pw.x refuses to calculate, so that no remedy helps.

    Attributes
    ----------
    routine, words
        Where it stops, and how what it says begins; every word will do if empty.
    reason
        ``setup`` if every frame would be refused, ``input`` if it may be this one alone.
    remedy
        What the user can do.
    """

    routine: str
    words: str
    reason: Literal["setup", "input"]
    remedy: str


_PARALLEL = "-nk, -nb and -nt of label.command must divide the number of its processes"
_INPUT = "see label.input_data"
REFUSALS: tuple[Refusal, ...] = (
    Refusal("mp_start_pools", "", "setup", _PARALLEL),
    Refusal("mp_start_bands", "", "setup", _PARALLEL),
    Refusal("mp_bands", "", "setup", _PARALLEL),
    Refusal("read_namelists", "", "setup", "this version of pw.x does not know a key, or not this value: " + _INPUT),
    Refusal("readpp", "", "setup", "see label.pseudopotentials; has a file been moved?"),
    Refusal("set_dft_from_name", "", "setup", _INPUT),
    Refusal("set_cutoff", "", "setup", _INPUT),
    Refusal("set_occupations", "", "setup", _INPUT),
    Refusal("iosys", "", "input", _INPUT),
    Refusal(
        "setup", "too few bands", "input", "leave nbnd out of label.input_data, or raise it for this many electrons"
    ),
    Refusal("init_lda_plus_u", "", "input", _INPUT),
)
"""In the words of pw.x 6.7."""


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
    n_begun = output.count(_BEGUN)
    if n_begun > 1:
        return Ended("setup", f"{n_begun} pw.x ran, each by itself; label.command must launch it with its own MPI")
    wrong = _wrong_pseudopotential(output, md5_of)
    if wrong:
        return Ended("crash", wrong)
    if _NOT_ACHIEVED in output or _only_says_converged(output):
        return Ended("scf", f"not converged after {_n_iterations(output)} SCF steps{_accuracy(output)}")
    routine = _ROUTINE.search(output) or _CRASH.search(crash)
    if routine:
        return _stopped(*routine.groups())
    if status and not was_killed(status) and not n_begun:
        return Ended(
            "setup", f"pw.x did not begin (status {status}: {last_lines(errors or output)}); see label.command"
        )
    if status not in (0, None):
        return Ended("crash", f"pw.x ended with status {status}: {last_lines(errors or output)}")
    if _ACHIEVED not in output or "JOB DONE" not in output:
        return Ended("parse", f"the output is cut short: {last_lines(output)}")
    used = functional_used(output)
    if functional and used not in (None, functional_named(functional)):
        return Ended("setup", f"pw.x calculated with {used}, the pseudopotentials are for {functional}")
    return None


def _stopped(routine: str, number: str, said: str) -> Ended:
    words = " ".join(said.split())
    message = f"pw.x stopped in {routine} ({number}): {words}"
    for refusal in REFUSALS:
        if refusal.routine == routine and words.startswith(refusal.words):
            return Ended(refusal.reason, f"{message}; {refusal.remedy}")
    return Ended("scf" if routine in _SCF_ROUTINES else "crash", message)


def _wrong_pseudopotential(output: str, md5_of: Mapping[str, str]) -> str | None:
    for symbol, path, md5 in potentials_read(output):
        if symbol in md5_of and md5 != md5_of[symbol]:
            return f"pw.x read another pseudopotential of {symbol} than it was given: {path}"
    return None


def _n_iterations(output: str) -> int:
    return len(re.findall(r"iteration #", output))


def _only_says_converged(output: str) -> bool:
    """Whether the estimated accuracy never fell below the threshold, whatever the output says at its end."""
    threshold, reached = threshold_Ry(output), accuracies_Ry(output)
    return threshold is not None and bool(reached) and reached[-1] > threshold


def _accuracy(output: str) -> str:
    found = accuracies_Ry(output)
    return f", estimated accuracy {found[-1]:.1e} Ry" if found else ""
