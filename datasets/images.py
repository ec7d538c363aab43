"""Files of structures as ASE reads them, with errors that say where."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import cast

import ase.io
from ase import Atoms
from ase.io.formats import filetype

from curator.datasets.textfile import open_text


def read_images(path: Path) -> list[Atoms]:
    """All images of a file that ASE reads.

    Raises
    ------
    ValueError
        If the file is missing, empty or unreadable; the text names it, and frame and line where they are known.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    try:
        kind = filetype(str(path))
        images = list(_read_xyz(path)) if kind == "extxyz" else ase.io.read(path, index=":", format=kind)
    except _BadFrameError as error:
        raise ValueError(f"{path}, {error}") from error
    except Exception as error:  # ASE's readers raise whatever their parsers run into.
        text = " ".join(str(error).split())[:200]
        why = f" ({type(error).__name__}: {text})" if text else ""
        raise ValueError(
            f"{path}: not readable as a structure file{why}; expected CIF, POSCAR, extxyz or another that ASE reads"
        ) from error
    if not images:
        raise ValueError(f"{path}: holds no frame")
    return cast(list[Atoms], images)


class _BadFrameError(ValueError):
    pass


def _read_xyz(path: Path) -> Iterator[Atoms]:
    """Frame by frame, because ASE takes a blank line for the end of the file and names no frame in its errors."""
    with open_text(path) as file:
        lines = file.read().splitlines(keepends=True)
    idx, start = 0, 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        where = f"frame {idx}, line {start + 1}"
        try:
            n_atoms = int(lines[start])
        except ValueError:
            raise _BadFrameError(
                f"{where}: expected the number of atoms, found '{lines[start].strip()[:60]}'"
            ) from None
        end = start + 2 + n_atoms
        if n_atoms < 1 or end > len(lines):
            found = max(len(lines) - start - 2, 0)
            raise _BadFrameError(f"{where}: {n_atoms} atoms announced, {found} lines left; is the file cut off?")
        try:
            yield ase.io.read(StringIO("".join(lines[start:end])), format="extxyz")
        except Exception as error:
            raise _BadFrameError(f"{where}: {' '.join(str(error).split())[:200] or type(error).__name__}") from error
        idx, start = idx + 1, end
