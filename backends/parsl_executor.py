"""Worker processes on this machine by Parsl, which no other module knows."""

import logging
import os
import pickle
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from curator.backends.base import one_line
from curator.backends.executor import (
    CountingExecutor,
    ExecutorError,
    Failed,
    Outcome,
    Task,
    attempt,
)
from curator.backends.guard import TOKEN_VARIABLE, WORKER_VARIABLE

SETTLE_S = 0.05
"""Pause before a task; a task takes seconds."""


class ParslExecutor(CountingExecutor):
    """Runs tasks with Parsl in worker processes of one thread each on this machine.

    Everything starts at the first task. What a worker prints, and the traceback of a task that failed, is in
    ``folder/parsl/*/submit_scripts``. No process outlives `close`, nor this process, however it ends.

    Parameters
    ----------
    workers
        Number of worker processes, shared by all roles.
    folder
        Parsl's logs go to ``folder/parsl`` and ``folder/parsl.log``.
    heartbeat_s
        A manager of workers that is silent for four times this long is given up and replaced.
    """

    def __init__(self, workers: int, folder: Path, *, heartbeat_s: int = 5) -> None:
        super().__init__()
        self._workers = workers
        self._folder = folder
        self._heartbeat_s = heartbeat_s
        self._lock = threading.Lock()
        self._parsl: _Parsl | None = None

    def outcomes(self, tasks: Sequence[Task], tick: Callable[[], None] | None) -> Iterator[Outcome]:
        """Outcomes as they complete; ``tick`` is called about once a second meanwhile.

        A task whose worker dies is tried once more. If the caller stops early, tasks that have started run to their
        end, at most two for each worker.

        Raises
        ------
        ExecutorError
            If workers cannot be started, or the executor is closed meanwhile.
        """
        waiting = list(enumerate(tasks))[::-1]
        in_flight: dict[Future[Outcome], int] = {}
        ticked = 0.0
        parsl = self._started()
        while waiting or in_flight:
            while waiting and len(in_flight) < 2 * self._workers:
                index, task = waiting.pop()
                in_flight[parsl.submit(index, task)] = index
            if tick is not None and time.monotonic() - ticked > 0.5:
                tick()
                ticked = time.monotonic()
            if self._parsl is not parsl:
                raise ExecutorError("the executor was closed while tasks were running")
            done, _ = wait(in_flight, timeout=0.8, return_when=FIRST_COMPLETED)
            if not done:
                parsl.check()
            for future in done:
                yield parsl.outcome(in_flight.pop(future), future)

    def close(self) -> None:
        """End every process that was started; may be called twice."""
        with self._lock:
            parsl, self._parsl = self._parsl, None
        if parsl is not None:
            parsl.close()

    def _started(self) -> "_Parsl":
        with self._lock:
            if self._parsl is None:
                self._parsl = _Parsl(self._workers, self._folder, self._heartbeat_s)
            return self._parsl


