"""Frames that are one and the same, written down with other decimals."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from curator.datasets.frame import Frame

SAME_A = 1e-4
"""Positions and cells of one frame agree within this in Å, though one file has five decimals and another eight."""


def same_frames(held: Iterable[Frame], files: Sequence[Iterable[Frame]]) -> dict[str, str]:
    """Frames that what is held, or an earlier file, has already with other decimals: its hash by theirs.

    Frames of one file are never taken for the same: the last steps of a relaxation lie as close together.

    Parameters
    ----------
    held
        Frames that are there.
    files
        Frames of each file, in order.
    """
    parts: dict[str, int] = {}
    kinds: dict[tuple[object, ...], dict[str, Frame]] = {}
    for part, frames in enumerate([held, *files]):
        for frame in frames:
            name = frame.hash
            parts.setdefault(name, part)
            kind = (frame.numbers.tobytes(), frame.pbc.tobytes(), frame.charge, frame.multiplicity)
            kinds.setdefault(kind, {}).setdefault(name, frame)
    same: dict[str, str] = {}
    for members in kinds.values():
        names, alike = list(members), list(members.values())
        pairs = KDTree([_sizes(frame) for frame in alike]).query_pairs(SAME_A, p=np.inf)
        for first, second in sorted(pairs, key=lambda pair: pair[::-1]):
            if parts[names[first]] != parts[names[second]] and _close(alike[first], alike[second]):
                same.setdefault(names[second], same.get(names[first], names[first]))
    return same


def _sizes(frame: Frame) -> NDArray[np.float64]:
    """Root mean squares, which differ by no more than the numbers that they are of."""
    return np.concatenate([np.sqrt(np.mean(frame.positions**2, axis=0)), np.sqrt(np.mean(frame.cell**2, axis=1))])


def _close(one: Frame, other: Frame) -> bool:
    return bool(
        np.abs(one.positions - other.positions).max() <= SAME_A and np.abs(one.cell - other.cell).max() <= SAME_A
    )
