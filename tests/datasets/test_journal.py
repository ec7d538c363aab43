import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.datasets import journal as journal_module
from curator.datasets.frame import Frame
from curator.datasets.journal import (
    DriverError,
    Failure,
    Journal,
    JournalDamagedError,
    acquire,
    fold,
    open_store,
    rebuild,
)
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.datasets.store import Store

MakeRecord = Callable[..., Record]


@contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    with acquire(folder) as fence:
        journal = Journal(folder / "journal", fence)
        yield journal
        journal.close()


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "journal").glob("*.journal"))


def energies(folder: Path) -> list[float]:
    return [record.label.energy for record in Journal(folder / "journal").read() if isinstance(record, Record)]


@given(data=st.data())
@settings(max_examples=40)
def test_round_trip_and_rebuild(
    data: st.DataObject,
    records: st.SearchStrategy[list[Record]],
    assert_same: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("campaign")
    published = data.draw(records)
    n_single = data.draw(st.integers(0, len(published)))
    with opened(folder) as journal:
        for record in published[:n_single]:
            assert journal.publish(record)
        assert journal.publish_many(published) == len(published) - n_single
    journal = Journal(folder / "journal")
    for one, other in zip(published, journal.read(), strict=True):
        assert_same(one, other)
    assert journal.published == {(record.frame.hash, record.label.theory) for record in published}
    assert rebuild(journal, folder / "frames.h5") == len(published)
    with Store(folder / "frames.h5") as store:
        assert {(record.frame.hash, record.label.theory) for record in store.records()} == set(journal.published)
        assert fold(journal, store) == 0


def test_a_label_is_published_once(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record(0)
    with opened(tmp_path) as journal:
        assert journal.publish(record)
        assert not journal.publish(record)
        assert not journal.publish(replace(record, label=replace(record.label, energy=9.0)))
        assert journal.publish_many([record, make_record(1), make_record(1)]) == 1
        assert journal.publish(make_record(0, theory="r2scan@1"))
    with opened(tmp_path) as journal:
        assert not journal.publish(record)
        assert set(journal.labels("pbe@0")) == {record.frame.hash, make_record(1).frame.hash}
        assert journal.labels("pbe@0")[record.frame.hash].energy == record.label.energy
    assert len(energies(tmp_path)) == 3


def test_failures_go_to_quarantine(make_record: MakeRecord, assert_same: Callable[..., None], tmp_path: Path) -> None:
    record = make_record(0)
    failure = Failure(record.frame, "pbe@0", "scf", "no convergence\nafter 100 steps", record.provenance)
    with opened(tmp_path) as journal:
        assert journal.publish(failure)
        assert journal.publish(replace(failure, reason="walltime"))
        assert journal.quarantined == {(record.frame.hash, "pbe@0")}
        assert not journal.published
        assert journal.failures("pbe@0")[record.frame.hash].reason == "walltime"
    journal = Journal(tmp_path / "journal")
    first = next(journal.read())
    assert isinstance(first, Failure)
    assert (first.frame, first.message, first.provenance) == (record.frame, failure.message, record.provenance)
    assert rebuild(journal, tmp_path / "frames.h5") == 0
    # A later attempt that succeeds ends the quarantine.
    with opened(tmp_path) as journal:
        journal.publish(record)
        assert not journal.quarantined
        assert not journal.failures("pbe@0")


def test_entries_tell_theory_versions_and_driver(make_record: MakeRecord, tmp_path: Path) -> None:
    old = Theory("pbe", "espresso", {"k": [2, 2, 2]}, {"Li": "ab"}, {"pw.x": "7.3"})
    new = replace(old, versions={"pw.x": "7.4"})
    with opened(tmp_path) as journal:
        journal.publish(make_record(0, theory=old.key), old)
        with pytest.raises(ValueError, match="cannot be published as"):
            journal.publish(make_record(1), old)
    with opened(tmp_path) as journal:
        with pytest.warns(UserWarning, match=r"different versions: .*7\.3.*7\.4"):
            journal.publish(make_record(1, theory=old.key), new)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            journal.publish(make_record(2, theory=old.key), new)
        entries = list(journal.entries())
    assert [entry.theory for entry in entries] == [old, new, new]
    assert [entry.token for entry in entries] == [1, 2, 2]
    assert entries[0].time <= entries[2].time


def test_one_split_for_a_group(make_record: MakeRecord, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.publish(make_record(0, group="a", split="test"))
    with opened(tmp_path) as journal:
        for publish in (journal.publish, lambda record: journal.publish_many([make_record(7), record])):
            with pytest.raises(ValueError, match="group 'a' is in split 'test'"):
                publish(make_record(1, group="a", split="train"))
        assert journal.splits == {"a": "test"}
    assert len(energies(tmp_path)) == 1


def test_torn_at_every_byte_of_the_last_record(make_record: MakeRecord, tmp_path: Path) -> None:
    kept, torn, later = make_record(0, n_atoms=1), make_record(1, n_atoms=1), make_record(2, n_atoms=1)
    with opened(tmp_path) as journal:
        journal.publish(kept)
        n_kept = segments(tmp_path)[0].stat().st_size
        journal.publish(torn)
    (segment,) = segments(tmp_path)
    content = segment.read_bytes()
    with acquire(tmp_path) as fence:
        for n_bytes in range(n_kept, len(content)):
            segment.write_bytes(content[:n_bytes])
            journal = Journal(tmp_path / "journal", fence)
            assert journal.published == {(kept.frame.hash, "pbe@0")}
            if n_bytes % 20 == 0:
                assert journal.publish(later)
                journal.close()
                assert energies(tmp_path) == [kept.label.energy, later.label.energy]
                segments(tmp_path)[-1].unlink()


def test_a_tail_of_zeros_is_passed_over(make_record: MakeRecord, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.publish(make_record(0))
    segment = segments(tmp_path)[0]
    # What a power failure leaves where the size of a file was written before its content.
    segment.write_bytes(segment.read_bytes() + bytes(5000))
    assert energies(tmp_path) == [make_record(0).label.energy]


def test_corruption_before_the_end_is_reported_wherever_it_is(make_record: MakeRecord, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.publish(make_record(0, n_atoms=1))
        n_first = segments(tmp_path)[0].stat().st_size
        journal.publish(make_record(1, n_atoms=1))
        n_second = segments(tmp_path)[0].stat().st_size
        journal.publish(make_record(2, n_atoms=1))
    (segment,) = segments(tmp_path)
    content = segment.read_bytes()
    n_head = 20
    for byte in [*range(n_head), *range(n_head, n_first, 5), *range(n_first, n_first + n_head), n_second - 1]:
        flipped = bytearray(content)
        flipped[byte] ^= 0x10
        segment.write_bytes(flipped)
        offset = 0 if byte < n_first else n_first
        with pytest.raises(JournalDamagedError, match=rf"{segment.name}: the record at byte {offset} is corrupt"):
            Journal(tmp_path / "journal")


def test_corruption_of_the_very_last_record_is_warned_about(make_record: MakeRecord, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.publish(make_record(0))
        journal.publish(make_record(1))
    (segment,) = segments(tmp_path)
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    with pytest.warns(UserWarning, match="last record is whole but corrupt"):
        assert len(Journal(tmp_path / "journal").published) == 1


WRITER = """
import sys
import numpy as np
from curator.datasets.frame import Frame
from curator.datasets.journal import Journal, acquire
from curator.datasets.label import Label, Provenance, Record
from curator.datasets.store import Store
folder, first = sys.argv[1], int(sys.argv[2])
fence = acquire(folder)
journal = Journal(folder + "/journal", fence)
n_atoms = 20000
for i in range(first, first + 10000):
    positions = np.zeros((n_atoms, 3))
    positions[0, 0] = i
    frame = Frame(np.ones(n_atoms, int), positions, np.eye(3), [True] * 3)
    record = Record(frame, Label(i, positions, None, "t@0"), Provenance(0, "s", "g", "train", "r"))
    journal.publish(record)
    print(i, flush=True)
    if i % 3 == 0:
        with Store(folder + "/frames.h5") as store:
            store.append([record])
"""


def test_nothing_published_is_lost_to_sigkill(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    published: set[int] = set()
    n_kills = 6
    for kill in range(n_kills):
        first = kill * 10000
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(first)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == f"{first}\n"
        published.add(first)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        published.update(int(line) for line in process.communicate()[0].split())
        with opened(tmp_path) as journal, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = [record.label.energy for record in journal.read() if isinstance(record, Record)]
            # At most the one in flight is there without having been announced.
            assert published <= set(found)
            assert len(found) <= len(published) + kill + 1
            with open_store(tmp_path / "frames.h5", journal) as store:
                assert sorted(record.label.energy for record in store.records()) == sorted(found)
    assert len(published) >= n_kills


def test_full_disk(make_record: MakeRecord, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    records = [make_record(seed, n_atoms=200) for seed in range(100)]
    with opened(small_disk) as journal:
        with pytest.raises(OSError, match=r"\[Errno 28\] disk full: nothing was published"):
            [journal.publish(record) for record in records]
        n_published = len(journal.published)
        assert len(energies(small_disk)) == n_published > 3
        with pytest.raises(OSError, match="disk full"):
            journal.publish_many(records)
        assert len(energies(small_disk)) == n_published
        ballast.unlink()
        assert journal.publish(records[n_published])
        assert len(energies(small_disk)) == n_published + 1


def test_write_cut_short_is_undone(make_record: MakeRecord, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path) as journal:
        journal.publish(make_record(0))
        (segment,) = segments(tmp_path)
        n_before = segment.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_before + 100, hard))
        try:
            with pytest.raises(OSError, match="File too large: nothing was published and the journal is as before"):
                journal.publish(make_record(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert segment.stat().st_size == n_before
        assert len(journal.published) == 1
        assert journal.publish(make_record(1))
    assert energies(tmp_path) == [make_record(seed).label.energy for seed in (0, 1)]


def test_stale_driver_cannot_publish(make_record: MakeRecord, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.publish(make_record(0))
        (tmp_path / "driver.token").write_text("2\n")
        for publish in (lambda: journal.publish(make_record(1)), lambda: journal.publish_many([make_record(1)])):
            with pytest.raises(DriverError, match="driver 2 has taken over"):
                publish()
    assert len(energies(tmp_path)) == 1
    with pytest.raises(DriverError, match="released"):
        journal.publish(make_record(1))


def test_reader_needs_no_lock_and_cannot_write(make_record: MakeRecord, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such journal"):
        Journal(tmp_path / "journal")
    with opened(tmp_path) as writer:
        writer.publish(make_record(0))
        reader = Journal(tmp_path / "journal")
        assert len(reader.published) == 1
        with pytest.raises(DriverError, match="reading only"):
            reader.publish(make_record(1))


def test_each_record_has_its_theory_or_none_is_written(make_record: MakeRecord, tmp_path: Path) -> None:
    theory = Theory("pbe", "vasp")
    records = [make_record(seed, theory=theory.key) for seed in range(3)]
    with opened(tmp_path) as journal:
        for n in (2, 4):
            with pytest.raises(ValueError, match=r"argument 2 is (shorter|longer)"):
                journal.publish_many(records, [theory] * n)
        assert not journal.published
        assert journal.publish_many(records, [theory] * 3) == 3


def test_bulk_import_is_one_segment_or_none(make_record: MakeRecord, tmp_path: Path) -> None:
    def broken() -> Iterator[Record]:
        yield make_record(1)
        raise RuntimeError("file ends")

    with opened(tmp_path) as journal:
        journal.publish(make_record(0))
        with pytest.raises(RuntimeError, match="file ends"):
            journal.publish_many(broken())
        assert len(segments(tmp_path)) == 1
        assert journal.publish_many([make_record(seed) for seed in range(1, 50)]) == 49
        assert len(segments(tmp_path)) == 2
        journal.publish(make_record(50))
        assert len(segments(tmp_path)) == 3
    assert energies(tmp_path) == [make_record(seed).label.energy for seed in range(51)]


def test_large_segments_are_followed_by_new_ones(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 2000)
    with opened(tmp_path) as journal:
        for seed in range(9):
            journal.publish(make_record(seed))
    assert len(segments(tmp_path)) > 2
    assert energies(tmp_path) == [make_record(seed).label.energy for seed in range(9)]


def test_leftovers_of_a_killed_import_are_removed(make_record: MakeRecord, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.publish(make_record(0))
    (tmp_path / "journal" / ".0a1b2c3d.000001-000001.journal").write_bytes(b"half")
    with opened(tmp_path) as journal:
        assert len(journal.published) == 1
    assert len(list((tmp_path / "journal").iterdir())) == 1


def test_damaged_store_is_rebuilt_and_kept(make_record: MakeRecord, tmp_path: Path) -> None:
    path = tmp_path / "frames.h5"
    with opened(tmp_path) as journal:
        journal.publish_many([make_record(seed) for seed in range(5)])
        open_store(path, journal).close()
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.warns(UserWarning, match=r"rebuilt, and the damaged file kept as frames\.h5\.damaged"):
            store = open_store(path, journal)
        with store:
            assert len(store) == 5
        assert (tmp_path / "frames.h5.damaged").stat().st_size == 3000


def test_store_left_behind_by_a_kill_catches_up(make_record: MakeRecord, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.publish_many([make_record(seed) for seed in range(3)])
        open_store(tmp_path / "frames.h5", journal).close()
        journal.publish(make_record(3))
        with open_store(tmp_path / "frames.h5", journal) as store:
            assert [frame.hash for frame in store] == [make_record(seed).frame.hash for seed in range(4)]


def test_frame_of_one_atom_without_stress(assert_same: Callable[..., None], tmp_path: Path) -> None:
    frame = Frame([3], [[0, 0, 0]], np.zeros((3, 3)), [False] * 3, charge=-1, multiplicity=3)
    record = Record(frame, Label(-1.0, np.zeros((1, 3)), None, "t@0"), Provenance(-1, "", "", "valid", ""))
    with opened(tmp_path) as journal:
        journal.publish(record)
    (back,) = Journal(tmp_path / "journal").read()
    assert_same(record, back)
