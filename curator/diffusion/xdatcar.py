"""Trajectories in XDATCAR files of VASP and of programs that write them alike.

ASE's reader stops without a word at the first blank line, and takes neither symbols behind the coordinates, as pymatgen
writes them, nor those of POTCARs (``Li_sv``).
"""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from ase.io.formats import open_with_compression
from numpy.typing import NDArray

from curator.diffusion.written import Floats, Written, cut_off
from curator.positions import atomic_number

FRAME = re.compile(r"\s*(direct|cartesian) configuration=", re.IGNORECASE)
SYMBOL = re.compile(r"[A-Z][a-z]?")
N_HEADER = 6
"""Lines of a header that say something: scale, three vectors, symbols, numbers of atoms. The title may be empty."""


def is_xdatcar(path: Path) -> bool:
    """Whether a file begins as an XDATCAR does, whatever it is called."""
    try:
        with open_with_compression(str(path), "r") as file:
            return any(FRAME.match(line) for line in islice(file, N_HEADER + 4))
    except (OSError, ValueError):
        return False


def read_xdatcar(path: Path) -> Written:
    """Trajectory from an XDATCAR; a frame that is cut off at the end is left out with a notice.

    The header may be repeated before any frame, with another cell; blank lines mean nothing.

    Raises
    ------
    ValueError
        If a header is not that of VASP 5 or later, coordinates are no numbers, or frames differ in their atoms.
    """
    with open_with_compression(str(path), "r") as file:
        text = file.read()
    # A line without an end is one that was being written.
    lines = [line for line in text.splitlines(keepends=True) if line.strip() and line.endswith("\n")]
    starts = [idx for idx, line in enumerate(lines) if FRAME.match(line)]
    cells: list[Floats] = []
    positions: list[Floats] = []
    cell, species, end = np.eye(3), np.zeros(0, dtype=np.int32), 0
    for frame, (start, following) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True)):
        if start > end:
            cell, found = _header(lines[end:start], frame)
            if frame and not np.array_equal(found, species):
                raise ValueError(f"frame {frame} has other atoms than frame 0, or in another order")
            species = found
        end = start + 1 + len(species)
        if end > following:
            if following == len(lines) and frame:
                break
            raise ValueError(f"frame {frame} has {following - start - 1} coordinates for {len(species)} atoms")
        try:
            rows = np.array([line.split()[:3] for line in lines[start + 1 : end]], dtype=np.float64)
        except ValueError as error:
            raise ValueError(f"frame {frame}: {error}") from error
        is_direct = lines[start].strip().lower().startswith("direct")
        cells.append(cell)
        positions.append(rows @ cell if is_direct else rows)
    if not positions:
        raise ValueError("it has no complete frame")
    if end != len(lines) or not text.endswith("\n"):
        cut_off(path, len(positions))
    return Written(np.array(positions), species, False, np.array(cells), np.ones(3, dtype=bool))


def _header(lines: Sequence[str], frame: int) -> tuple[Floats, NDArray[np.int32]]:
    """Cell and atomic numbers before a frame."""
    try:
        scale, a, b, c, symbols, numbers = (line.split() for line in lines[-N_HEADER:])
        vectors = np.array([a[:3], b[:3], c[:3]], dtype=np.float64)
        counts = [int(number) for number in numbers]
        factor = float(scale[0])
    except ValueError as error:
        raise ValueError(
            f"before frame {frame} there is no header of VASP 5: scale, three vectors, symbols, numbers"
        ) from error
    found = [match.group() if (match := SYMBOL.match(symbol)) else symbol for symbol in symbols]
    if len(found) != len(counts):
        raise ValueError(f"before frame {frame} there are {len(found)} symbols for {len(counts)} numbers of atoms")
    # A negative scale is the volume.
    cell = vectors * (factor if factor > 0 else (-factor / abs(np.linalg.det(vectors))) ** (1 / 3))
    return cell, np.repeat(np.array([atomic_number(symbol) for symbol in found], dtype=np.int32), counts)
