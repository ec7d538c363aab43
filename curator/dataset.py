"""Data sets on disk that a user names: a folder with a journal, of a campaign or of its own, or a frame store."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from curator.datasets.extxyz import read_frames
from curator.datasets.fence import acquire
from curator.datasets.frame import Frame
from curator.datasets.isolated import is_isolated
from curator.datasets.journal import Journal, open_store
from curator.datasets.label import Provenance, Record, Theory
from curator.datasets.store import Store
from curator.datasets.theories import choose_theory, count_theories, merged
from curator.errors import BadInput
from curator.state import CAMPAIGN_FILE, RESOLVED_FILE

JOURNAL, STORE = "journal", "frames.h5"


@dataclass(frozen=True, slots=True)
class DataSet:
    """Every label of a data set, in order of arrival, and what is known of the levels of theory.

    Attributes
    ----------
    records
        One for each label.
    theories
        Levels of theory in full, by key; those that nobody has described are missing.
    """

    records: Sequence[Record]
    theories: dict[str, Theory]

    @property
    def provenances(self) -> dict[str, Provenance]:
        """Provenance that each frame first came with, by its hash."""
        return {record.frame.hash: record.provenance for record in reversed(self.records)}


def is_dataset(path: Path) -> bool:
    """Whether a path names a data set, and not a file of frames."""
    return path.suffix == ".h5" or (path.is_dir() and not (path / "type.raw").exists())


def read_dataset(path: Path) -> DataSet:
    """Read a data set; from its journal if it has one, which can be read while others write.

    Raises
    ------
    BadInput
        If there is none.
    """
    if path.suffix == ".h5" and not (path.name == STORE and (path.parent / JOURNAL).is_dir()):
        if not path.exists():
            raise BadInput(f"{path}: no such data set")
        with Store(path, "r") as store:
            return DataSet(store.records(), {})
    folder = dataset_folder(path)
    if not (folder / JOURNAL).is_dir():
        raise BadInput(
            f"{folder}: holds no data set (no {JOURNAL}); make one with: curator import FILES --into {folder}"
        )
    return dataset_of(Journal(folder / JOURNAL))


def dataset_of(journal: Journal) -> DataSet:
    """Content of a journal."""
    entries = [entry for entry in journal.entries() if isinstance(entry.content, Record)]
    theories: dict[str, Theory] = {}
    for entry in entries:
        if entry.theory is not None:
            key = entry.theory.key
            theories[key] = merged(theories[key], entry.theory) if key in theories else entry.theory
    return DataSet([entry.content for entry in entries if isinstance(entry.content, Record)], theories)


def read_labelled(path: Path, theory: str | None) -> list[Record]:
    """Labels of one level of theory from a data set, all with its key.

    Theories that differ only by the elements whose pseudopotentials they name are one level of theory.

    Raises
    ------
    BadInput
        If there is no data set, or the level of theory is not there or not the only one that may be meant.
    """
    held = read_dataset(path)
    try:
        key, parts = choose_theory(count_theories(held.records), theory, str(path), held.theories)
    except ValueError as error:
        raise BadInput(str(error)) from error
    found: dict[str, Record] = {}
    for record in held.records:
        if record.label.theory in parts:
            found.setdefault(record.frame.hash, replace(record, label=replace(record.label, theory=key)))
    return list(found.values())


def frames_named(path: Path) -> list[Frame]:
    """Frames of a file in any format, or of a data set, isolated atoms left out.

    Raises
    ------
    ValueError
        If they cannot be read.
    """
    if not is_dataset(path):
        return read_frames(path)
    frames = {record.frame.hash: record.frame for record in read_dataset(path).records}
    return [frame for frame in frames.values() if not is_isolated(frame)]


@contextmanager
def open_dataset(path: Path) -> Iterator[Journal]:
    """Open a data set for writing, made if it is not there; its store is brought up to date at the end.

    Raises
    ------
    BadInput
        If the path names no data set, or that of a campaign, which alone decides what its labels are bought for.
    """
    folder = dataset_folder(path)
    if folder.is_file():
        raise BadInput(f"{folder}: is a file; name a folder, or a data set's {STORE}")
    if any((folder / name).exists() for name in (CAMPAIGN_FILE, RESOLVED_FILE)):
        raise BadInput(f"{folder}: belongs to a campaign, which keeps its own labels; name another folder")
    with acquire(folder / JOURNAL) as fence:
        journal = Journal(folder / JOURNAL, fence)
        yield journal
        journal.close()
        open_store(folder / STORE, journal).close()


def dataset_folder(path: Path) -> Path:
    """Folder of a data set that is named by it or by its store.

    Raises
    ------
    BadInput
        If the path is that of another HDF5 file.
    """
    if path.suffix == ".h5" and path.name != STORE:
        raise BadInput(f"{path}: labels are kept in a folder, with its {STORE}; name the folder")
    return path.parent if path.name == STORE else path
