"""Campaigns small enough to run in a test, with a teacher whose answers are known."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from curator.cli import main

TINY = """
name: tiny
seed: 3
system: {structure: lif-interstitial, cell: labeller}
foundation: mini-halides
explore: {temperatures_K: [700], replicas: 1, duration_ps: 0.36, interval_ps: 0.02}
select: {labels_per_round: 6, test_frames: 4, contact_labels: 3, valid_share: 0.2}
label: {kind: classical, model: lif-fumi-tosi}
learn: {strategy: multihead_replay, epochs: 8, learning_rate: 0.002, replay_frames: 8, members: 2}
measure: MEASURE
stop: {max_rounds: 2, max_labels: 56}
run: {executor: EXECUTOR, workers: 2}
"""

MEASURE = (
    "{diffusion: {temperatures_K: [800, 1200], replicas: 1, duration_ps: 0.6, equilibration_ps: 0.1, tolerance_eV: 2}, "
    "probes: {structures: 1, duration_ps: 0.1}}"
)

# Runs the command line in a process of its own that kills itself, as by SIGKILL from outside, at the given point:
# the n-th time that an event of a stage is logged.
KILLED_AT = textwrap.dedent(
    """
    import os, signal, sys
    import curator.context as context

    folder, event, stage, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    log_event = context.log_event
    seen = 0

    def log_and_die(where, name, **fields):
        global seen
        log_event(where, name, **fields)
        seen += name == event and str(fields.get("stage", "")).startswith(stage)
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)

    context.log_event = log_and_die
    sys.argv = ["curator", "run", folder]
    from curator.cli import main
    main()
    """
)


Run = Callable[..., subprocess.CompletedProcess[str]]
Write = Callable[..., Path]


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture(scope="session")
def curator() -> Run:
    """Run the command line in a process of its own."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "curator", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=900)

    return run


@pytest.fixture
def curator_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process, which has everything imported already."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = ["curator", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        code = ended.value.code
        return subprocess.CompletedProcess(command, code if isinstance(code, int) else 0, out, err)

    return run


@pytest.fixture(scope="session")
def write_campaign() -> Write:
    """Write the tiny campaign, with some of its text replaced, to a folder."""

    def write(folder: Path, **replaced: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        text = TINY.replace("EXECUTOR", replaced.pop("executor", "serial")).replace("MEASURE", MEASURE)
        for old, new in replaced.items():
            assert f"{old}: " in text, old
            text = "".join(_replaced(line, old, new) for line in text.splitlines(keepends=True))
        (folder / "campaign.yaml").write_text(text)
        return folder

    return write


def _replaced(line: str, key: str, value: str) -> str:
    return f"{key}: {value}\n" if line.startswith(f"{key}: ") else line


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, curator: Run, write_campaign: Write) -> Path:
    """A finished campaign, run in one go and in one process."""
    folder = write_campaign(tmp_path_factory.mktemp("undisturbed") / "tiny")
    done = curator("run", folder)
    assert done.returncode in (0, 3), done.stderr
    return folder


Killed = Callable[..., int]


@pytest.fixture
def run_killed_at() -> Killed:
    """Run a campaign that dies at a point; returns its exit status."""

    def run(folder: Path, event: str, stage: str, count: int = 1) -> int:
        command = [sys.executable, "-c", KILLED_AT, str(folder), event, stage, str(count)]
        with subprocess.Popen(
            command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            return process.wait(timeout=900)

    return run
