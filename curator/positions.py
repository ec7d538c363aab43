"""Positions of a trajectory: unwrapped, in the frame of the host, and how far apart its ions are and its cell wide."""

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_masses
from ase.geometry import complete_cell, find_mic, minkowski_reduce
from ase.symbols import symbols2numbers
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from curator.datasets.frame import Frame

Floats = NDArray[np.float64]

MAX_STEP = 0.4
"""Largest step of an atom between two frames that is believed, as a fraction of a reduced lattice vector; a hop in a
cell of three by three by three primitive ones is a third, and vibrations come on top."""
MAX_IMAGES = 1e6
"""No step spans so many lattice vectors; of such a position the place in the cell is lost to rounding."""


def unwrap(positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """Positions followed across periodic boundaries.

    Parameters
    ----------
    positions
        Wrapped or unwrapped, Å, shape ``(n_frames, n_atoms, 3)``.
    cell
        Lattice vectors as rows in Å, shape ``(3, 3)``, the same for all frames.
    pbc
        Periodicity along each lattice vector, shape ``(3,)``.

    Returns
    -------
    ndarray
        Shape ``(n_frames, n_atoms, 3)``. Positions that were unwrapped already come back unchanged.

    Raises
    ------
    ValueError
        If an atom moves between two frames by so much, `MAX_STEP` of a lattice vector, that its image cannot be told.

    Notes
    -----
    The lattice vectors are reduced first (P. Q. Nguyen and D. Stehlé, ACM Trans. Algorithms 5, 46 (2009)): those of a
    skew cell may be far longer than the distance to the nearest image.
    """
    if not pbc.any():
        return positions
    cell, _ = minkowski_reduce(complete_cell(cell), pbc)
    steps = np.diff(positions, axis=0) @ np.linalg.inv(cell)
    farthest = float(np.abs(steps).max(initial=0.0))
    if not farthest < MAX_IMAGES:
        raise ValueError(f"an atom moves by {farthest:.3g} lattice vectors from one frame to the next; is it broken?")
    steps -= np.where(pbc, np.rint(steps), 0.0)
    # Under the minimum image convention no step exceeds 1/2; near it, the true step may have been a longer one.
    worst = float(np.abs(steps[..., pbc]).max(initial=0.0))
    if worst > MAX_STEP:
        frame, atom = np.argwhere(np.abs(steps[..., pbc]).max(axis=-1) == worst)[0]
        raise ValueError(
            f"atom {atom} moves by {worst:.2f} of a lattice vector from frame {frame} to frame {frame + 1}: too far to "
            "follow it across the boundary; store frames more often, or see whether the run has exploded"
        )
    unwrapped = np.concatenate([np.zeros_like(positions[:1]), np.cumsum(steps, axis=0) @ cell])
    return np.asarray(positions[:1] + unwrapped)


def in_host_frame(positions: Floats, host: NDArray[np.bool_]) -> Floats:
    """Positions with the mean displacement of the host atoms taken out of every frame.

    Not the centre of mass: with that at rest, mobile ions of mass fraction m drag the host along and their summed
    displacement comes out short by the factor 1 - m, its diffusivity by (1 - m)²; 0.53 in LiF at any cell size.

    Parameters
    ----------
    positions
        Unwrapped, Å, shape ``(n_frames, n_atoms, 3)``.
    host
        Which atoms are the host, shape ``(n_atoms,)``.
    """
    drift = (positions[:, host] - positions[0, host]).mean(axis=1)
    return np.asarray(positions - drift[:, None, :])


def in_mass_frame(positions: Floats, numbers: NDArray[np.int32]) -> Floats:
    """Positions with the displacement of the centre of mass taken out of every frame; for liquids, which have no host.

    Parameters
    ----------
    positions
        Unwrapped, Å, shape ``(n_frames, n_atoms, 3)``.
    numbers
        Atomic numbers, shape ``(n_atoms,)``.
    """
    drift = np.average(positions - positions[0], axis=1, weights=atomic_masses[numbers])
    return np.asarray(positions - drift[:, None, :])


def species_masks(
    numbers: NDArray[np.int32], mobile: str, host: Sequence[str] | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which atoms are the mobile species, and which the host: everything else if None, nothing if no symbol is given.

    Raises
    ------
    ValueError
        If a symbol is not that of an element, or there is no mobile or no host atom.
    """
    is_mobile = numbers == atomic_number(mobile)
    is_host = ~is_mobile if host is None else np.isin(numbers, [atomic_number(symbol) for symbol in host]) & ~is_mobile
    if not is_mobile.any():
        raise ValueError(f"there is no {mobile} among the atoms")
    if not is_host.any() and host != []:
        raise ValueError("there is no host atom to measure displacements against")
    return is_mobile, is_host


def hop_length(initial: Frame, final: Frame, mobile: str) -> float:
    """Length in Å of the summed displacement of the mobile species in one hop, in the frame of the host.

    Parameters
    ----------
    initial, final
        End states of the hop; an atom has the same index in both.
    mobile
        Symbol of the mobile species.
    """
    is_mobile, is_host = species_masks(initial.numbers, mobile, None)
    displacements, _ = find_mic(final.positions - initial.positions, initial.cell, initial.pbc)
    displacements = displacements - displacements[is_host].mean(axis=0)
    return float(np.linalg.norm(displacements[is_mobile].sum(axis=0)))


def neighbour_distance(positions: Floats, is_mobile: NDArray[np.bool_], cell: Floats, pbc: NDArray[np.bool_]) -> float:
    """Median distance of a mobile ion to the nearest other one, or to any atom if it is alone, in Å."""
    for atoms in (is_mobile, np.ones_like(is_mobile)):
        if atoms.sum() < 2:
            continue
        for cutoff in (4.0, 8.0, 16.0):
            here = positions[atoms]
            i, distance = neighbour_list(
                "id", positions=here, cell=search_cell(here, cell, pbc), pbc=pbc, cutoff=cutoff
            )
            if len(np.unique(i)) == atoms.sum():
                return float(np.median([distance[i == atom].min() for atom in range(int(atoms.sum()))]))
    raise ValueError("no neighbour within 16 Å to take a hop length from; give hop_length_A")


def search_cell(positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """Cell for a neighbour search: where nothing is periodic, a box around the atoms, be they in a plane or a line."""
    if pbc.any():
        return np.asarray(complete_cell(cell))
    return np.diag(np.ptp(positions, axis=0) + 1.0)


def widths_A(cell: Floats) -> Floats:
    """Distances in Å between the three pairs of opposite faces of a cell whose rows are its vectors."""
    # Rows of the inverse's transpose are the plane normals over the distances of the planes.
    return np.asarray(1 / np.linalg.norm(np.linalg.inv(cell), axis=0))


def atomic_number(symbol: str) -> int:
    """Atomic number of an element, or `ValueError`."""
    try:
        (number,) = symbols2numbers(symbol)
    except (KeyError, ValueError) as error:
        raise ValueError(f"'{symbol}' is not the symbol of an element") from error
    return int(number)
