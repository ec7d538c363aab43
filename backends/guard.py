"""A process beside the driver that ends what the driver or a worker leaves behind.

Parsl's interchange, managers and workers outlive a driver that is killed, and so do the programs that a killed worker
was running. Every process an executor starts carries the executor's token in its environment, and so do its
descendants, whatever group or session they move to. The guard sees the driver's end as the end of its own standard
input, whichever way the driver ends, and kills whatever carries the token; while the driver lives, it kills the
descendants of workers that are gone. A program that clears or overwrites its environment escapes it.
"""

import os
import select
import sys
import time
from contextlib import suppress

import psutil

TOKEN_VARIABLE = "CURATOR_EXECUTOR"
WORKER_VARIABLE = "CURATOR_WORKER"
"""Process id of the worker whose task started a process."""
PATIENCE_S = 10.0


def marked(token: str) -> list[tuple[psutil.Process, str | None]]:
    """Find the processes that carry a token, each with the process id of the worker that started it, if one did."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get(TOKEN_VARIABLE) == token:
                found.append((process, environment.get(WORKER_VARIABLE)))
    return found


def kill_marked(token: str) -> None:
    """Kill every process that carries a token, again and again until there is none."""
    deadline = time.monotonic() + PATIENCE_S
    while (processes := marked(token)) and time.monotonic() < deadline:
        for process, _ in processes:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.1)


def kill_orphans(token: str) -> None:
    """Kill the processes that a worker started which lives no more."""
    processes = marked(token)
    alive = {str(process.pid) for process, _ in processes}
    for process, worker in processes:
        if worker is not None and worker not in alive:
            with suppress(psutil.Error):
                process.kill()


def main() -> None:
    """Guard the executor whose token is the first argument for as long as the parent process lives."""
    token, driver = sys.argv[1], os.getppid()
    # A fork of the driver may hold the other end of the pipe open after it; the change of parent tells all the same.
    while os.getppid() == driver and not select.select([sys.stdin], [], [], 1.0)[0]:
        kill_orphans(token)
    kill_marked(token)


if __name__ == "__main__":
    main()
