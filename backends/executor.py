"""Where work runs: tasks are plain functions of plain values, results are values as they complete."""

import time
import traceback
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from curator.backends.base import SetupError, one_line

Role = Literal["md", "label", "train"]
ROLES: tuple[Role, ...] = ("md", "label", "train")
FailedKind = Literal["error", "setup", "worker"]


@dataclass(frozen=True, slots=True)
class Task:
    """A call that may run in another process.

    Attributes
    ----------
    function
        Defined at the top of a module, so that a worker can import it.
    args
        Its arguments; they and the result travel as pickles.
    name
        Short name for logs: ``explore/T900/r1``.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Done:
    """A task that returned: its index, what it returned, and the seconds from hand-over to result."""

    index: int
    value: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A task that gave no result.

    Attributes
    ----------
    index
        Of the task.
    error
        The cause in one line.
    kind
        ``error``: it raised one. ``setup``: a :class:`SetupError`, which every task like it would raise. ``worker``:
        the process that it ran in died.
    """

    index: int
    error: str
    kind: FailedKind = "error"


Outcome = Done | Failed


class ExecutorError(RuntimeError):
    """No task can be run any more: workers cannot be started, or what connects them has died."""


class Executor(AbstractContextManager["Executor"], Protocol):
    """Runs tasks of a role."""

    def run(self, role: Role, tasks: Sequence[Task], tick: Callable[[], None] | None = None) -> Iterator[Outcome]:
        """Outcomes of the tasks as they complete, in any order; ``tick`` is called about once a second meanwhile."""
        ...

    def running(self) -> Mapping[Role, int]:
        """Count the tasks of each role that have been handed over and are not done."""
        ...

    def close(self) -> None:
        """End every process that was started; may be called twice."""
        ...

    def __exit__(self, *_: object) -> None:
        self.close()


class CountingExecutor(Executor):
    """The part that executors share: it counts the tasks of each role that are not done."""

    def __init__(self) -> None:
        self._running: dict[Role, int] = dict.fromkeys(ROLES, 0)

    def run(self, role: Role, tasks: Sequence[Task], tick: Callable[[], None] | None = None) -> Iterator[Outcome]:
        """Outcomes of the tasks as they complete; `outcomes` says in which order, and what may go wrong."""
        self._running[role] += len(tasks)
        n_left = len(tasks)
        try:
            for outcome in self.outcomes(tasks, tick):
                self._running[role] -= 1
                n_left -= 1
                yield outcome
        finally:
            self._running[role] -= n_left

    @abstractmethod
    def outcomes(self, tasks: Sequence[Task], tick: Callable[[], None] | None) -> Iterator[Outcome]:
        """Run the tasks; their outcomes as they complete."""

    def running(self) -> Mapping[Role, int]:
        """Count the tasks of each role that have been handed over and are not done."""
        return dict(self._running)


class SerialExecutor(CountingExecutor):
    """Runs tasks one after the other in this process: for debugging, tests and notebooks."""

    def outcomes(self, tasks: Sequence[Task], tick: Callable[[], None] | None) -> Iterator[Outcome]:
        """Outcomes in the order of ``tasks``; ``tick`` is called before each."""
        for index, task in enumerate(tasks):
            if tick is not None:
                tick()
            yield attempt(index, task.function, task.args)

    def close(self) -> None:
        """Do nothing: there is no process to end."""


def attempt(index: int, function: Callable[..., Any], args: tuple[Any, ...], traced: bool = False) -> Outcome:
    """Call the function of the task ``index``; if ``traced``, print where an error comes from."""
    started = time.monotonic()
    try:
        return Done(index, function(*args), time.monotonic() - started)
    except SetupError as error:
        return Failed(index, str(error), "setup")
    except (Exception, SystemExit) as error:
        if traced:
            traceback.print_exc()
        return Failed(index, one_line(error))


def open_executor(kind: Literal["serial", "local"], workers: int, folder: Path) -> Executor:
    """Executor of a kind; it starts processes at its first task.

    Parameters
    ----------
    kind
        ``serial``: in this process. ``local``: Parsl with ``workers`` processes of one thread each on this machine.
    workers
        Number of worker processes.
    folder
        Where the executor may write its logs.

    Raises
    ------
    ValueError
        If there is no such kind, or fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"run.workers must be at least 1; got {workers}")
    if kind == "serial":
        return SerialExecutor()
    if kind == "local":
        from curator.backends.parsl_executor import ParslExecutor

        return ParslExecutor(workers, folder)
    raise ValueError(f"no executor {kind!r}; there are serial and local")
