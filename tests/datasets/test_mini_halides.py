import numpy as np
import pytest
from ase.data import atomic_numbers

from curator.datasets.frame import atoms_from_frame
from curator.datasets.mini_halides import frames
from curator.datasets.mini_halides.structures import (
    ANIONS,
    CATIONS,
    CHGNET_LATTICE_CONSTANTS_A,
    closest_ratio,
    contact_structures,
    dumbbell,
    knock_off,
    mixed,
    parts,
    rocksalt_cell,
    static_structures,
)
from curator.datasets.variations import without


@pytest.fixture(scope="module")
def drawn():
    return list(static_structures(np.random.default_rng(3)))


def test_the_nine_salts_are_all_pairs_of_ions():
    assert [parts(formula) for formula in CHGNET_LATTICE_CONSTANTS_A] == [(c, a) for c in CATIONS for a in ANIONS]
    with pytest.raises(ValueError, match="'CsI' is none of the nine"):
        parts("CsI")


def test_rocksalt_has_six_unlike_neighbours_at_half_the_lattice_constant():
    atoms = rocksalt_cell("NaCl", (2, 2, 2))
    distances = atoms.get_distances(0, range(1, len(atoms)), mic=True)
    near = np.isclose(distances, CHGNET_LATTICE_CONSTANTS_A["NaCl"] / 2)
    assert near.sum() == 6
    assert set(atoms.numbers[1:][near]) == {atomic_numbers["Cl"]}


def test_knock_off_ends_are_images_of_each_other_and_the_middle_is_a_dumbbell():
    start, middle, end = (knock_off("LiF", progress, (2, 2, 2)) for progress in (0.0, 0.5, 1.0))
    bond = CHGNET_LATTICE_CONSTANTS_A["LiF"] * np.sqrt(3) / 4
    assert np.isclose(start.get_distance(0, -1), bond)
    assert np.isclose(middle.get_distance(0, -1), bond)
    # Inversion about the lattice site and exchange of the two ions turns one end into the other.
    mirrored = end.copy()
    mirrored.positions = -mirrored.positions
    mirrored.positions[[0, -1]] = mirrored.positions[[-1, 0]]
    shortest = [np.sort(atoms.get_all_distances(mic=True), axis=None) for atoms in (start, mirrored)]
    assert np.allclose(*shortest)
    assert middle.get_distance(0, -1) / 2 == pytest.approx(np.linalg.norm(middle.positions[0]))


def test_dumbbell_is_centred_on_a_lattice_site():
    atoms = dumbbell("LiF", np.array([1.0, 1.0, 0.0]), (2, 2, 2))
    assert len(atoms) == 65
    assert np.allclose(atoms.positions[0] + atoms.positions[-1], 0.0)


def test_mixture_keeps_the_sublattices():
    atoms = mixed(16, np.random.default_rng(0))
    symbols = atoms.get_chemical_symbols()
    assert sum(symbol in CATIONS for symbol in symbols) == sum(symbol in ANIONS for symbol in symbols) == 8
    nearest = np.argsort(atoms.get_all_distances(mic=True) + 99 * np.eye(16), axis=1)[:, 0]
    assert all((symbols[i] in CATIONS) != (symbols[j] in CATIONS) for i, j in enumerate(nearest))


def test_without_takes_one_of_each_named_element():
    atoms = without(rocksalt_cell("KBr"), "KBr", np.random.default_rng(0))
    assert sorted(atoms.get_chemical_symbols()) == ["Br"] * 3 + ["K"] * 3


def test_contacts_are_close_pairs_of_every_kind_in_every_salt():
    structures = list(contact_structures(np.random.default_rng(0)))
    assert len({s.frame.hash for s in structures}) == len(structures)
    assert {frozenset(parts(formula)) for formula in CHGNET_LATTICE_CONSTANTS_A} <= {
        frozenset(atoms_from_frame(s.frame).get_chemical_symbols()) for s in structures
    }
    ratios = [closest_ratio(s.frame) for s in structures]
    assert min(ratios) < 0.6
    assert np.median(ratios) < 0.8


def test_the_same_seed_draws_the_same_structures(drawn):
    again = list(static_structures(np.random.default_rng(3)))
    assert [s.frame.hash for s in drawn] == [s.frame.hash for s in again]
    other = next(static_structures(np.random.default_rng(4)))
    assert other.frame != drawn[0].frame


def test_structures_are_sane_distinct_and_cover_every_salt(drawn):
    assert len({s.frame.hash for s in drawn}) == len(drawn)
    assert min(closest_ratio(s.frame) for s in drawn) > 0.55
    compositions = {frozenset(atoms_from_frame(s.frame).get_chemical_symbols()) for s in drawn}
    assert {frozenset(parts(formula)) for formula in CHGNET_LATTICE_CONSTANTS_A} <= compositions
    sizes = {len(s.frame) for s in drawn if set(s.frame.numbers.tolist()) == {3, 9}}
    assert {33, 65} <= sizes


def test_shipped_frames_have_one_theory_and_share_no_group_with_the_probes():
    replay, probes = frames.replay_records(), frames.probe_records()
    assert {record.label.theory for record in replay + probes} == {frames.theory().key}
    assert not {r.provenance.group for r in replay} & {p.provenance.group for p in probes}
    assert not {r.frame.hash for r in replay} & {p.frame.hash for p in probes}
    assert {record.provenance.split for record in replay} == {"train", "valid"}
    assert {record.provenance.split for record in probes} == {"test"}
    assert {z for record in replay for z in record.frame.numbers.tolist()} == {3, 9, 11, 17, 19, 35}


def test_shipped_forces_add_up_to_nothing_and_are_within_bounds():
    records = frames.replay_records()
    assert max(np.abs(r.label.forces.sum(axis=0)).max() for r in records) < 1e-2
    assert max(np.abs(r.label.forces).max() for r in records) < 30


def test_all_files_together_stay_below_ten_megabytes():
    assert sum(path.stat().st_size for path in frames.FOLDER.rglob("*") if path.is_file()) < 10e6


@pytest.mark.parametrize("name", frames.GENERATIONS)
def test_smaller_editions_learnt_frames_of_the_first_and_are_examined_on_the_same(name):
    replay, probes = frames.replay_records(name), frames.probe_records(name)
    assert 300 <= len(replay) <= 400
    assert {record.label.theory for record in replay + probes} == {frames.theory(name).key}
    assert {r.frame.hash for r in replay} <= {r.frame.hash for r in frames.replay_records()}
    assert {r.frame.hash for r in probes} == {r.frame.hash for r in frames.probe_records()}
    kinds = {record.provenance.source for record in frames.replay_records()}
    assert {record.provenance.source for record in replay} == kinds


def test_edition_of_the_same_teacher_has_the_same_labels():
    first = {r.frame.hash: r.label for r in (*frames.replay_records(), *frames.probe_records())}
    for record in frames.replay_records("mini-halides:0.3.0-small")[:50]:
        assert record.label.theory == first[record.frame.hash].theory
        assert record.label.energy == pytest.approx(first[record.frame.hash].energy, abs=2e-3)
        assert np.abs(record.label.forces - first[record.frame.hash].forces).max() < 2e-3
