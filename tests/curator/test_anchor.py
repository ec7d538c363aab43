"""The anchor of a campaign that is killed between its barrier and its labels."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contexts import opened

from curator import anchor
from curator.anchor import anchor_frames, find_barriers, measure_anchor
from curator.backends.executor import SerialExecutor
from curator.barriers.barrier import Barrier
from curator.context import Context, labelled
from curator.datasets.frame import Frame
from curator.datasets.sources import Hop, build_seed
from curator.tasks import ModelAt

FILE = {
    "system": {"structure": "lif-vacancy", "supercell": [2, 2, 1]},
    "label": {"kind": "classical", "model": "lif-fumi-tosi"},
}
SEED = build_seed("lif-vacancy", None, (2, 2, 1))


class Killed(SerialExecutor):
    """Finds barriers, and is killed once it has bought one label."""

    def outcomes(self, tasks: Any, tick: Any) -> Any:
        for outcome in super().outcomes(tasks, tick):
            yield outcome
            if tasks[0].name.startswith("label"):
                raise KeyboardInterrupt


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with opened(FILE, tmp_path / "campaign") as context:
        yield context


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the models that a barrier was searched with: each time it ends a little elsewhere."""
    done: list[str] = []

    def shifted(frame: Frame) -> Frame:
        return replace(frame, positions=frame.positions + 1e-6 * (1 + len(done)) * np.sin(frame.positions))

    def barrier_of(model: ModelAt, hop: Hop) -> Barrier:
        done.append(model.folder.name)
        minimum, saddle = shifted(hop.initial), shifted(hop.saddle or hop.final)
        path, energies = (minimum, saddle, hop.final), (0.0, 0.31, 0.001)
        return Barrier(
            0.31, 0.309, minimum, saddle, path, energies, (-9.5, -9.4), "symmetric", 1, 0.97, True, ("odd",), 7, 0.1
        )

    monkeypatch.setattr(anchor, "barrier_of", barrier_of)
    return done


def test_a_killed_anchor_goes_on_with_the_barrier_that_it_found(context: Context, searches: list[str]):
    assert SEED.hop is not None
    folder = context.folder.setup
    with pytest.raises(KeyboardInterrupt):
        measure_anchor(replace(context, executor=Killed()), -1, SEED.hop, folder)
    assert not (folder / "anchor.json").exists()
    found = measure_anchor(context, -1, SEED.hop, folder)
    assert searches == ["foundation"]
    records = labelled(context)
    assert len(records) == len(list(context.journal.read())) == 2 + context.plan.file.measure.path_images
    energies = {record.provenance.source: record.label.energy for record in records}
    assert found.reference_eV == energies["anchor/saddle"] - energies["anchor/minimum"]
    hashes = {record.provenance.source: record.frame.hash for record in records}
    kept = [frame.hash for frame in anchor_frames(folder, SEED.hop)]
    assert kept == [hashes["anchor/minimum"], hashes["anchor/saddle"]]


def test_a_barrier_that_is_kept_is_the_one_that_was_found(context: Context, searches: list[str]):
    assert SEED.hop is not None
    [expected] = [anchor.barrier_of(context.foundation, SEED.hop)]
    searches.clear()
    kept = context.folder.path / "kept.json"
    for _ in range(2):
        [barrier] = find_barriers(context, [context.foundation], SEED.hop, kept, round_=0, stage="relax")
        assert barrier.minimum.hash == expected.minimum.hash
        assert [frame.hash for frame in barrier.path] == [frame.hash for frame in expected.path]
        same = replace(barrier, minimum=expected.minimum, saddle=expected.saddle, path=expected.path)
        assert repr(same) == repr(expected)
    assert searches == ["foundation"]
