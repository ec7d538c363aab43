"""Two atoms pushed closer than thermal motion brings them: what tells a model that short distances cost energy.

A model that never saw two atoms close extrapolates there, often downwards; its dynamics then falls into the hole after
picoseconds, whatever its force error says. A few labels at short distances close it.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement, product

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list
from scipy.optimize import brentq

from curator.datasets.frame import Frame

REACH_A = 6.0
"""Pairs farther apart than this are not neighbours."""
CLOSEST_ENERGY_EV = 10.0
CLOSEST_RATIO = 0.53
"""No pair is brought below this times the sum of the covalent radii, a little above what labellers refuse (0.5)."""
DEPTHS = (1.0, 0.65)
_SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))

Pair = tuple[int, int]


def screened_repulsion(z1: int, z2: int, distance_A: float) -> float:
    """Universal repulsion of two atoms in eV.

    J. F. Ziegler, J. P. Biersack and U. Littmark, *The Stopping and Range of Ions in Solids*, Pergamon (1985).
    """
    x = distance_A * (z1**0.23 + z2**0.23) / 0.46850
    return float(14.39964 * z1 * z2 / distance_A * sum(c * np.exp(-d * x) for c, d in _SCREENING))


def closest_distance(pair: Pair) -> float:
    """Distance in Å to which two atoms are brought at most: where they repel by 10 eV, or what is still labelled."""
    collision = brentq(lambda r: screened_repulsion(*pair, r) - CLOSEST_ENERGY_EV, 0.1, 5.0)
    return float(max(collision, CLOSEST_RATIO * sum(covalent_radii[z] for z in pair)))


def contact(frame: Frame, pair: Pair, depth: float, rng: np.random.Generator) -> Frame | None:
    """Copy of a frame in which two neighbouring atoms are pushed together, each by half the way.

    Parameters
    ----------
    frame
        Where to start: a thermal or relaxed structure.
    pair
        Their atomic numbers.
    depth
        How close: 1 is :func:`closest_distance`, 0 the distance they have.
    rng
        Draws the pair among the nearest ones of its kind.

    Returns
    -------
    Frame or None
        None if the frame has no such neighbours.
    """
    i, j, vectors, distances = neighbour_list(
        "ijDd", positions=frame.positions, cell=complete_cell(frame.cell), pbc=frame.pbc, cutoff=REACH_A
    )
    low, high = np.sort(frame.numbers[np.stack([i, j])], axis=0)
    kind = np.flatnonzero((i < j) & (low == min(pair)) & (high == max(pair)))
    if not len(kind):
        return None
    k = int(rng.choice(kind[distances[kind] < 1.2 * distances[kind].min()]))
    target = depth * closest_distance(pair) + (1 - depth) * distances[k]
    shift = vectors[k] * (1 - target / distances[k]) / 2
    positions = frame.positions.copy()
    positions[i[k]] += shift
    positions[j[k]] -= shift
    return Frame(frame.numbers, positions, frame.cell, frame.pbc, frame.charge, frame.multiplicity)


def contacts(
    frames: Sequence[Frame], n: int, rng: np.random.Generator, *, first: int | None = None
) -> list[tuple[str, Frame]]:
    """Contacts of every pair of elements in turn, the closest ones first, each in a frame drawn at random.

    Parameters
    ----------
    frames
        Where to start.
    n
        How many at most; there are two depths for each pair of elements.
    first
        Atomic number of the element whose pairs come first.

    Returns
    -------
    list of tuple
        Name of the pair (``Li-F``), and the frame.
    """
    elements = sorted({int(z) for frame in frames for z in frame.numbers})
    pairs = sorted(combinations_with_replacement(elements, 2), key=lambda pair: first not in pair)
    found: list[tuple[str, Frame]] = []
    for depth, pair in product(DEPTHS, pairs):
        if len(found) == n:
            break
        pushed = contact(frames[int(rng.integers(len(frames)))], pair, depth, rng)
        if pushed is not None:
            found.append(("-".join(chemical_symbols[z] for z in pair), pushed))
    return found
