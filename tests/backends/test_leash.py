"""A program on the leash ends in time, with whoever runs it, and with everything it started."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from curator.backends import leash


def leashed(*command: str, limit_s: float = 60.0) -> list[str]:
    return [sys.executable, leash.__file__, str(limit_s), *command]


def gone(pid: int, patience_s: float = 5.0) -> bool:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -11 $$", 139)]
)
def test_status_is_that_of_the_program(script: str, status: int):
    assert subprocess.run(leashed("bash", "-c", script)).returncode == status


def test_input_and_output_pass_through():
    done = subprocess.run(leashed("cat"), input="Li F\n", capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("Li F\n", "")


def test_a_missing_program_is_told():
    done = subprocess.run(leashed("no-such-program"), capture_output=True, text=True)
    assert done.returncode == leash.NOT_FOUND
    assert "no-such-program" in done.stderr


def test_time_limit_takes_all_descendants_along(tmp_path: Path):
    script = f"sleep 100 & echo $! > {tmp_path}/pid; setsid sleep 100 & echo $! >> {tmp_path}/pid; wait"
    done = subprocess.run(leashed("bash", "-c", script, limit_s=1.0), capture_output=True, text=True)
    assert done.returncode == leash.TIMED_OUT
    assert done.stderr == f"{leash.SAID_TIME} 1 s\n"
    pids = [int(line) for line in (tmp_path / "pid").read_text().split()]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("signal", ["-KILL", "-TERM"])
def test_program_does_not_outlive_who_runs_it(tmp_path: Path, signal: str):
    program = f"echo $$ > {tmp_path}/pid; exec sleep 100"
    parent = subprocess.Popen(["bash", "-c", f"{' '.join(leashed('bash', '-c'))} '{program}'; true"])
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        time.sleep(0.05)
    subprocess.run(["kill", signal, str(parent.pid)], check=True)
    parent.wait()
    assert gone(int((tmp_path / "pid").read_text()))


def test_program_does_not_outlive_a_leash_that_is_killed(tmp_path: Path):
    """Python kills what it waits for a quarter of a second after an interrupt, be it a leash or not."""
    program = f"setsid sleep 100 & echo $! > {tmp_path}/pid; echo $$ >> {tmp_path}/pid; wait"
    process = subprocess.Popen(leashed("bash", "-c", program))
    while not ((tmp_path / "pid").exists() and len((tmp_path / "pid").read_text().split()) == 2):
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert all(gone(int(pid)) for pid in (tmp_path / "pid").read_text().split())


@pytest.mark.parametrize("killed", [False, True])
def test_a_folder_goes_with_the_program(tmp_path: Path, killed: bool):
    folder = tmp_path / "scratch"
    (folder / "deep").mkdir(parents=True)
    program = f"touch {folder}/begun; exec sleep {100 if killed else 0}"
    process = subprocess.Popen(leashed(leash.REMOVE, str(folder), "bash", "-c", program))
    if killed:
        while not (folder / "begun").exists():
            time.sleep(0.05)
        process.kill()
    assert process.wait() == (-9 if killed else 0)
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_memory_is_blamed_only_if_the_system_says_so(tmp_path: Path, monkeypatch, capfd):
    counter = tmp_path / "vmstat"
    counter.write_text("pgfault 12\noom_kill 3\n")
    monkeypatch.setattr(leash, "OOM_COUNTER", counter)
    for script, blamed in (("kill -9 $$", False), (f"echo 'oom_kill 4' > {counter}; kill -9 $$", True)):
        monkeypatch.setattr(sys, "argv", ["leash.py", "60", "bash", "-c", script])
        assert leash.main() == 137
        assert (leash.SAID_MEMORY in capfd.readouterr().err) is blamed
