import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from curator.datasets.fence import DriverError, acquire, is_driven

HOLD = """
import sys, time
from curator.datasets.fence import acquire
fence = acquire(sys.argv[1])
print(fence.token, flush=True)
"""


def hold(folder: Path, then: str = "time.sleep(60)") -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD + then, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    return process


def test_tokens_rise_and_outlive_their_drivers(tmp_path: Path) -> None:
    tokens = []
    for _ in range(3):
        with acquire(tmp_path / "campaign") as fence:
            tokens.append(fence.token)
            fence.check()
    assert tokens == [1, 2, 3]
    assert (tmp_path / "campaign" / "driver.token").read_text() == "3\n"


def test_second_driver_is_told_host_and_process(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        with pytest.raises(DriverError, match=f"on host {os.uname().nodename} as process {process.pid}"):
            acquire(tmp_path)
    finally:
        process.kill()
        process.wait()
    # The kernel has taken the lock away from the dead.
    with acquire(tmp_path) as fence:
        assert fence.token == 2


def test_second_driver_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with acquire(tmp_path) as fence:
        with pytest.raises(DriverError, match=f"process {os.getpid()}"):
            acquire(tmp_path)
        fence.check()
    with acquire(tmp_path):
        pass


def test_a_driver_is_seen_from_outside_and_not_disturbed(tmp_path: Path) -> None:
    assert not is_driven(tmp_path)
    process = hold(tmp_path)
    try:
        assert is_driven(tmp_path)
    finally:
        process.kill()
        process.wait()
    assert not is_driven(tmp_path)
    with acquire(tmp_path) as fence:
        assert is_driven(tmp_path)
        fence.check()
    assert not is_driven(tmp_path / "missing")


def test_who_looks_at_the_lock_keeps_no_driver_out(tmp_path: Path) -> None:
    acquire(tmp_path).release()
    with (tmp_path / "driver.lock").open() as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, fcntl.flock, (looker, fcntl.LOCK_UN))
        timer.start()
        acquire(tmp_path).release()
        timer.join()


def test_forked_child_of_a_killed_driver_does_not_keep_the_lock(tmp_path: Path) -> None:
    fork = "import os\npid = os.fork()\nif pid: print(pid, flush=True)\ntime.sleep(60)"
    process = hold(tmp_path, fork)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        # The child gives its copy back as soon as it runs.
        time.sleep(0.2)
        process.kill()
        process.wait()
        os.kill(child, 0)
        acquire(tmp_path).release()
    finally:
        os.kill(child, signal.SIGKILL)


def test_stale_driver_is_refused(tmp_path: Path) -> None:
    with acquire(tmp_path) as fence:
        # As if the lock had been lost on a network file system and a second driver had started.
        (tmp_path / "driver.token").write_text("2\n")
        with pytest.raises(DriverError, match=r"driver 2 has taken over from this one \(driver 1\)"):
            fence.check()


def test_released_fence_is_refused(tmp_path: Path) -> None:
    fence = acquire(tmp_path)
    fence.release()
    fence.release()
    with pytest.raises(DriverError, match="released"):
        fence.check()


def test_damaged_token_is_not_taken_for_zero(tmp_path: Path) -> None:
    (tmp_path / "driver.token").write_text("")
    with pytest.raises(ValueError, match="holds no number"):
        acquire(tmp_path)
    (tmp_path / "driver.token").write_text("7\n")
    with acquire(tmp_path) as fence:
        assert fence.token == 8