class _Parsl:
    """A running Parsl with its guard."""

    def __init__(self, workers: int, folder: Path, heartbeat_s: int) -> None:
        from parsl import python_app
        from parsl.config import Config
        from parsl.dataflow.dflow import DataFlowKernel
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder.resolve() / "parsl.log"
        self._handler = _log_to(self._log)
        parent = folder.resolve()
        self._link = None if shlex.quote(str(parent)) == str(parent) else _link_to(parent)
        token = uuid.uuid4().hex
        # A session of its own keeps Ctrl-C at the terminal from it.
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "curator.backends.guard", token],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._htex = HighThroughputExecutor(
                label="workers",
                address="127.0.0.1",
                max_workers_per_node=workers,
                cores_per_worker=1e-3,  # the caller decides how many workers there are, not the number of cores
                heartbeat_period=heartbeat_s,
                heartbeat_threshold=4 * heartbeat_s,
                interchange_launch_cmd=_interchange_command(token, self._log),
                block_error_handler=_give_up_if_no_worker_starts,
                provider=LocalProvider(
                    init_blocks=1, min_blocks=1, max_blocks=1, worker_init=_worker_environment(token)
                ),
            )
            self._kernel = DataFlowKernel(
                Config(
                    executors=[self._htex],
                    run_dir=str((Path(self._link.name) / "to" if self._link else parent) / "parsl"),
                    strategy="simple",  # the one that replaces a lost manager
                    strategy_period=1,
                    retries=1,
                    retry_handler=_retry_cost,
                    initialize_logging=False,
                )
            )
            self._app = python_app(_run_in_worker, data_flow_kernel=self._kernel)
        except BaseException:
            self._end()
            raise

    def submit(self, index: int, task: Task) -> "Future[Outcome]":
        """Hand a task over; one that cannot be pickled is a task that failed."""
        try:
            if task.function.__module__ == "__main__":
                raise TypeError(f"{task.function.__qualname__} must be defined in a module that workers can import")
            payload = pickle.dumps((task.function, task.args))
        except Exception as error:
            failed: Future[Outcome] = Future()
            failed.set_result(Failed(index, one_line(error)))
            return failed
        future: Future[Outcome] = self._app(index, payload)
        return future

    def outcome(self, index: int, future: "Future[Outcome]") -> Outcome:
        """Outcome of a future that is done."""
        from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, WorkerLost | ManagerLost):
            said = "its worker process died twice: killed (often for lack of memory), or crashed"
            return Failed(index, said, "worker")
        self.check()
        return Failed(index, one_line(error))

    def check(self) -> None:
        """Raise if no task can complete any more."""
        if self._htex.bad_state_is_set:
            raise ExecutorError(
                f"workers cannot be started; see {self._log}: {one_line(self._htex.executor_exception)}"
            )
        if self._htex.interchange_proc.poll() is not None:
            raise ExecutorError(f"Parsl's interchange has died; see {self._log}, and start again")

    def close(self) -> None:
        """Shut Parsl down, then let the guard end what is left."""
        # In a thread, since Parsl waits without limit for an interchange that was killed.
        cleanup = threading.Thread(target=self._clean_up, daemon=True)
        cleanup.start()
        try:
            cleanup.join(timeout=10.0)
        finally:
            self._end()

    def _clean_up(self) -> None:
        with suppress(Exception):
            self._kernel.cleanup()

    def _end(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout=15.0)
        logging.getLogger("parsl").removeHandler(self._handler)
        self._handler.close()
        if self._link:
            self._link.cleanup()


def _run_in_worker(index: int, payload: bytes) -> Outcome:
    """Attempt a task in a worker, whose id goes to the processes that the task starts."""
    # A thread of the worker may still be sending its last result: a task that kills the worker meanwhile would leave
    # the lock of Parsl's queue held for ever, and every other worker waiting for it.
    time.sleep(SETTLE_S)
    os.environ[WORKER_VARIABLE] = str(os.getpid())
    return attempt(index, _call, (payload,), traced=True)


def _call(payload: bytes) -> Any:
    function, args = pickle.loads(payload)
    return function(*args)


def _retry_cost(error: Exception, _: object) -> float:
    """Cost of a failure in retries: one for a lost worker, too much for anything else."""
    from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

    return 1.0 if isinstance(error, WorkerLost | ManagerLost) else 2.0


def _give_up_if_no_worker_starts(executor: Any, status: Mapping[str, Any]) -> None:
    """Let a manager that ran and died be replaced, but give up after two that never started."""
    from parsl.jobs.error_handlers import windowed_error_handler
    from parsl.jobs.states import JobState

    latest = dict(sorted(status.items(), key=lambda item: int(item[0]))[-2:])
    if all(job.state == JobState.MISSING for job in latest.values()):
        windowed_error_handler(executor, latest, threshold=2)


def _interchange_command(token: str, log: Path) -> list[str]:
    # Ctrl-C at the terminal is for the driver, and whoever reads the driver's output must not wait for this process.
    script = f"trap '' INT; exec interchange.py >> {shlex.quote(str(log))} 2>&1"
    path = f"PATH={Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return ["env", path, *_marks(token), "bash", "-c", script]


def _worker_environment(token: str) -> str:
    one_thread = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    settings = [*_marks(token), *(f"{name}=1" for name in one_thread)]
    return f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH" {" ".join(settings)}'


def _marks(token: str) -> list[str]:
    # The second keeps setproctitle, which Parsl calls, from overwriting the environment that shows the first.
    return [f"{TOKEN_VARIABLE}={token}", "SPT_NOENV=1"]


def _link_to(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a folder with a link ``to`` another, for Parsl puts paths into shell scripts bare, blanks and all."""
    link = tempfile.TemporaryDirectory(prefix="curator-")
    (Path(link.name) / "to").symlink_to(folder, target_is_directory=True)
    return link


def _log_to(path: Path) -> logging.Handler:
    """Send Parsl's warnings to a file and nowhere else."""
    handler = logging.FileHandler(path, delay=True)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logger = logging.getLogger("parsl")
    logger.addHandler(handler)
    logger.propagate = False
    return handler
