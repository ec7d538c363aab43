"""Tasks run, fail as values, and leave no process behind. Tasks are functions of the standard library."""

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from curator.backends.executor import (
    Done,
    Executor,
    ExecutorError,
    Failed,
    SerialExecutor,
    Task,
    open_executor,
)
from curator.backends.parsl_executor import ParslExecutor
from curator.backends.program import require_programs


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ParslExecutor]:
    # The blank in the folder's name is part of the test.
    with ParslExecutor(2, tmp_path_factory.mktemp("run dir"), heartbeat_s=1) as executor:
        list(executor.run("md", [Task(os.getpid, (), "warm-up")]))
        yield executor


@pytest.fixture(params=["serial", "local"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return SerialExecutor() if request.param == "serial" else request.getfixturevalue("local")


def _marked(mark: str) -> list[psutil.Process]:
    """Processes with a mark in their environment or working folder: a driver and its descendants, whoever adopted them.

    Both, since a program that gives itself a title, as Parsl's interchange does, may overwrite its environment.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TEST_MARK") == mark or mark in process.cwd():
                found.append(process)
        except psutil.Error:
            continue
    return found


def _sleeps(mark: str) -> list[psutil.Process]:
    return [process for process in _marked(mark) if process.name() == "sleep"]


def _wait_until(condition: Callable[[], object], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_values_and_failures_come_with_their_index(executor: Executor) -> None:
    tasks = [
        Task(math.sqrt, (9.0,), "root"),
        Task(math.sqrt, (-1.0,), "no root"),
        Task(sys.exit, (3,), "exits"),
        Task(math.factorial, (5,), "factorial"),
    ]
    outcomes = sorted(executor.run("label", tasks), key=lambda outcome: outcome.index)
    assert [type(outcome) for outcome in outcomes] == [Done, Failed, Failed, Done]
    assert [outcome.value for outcome in outcomes if isinstance(outcome, Done)] == [3.0, 120]
    assert [outcome.error for outcome in outcomes if isinstance(outcome, Failed)] == [
        "ValueError: math domain error",
        "SystemExit: 3",
    ]


def test_what_is_wrong_with_the_set_up_is_told_apart(executor: Executor) -> None:
    tasks = [Task(require_programs, ((), "pw-gone.x"), "missing"), Task(math.sqrt, (-1.0,), "no root")]
    missing, no_root = sorted(executor.run("label", tasks), key=lambda outcome: outcome.index)
    assert isinstance(missing, Failed)
    assert (missing.kind, missing.error[:20]) == ("setup", "no program pw-gone.x")
    assert no_root == Failed(1, "ValueError: math domain error", "error")


def test_a_task_that_cannot_travel_fails_and_the_others_run(local: ParslExecutor) -> None:
    tasks = [
        Task(len, (threading.Lock(),), "argument"),
        Task(os.walk, (".",), "result"),
        Task(len, ("abc",), "length"),
    ]
    arguments, result, length = sorted(local.run("label", tasks), key=lambda outcome: outcome.index)
    assert isinstance(arguments, Failed)
    assert isinstance(result, Failed)
    assert "cannot pickle" in arguments.error
    assert "cannot pickle" in result.error
    assert isinstance(length, Done)
    assert length.value == 3


def test_tick_and_counts_while_waiting(local: ParslExecutor) -> None:
    counts, ticks = [], []

    def tick() -> None:
        ticks.append(time.monotonic())
        counts.append(local.running()["train"])

    started = time.monotonic()
    n_done = sum(1 for _ in local.run("train", [Task(time.sleep, (1.5,), "sleep")] * 4, tick))
    seconds = time.monotonic() - started
    assert n_done == 4
    assert 3.0 <= seconds < 5.9  # two at a time
    assert max(late - early for early, late in itertools.pairwise(ticks)) < 2.0
    assert counts[0] == 4
    assert counts[-1] < 4
    assert counts == sorted(counts, reverse=True)
    assert local.running() == {"md": 0, "label": 0, "train": 0}


def test_results_come_as_they_complete(local: ParslExecutor) -> None:
    tasks = [Task(time.sleep, (1.0,), "slow"), Task(time.sleep, (0.0,), "fast")]
    assert [outcome.index for outcome in local.run("md", tasks)] == [1, 0]


def test_a_caller_that_stops_early_leaves_nothing_counted(local: ParslExecutor) -> None:
    for _ in local.run("md", [Task(math.sqrt, (4.0,), "root")] * 50):
        break
    assert local.running()["md"] == 0


def test_workers_use_one_thread(local: ParslExecutor) -> None:
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    outcomes = local.run("md", [Task(os.getenv, (name,), name) for name in variables])
    assert [outcome.value for outcome in outcomes if isinstance(outcome, Done)] == ["1", "1", "1"]


def test_a_killed_worker_costs_one_retry_and_its_child_dies(local: ParslExecutor, tmp_path: Path) -> None:
    # The task kills its own worker the first time, while a child of the worker sleeps in a session of its own.
    mark, flag = uuid.uuid4().hex, tmp_path / "flag"
    script = f"test -e {flag} && exit 0; touch {flag}; TEST_MARK={mark} setsid sleep 1000 & sleep 0.5; kill -9 $PPID"
    (outcome,) = local.run("label", [Task(subprocess.call, (["bash", "-c", script],), "suicide")])
    assert isinstance(outcome, Done)
    assert outcome.value == 0
    assert _wait_until(lambda: not _sleeps(mark), 5.0)


def test_a_task_that_always_kills_its_worker_fails(local: ParslExecutor) -> None:
    outcomes = sorted(
        local.run("label", [Task(os.abort, (), "poison"), Task(math.sqrt, (4.0,), "root")]),
        key=lambda outcome: outcome.index,
    )
    assert isinstance(outcomes[0], Failed)
    assert "worker process died twice" in outcomes[0].error
    assert outcomes[0].kind == "worker"
    assert isinstance(outcomes[1], Done)


def test_a_killed_manager_is_replaced(local: ParslExecutor) -> None:
    (manager,) = [outcome.value for outcome in local.run("md", [Task(os.getppid, (), "parent")])]  # type: ignore[union-attr]
    killed = []

    def tick() -> None:
        if not killed and local.running()["md"]:
            killed.append(os.kill(manager, signal.SIGKILL))

    outcomes = list(local.run("md", [Task(time.sleep, (2.0,), "sleep")] * 2, tick))
    assert killed
    assert [type(outcome) for outcome in outcomes] == [Done, Done]


_DRIVER = """
import subprocess
from pathlib import Path
from curator.backends.executor import Task, open_executor
with open_executor("local", 2, Path("run")) as executor:
    for outcome in executor.run("md", [Task(subprocess.call, (["setsid", "-w", "sleep", "1000"],), "sleep")] * 2):
        print(outcome)
"""


def test_a_driver_that_dies_leaves_no_process(tmp_path: Path) -> None:
    signals = {signal.SIGKILL: -9, signal.SIGTERM: -15, signal.SIGINT: -2}
    drivers = {}
    for number in signals:
        mark = uuid.uuid4().hex
        (tmp_path / mark).mkdir()
        driver = subprocess.Popen(
            [sys.executable, "-c", _DRIVER],
            cwd=tmp_path / mark,
            env=os.environ | {"TEST_MARK": mark, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that runs the tests in the background has them ignore Ctrl-C, and ignoring is inherited.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        drivers[number] = mark, driver
    for mark, _ in drivers.values():
        assert _wait_until(lambda mark=mark: len(_sleeps(mark)) == 2, 60.0)
    for number, (_, driver) in drivers.items():
        if number == signal.SIGINT:
            os.killpg(driver.pid, number)  # as Ctrl-C at a terminal does
        else:
            driver.send_signal(number)
    for number, (mark, driver) in drivers.items():
        # Whoever reads the output of the driver gets its end.
        output, _ = driver.communicate(timeout=15.0)
        assert driver.returncode == signals[number]
        if number == signal.SIGINT:
            assert output.count("Traceback") == 1
            assert output.rstrip().endswith("KeyboardInterrupt")
        else:
            assert output == ""
        assert _wait_until(lambda mark=mark: not _marked(mark), 10.0), _marked(mark)


def test_close_leaves_no_process_and_no_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = set(psutil.Process().children(recursive=True))
    executor = open_executor("local", 1, tmp_path)
    mark = uuid.uuid4().hex
    task = Task(subprocess.call, (["env", f"TEST_MARK={mark}", "setsid", "-w", "sleep", "1000"],), "sleep")

    def tick() -> None:
        if _sleeps(mark):
            executor.close()

    with pytest.raises(ExecutorError, match="closed while tasks were running"):
        list(executor.run("md", [task], tick))
    assert not _marked(mark)
    assert set(psutil.Process().children(recursive=True)) <= before
    executor.close()
    assert capfd.readouterr() == ("", "")


def test_workers_that_cannot_start_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import curator.backends.parsl_executor as module

    monkeypatch.setattr(module, "_worker_environment", lambda token: "echo no such module >&2; exit 7")
    with ParslExecutor(1, tmp_path, heartbeat_s=1) as executor, pytest.raises(ExecutorError, match="no such module"):
        list(executor.run("md", [Task(os.getpid, (), "never")]))


def test_unknown_kind_and_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="serial and local"):
        open_executor("cloud", 1, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1; got 0"):
        open_executor("local", 0, tmp_path)


def test_importing_the_module_does_not_import_parsl() -> None:
    code = "import sys, curator.backends.parsl_executor; sys.exit('parsl' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.call([sys.executable, "-c", code]) == 0
