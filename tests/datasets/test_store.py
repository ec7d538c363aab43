import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.datasets.frame import Frame
from curator.datasets.label import Label, Record
from curator.datasets.store import Store, StoreDamagedError

MakeRecord = Callable[..., Record]


@given(data=st.data())
@settings(max_examples=50)
def test_round_trip(
    data: st.DataObject,
    records: st.SearchStrategy[list[Record]],
    assert_same: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.h5"
    path.unlink(missing_ok=True)
    batches = data.draw(st.lists(records, max_size=3))
    first: dict[tuple[str, str], Record] = {}
    for batch in batches:
        with Store(path) as store:
            n_new = len({(r.frame.hash, r.label.theory) for r in batch} - set(first))
            assert store.append(batch) == n_new
        for record in batch:
            first.setdefault((record.frame.hash, record.label.theory), record)
    with Store(path) as store:
        frames = list(dict.fromkeys(content for content, _ in first))
        assert [frame.hash for frame in store] == frames
        assert len(store.records()) == len(first)
        origin = {}
        for record in first.values():
            origin.setdefault(record.frame.hash, record.provenance)
        for record in store.records():
            assert_same(record, replace(first[record.frame.hash, record.label.theory], provenance=record.provenance))
            assert record.provenance == origin[record.frame.hash]
        for idx, content in enumerate(frames):
            assert set(store.labels(idx)) == {theory for other, theory in first if other == content}


def test_is_a_sequence(make_record: MakeRecord, tmp_path: Path) -> None:
    records = [make_record(seed, n_atoms=1 + seed % 3) for seed in range(7)]
    with Store(tmp_path / "frames.h5") as store:
        assert isinstance(store, Sequence)
        assert not store
        store.append(records)
        frames = [record.frame for record in records]
        assert store[-1] == store[6] == frames[6]
        assert store[1:6:2] == frames[1:6:2]
        assert list(reversed(store)) == frames[::-1]
        assert frames[4] in store
        assert store.index(frames[4]) == 4
        assert make_record(99).frame not in store
        for idx in (7, -8):
            with pytest.raises(IndexError, match="holds 7"):
                store[idx]


def test_levels_of_theory_are_kept_apart(make_record: MakeRecord, tmp_path: Path) -> None:
    pseudo, dft = make_record(0, theory="chgnet@1"), make_record(0, theory="pbe@2")
    other = make_record(1, theory="pbe@2", group="T900/r0", split="test")
    dft = replace(dft, label=Label(-3.0, dft.label.forces, None, "pbe@2"))
    with Store(tmp_path / "frames.h5") as store:
        assert store.append([pseudo, dft, other]) == 3
        assert store.append([dft, pseudo]) == 0
        assert len(store) == 2
        assert store.theories == ("chgnet@1", "pbe@2")
        assert store.labels(0)["pbe@2"].energy == -3.0
        assert store.labels(0)["chgnet@1"].energy == pseudo.label.energy
        assert set(store.labels(-1)) == {"pbe@2"}
        assert [r.label.energy for r in store.records(theory="pbe@2")] == [-3.0, other.label.energy]
        assert [r.label.theory for r in store.records(split="train")] == ["chgnet@1", "pbe@2"]
        assert store.records(theory="pbe@2", split="valid") == []
        assert store.records(theory="unknown@0") == []


def test_first_label_of_a_frame_and_theory_stays(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record(0)
    later = replace(record, label=replace(record.label, energy=99.0))
    with Store(tmp_path / "frames.h5") as store:
        assert store.append([record, later]) == 1
        assert store.append([later]) == 0
        assert store.labels(0)["pbe@0"].energy == record.label.energy


def test_a_group_has_one_split_for_ever(make_record: MakeRecord, tmp_path: Path) -> None:
    path = tmp_path / "frames.h5"
    with Store(path) as store:
        store.append([make_record(0, group="a", split="test")])
    with Store(path) as store:
        assert store.splits == {"a": "test"}
        with pytest.raises(ValueError, match="group 'a' is in split 'test' and cannot also be in 'train'"):
            store.append([make_record(1, group="b"), make_record(2, group="a", split="train")])
        with pytest.raises(ValueError, match="group 'c'"):
            store.append([make_record(3, group="c"), make_record(4, group="c", split="valid")])
        assert len(store) == 1
        assert store.append([make_record(5, group="a", split="test")]) == 1


def test_reading_only(make_record: MakeRecord, tmp_path: Path) -> None:
    path = tmp_path / "frames.h5"
    with pytest.raises(FileNotFoundError, match="no such frame store"):
        Store(path, "r")
    assert not path.exists()
    with Store(path) as store:
        store.append([make_record(0)])
    with Store(path, "r") as store:
        assert len(store) == 1
        with pytest.raises(ValueError, match="opened for reading only"):
            store.append([make_record(1)])


def test_second_writer_is_told(make_record: MakeRecord, tmp_path: Path) -> None:
    path = tmp_path / "frames.h5"
    with Store(path) as store:
        store.append([make_record(0)])
        script = "import sys\nfrom curator.datasets.store import Store\nStore(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
        assert "BlockingIOError: " in done.stderr
        assert "another process has this frame store open" in done.stderr


def test_two_stores_of_one_process_cannot_overwrite_each_other(make_record: MakeRecord, tmp_path: Path) -> None:
    path = tmp_path / "frames.h5"
    with Store(path) as one, Store(path) as two:
        one.append([make_record(0)])
        with pytest.raises(StoreDamagedError, match="another Store"):
            two.append([make_record(1)])
        one.append([make_record(2)])
    with Store(path) as store:
        assert list(store) == [make_record(0).frame, make_record(2).frame]


def test_files_that_are_no_store(tmp_path: Path) -> None:
    path = tmp_path / "frames.h5"
    path.write_text("name: lif\n")
    with pytest.raises(StoreDamagedError, match="can be rebuilt from the journal"):
        Store(path)
    assert path.read_text() == "name: lif\n"
    path.write_bytes(b"")
    with pytest.raises(StoreDamagedError, match="can be rebuilt from the journal"):
        Store(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(StoreDamagedError, match="something else"):
        Store(path)


def test_truncated_store_is_recognised(make_record: MakeRecord, tmp_path: Path) -> None:
    path = tmp_path / "frames.h5"
    with Store(path) as store:
        store.append([make_record(seed) for seed in range(20)])
    content = path.read_bytes()
    for n_bytes in np.linspace(0, len(content) - 1, 50, dtype=int):
        path.write_bytes(content[:n_bytes])
        with pytest.raises(StoreDamagedError, match="can be rebuilt from the journal"):
            Store(path)


@pytest.mark.parametrize("when", ["in the middle of a change", "between two changes"])
def test_a_killed_writer_is_recognised(tmp_path: Path, when: str) -> None:
    path = tmp_path / "frames.h5"
    script = f"""
import os, numpy as np
from curator.datasets.store import Store
from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record
def record(i):
    frame = Frame([3], [[i, 0, 0]], np.eye(3), [True] * 3)
    return Record(frame, Label(0.0, np.zeros((1, 3)), None, "t@0"), Provenance(0, "s", "g", "train", "r"))
store = Store({str(path)!r})
store.append([record(0)])
extend = Store._extend
def die(self, name, rows):
    extend(self, name, rows)
    if name == "forces":
        self._file.flush()
        os.kill(os.getpid(), 9)
if {when!r} == "between two changes":
    os.kill(os.getpid(), 9)
Store._extend = die
store.append([record(1)])
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with pytest.raises(StoreDamagedError, match="stopped before it closed the file"):
        Store(path)


@pytest.mark.parametrize("name", ["numbers", "frames", "texts", "forces", "labels"])
def test_a_change_that_is_interrupted_is_recognised(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Ctrl-C after each step of a change; the file is closed all the same."""
    path = tmp_path / "frames.h5"
    extend = Store._extend

    def interrupted(self: Store, which: str, rows: object) -> None:
        extend(self, which, rows)  # type: ignore[arg-type]
        if which == name:
            raise KeyboardInterrupt

    with Store(path) as store:
        store.append([make_record(0)])
        monkeypatch.setattr(Store, "_extend", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.append([make_record(1, group="other")])
        monkeypatch.undo()
        with pytest.raises(StoreDamagedError, match="an append failed"):
            store.append([make_record(2)])
    with pytest.raises(StoreDamagedError, match="stopped before it closed the file"):
        Store(path)


def test_the_mark_of_a_change_is_on_disk_before_the_change_and_goes_after_it(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power failure would leave: the file as it was at each fsync."""
    path, left = tmp_path / "frames.h5", []
    fsync = os.fsync

    def keep(descriptor: int) -> None:
        fsync(descriptor)
        left.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", keep)
    with Store(path) as store:
        for seed in range(5):
            store.append([make_record(seed)])
    monkeypatch.undo()
    assert len(left) == 2
    for content in left:
        (tmp_path / "left.h5").write_bytes(content)
        with pytest.raises(StoreDamagedError, match="stopped before it closed the file"):
            Store(tmp_path / "left.h5")
    with Store(path, "r") as store:
        assert len(store) == 5


def test_full_disk(make_record: MakeRecord, small_disk: Path) -> None:
    path = small_disk / "frames.h5"
    store = Store(path)
    with pytest.raises(OSError, match=r"\[Errno 28\] disk full: .* rebuilt from the journal"):
        [store.append([make_record(seed, n_atoms=500)]) for seed in range(40)]
    with pytest.raises(StoreDamagedError, match="can be rebuilt"):
        store.append([make_record(0)])
    store.close()
    with pytest.raises(StoreDamagedError, match="can be rebuilt"):
        Store(path)


def test_many_appends_and_random_reading(make_record: MakeRecord, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [make_record(seed, n_atoms=int(rng.integers(1, 300))) for seed in range(300)]
    with Store(tmp_path / "frames.h5") as store:
        for start in range(0, 300, 37):
            store.append(records[start : start + 37])
    with Store(tmp_path / "frames.h5") as store:
        for idx in rng.permutation(300):
            assert store[int(idx)] == records[idx].frame
            assert np.array_equal(store.labels(int(idx))["pbe@0"].forces, records[idx].label.forces)


def test_charge_makes_another_frame(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record(0)
    old = record.frame
    charged = replace(record, frame=Frame(old.numbers, old.positions, old.cell, old.pbc, charge=1, multiplicity=2))
    with Store(tmp_path / "frames.h5") as store:
        assert store.append([record, charged]) == 2
        assert (store[1].charge, store[1].multiplicity) == (1, 2)
