"""Frames and their labels at rest, in one HDF5 file of flat arrays.

The attribute ``clean`` goes off, durably, before a writer's first change and on again when it closes the file with
everything on disk. A file whose writer was killed, or whose machine lost power, is so recognised: HDF5 cannot repair
it, but the journal can rebuild it. Not to wait for the disk at each append is what the journal allows.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast, overload

import numpy as np
from numpy.typing import NDArray

from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record, Split
from curator.datasets.layout import (
    DATASETS,
    FORMAT,
    FRAME_ROW,
    LABEL_ROW,
    VERSION,
    StoreDamagedError,
    as_ascii,
    damaged,
    from_ascii,
    open_file,
)

__all__ = ["Store", "StoreDamagedError", "check_split"]


class Store(Sequence[Frame]):
    """Sequence of frames with their labels and provenance.

    A frame is kept once, with the provenance it first came with; it may carry labels of several levels of theory. One
    process at a time may have the file open for writing.

    Parameters
    ----------
    path
        The file; it is made if it does not exist.
    mode
        ``a`` to read and append, ``r`` to read only.

    Raises
    ------
    StoreDamagedError
        If the file is not a whole store.
    FileNotFoundError
        If the file does not exist and ``mode`` is ``r``.
    BlockingIOError
        If another process has it open.
    """

    def __init__(self, path: Path | str, mode: Literal["a", "r"] = "a") -> None:
        self.path = Path(path)
        self._changed = False
        self._failed = False
        self._file = open_file(self.path, mode)
        try:
            self._load()
        except (StoreDamagedError, KeyError, OSError, TypeError, ValueError) as error:
            self._file.close()
            raise damaged(self.path, str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything appended is on disk when this returns.

        Raises
        ------
        OSError
            If the disk is full or fails. The store is damaged then and has to be rebuilt.
        """
        try:
            if self._changed and not self._failed:
                with self._told_if_it_fails():
                    self._sync()
                    self._file.attrs.modify("clean", True)
                    self._file.flush()
        finally:
            self._changed = False
            with suppress(OSError, RuntimeError) if self._failed else nullcontext():
                self._file.close()

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, idx: int) -> Frame: ...
    @overload
    def __getitem__(self, idx: slice) -> list[Frame]: ...
    def __getitem__(self, idx: int | slice) -> Frame | list[Frame]:
        if isinstance(idx, slice):
            return self._frames_at(range(*idx.indices(len(self))))
        return self._frames_at([self._row(idx)])[0]

    def __contains__(self, frame: object) -> bool:
        return isinstance(frame, Frame) and bytes.fromhex(frame.hash) in self._by_hash

    @property
    def theories(self) -> tuple[str, ...]:
        """Keys of the levels of theory there are labels of, in order of arrival."""
        return tuple(self._texts[code] for code in dict.fromkeys(self._labels["theory"].tolist()))

    @property
    def splits(self) -> dict[str, Split]:
        """Split of every trajectory group."""
        return dict(self._split_of_group)

    def provenance(self, idx: int) -> Provenance:
        """Provenance of frame ``idx``."""
        return self._provenances_at([self._row(idx)])[0]

    def labels(self, idx: int) -> dict[str, Label]:
        """Labels of frame ``idx`` by key of the level of theory; empty if it has none."""
        rows = self._labels_of.get(self._row(idx), {})
        return {label.theory: label for label in self._labels_at(list(rows.values()))}

    def records(self, theory: str | None = None, split: Split | None = None) -> list[Record]:
        """Labelled frames, in the order of the frames; one record for each label.

        Parameters
        ----------
        theory
            Key of a level of theory; all of them if None.
        split
            Only frames of this split; all if None.
        """
        wanted = {code for code, text in enumerate(self._texts) if theory in (None, text)}
        kept = [
            (idx, row)
            for idx, code in enumerate(self._frames["split"].tolist())
            if split is None or self._texts[code] == split
            for theory_code, row in self._labels_of.get(idx, {}).items()
            if theory_code in wanted
        ]
        frames, labels = [idx for idx, _ in kept], [row for _, row in kept]
        parts = self._frames_at(frames), self._labels_at(labels), self._provenances_at(frames)
        return [Record(frame, label, origin) for frame, label, origin in zip(*parts, strict=True)]

    def append(self, records: Iterable[Record]) -> int:
        """Append records; a frame with a label of the same level of theory already there is left as it is.

        Returns
        -------
        int
            Number of labels added.

        Raises
        ------
        ValueError
            If the trajectory group of a record already has another split, or the store was opened for reading only.
            Nothing is appended then.
        StoreDamagedError
            If an earlier append failed, or another Store of this process has changed the file.
        OSError
            If the disk is full or fails. The store is damaged then and has to be rebuilt.

        Notes
        -----
        A store that is not closed after an append counts as damaged.
        """
        if self._file.mode == "r":
            raise ValueError(f"{self.path}: the store was opened for reading only")
        new: dict[tuple[bytes, str], Record] = {}
        splits = dict(self._split_of_group)
        for record in records:
            check_split(splits, record.provenance)
            content = bytes.fromhex(record.frame.hash)
            if not self._has(content, record.label.theory):
                new.setdefault((content, record.label.theory), record)
        if new:
            self._write(new)
        return len(new)

    def _write(self, new: dict[tuple[bytes, str], Record]) -> None:
        added: dict[bytes, int] = {}
        texts = {text: code for code, text in enumerate(self._texts)}

        def code(text: str) -> int:
            return texts.setdefault(text, len(texts))

        frames, frame_rows, label_rows = [], [], []
        atom_end, force_end = self._atom_bounds[-1], self._force_bounds[-1]
        for (content, theory), record in new.items():
            frame, label, origin = record.frame, record.label, record.provenance
            if content not in self._by_hash and content not in added:
                added[content] = len(self) + len(added)
                frames.append(frame)
                atom_end += len(frame)
                codes = [code(text) for text in (origin.source, origin.group, origin.split, origin.reason)]
                hash_bytes = np.frombuffer(content, np.uint8)
                head = (hash_bytes, atom_end, frame.cell, frame.pbc, frame.charge, frame.multiplicity)
                frame_rows.append((*head, origin.round, *codes))
            force_end += len(label.forces)
            stress = np.zeros(6) if label.stress is None else label.stress
            has_stress = label.stress is not None
            idx = added[content] if content in added else self._by_hash[content]
            label_rows.append((idx, code(theory), force_end, label.energy, label.cpu_s, has_stress, stress))
        rows, labels = np.array(frame_rows, FRAME_ROW), np.array(label_rows, LABEL_ROW)
        with self._changing():
            if frames:
                self._extend("numbers", np.concatenate([frame.numbers for frame in frames]))
                self._extend("positions", np.concatenate([frame.positions for frame in frames]))
                self._extend("frames", rows)
            self._extend("texts", [as_ascii(text) for text in list(texts)[len(self._texts) :]])
            self._extend("forces", np.concatenate([record.label.forces for record in new.values()]))
            self._extend("labels", labels)
        self._index(rows, labels, list(texts))

    def _extend(self, name: str, rows: NDArray[Any] | list[str]) -> None:
        dataset = self._data[name]
        start = len(dataset)
        if len(rows):
            dataset.resize(start + len(rows), axis=0)
            dataset[start:] = rows

    @contextmanager
    def _changing(self) -> Iterator[None]:
        clean, n_labels = bool(self._file.attrs["clean"]), len(self._data["labels"])
        if self._failed or clean == self._changed or n_labels != len(self._labels):
            raise damaged(self.path, "an append failed, or another Store of this process has changed it")
        with self._told_if_it_fails():
            if not self._changed:
                self._file.attrs.modify("clean", False)
                self._sync()
                self._changed = True
            yield
            self._file.flush()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.id.get_vfd_handle())

    @contextmanager
    def _told_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            # An interrupt, too, leaves half a change.
            self._failed = True
            if not isinstance(error, OSError | RuntimeError):
                raise
            full = os.strerror(errno.ENOSPC) in str(error)
            reason = "disk full" if full else "the file could not be written"
            raise OSError(
                errno.ENOSPC if full else errno.EIO,
                f"{reason}: make room and run again; the store is then rebuilt from the journal",
                str(self.path),
            ) from error

    def _load(self) -> None:
        attributes = self._file.attrs
        if attributes.get("format") != FORMAT:
            raise StoreDamagedError("it is an HDF5 file of something else")
        if attributes["version"] != VERSION:
            raise StoreDamagedError(f"it has layout version {attributes['version']}, this is {VERSION}")
        if not attributes["clean"]:
            raise StoreDamagedError("its writer was stopped before it closed the file")
        self._data = {name: self._file[name] for name, *_ in DATASETS}
        self._frames = np.zeros(0, FRAME_ROW)
        self._labels = np.zeros(0, LABEL_ROW)
        self._atom_bounds, self._force_bounds = [0], [0]
        self._by_hash: dict[bytes, int] = {}
        self._labels_of: dict[int, dict[int, int]] = {}
        self._split_of_group: dict[str, Split] = {}
        texts = [from_ascii(text) for text in self._data["texts"].asstr()[...].tolist()]
        self._index(self._data["frames"][...], self._data["labels"][...], texts)
        n_atoms, n_forces = self._atom_bounds[-1], self._force_bounds[-1]
        if (n_atoms, n_atoms, n_forces) != tuple(len(self._data[name]) for name in ("numbers", "positions", "forces")):
            raise StoreDamagedError("its offsets do not fit its arrays")

    def _index(self, frames: NDArray[Any], labels: NDArray[Any], texts: list[str]) -> None:
        self._texts = texts
        first = len(self._frames)
        contents = frames["hash"].tobytes()
        self._by_hash.update((contents[32 * i : 32 * i + 32], first + i) for i in range(len(frames)))
        for group, split in set(zip(frames["group"].tolist(), frames["split"].tolist(), strict=True)):
            self._split_of_group[texts[group]] = cast(Split, texts[split])
        for row, (idx, theory) in enumerate(zip(labels["frame"].tolist(), labels["theory"].tolist(), strict=True)):
            self._labels_of.setdefault(idx, {})[theory] = len(self._labels) + row
        self._frames = np.concatenate([self._frames, frames])
        self._labels = np.concatenate([self._labels, labels])
        self._atom_bounds += frames["end"].tolist()
        self._force_bounds += labels["end"].tolist()

    def _has(self, content: bytes, theory: str) -> bool:
        idx = self._by_hash.get(content)
        return idx is not None and any(self._texts[code] == theory for code in self._labels_of.get(idx, {}))

    def _row(self, idx: int) -> int:
        n_frames = len(self)
        if not -n_frames <= idx < n_frames:
            raise IndexError(f"{self.path}: no frame {idx}; the store holds {n_frames}")
        return idx % n_frames

    def _frames_at(self, idx: Sequence[int]) -> list[Frame]:
        rows = self._frames[list(idx)]
        numbers, positions = (self._blocks(name, self._atom_bounds, idx) for name in ("numbers", "positions"))
        charges, multiplicities = rows["charge"].tolist(), rows["multiplicity"].tolist()
        columns = (numbers, positions, rows["cell"], rows["pbc"], charges, multiplicities)
        return [Frame(*parts) for parts in zip(*columns, strict=True)]

    def _labels_at(self, idx: Sequence[int]) -> list[Label]:
        rows = self._labels[list(idx)]
        forces = self._blocks("forces", self._force_bounds, idx)
        columns = (rows[name].tolist() for name in ("energy", "cpu_s", "theory", "has_stress"))
        return [
            Label(energy, force, stress if has_stress else None, self._texts[theory], cpu_s)
            for force, stress, energy, cpu_s, theory, has_stress in zip(forces, rows["stress"], *columns, strict=True)
        ]

    def _provenances_at(self, idx: Sequence[int]) -> list[Provenance]:
        rows, texts = self._frames[list(idx)], self._texts
        columns = (rows[name].tolist() for name in ("round", "source", "group", "split", "reason"))
        return [
            Provenance(round_, texts[source], texts[group], cast(Split, texts[split]), texts[reason])
            for round_, source, group, split, reason in zip(*columns, strict=True)
        ]

    def _blocks(self, name: str, bounds: Sequence[int], idx: Sequence[int]) -> list[NDArray[Any]]:
        """Parts ``idx`` of a flat array, of which part ``i`` goes from ``bounds[i]`` to ``bounds[i + 1]``."""
        if not idx:
            return []
        starts, stops = [bounds[i] for i in idx], [bounds[i + 1] for i in idx]
        low, high = min(starts), max(stops)
        if high - low > 16 * (sum(stops) - sum(starts)):
            return [self._data[name][start:stop] for start, stop in zip(starts, stops, strict=True)]
        # One read of all that lies between is much faster than many small ones.
        block = self._data[name][low:high]
        return [block[start - low : stop - low] for start, stop in zip(starts, stops, strict=True)]


def check_split(splits: dict[str, Split], provenance: Provenance) -> None:
    """Note the split of a trajectory group in ``splits``, or raise ValueError if the group has another one."""
    split = splits.setdefault(provenance.group, provenance.split)
    if split != provenance.split:
        raise ValueError(
            f"trajectory group '{provenance.group}' is in split '{split}' and cannot also be in "
            f"'{provenance.split}': correlated frames would leak; give the new frames a group of their own"
        )
