import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.sources import EXPERIMENTAL_LATTICE_CONSTANTS_A, build_seed, rocksalt

A = 4.03


def same_crystal(one: Frame, positions: np.ndarray) -> bool:
    """Whether the atoms of a frame are, up to lattice vectors and order, at ``positions``."""
    cell = np.diag(one.cell)
    distances = one.positions[:, None] - positions[None]
    distances -= np.rint(distances / cell) * cell
    near = (np.linalg.norm(distances, axis=2) < 1e-6) & (one.numbers[:, None] == one.numbers[None])
    return bool((near.sum(axis=0) == 1).all() and (near.sum(axis=1) == 1).all())


@pytest.mark.parametrize("formula", EXPERIMENTAL_LATTICE_CONSTANTS_A)
def test_rocksalt_is_fm3m_with_six_anions_round_a_cation(formula: str) -> None:
    a = EXPERIMENTAL_LATTICE_CONSTANTS_A[formula]
    atoms = atoms_from_frame(rocksalt(formula, a))
    assert len(atoms) == 8
    assert SpacegroupAnalyzer(AseAtomsAdaptor.get_structure(atoms)).get_space_group_number() == 225
    assert atoms.get_chemical_formula("metal", empirical=True) == formula
    assert np.array_equal(np.bincount(neighbor_list("i", atoms, a / 2 + 0.1)), np.full(8, 6))


@pytest.mark.parametrize(("supercell", "n_atoms"), [((2, 2, 2), 65), ((2, 2, 1), 33), ((3, 3, 3), 217)])
@pytest.mark.parametrize("name", ["lif-interstitial", "KBr-Interstitial"])
def test_interstitial_sits_at_an_octant_body_centre(name: str, supercell: tuple[int, int, int], n_atoms: int) -> None:
    seed = build_seed(name, A, supercell)
    atoms = atoms_from_frame(seed.frame)
    assert len(atoms) == n_atoms
    assert seed.mobile == name[0].upper() + name[1] * (name[1] == "i")
    distances = atoms.get_distances(n_atoms - 1, range(n_atoms - 1), mic=True)
    nearest = np.flatnonzero(distances < 0.44 * A)
    assert np.allclose(distances[nearest], np.sqrt(3) / 4 * A)
    assert sorted(atoms.symbols[nearest]) == sorted(
        [seed.mobile] * 4 + [seed.host_formula.removeprefix(seed.mobile)] * 4
    )


@pytest.mark.parametrize("supercell", [(2, 2, 2), (2, 2, 1), (1, 2, 2), (3, 3, 3), (4, 2, 2)])
def test_interstitialcy_pushes_a_lattice_cation_to_the_opposite_body_centre(supercell: tuple[int, int, int]) -> None:
    seed = build_seed("lif-interstitial", A, supercell)
    assert seed.hop is not None
    assert seed.hop.saddle is not None
    step = seed.hop.final.positions - seed.hop.initial.positions
    moved = np.flatnonzero(np.linalg.norm(step, axis=1) > 1e-6)
    assert len(moved) == 2
    assert (seed.frame.numbers[moved] == 3).all()
    # One hop carries the defect by half the body diagonal of the cubic cell.
    assert np.linalg.norm(step.sum(axis=0)) == pytest.approx(np.sqrt(3) / 2 * A)
    lattice_site = seed.hop.initial.positions[moved[0]]
    assert np.allclose(seed.hop.final.positions[moved[1]], lattice_site)
    # The saddle is a dumbbell along <111> with its middle on the lattice site.
    pair = seed.hop.saddle.positions[moved]
    assert np.allclose(pair.mean(axis=0), lattice_site)
    assert np.allclose(np.abs(pair[1] - pair[0]), np.abs(pair[1] - pair[0]).max())
    assert same_crystal(seed.hop.initial, 2 * lattice_site - seed.hop.final.positions)
    assert same_crystal(seed.hop.saddle, 2 * lattice_site - seed.hop.saddle.positions)


