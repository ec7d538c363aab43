"""Runs one program for another process: within a time limit, and no longer than that process lives.

``python leash.py SECONDS [--remove FOLDER] PROGRAM [ARGUMENT ...]``. The program gets a session of its own, so that
everything it starts can be killed with it, ``mpirun`` and its ranks included; a folder may go with it. Why it was ended
is said on standard error.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

TIMED_OUT, NOT_FOUND, KILLED_BY = 124, 127, 128
"""Exit statuses, as those of timeout(1) and of a shell: the last one is added to the number of the signal."""
REMOVE = "--remove"
SAID_TIME, SAID_MEMORY = "curator: time limit of", "curator: killed for want of memory"
LOOK_S = 0.2
OOM_COUNTER = Path("/proc/vmstat")


def main() -> int:
    """Exit status of the program, or one of those above."""
    limit_s, *command = sys.argv[1:]
    folder = ""
    if command[0] == REMOVE:
        _, folder, *command = command
    parent, deadline, killed_before = os.getppid(), time.monotonic() + float(limit_s), _killed_for_memory()
    signal.signal(signal.SIGTERM, _leave)
    try:
        process = subprocess.Popen(command, start_new_session=True)
    except OSError as error:
        print(f"curator: cannot run {command[0]}: {error}", file=sys.stderr)
        return NOT_FOUND
    done = _watch(process, folder)
    try:
        while os.getppid() == parent:
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(LOOK_S)
                break
            if time.monotonic() > deadline:
                print(f"{SAID_TIME} {float(limit_s):g} s", file=sys.stderr)
                return TIMED_OUT
        else:
            return KILLED_BY + signal.SIGKILL
    finally:
        _clear(process, folder)
        os.write(done, b".")
    if status == -signal.SIGKILL and _killed_for_memory() > killed_before:
        print(SAID_MEMORY, file=sys.stderr)
    return status if status >= 0 else KILLED_BY - status


def _watch(process: "subprocess.Popen[bytes]", folder: str) -> int:
    """Leave a process behind that clears up if this one is killed first, as an interrupted driver may do.

    Returns
    -------
    int
        File descriptor that takes a byte when there is nothing left to clear up.
    """
    told, done = os.pipe()
    if os.fork():
        os.close(told)
        return done
    try:
        os.setsid()
        os.close(done)
        if not os.read(told, 1):
            _clear(process, folder)
    finally:
        os._exit(0)


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(KILLED_BY + number)


def _clear(process: "subprocess.Popen[bytes]", folder: str) -> None:
    """Kill what is left of a program, of its group and of its descendants in groups of their own; remove its folder."""
    descendants: list[psutil.Process] = []
    with suppress(psutil.Error):
        descendants = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in descendants:
        with suppress(psutil.Error):
            each.kill()
    process.wait()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def _killed_for_memory() -> int:
    """How many processes this system has killed for want of memory since it started; 0 where it does not tell."""
    with suppress(OSError):
        for line in OOM_COUNTER.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
