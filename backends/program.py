"""Programs that are run for a label: how they are named, found, held to a time limit, and what they have said."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from curator.backends import leash
from curator.backends.base import LabellerSpec, SetupError

N_LAST_LINES = 3
OUT_OF_MEMORY = re.compile(
    r"can(no|')t allocate|not enough memory|out of memory|insufficient (virtual )?memory|allocation failed|"
    r"exceed memory limit|bad_alloc|MemoryError",
    re.IGNORECASE,
)
"""What programs, and the systems under them, say when memory ran out."""


def split_command(command: str, name: str, example: str) -> tuple[list[str], str, list[str]]:
    """What stands before the program, the program, and what stands after it.

    Parameters
    ----------
    command
        Given by the user; a relative path of the program is made absolute, since it runs in another folder.
    name
        How the file name of the program begins.
    example
        A command that is right.

    Raises
    ------
    ValueError
        If no word of the command is the program.
    """
    words = shlex.split(command)
    for idx, word in enumerate(words):
        if Path(word).name.startswith(name):
            return words[:idx], str(Path(word).absolute()) if "/" in word else word, words[idx + 1 :]
    raise ValueError(f"label.command: {command!r} runs no {name}; give for instance: {example}")


def scratch_of(spec: LabellerSpec) -> Path:
    """Folder in which the programs of a labeller run."""
    return Path(spec.scratch).absolute() if spec.scratch else Path(tempfile.gettempdir()) / f"curator-{os.getuid()}"


def require_programs(before: Sequence[str], program: str) -> None:
    """Raise :class:`SetupError` if a program, or the one that launches it, is not here."""
    for each in (*before[:1], program):
        if shutil.which(each) is None:
            raise SetupError(f"no program {each} on this machine; install it, or give label.command")


def leashed(words: list[str], walltime_s: float) -> list[str]:
    """Command that runs another within a time limit, and no longer than the process that started it lives."""
    return [sys.executable, leash.__file__, f"{walltime_s:g}", *words]


def run_leashed(words: list[str], folder: Path, walltime_s: float, output: str, errors: str) -> int:
    """Exit status of a program that runs in a folder; what it says goes into two files there."""
    with (folder / output).open("wb") as out, (folder / errors).open("wb") as err:
        run = subprocess.run(leashed(words, walltime_s), cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    return run.returncode


def was_killed(status: int) -> bool:
    """Whether an exit status, as a shell gives it, is that of a program which a signal ended."""
    return status - leash.KILLED_BY in signal.valid_signals()


def last_lines(text: str) -> str:
    """The last lines of an output that say something, on one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" -=%\t")]
    return " / ".join(lines[-N_LAST_LINES:]) or "it said nothing"


def text_of(path: Path) -> str:
    """Content of a file; empty if there is none."""
    return path.read_text(errors="replace") if path.exists() else ""