@pytest.mark.parametrize("supercell", [(2, 2, 2), (2, 2, 1), (1, 2, 2), (3, 3, 3)])
def test_held_out_hop_goes_to_the_octant_across_a_face(supercell: tuple[int, int, int]) -> None:
    seed = build_seed("lif-interstitial", A, supercell)
    assert seed.hop is not None
    assert seed.heldout is not None
    assert seed.heldout.saddle is not None
    assert seed.heldout.initial.hash == seed.hop.initial.hash
    step = seed.heldout.final.positions - seed.heldout.initial.positions
    moved = np.flatnonzero(np.linalg.norm(step, axis=1) > 1e-6)
    assert moved.tolist() == [len(seed.frame) - 1]
    assert np.linalg.norm(step) == pytest.approx(A / 2)
    # The plane of the face, half way, is a mirror plane of the crystal and leaves the saddle point as it is.
    middle = (seed.heldout.initial.positions + seed.heldout.final.positions)[-1] / 2
    normal = step[-1] / np.linalg.norm(step)
    for frame, image in ((seed.heldout.initial, seed.heldout.final), (seed.heldout.saddle, seed.heldout.saddle)):
        height = (image.positions - middle) @ normal
        assert same_crystal(frame, image.positions - 2 * np.outer(height, normal))
    # A dumbbell of two cations, its middle a lattice site at a corner of that face.
    pushed = np.linalg.norm(seed.heldout.saddle.positions - seed.heldout.initial.positions, axis=1)
    site, last = np.flatnonzero(pushed > 1e-6)
    pair = seed.heldout.saddle.positions[[site, last]]
    lattice_site = seed.heldout.initial.positions[site]
    assert np.allclose(pair.mean(axis=0), lattice_site)
    assert np.linalg.norm(pair[1] - pair[0]) == pytest.approx(A / 2)
    assert np.linalg.norm(lattice_site - middle) == pytest.approx(A / np.sqrt(8))
    assert (lattice_site - middle) @ normal == pytest.approx(0)


def test_only_an_interstitial_has_a_held_out_hop() -> None:
    assert build_seed("lif-vacancy", A).heldout is None
    assert build_seed("lif", A).heldout is None


@pytest.mark.parametrize("supercell", [(2, 2, 2), (2, 2, 1), (1, 2, 2), (3, 3, 3), (2, 1, 3)])
def test_vacancy_jumps_to_a_nearest_cation_site(supercell: tuple[int, int, int]) -> None:
    seed = build_seed("nacl-vacancy", 5.64, supercell)
    assert seed.hop is not None
    assert seed.hop.saddle is not None
    assert len(seed.frame) == 8 * np.prod(supercell) - 1
    step = seed.hop.final.positions - seed.hop.initial.positions
    moved = np.flatnonzero(np.linalg.norm(step, axis=1) > 1e-6)
    assert len(moved) == 1
    assert seed.frame.numbers[moved[0]] == 11
    assert np.linalg.norm(step[moved[0]]) == pytest.approx(5.64 / np.sqrt(2))
    middle = seed.hop.saddle.positions[moved[0]]
    assert same_crystal(seed.hop.initial, 2 * middle - seed.hop.final.positions)
    perfect = build_seed("nacl", 5.64, supercell).frame
    filled = Atoms(seed.frame.numbers, seed.hop.initial.positions) + Atoms("Na", [seed.hop.final.positions[moved[0]]])
    order = np.lexsort(np.round(filled.positions, 6).T)
    assert np.allclose(filled.positions[order], perfect.positions[np.lexsort(np.round(perfect.positions, 6).T)])


@pytest.mark.parametrize("name", ["lif-interstitial", "lif-vacancy"])
@pytest.mark.parametrize("supercell", [(2, 2, 2), (2, 2, 1), (1, 2, 2), (3, 2, 3)])
def test_hop_does_not_cross_the_boundary_of_the_cell(name: str, supercell: tuple[int, int, int]) -> None:
    seed = build_seed(name, A, supercell)
    for hop in (seed.hop, seed.heldout or seed.hop):
        assert hop is not None
        for frame in (hop.initial, hop.final):
            fractional = frame.positions / np.diag(frame.cell)
            assert fractional.min() > -1e-6
            assert fractional.max() < 1 - 1e-6
        assert np.abs(hop.final.positions - hop.initial.positions).max() < A


def test_charge_and_multiplicity_go_to_every_frame() -> None:
    seed = build_seed("lif-interstitial", A, (2, 2, 1), charge=1, multiplicity=1)
    assert seed.hop is not None
    assert seed.hop.saddle is not None
    for frame in (seed.frame, seed.hop.initial, seed.hop.final, seed.hop.saddle):
        assert (frame.charge, frame.multiplicity) == (1, 1)


@pytest.mark.parametrize(
    ("name", "a", "supercell", "complaint"),
    [
        ("csi", 4.5, (2, 2, 2), r"unknown structure 'csi'; known: lif, licl, .*kbr"),
        ("lif-antisite", A, (2, 2, 2), "unknown defect 'antisite'.*lif-interstitial"),
        ("lif-vacancy", A, (1, 1, 2), r"\(1, 1, 2\) is too small"),
        ("lif", A, (0, 1, 1), "too small"),
        ("lif", 0.403, (1, 1, 1), "0.403 Å is out of range"),
        ("lif", float("nan"), (1, 1, 1), "out of range"),
    ],
)
def test_errors_name_the_remedy(name: str, a: float, supercell: tuple[int, int, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build_seed(name, a, supercell)
