"""Voids of a crystal, where an extra atom may sit: the corners of the Voronoi cells of its atoms."""

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from pymatgen.core import Lattice
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Voronoi, cKDTree

from curator.backends.geometry import CLOSEST
from curator.datasets.frame import Frame

Floats = NDArray[np.float64]

MARGIN_A = 12.0
"""Atoms as far as this from the cell count, so that no void of less than half this radius is made up or missed."""
MERGE_A = 0.5
"""Corners nearer to each other than this are one void: those of a polyhedron that is not quite regular."""
BESIDE_A = 1.0
"""A corner as near as this to a roomier one is a niche of that void."""


def find_voids(crystal: Frame, number: int) -> Floats:
    """Find the voids that have room for an atom.

    Parameters
    ----------
    crystal
        Periodic in three directions.
    number
        Atomic number of the extra atom.

    Returns
    -------
    array
        Fractional coordinates in [0, 1), shape ``(n_voids, 3)``; no atom is closer to one of them than the shortest
        distance that is still labelled.

    References
    ----------
    N. E. R. Zimmermann, M. K. Horton, A. Jain, M. Haranczyk, Front. Mater. 4, 34 (2017): interstitials from voids.
    """
    lattice = Lattice(crystal.cell)
    n = np.ceil(MARGIN_A * np.array(lattice.reciprocal_lattice_crystallographic.abc)).astype(int)
    images = np.stack(np.meshgrid(*(np.arange(-k, k + 1) for k in n), indexing="ij"), axis=-1).reshape(-1, 3)
    fractional = lattice.get_fractional_coords(crystal.positions) % 1.0
    around = lattice.get_cartesian_coords((fractional + images[:, None]).reshape(-1, 3))
    corners = Voronoi(around).vertices
    radius, _ = cKDTree(around).query(corners)
    corners = lattice.get_fractional_coords(corners[radius < MARGIN_A / 2])
    # A little beyond the cell, so that a void on its faces is whole.
    inside = corners[((corners > -0.01) & (corners < 1.01)).all(axis=1)]
    voids = _merged(inside, lattice)
    distances = lattice.get_all_distances(voids, fractional)
    allowed = CLOSEST * (covalent_radii[number] + covalent_radii[crystal.numbers])
    room = (distances - allowed).min(axis=1)
    roomier = room > room[:, None] + 0.01
    niche = (roomier & (lattice.get_all_distances(voids, voids) < BESIDE_A)).any(axis=1)
    return np.asarray(voids[(room > 0) & ~niche])


def _merged(points: Floats, lattice: Lattice) -> Floats:
    """Mean of each group of points within reach of one another, across the faces of the cell."""
    if not len(points):
        return points
    n_groups, group = connected_components(lattice.get_all_distances(points, points) < MERGE_A)
    means = []
    for k in range(n_groups):
        members = points[group == k]
        first = members[0]
        nearest = members - np.rint(members - first)
        means.append(np.unique(np.round(nearest, 6), axis=0).mean(axis=0))
    return np.array(means) % 1.0
