"""Labels that a campaign buys: once each, and those of another source beside them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contexts import opened

from curator.backends.base import LabelFailed
from curator.backends.executor import Failed, SerialExecutor
from curator.backends.labellers import make_labeller
from curator.choose import Chosen
from curator.context import Context, buy_labels, labelled
from curator.datasets.frame import Frame
from curator.datasets.journal import open_store
from curator.datasets.label import Label, Provenance
from curator.datasets.sources import build_seed
from curator.datasets.split import assign_splits
from curator.datasets.store import Store
from curator.errors import CuratorError
from curator.explore import Candidate
from curator.round import label_chosen
from curator.state import Stage, read_json

FILE = {
    "system": {"structure": "lif-interstitial", "supercell": [2, 2, 1]},
    "label": {"kind": "classical", "model": "lif-fumi-tosi", "also": "mini-halides"},
}


class NoExecutor(SerialExecutor):
    def outcomes(self, tasks, tick):
        raise AssertionError("this was calculated before")


class Dying(SerialExecutor):
    """Keeps the names of its tasks, some of which die, as on a disk that is full."""

    def __init__(self, *dying: int) -> None:
        super().__init__()
        self.dying, self.names = dying, []

    def outcomes(self, tasks, tick):
        self.names += [task.name for task in tasks]
        for outcome in super().outcomes(tasks, tick):
            died = outcome.index in self.dying
            yield Failed(outcome.index, "OSError: No space left on device") if died else outcome


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with opened(FILE, tmp_path / "campaign") as context:
        yield context


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


@pytest.fixture
def alone(context: Context) -> Context:
    """The same campaign without labels of another source, begun."""
    open_store(context.folder.store, context.journal).close()
    return replace(context, plan=replace(context.plan, also=None))


def rattled(n: int, seed: int = 2) -> list[Frame]:
    frame = build_seed("lif-interstitial", None, (2, 2, 1)).frame
    rng = np.random.default_rng(seed)
    return [replace(frame, positions=frame.positions + rng.normal(0, 0.05, frame.positions.shape)) for _ in range(n)]


def test_what_died_is_bought_by_the_next_run_and_nothing_else(alone: Context):
    candidates = [Candidate(frame, f"g{i}", f"s{i}") for i, frame in enumerate(rattled(4))]
    chosen = Chosen((0, 1, 2, 3), ("random",) * 4, (), None)
    with pytest.raises(CuratorError, match=r"label: 2 of 4 .* died, .*No space left on device\. .* run again"):
        label_chosen(replace(alone, executor=Dying(1, 2)), 0, candidates, chosen)
    assert not (alone.folder.round(0) / "labels.json").exists()
    assert len(labelled(alone)) == 2
    assert not alone.journal.quarantined

    again = Dying()
    label_chosen(replace(alone, executor=again), 0, candidates, chosen)
    assert again.names == ["label s1", "label s2"]
    assert [label["failed"] for label in read_json(alone.folder.round(0) / "labels.json")["labels"]] == [None] * 4
    assert len(labelled(alone)) == 4


def test_equal_frames_are_calculated_once(alone: Context):
    one, other = rattled(2)
    wanted = [(frame, Provenance(0, f"s{i}", "g", "train", "random")) for i, frame in enumerate((one, other, one))]
    executor = Dying()
    labels = buy_labels(replace(alone, executor=executor), wanted, round_=0, stage="label")
    assert executor.names == ["label s0", "label s1"]
    assert labels[0].energy == labels[2].energy != labels[1].energy


def test_published_groups_keep_their_split_though_an_earlier_round_gets_a_label(alone: Context):
    """As `label --retry` brings it, between a kill in the middle of the labels and the run that goes on."""
    before = {f"o{i}": "train" if i else "valid" for i in range(8)}
    origins = [Provenance(0, group, group, split, "random") for group, split in before.items()]
    buy_labels(alone, list(zip(rattled(8), origins, strict=True)), round_=0, stage="label")
    share = alone.plan.file.select.valid_share

    def drawn(fixed):
        rng = np.random.default_rng(alone.plan.seed_of(1, Stage.LABEL, 1))
        return assign_splits(["g0", "g1"], {"train": 1 - share, "valid": share}, rng, fixed)["g1"]

    assert (drawn(before), drawn(before | {"late": "train"})) == ("train", "valid")
    candidates = [Candidate(frame, group, "s") for frame, group in zip(rattled(3, 5), ("g0", "g1", "g1"), strict=True)]
    chosen = Chosen((0, 1, 2), ("random",) * 3, (), None)
    with pytest.raises(CuratorError, match="died"):
        label_chosen(replace(alone, executor=Dying(0, 2)), 1, candidates, chosen)
    late = [(rattled(1, 7)[0], Provenance(0, "late", "late", "train", "random"))]
    buy_labels(alone, late, round_=0, stage="retry")
    label_chosen(alone, 1, candidates, chosen)
    assert {each.provenance.split for each in labelled(alone) if each.provenance.group == "g1"} == {"train"}
