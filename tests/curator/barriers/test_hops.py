"""Hops of crystals whose sites, neighbours and mechanisms stand in textbooks."""

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk, surface
from ase.geometry import find_mic

from curator.barriers.hops import NamedHop, enumerate_hops
from curator.datasets.frame import Frame, frame_from_atoms
from curator.datasets.sources import Mechanism, build_seed


def lif(a: float = 4.03, cubic: bool = True) -> Frame:
    return frame_from_atoms(bulk("LiF", "rocksalt", a=a, cubic=cubic))


def lithium_nitride() -> Frame:
    """Alpha-Li3N: Li2N layers with Li(2), and Li(1) between them.

    A. Rabenau, H. Schulz, J. Less-Common Met. 50, 155 (1976).
    """
    places = [(0, 0, 1 / 2), (1 / 3, 2 / 3, 0), (2 / 3, 1 / 3, 0), (0, 0, 0)]
    return frame_from_atoms(Atoms("Li3N", scaled_positions=places, cell=[3.648, 3.648, 3.875, 90, 90, 120], pbc=True))


def fluorite() -> Frame:
    return frame_from_atoms(bulk("CaF2", "fluorite", a=5.46))


def numbers(hops: tuple[NamedHop, ...]) -> list[tuple[float, int, int]]:
    return [(round(hop.length_A, 2), hop.multiplicity, hop.reverse_multiplicity) for hop in hops]


@pytest.mark.parametrize(
    ("crystal", "mobile", "expected"),
    [
        (lif(), "Li", [(2.85, 12, 12)]),  # 12 cations at a / sqrt(2), all alike
        (frame_from_atoms(bulk("Cu", a=3.61)), "Cu", [(2.55, 12, 12)]),
        (frame_from_atoms(bulk("Li", "bcc", a=3.49)), "Li", [(3.02, 8, 8)]),
        # In a hexagonal metal that is not ideal, 6 neighbours in the layer are not the 6 out of it.
        (frame_from_atoms(bulk("Mg", a=3.209, c=5.211)), "Mg", [(3.20, 6, 6), (3.21, 6, 6)]),
        # Li(2) has 3 Li(2) in its layer and 6 Li(1) above and below; Li(1) has 12 Li(2).
        (lithium_nitride(), "Li", [(2.11, 3, 3), (2.86, 12, 6)]),
        (fluorite(), "F", [(2.73, 6, 6)]),  # a simple cubic lattice of anions
    ],
)
def test_vacancies(crystal: Frame, mobile: str, expected: list[tuple[float, int, int]]):
    assert numbers(enumerate_hops(crystal, mobile, "vacancy")) == expected


def test_sites_are_named_by_symmetry():
    in_layer, between = enumerate_hops(lithium_nitride(), "Li", "vacancy")
    assert in_layer.sites == ("Li2", "Li2")
    assert between.sites == ("Li1", "Li2")
    assert in_layer.hop.saddle is not None
    assert between.hop.saddle is None


def test_a_longer_way_is_found_if_asked_for():
    """The second neighbours of a body-centred cubic lattice are 6, at the lattice constant."""
    hops = enumerate_hops(frame_from_atoms(bulk("Li", "bcc", a=3.49)), "Li", "vacancy", max_length_A=3.6)
    assert numbers(hops) == [(3.02, 8, 8), (3.49, 6, 6)]
    assert [hop.name for hop in hops] == ["vacancy-1", "vacancy-2"]


def test_interstitial_of_rock_salt_jumps_to_six_octants():
    (hop,) = enumerate_hops(lif(), "Li", "interstitial")
    assert (hop.multiplicity, round(hop.length_A, 3)) == (6, 2.015)


def test_interstitialcies_of_rock_salt():
    """Collinear and two kinds of non-collinear, as of silver in its halides: 1, 3 and 3 ways on from each of 4 ions."""
    hops = enumerate_hops(lif(), "Li", "interstitialcy")
    assert [hop.multiplicity for hop in hops] == [4, 12, 12]
    assert [hop.deflection_deg for hop in hops] == pytest.approx([0.0, 70.529, 109.471], abs=0.01)
    assert hops[0].length_A == pytest.approx(np.sqrt(3) / 2 * 4.03)
    shipped = build_seed("lif-interstitial", 4.03).hop
    assert shipped is not None
    moves = [np.sort(np.linalg.norm(h.final.positions - h.initial.positions, axis=1)) for h in (hops[0].hop, shipped)]
    np.testing.assert_allclose(*moves, atol=1e-6)


def test_interstitials_of_a_face_centred_metal():
    """Octahedral and tetrahedral sites alternate: 8 tetrahedra around an octahedron, 4 octahedra the other way."""
    (hop,) = enumerate_hops(frame_from_atoms(bulk("Cu", a=3.61)), "H", "interstitial")
    assert sorted((hop.multiplicity, hop.reverse_multiplicity)) == [4, 8]
    assert hop.length_A == pytest.approx(np.sqrt(3) / 4 * 3.61)


def test_interstitialcy_of_fluorite():
    """An anion at the centre of an empty cube pushes one of its 8 corners into one of 3 further empty cubes."""
    (hop,) = enumerate_hops(fluorite(), "F", "interstitialcy")
    assert (hop.multiplicity, round(hop.deflection_deg or 0.0, 1)) == (24, 70.5)


