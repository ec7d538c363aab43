"""Where work runs: tasks are plain functions of plain values, results are values as they complete.

The only module that knows Parsl.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from curator.backends.base import one_line

Role = Literal["md", "label", "train"]
ROLES: tuple[Role, ...] = ("md", "label", "train")


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
    """A task that gave no result: its index and the cause in one line."""

    index: int
    error: str


Outcome = Done | Failed


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


class SerialExecutor:
    """Runs tasks one after the other in this process: for debugging, tests and notebooks."""

    def __init__(self) -> None:
        self._running: dict[Role, int] = dict.fromkeys(ROLES, 0)

    def run(self, role: Role, tasks: Sequence[Task], tick: Callable[[], None] | None = None) -> Iterator[Outcome]:
        """Outcomes in the order of ``tasks``; ``tick`` is called before each."""
        self._running[role] += len(tasks)
        n_left = len(tasks)
        try:
            for index, task in enumerate(tasks):
                if tick is not None:
                    tick()
                started = time.monotonic()
                outcome: Outcome
                try:
                    outcome = Done(index, task.function(*task.args), time.monotonic() - started)
                except Exception as error:
                    outcome = Failed(index, one_line(error))
                self._running[role] -= 1
                n_left -= 1
                yield outcome
        finally:
            self._running[role] -= n_left

    def running(self) -> Mapping[Role, int]:
        """Count the tasks of each role that are not done."""
        return dict(self._running)

    def close(self) -> None:
        """Do nothing: there is no process to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
    raise ValueError(f"no executor {kind!r}; there are serial and local")
