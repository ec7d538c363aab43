"""Labels that a campaign buys: once each, and those of another source beside them."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from curator.backends.base import LabelFailed
from curator.backends.executor import SerialExecutor
from curator.backends.labellers import make_labeller
from curator.build import build_plan
from curator.config import CampaignFile
from curator.context import Context, buy_labels, labelled
from curator.datasets.fence import acquire
from curator.datasets.journal import Journal
from curator.datasets.label import Label, Provenance
from curator.datasets.sources import build_seed
from curator.datasets.store import Store
from curator.progress import Display
from curator.state import CampaignFolder

FILE = {
    "system": {"structure": "lif-interstitial", "supercell": [2, 2, 1]},
    "label": {"kind": "classical", "model": "lif-fumi-tosi", "also": "mini-halides"},
}


class NoExecutor(SerialExecutor):
    def outcomes(self, tasks, tick):
        raise AssertionError("this was calculated before")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    plan = build_plan(CampaignFile.model_validate(FILE), tmp_path)
    folder = CampaignFolder(tmp_path / "campaign", Path())
    with acquire(folder.journal) as fence:
        journal = Journal(folder.journal, fence)
        display = Display(folder, Console(file=io.StringIO()))
        yield Context(plan, folder, make_labeller(plan.labeller).theory, journal, SerialExecutor(), display)


def test_labels_of_two_sources_side_by_side(context: Context):
    frame = build_seed("lif-interstitial", None, (2, 2, 1)).frame
    rng = np.random.default_rng(1)
    frames = [replace(frame, positions=frame.positions + rng.normal(0, 0.05, frame.positions.shape)) for _ in range(3)]
    collapsed = frame.positions.copy()
    collapsed[1] = collapsed[0] + 0.1
    frames.append(replace(frame, positions=collapsed))
    wanted = [(each, Provenance(0, f"r{i}", f"r{i}", "train", "random")) for i, each in enumerate(frames)]

    bought = buy_labels(context, wanted, round_=0, stage="label")
    assert [type(each) for each in bought] == [Label] * 3 + [LabelFailed]
    assert context.plan.also is not None
    beside = make_labeller(context.plan.also).theory.key
    with Store(context.folder.store, "r") as store:
        assert len(store) == 3
        assert len(store.records(theory=beside)) == 3
    # Nothing is trained on them, and what failed is counted by theory.
    assert {record.label.theory for record in labelled(context)} == {context.theory.key}
    assert context.journal.failed_by_reason(context.theory.key) == {"geometry": 1}
    assert context.journal.failed_by_reason(beside) == {"geometry": 1}

    again = buy_labels(replace(context, executor=NoExecutor()), wanted, round_=0, stage="label")
    assert [each.energy for each in again[:3]] == [each.energy for each in bought[:3]]
