"""A campaign that is killed in every stage, on two workers, ends as one that nobody disturbed on one."""

import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from curator.datasets.journal import Failure, Journal
from curator.datasets.store import Store

KILLS = [
    ("stage_started", "relax the cell", 1),
    ("task_finished", "explore", 1),
    ("task_finished", "label test frames", 2),
    ("task_finished", "label", 6),
    ("task_finished", "train", 1),
    ("task_finished", "measure diffusion", 1),
]
"""In the order in which a campaign comes to them; a later kill is reached by going on from an earlier one."""


def published(folder: Path) -> list[str]:
    journal = folder / "journal"
    if not journal.exists():
        return []
    return [content.frame.hash for content in Journal(journal).read() if not isinstance(content, Failure)]


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that were started for a campaign and are still alive."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        try:
            dead = process.info["status"] == psutil.STATUS_ZOMBIE
            if not dead and (str(folder) in " ".join(process.info["cmdline"] or []) or process.cwd() == str(folder)):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(1800)
def test_killed_in_every_stage(tmp_path: Path, undisturbed: Path, curator, write_campaign, run_killed_at):
    folder = write_campaign(tmp_path / "tiny", executor="local")
    before: list[str] = []
    for event, stage, count in KILLS:
        assert run_killed_at(folder, event, stage, count) == -9, f"{stage}: was not reached"
        deadline = time.monotonic() + 20
        while processes_of(folder) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not processes_of(folder), f"{stage}: left {processes_of(folder)}"
        now = published(folder)
        assert now[: len(before)] == before, f"{stage}: a published label is lost"
        assert len(set(now)) == len(now), f"{stage}: a label was calculated twice"
        before = now
    done = curator("run", folder)
    assert done.returncode in (0, 3), done.stderr
    final = published(folder)
    assert len(set(final)) == len(final)
    with Store(folder / "frames.h5", "r") as mine, Store(undisturbed / "frames.h5", "r") as other:
        killed, whole = (sorted(store.records(), key=lambda record: record.frame.hash) for store in (mine, other))
    assert [record.frame.hash for record in killed] == [record.frame.hash for record in whole]
    assert [record.provenance for record in killed] == [record.provenance for record in whole]
    for one, two in zip(killed, whole, strict=True):
        assert one.label.energy == two.label.energy
        np.testing.assert_array_equal(one.label.forces, two.label.forces)
