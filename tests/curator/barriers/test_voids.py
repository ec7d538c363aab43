"""Voids that can be worked out by hand."""

import numpy as np
import pytest
from ase.build import bulk

from curator.barriers.hops import SAME_SITE_A
from curator.barriers.voids import find_voids
from curator.datasets.frame import Frame, frame_from_atoms


def fractional(crystal: Frame, number: int) -> list[tuple[float, ...]]:
    voids = find_voids(crystal, number)
    return sorted(tuple(float(x) for x in row) for row in np.round(voids, 4) % 1.0)


def test_rock_salt_has_one_void_in_each_octant():
    voids = fractional(frame_from_atoms(bulk("LiF", "rocksalt", a=4.03, cubic=True)), 3)
    assert voids == [(x, y, z) for x in (0.25, 0.75) for y in (0.25, 0.75) for z in (0.25, 0.75)]


def test_face_centred_metal_has_octahedra_and_tetrahedra():
    voids = fractional(frame_from_atoms(bulk("Cu", a=3.61)), 1)
    assert voids == [(0.25, 0.25, 0.25), (0.5, 0.5, 0.5), (0.75, 0.75, 0.75)]


def test_body_centred_metal_has_twelve_tetrahedra_a_cell():
    voids = find_voids(frame_from_atoms(bulk("Li", "bcc", a=3.49, cubic=True)), 3)
    assert len(voids) == 12
    np.testing.assert_allclose(np.sort(voids % 0.5, axis=1), np.tile([0.0, 0.0, 0.25], (12, 1)), atol=1e-6)


def test_fluorite_has_the_empty_cube():
    assert fractional(frame_from_atoms(bulk("CaF2", "fluorite", a=5.46)), 9) == [(0.5, 0.5, 0.5)]


def test_a_void_too_small_for_an_atom_is_none():
    assert len(find_voids(frame_from_atoms(bulk("Cu", a=2.2)), 55)) == 0


@pytest.mark.parametrize("noise_A", [0.001, 0.02])
def test_small_distortions_make_no_new_voids(noise_A: float):
    """Eight atoms around a void are on one sphere only in the perfect crystal; distorted, its corner falls apart."""
    atoms = bulk("LiF", "rocksalt", a=4.03, cubic=True)
    atoms.positions += noise_A * np.random.default_rng(0).standard_normal(atoms.positions.shape)
    voids = find_voids(frame_from_atoms(atoms), 3)
    assert len(voids) == 8
    assert np.linalg.norm((voids % 0.5 - 0.25) * 4.03, axis=1).max() < SAME_SITE_A
