"""Labels that are asked for on the command line."""

from pathlib import Path

import pytest

from curator.backends import labellers
from curator.backends.base import LabelFailed, LabellerSpec
from curator.commands.label_requests import Asked, label_missing
from curator.datasets.fence import acquire
from curator.datasets.frame import Frame
from curator.datasets.journal import Journal
from curator.datasets.label import Label, Provenance


def test_a_frame_that_is_asked_for_twice_is_calculated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec, calculated = LabellerSpec("classical", "lif-fumi-tosi"), []
    label_frame = labellers.label_frame

    def counted(spec: LabellerSpec, frame: Frame) -> Label | LabelFailed:
        calculated.append(frame.hash)
        return label_frame(spec, frame)

    monkeypatch.setattr(labellers, "label_frame", counted)
    cell = [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]
    one, other = (Frame([3, 9], [[0, 0, 0], [x, 0, 0]], cell, [True] * 3) for x in (2.0, 1.9))
    theory = labellers.make_labeller(spec).theory
    with acquire(tmp_path) as fence:
        journal = Journal(tmp_path, fence)
        asked = [
            Asked(frame, Provenance(-1, "s", f"g{i}", "train", "import"), spec, theory)
            for i, frame in enumerate((one, other, one, one))
        ]
        assert label_missing(journal, asked, False, 1) == {}
        assert calculated == [one.hash, other.hash]
        assert [record.provenance.group for record in journal.read()] == ["g0", "g1"]
