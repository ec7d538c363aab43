"""Frames and their labels at rest, in one HDF5 file of flat arrays.

Layout, version 1::

    frames     (n_frames,)  compound: hash, end, cell, pbc, charge, multiplicity, round, source, group, split, reason
    labels     (n_labels,)  compound: frame, theory, end, energy, cpu_s, has_stress, stress
    numbers    (n_atoms,)     int32     atoms of all frames, one frame after the other
    positions  (n_atoms, 3)   float64   Å
    forces     (n_forces, 3)  float64   eV/Å, of all labels, one label after the other
    texts      (n_texts,)     strings   that source, group, split, reason and theory point to, JSON-escaped

``end`` is where the atoms of a frame (the forces of a label) end in the flat arrays; they begin where those of the
row before end. A group of HDF5 objects per frame would be some forty times slower.

The attribute ``clean`` is off while the file is being changed, so that a file whose writer was killed is recognised.
HDF5 cannot repair it, but the journal can rebuild it.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record, Split

FORMAT = "curator-frames"
VERSION = 1

_FRAME_ROW = np.dtype(
    [
        ("hash", "u1", (32,)),
        ("end", "<i8"),
        ("cell", "<f8", (3, 3)),
        ("pbc", "u1", (3,)),
        ("charge", "<i4"),
        ("multiplicity", "<i4"),
        ("round", "<i4"),
        ("source", "<i4"),
        ("group", "<i4"),
        ("split", "<i4"),
        ("reason", "<i4"),
    ]
)
_LABEL_ROW = np.dtype(
    [
        ("frame", "<i8"),
        ("theory", "<i4"),
        ("end", "<i8"),
        ("energy", "<f8"),
        ("cpu_s", "<f8"),
        ("has_stress", "u1"),
        ("stress", "<f8", (6,)),
    ]
)
_DATASETS: tuple[tuple[str, tuple[int, ...], Any, int], ...] = (
    ("frames", (), _FRAME_ROW, 512),
    ("labels", (), _LABEL_ROW, 512),
    ("numbers", (), "<i4", 16384),
    ("positions", (3,), "<f8", 4096),
    ("forces", (3,), "<f8", 4096),
    ("texts", (), h5py.string_dtype(), 1024),
)
"""Name, shape of one row, type, rows per chunk."""


class StoreDamagedError(ValueError):
    """The file is no store, or a store whose writer was killed; the journal can rebuild it."""


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
        self._failed = False
        self._file = _open(self.path, mode)
        try:
            self._load()
        except (StoreDamagedError, KeyError, OSError, TypeError, ValueError) as error:
            self._file.close()
            raise _damaged(self.path, str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything appended is on disk already."""
        try:
            self._file.close()
        except (OSError, RuntimeError):
            if not self._failed:
                raise

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, idx: int) -> Frame: ...
    @overload
    def __getitem__(self, idx: slice) -> list[Frame]: ...
    def __getitem__(self, idx: int | slice) -> Frame | list[Frame]:
        if isinstance(idx, slice):
            return [self[i] for i in range(*idx.indices(len(self)))]
        return self._frame(idx, self._data["numbers"], self._data["positions"])

    def __contains__(self, frame: object) -> bool:
        return isinstance(frame, Frame) and bytes.fromhex(frame.hash) in self._by_hash

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Position of a frame, found by its hash."""
        idx = self._by_hash.get(bytes.fromhex(value.hash)) if isinstance(value, Frame) else None
        if idx is None or not start <= idx < (len(self) if stop is None else stop):
            raise ValueError(f"{self.path}: the frame is not in the store")
        return idx

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
        row = self._atoms(idx)[1]
        source, group, split, reason = (self._texts[int(row[name])] for name in ("source", "group", "split", "reason"))
        return Provenance(int(row["round"]), source, group, cast(Split, split), reason)

    def labels(self, idx: int) -> dict[str, Label]:
        """Labels of frame ``idx`` by key of the level of theory; empty if it has none."""
        self._atoms(idx)
        rows = self._labels_of.get(idx % len(self), {})
        return {self._texts[theory]: self._label(row, self._data["forces"]) for theory, row in rows.items()}

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
            for idx in range(len(self))
            if split is None or self._texts[int(self._frames[idx]["split"])] == split
            for code, row in self._labels_of.get(idx, {}).items()
            if code in wanted
        ]
        # One read of a whole array is much faster than thousands of small ones.
        many = len(kept) > len(self._labels) // 16
        numbers, positions, forces = (
            self._data[name][...] if many else self._data[name] for name in ("numbers", "positions", "forces")
        )
        return [
            Record(self._frame(idx, numbers, positions), self._label(row, forces), self.provenance(idx))
            for idx, row in kept
        ]

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
        OSError
            If the disk is full or fails. The store is damaged then and has to be rebuilt.
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
        atom_end, force_end = self._end(self._frames), self._end(self._labels)
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
        rows, labels = np.array(frame_rows, _FRAME_ROW), np.array(label_rows, _LABEL_ROW)
        with self._changing():
            if frames:
                self._extend("numbers", np.concatenate([frame.numbers for frame in frames]))
                self._extend("positions", np.concatenate([frame.positions for frame in frames]))
                self._extend("frames", rows)
            self._extend("texts", [_as_ascii(text) for text in list(texts)[len(self._texts) :]])
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
        if not self._file.attrs["clean"] or len(self._data["labels"]) != len(self._labels):
            raise _damaged(self.path, "an append failed, or another Store of this process has changed it")
        try:
            self._file.attrs.modify("clean", False)
            self._file.flush()
            yield
            self._file.flush()
            os.fsync(self._file.id.get_vfd_handle())
            self._file.attrs.modify("clean", True)
            self._file.flush()
        except (OSError, RuntimeError) as error:
            self._failed = True
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
            raise StoreDamagedError("its writer was stopped in the middle of a change")
        self._data = {name: self._file[name] for name, *_ in _DATASETS}
        self._frames = np.zeros(0, _FRAME_ROW)
        self._labels = np.zeros(0, _LABEL_ROW)
        self._by_hash: dict[bytes, int] = {}
        self._labels_of: dict[int, dict[int, int]] = {}
        self._split_of_group: dict[str, Split] = {}
        texts = [_from_ascii(text) for text in self._data["texts"].asstr()[...].tolist()]
        self._index(self._data["frames"][...], self._data["labels"][...], texts)
        n_atoms, n_forces = self._end(self._frames), self._end(self._labels)
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

    def _has(self, content: bytes, theory: str) -> bool:
        idx = self._by_hash.get(content)
        return idx is not None and any(self._texts[code] == theory for code in self._labels_of.get(idx, {}))

    def _atoms(self, idx: int) -> tuple[int, Any]:
        n_frames = len(self)
        if not -n_frames <= idx < n_frames:
            raise IndexError(f"{self.path}: no frame {idx}; the store holds {n_frames}")
        idx %= n_frames
        return (int(self._frames[idx - 1]["end"]) if idx else 0), self._frames[idx]

    def _frame(self, idx: int, numbers: Any, positions: Any) -> Frame:
        start, row = self._atoms(idx)
        atoms = slice(start, int(row["end"]))
        charge, multiplicity = int(row["charge"]), int(row["multiplicity"])
        return Frame(numbers[atoms], positions[atoms], row["cell"], row["pbc"], charge, multiplicity)

    def _label(self, idx: int, forces: Any) -> Label:
        row = self._labels[idx]
        start = int(self._labels[idx - 1]["end"]) if idx else 0
        return Label(
            energy=float(row["energy"]),
            forces=forces[start : int(row["end"])],
            stress=row["stress"] if row["has_stress"] else None,
            theory=self._texts[int(row["theory"])],
            cpu_s=float(row["cpu_s"]),
        )

    @staticmethod
    def _end(rows: NDArray[Any]) -> int:
        return int(rows[-1]["end"]) if len(rows) else 0


def check_split(splits: dict[str, Split], provenance: Provenance) -> None:
    """Note the split of a trajectory group in ``splits``, or raise ValueError if the group has another one."""
    split = splits.setdefault(provenance.group, provenance.split)
    if split != provenance.split:
        raise ValueError(
            f"trajectory group '{provenance.group}' is in split '{split}' and cannot also be in "
            f"'{provenance.split}': correlated frames would leak; give the new frames a group of their own"
        )


def _as_ascii(text: str) -> str:
    # HDF5 strings end at the first NUL, and a file name may hold what UTF-8 cannot.
    return json.dumps(text)[1:-1]


def _from_ascii(text: str) -> str:
    return cast(str, json.loads(f'"{text}"'))


def _open(path: Path, mode: Literal["a", "r"]) -> Any:
    exists = path.exists()
    if mode == "r" and not exists:
        raise FileNotFoundError(f"{path}: no such frame store")
    try:
        file = h5py.File(path, ("r" if mode == "r" else "r+") if exists else "x", locking="best-effort")
    except BlockingIOError as error:
        raise BlockingIOError(f"{path}: another process has this frame store open; stop it or wait for it") from error
    except OSError as error:
        raise _damaged(path, str(error)) from error
    if not exists:
        file.attrs.update({"format": FORMAT, "version": VERSION, "clean": True})
        for name, shape, dtype, chunk in _DATASETS:
            file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape))
        file.flush()
    return file


def _damaged(path: Path, reason: str) -> StoreDamagedError:
    return StoreDamagedError(f"{path}: not a whole frame store ({reason}); it can be rebuilt from the journal")
