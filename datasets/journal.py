"""Labels as they arrive, safe against crashes: an append-only journal that the store is rebuilt from.

A journal is a folder of segments ``<driver token>-<number>.journal``. Every driver writes segments of its own, so that
two can never write into one file, and none is changed once the next one is begun. A label counts from the moment it is
whole on disk.
"""

import errno
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from curator.datasets.atomic import atomic_path, fsync_folder
from curator.datasets.fence import DriverError, Fence, acquire
from curator.datasets.label import Label, Record, Split, Theory
from curator.datasets.notice import Notice
from curator.datasets.segment import Entry, Failure, JournalDamagedError, encode, label_key, read_segment
from curator.datasets.store import Store, StoreDamagedError, check_split

__all__ = [
    "DriverError",
    "Entry",
    "Failure",
    "Fence",
    "Journal",
    "JournalDamagedError",
    "acquire",
    "fold",
    "open_store",
    "rebuild",
]

SEGMENT_BYTES = 64 * 2**20
"""A new segment is begun when one has grown beyond this size."""

_SEGMENTS = "[0-9]*-[0-9]*.journal"


class Journal:
    """Append-only record of every label and every failure.

    Parameters
    ----------
    folder
        Folder of the segments.
    fence
        The right to write, from `acquire`; without it the journal can only be read.

    Raises
    ------
    JournalDamagedError
        If a record in the middle of a segment is corrupt.
    """

    def __init__(self, folder: Path | str, fence: Fence | None = None) -> None:
        self.folder = Path(folder)
        self.fence = fence
        self._segment: BinaryIO | None = None
        self._labelled: set[tuple[str, str]] = set()
        self._failed: set[tuple[str, str]] = set()
        self._splits: dict[str, Split] = {}
        self._versions: dict[str, dict[str, str]] = {}
        if fence is not None:
            fence.check()
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".*.journal"):
                leftover.unlink()
        elif not self.folder.is_dir():
            raise ValueError(f"{self.folder}: no such journal")
        for entry in self.entries():
            self._note(entry)

    @property
    def published(self) -> Set[tuple[str, str]]:
        """Frame hash and theory key of every label there is: none of these need be calculated again."""
        return self._labelled

    @property
    def quarantined(self) -> Set[tuple[str, str]]:
        """Frame hash and theory key of every failure without a later label."""
        return self._failed - self._labelled

    def labels(self, theory: str) -> dict[str, Label]:
        """Read the labels of one level of theory, by frame hash."""
        return {c.frame.hash: c.label for c in self.read() if isinstance(c, Record) and c.label.theory == theory}

    def failures(self, theory: str) -> dict[str, Failure]:
        """Read the last failure of every frame that has no label at this level of theory, by frame hash."""
        failures = {c.frame.hash: c for c in self.read() if isinstance(c, Failure) and c.theory == theory}
        return {frame: failure for frame, failure in failures.items() if (frame, theory) not in self._labelled}

    def failed_by_reason(self, theory: str) -> dict[str, int]:
        """Count the frames without a label at this level of theory by what went wrong, the most frequent first."""
        return dict(Counter(failure.reason for failure in self.failures(theory).values()).most_common())

    @property
    def splits(self) -> dict[str, Split]:
        """Split of every trajectory group."""
        return dict(self._splits)

    def publish(self, content: Record | Failure, theory: Theory | None = None) -> bool:
        """Write one label or failure; it is on disk when this returns.

        Parameters
        ----------
        content
            What to write.
        theory
            Level of theory in full. Versions that differ from those of the label before it are warned about.

        Returns
        -------
        bool
            False if a label of this frame and theory is there already; nothing is written then.

        Raises
        ------
        DriverError
            If a newer driver has taken over, or the journal was opened for reading only.
        ValueError
            If the trajectory group already has another split.
        OSError
            If the disk is full or fails. The journal is then as it was before.
        """
        entry = self._prepare(content, theory, dict(self._splits))
        if entry is None:
            return False
        self._append(encode(entry))
        self._note(entry)
        return True

    def publish_many(
        self, contents: Iterable[Record | Failure], theory: Theory | Sequence[Theory] | None = None
    ) -> int:
        """Write many at once, as one segment that appears whole or not at all.

        Parameters
        ----------
        contents
            What to write.
        theory
            Level of theory in full, one for all or one for each.

        Returns
        -------
        int
            Number of records written; labels that are there already are left out.

        Raises
        ------
        DriverError, ValueError, OSError
            As `publish`; also if there are more or fewer theories than records.
        """
        splits = dict(self._splits)
        entries: list[Entry] = []
        seen: set[tuple[str, str]] = set()
        contents = list(contents)
        each = [theory] * len(contents) if theory is None or isinstance(theory, Theory) else theory
        for content, its_theory in zip(contents, each, strict=True):
            key = label_key(content)
            entry = None if key in seen else self._prepare(content, its_theory, splits)
            if entry is not None:
                entries.append(entry)
                if isinstance(content, Record):
                    seen.add(key)
        if entries:
            self.close()
            path = self._next_segment()
            try:
                with atomic_path(path) as aside, aside.open("wb") as file:
                    file.writelines(encode(entry) for entry in entries)
            except OSError as error:
                raise _not_written(path, error) from error
            for entry in entries:
                self._note(entry)
        return len(entries)

    def close(self) -> None:
        """Close the segment in use; the next record begins a new one."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def read(self) -> Iterator[Record | Failure]:
        """Labels and failures in the order of publication."""
        return (entry.content for entry in self.entries())

    def entries(self) -> Iterator[Entry]:
        """All records in the order of publication.

        Raises
        ------
        JournalDamagedError
            If a record in the middle of a segment is corrupt; the text names segment and offset.
        """
        for segment in sorted(self.folder.glob(_SEGMENTS)):
            yield from read_segment(segment)

    def _prepare(self, content: Record | Failure, theory: Theory | None, splits: dict[str, Split]) -> Entry | None:
        if self.fence is None:
            raise DriverError(
                f"{self.folder}: the journal was opened for reading only; open it with a fence to publish"
            )
        self.fence.check()
        key = label_key(content)
        if theory is not None and theory.key != key[1]:
            raise ValueError(f"a label of theory '{key[1]}' cannot be published as '{theory.key}'")
        if isinstance(content, Record):
            if key in self._labelled:
                return None
            check_split(splits, content.provenance)
        if theory is not None:
            now = dict(theory.versions)
            before = self._versions.get(theory.key, now)
            if before != now:
                warnings.warn(
                    f"labels of {key[1]} come from different versions: {before} and now {now}", Notice, stacklevel=3
                )
            self._versions[theory.key] = now
        return Entry(content, theory, self.fence.token, datetime.now(UTC).isoformat(timespec="seconds"))

    def _note(self, entry: Entry) -> None:
        content = entry.content
        if isinstance(content, Failure):
            self._failed.add(label_key(content))
        else:
            self._labelled.add(label_key(content))
            self._splits.setdefault(content.provenance.group, content.provenance.split)
        if entry.theory is not None:
            self._versions[entry.theory.key] = dict(entry.theory.versions)

    def _append(self, data: bytes) -> None:
        if self._segment is not None and self._segment.tell() > SEGMENT_BYTES:
            self.close()
        path = Path(self._segment.name) if self._segment else self._next_segment()
        try:
            if self._segment is None:
                self._segment = path.open("xb", buffering=0)
                fsync_folder(self.folder)
            _write(self._segment, data)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise _not_written(path, error) from error
            raise

    def _next_segment(self) -> Path:
        assert self.fence is not None
        mine = sorted(self.folder.glob(f"{self.fence.token:06d}-[0-9]*.journal"))
        number = int(mine[-1].stem.split("-")[1]) + 1 if mine else 0
        return self.folder / f"{self.fence.token:06d}-{number:06d}.journal"


def fold(journal: Journal, store: Store) -> int:
    """Append to the store every label of the journal that it lacks; the number of labels added."""
    labels = (content for content in journal.read() if isinstance(content, Record))
    n_added = 0
    while batch := list(islice(labels, 1000)):
        n_added += store.append(batch)
    return n_added


def rebuild(journal: Journal, path: Path | str) -> int:
    """Make the store anew from the journal; it takes the place of ``path`` when it is complete.

    Returns
    -------
    int
        Number of labels in it.
    """
    with atomic_path(Path(path)) as aside, Store(aside) as store:
        return fold(journal, store)


def open_store(path: Path | str, journal: Journal) -> Store:
    """Open the store of a campaign with every published label in it; rebuild it where it is missing or damaged."""
    path = Path(path)
    try:
        store = Store(path)
    except StoreDamagedError as error:
        kept = path.with_name(f"{path.name}.damaged")
        warnings.warn(f"{error}; it is rebuilt, and the damaged file kept as {kept.name}", Notice, stacklevel=2)
        path.replace(kept)
        rebuild(journal, path)
        return Store(path)
    fold(journal, store)
    return store


def _write(segment: BinaryIO, data: bytes) -> None:
    start = segment.tell()
    try:
        view = memoryview(data)
        while view:
            view = view[segment.write(view) :]
        os.fsync(segment.fileno())
    except BaseException:
        # Should cutting off the partial record fail as well, it is a torn end, which readers pass over.
        with suppress(OSError):
            segment.truncate(start)
        raise


def _not_written(path: Path, error: OSError) -> OSError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "disk full" if full else os.strerror(error.errno or 0)
    return OSError(
        error.errno, f"{reason}: nothing was published and the journal is as before; make room and run again", str(path)
    )
