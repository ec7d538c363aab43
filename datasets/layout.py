"""Layout of a frame store, an HDF5 file of flat arrays.

Version 1::

    frames     (n_frames,)  compound: hash, end, cell, pbc, charge, multiplicity, round, source, group, split, reason
    labels     (n_labels,)  compound: frame, theory, end, energy, cpu_s, has_stress, stress
    numbers    (n_atoms,)     int32     atoms of all frames, one frame after the other
    positions  (n_atoms, 3)   float64   Å
    forces     (n_forces, 3)  float64   eV/Å, of all labels, one label after the other
    texts      (n_texts,)     strings   that source, group, split, reason and theory point to, JSON-escaped

``end`` is where the atoms of a frame (the forces of a label) end in the flat arrays; they begin where those of the
row before end. Flat, because HDF5 costs by the object more than by the byte.
"""

import json
from pathlib import Path
from typing import Any, Literal, cast

import h5py
import numpy as np

FORMAT = "curator-frames"
VERSION = 1

FRAME_ROW = np.dtype(
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
LABEL_ROW = np.dtype(
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
DATASETS: tuple[tuple[str, tuple[int, ...], Any, int], ...] = (
    ("frames", (), FRAME_ROW, 512),
    ("labels", (), LABEL_ROW, 512),
    ("numbers", (), "<i4", 16384),
    ("positions", (3,), "<f8", 4096),
    ("forces", (3,), "<f8", 4096),
    ("texts", (), h5py.string_dtype(), 1024),
)
"""Name, shape of one row, type, rows per chunk."""
CACHE_BYTES = 32 * 2**20
"""Chunks kept in memory, of each array: frames read at random do not fetch a chunk again and again."""


class StoreDamagedError(ValueError):
    """The file is no store, or a store whose writer was killed; the journal can rebuild it."""


def as_ascii(text: str) -> str:
    """Text for the file: HDF5 strings end at the first NUL, and a file name may hold what UTF-8 cannot."""
    return json.dumps(text)[1:-1]


def from_ascii(text: str) -> str:
    """Undo `as_ascii`."""
    return cast(str, json.loads(f'"{text}"'))


def open_file(path: Path, mode: Literal["a", "r"]) -> Any:
    """HDF5 file of a store, made empty if it does not exist and ``mode`` is ``a``; errors are those of `Store`."""
    exists = path.exists()
    if mode == "r" and not exists:
        raise FileNotFoundError(f"{path}: no such frame store")
    try:
        file = h5py.File(
            path, ("r" if mode == "r" else "r+") if exists else "x", locking="best-effort", rdcc_nbytes=CACHE_BYTES
        )
    except BlockingIOError as error:
        raise BlockingIOError(f"{path}: another process has this frame store open; stop it or wait for it") from error
    except OSError as error:
        raise damaged(path, str(error)) from error
    if not exists:
        file.attrs.update({"format": FORMAT, "version": VERSION, "clean": True})
        for name, shape, dtype, chunk in DATASETS:
            file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape))
        file.flush()
    return file


def damaged(path: Path, reason: str) -> StoreDamagedError:
    """Error that says what is wrong with a store and what helps."""
    return StoreDamagedError(f"{path}: not a whole frame store ({reason}); it can be rebuilt from the journal")