@pytest.mark.parametrize("mechanism", ["vacancy", "interstitial", "interstitialcy"])
def test_the_choice_of_the_cell_does_not_matter(mechanism: Mechanism):
    primitive = lif(cubic=False)
    doubled = frame_from_atoms(bulk("LiF", "rocksalt", a=4.03, cubic=True).repeat((2, 1, 3)))
    expected = numbers(enumerate_hops(lif(), "Li", mechanism))
    assert numbers(enumerate_hops(primitive, "Li", mechanism)) == expected
    assert numbers(enumerate_hops(doubled, "Li", mechanism)) == expected


@pytest.mark.parametrize("repeats", [(1, 1, 1), (2, 1, 2)])
def test_hops_are_where_the_atoms_are(repeats: tuple[int, int, int]):
    """The inversion centres of a hexagonal metal are not on its atoms: a primitive cell found may be a shifted one."""
    crystal = bulk("Mg", a=3.209, c=5.211).repeat(repeats)
    for hop in enumerate_hops(frame_from_atoms(crystal), "Mg", "vacancy"):
        moves = hop.hop.final.positions - hop.hop.initial.positions
        (jumper,) = np.flatnonzero(np.linalg.norm(moves, axis=1))
        ideal = crystal.repeat(np.rint(hop.hop.initial.cell.diagonal() / crystal.cell.array.diagonal()).astype(int))
        ends = np.array([frame.positions[jumper] for frame in (hop.hop.initial, hop.hop.final)])
        for end in ends:
            assert find_mic(ideal.positions - end, ideal.cell)[1].min() < 1e-6
        assert find_mic(hop.hop.initial.positions - ends[1], ideal.cell)[1].min() > 3.0


def carries(frame: Frame, rotation: np.ndarray, shift: np.ndarray, target: Frame) -> bool:
    """Whether an operation takes a configuration onto another, atom by atom of the same kind."""
    moved = np.linalg.solve(frame.cell.T, frame.positions.T).T @ rotation.T + shift
    difference = (moved @ frame.cell)[:, None] - target.positions
    lengths = find_mic(difference.reshape(-1, 3), frame.cell)[1].reshape(len(frame), -1)
    alike = frame.numbers[:, None] == target.numbers
    return bool(((lengths < 0.05) & alike).any(axis=1).all())


@pytest.mark.parametrize(
    ("crystal", "mobile", "mechanism", "supercell"),
    [
        (lif(), "Li", "vacancy", (2, 2, 2)),
        (lif(), "Li", "interstitialcy", (2, 2, 2)),
        (lif(cubic=False), "Li", "interstitialcy", (3, 3, 4)),
        (lithium_nitride(), "Li", "vacancy", (3, 3, 3)),
        (frame_from_atoms(bulk("Mg", a=3.209, c=5.211)), "Mg", "vacancy", (3, 3, 2)),
    ],
)
def test_a_guess_of_the_saddle_point_has_an_operation_that_reverses_the_hop(
    crystal: Frame, mobile: str, mechanism: Mechanism, supercell: tuple[int, int, int]
):
    """Found anew in the guess itself, which shows that the supercell has it too."""
    guessed = [hop.hop for hop in enumerate_hops(crystal, mobile, mechanism, supercell) if hop.hop.saddle is not None]
    assert guessed
    for hop in guessed:
        top = hop.saddle
        assert top is not None
        fractional = np.linalg.solve(top.cell.T, top.positions.T).T
        found = spglib.get_symmetry((top.cell, fractional, top.numbers), symprec=0.01)
        assert any(
            carries(hop.initial, rotation, shift, hop.final) and carries(hop.final, rotation, shift, hop.initial)
            for rotation, shift in zip(found["rotations"], found["translations"], strict=True)
        )


def test_a_supercell_may_break_the_symmetry_of_a_hop():
    """The two-fold axis that reverses a bent interstitialcy is none of a cell that is stretched along a diagonal."""
    whole, stretched = (
        enumerate_hops(lif(cubic=False), "Li", "interstitialcy", n)[1].hop.saddle for n in ((3, 3, 3), (3, 3, 4))
    )
    assert whole is not None
    assert stretched is None


@pytest.mark.parametrize("mechanism", ["vacancy", "interstitial", "interstitialcy"])
def test_end_points(mechanism: Mechanism):
    """The same atoms in the same order, one or two of which move; nothing else does."""
    (hop, *_) = enumerate_hops(lif(), "Li", mechanism)
    start, end = hop.hop.initial, hop.hop.final
    assert len(start) == 64 + (-1 if mechanism == "vacancy" else 1)
    np.testing.assert_array_equal(start.numbers, end.numbers)
    moves = end.positions - start.positions
    assert np.count_nonzero(np.linalg.norm(moves, axis=1)) == (2 if mechanism == "interstitialcy" else 1)
    assert np.linalg.norm(moves.sum(axis=0)) == pytest.approx(hop.length_A, abs=1e-6)
    for frame in (start, end):
        distances = frame_distances(frame)
        assert distances.min() > 1.7


def frame_distances(frame: Frame) -> np.ndarray:
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    return atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)]


def test_what_cannot_be_is_told():
    with pytest.raises(ValueError, match="holds no Na"):
        enumerate_hops(lif(), "Na", "vacancy")
    with pytest.raises(ValueError, match=r"within 1 Å; allow a longer way"):
        enumerate_hops(lif(), "Li", "vacancy", max_length_A=1.0)
    with pytest.raises(ValueError, match=r"4.03 Å wide, too small for a hop of 2.85 Å"):
        enumerate_hops(lif(), "Li", "vacancy", (1, 2, 2))
    with pytest.raises(ValueError, match="periodic in three directions"):
        enumerate_hops(frame_from_atoms(surface(bulk("Cu"), (1, 0, 0), 2, vacuum=5)), "Cu", "vacancy")
