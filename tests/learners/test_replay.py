from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from curator.datasets.extxyz import write_records
from curator.datasets.frame import atoms_from_frame
from curator.datasets.label import Record, Split
from curator.datasets.mini_halides.frames import GENERATIONS, theory
from curator.datasets.store import Store
from curator.learners.mace import MaceModel
from curator.learners.reference import own_frames
from curator.learners.replay import check_pseudolabels, probe_records, replay_records


@pytest.fixture(scope="module")
def corpus(records: list[Record], make_record: Callable[..., Record], tmp_path_factory: pytest.TempPathFactory) -> str:
    naf = bulk("NaF", "rocksalt", a=4.6, cubic=True)
    path = tmp_path_factory.mktemp("replay") / "corpus.extxyz"
    write_records(path, [*records, make_record(naf, -1.0)])
    return str(path)


def hashes(records: list[Record]) -> list[str]:
    return [record.frame.hash for record in records]


def test_everything_is_split_once(corpus: str) -> None:
    train, valid = replay_records(corpus, None, None, np.random.default_rng(0))
    assert (len(train), len(valid)) == (15, 2)
    assert len({*hashes(train), *hashes(valid)}) == 17


def test_elements_filter(corpus: str) -> None:
    train, valid = replay_records(corpus, [3, 9], None, np.random.default_rng(0))
    assert len(train) + len(valid) == 16
    assert {int(z) for record in train + valid for z in record.frame.numbers} == {3, 9}
    with pytest.raises(ValueError, match=r"is made of the elements \[55\] only"):
        replay_records(corpus, [55], None, np.random.default_rng(0))


def test_choice_is_deterministic_under_the_generator(corpus: str) -> None:
    first, again, other = (replay_records(corpus, None, 6, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert hashes(first[0]) == hashes(again[0])
    assert hashes(first[0]) != hashes(other[0])
    assert len(set(hashes(first[0]))) == 6
    assert len(first[1]) == 1


def test_own_validation_frames_are_kept(records: list[Record], tmp_path: Path) -> None:
    marked = [
        replace(r, provenance=replace(r.provenance, split="valid" if i < 4 else "train")) for i, r in enumerate(records)
    ]
    write_records(tmp_path / "corpus.extxyz", marked)
    train, valid = replay_records(str(tmp_path / "corpus.extxyz"), None, 5, np.random.default_rng(0))
    assert len(train) == 5
    assert set(hashes(valid)) <= set(hashes(marked[:4]))
    assert not set(hashes(train)) & set(hashes(marked[:4]))


def test_farthest_frames_include_the_odd_one(corpus: str, model: MaceModel) -> None:
    for seed in range(3):
        train, _ = replay_records(corpus, None, 3, np.random.default_rng(seed), choose="farthest", model=model)
        everything, _ = replay_records(corpus, None, None, np.random.default_rng(seed))
        sodium = [record for record in everything if 11 in record.frame.numbers]
        assert set(hashes(sodium)) <= set(hashes(train))


def test_file_of_other_origin(records: list[Record], tmp_path: Path) -> None:
    images = []
    for record in records[:4]:
        atoms = atoms_from_frame(record.frame)
        atoms.info["REF_energy"] = record.label.energy
        atoms.arrays["REF_forces"] = record.label.forces
        images.append(atoms)
    write(tmp_path / "theirs.extxyz", images)
    train, valid = replay_records(str(tmp_path / "theirs.extxyz"), None, None, np.random.default_rng(0))
    assert (len(train), len(valid)) == (3, 1)
    assert sorted(r.label.energy for r in train + valid) == pytest.approx(sorted(r.label.energy for r in records[:4]))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.extxyz"):
        replay_records(str(tmp_path / "nowhere.extxyz"), None, None, np.random.default_rng(0))


def test_embedded_corpus_has_its_own_splits() -> None:
    train, valid = replay_records("mini-halides", None, 40, np.random.default_rng(0))
    probe = probe_records()
    assert (len(train), len(valid)) == (40, 4)
    assert probe
    assert not {*hashes(train), *hashes(valid)} & set(hashes(probe))


@pytest.mark.parametrize("name", GENERATIONS)
def test_editions_replay_frames_of_their_own_teacher(name: str) -> None:
    train, valid = replay_records(name, None, 40, np.random.default_rng(0))
    probe = probe_records(name)
    assert {record.label.theory for record in [*train, *valid, *probe]} == {theory(name).key}
    assert not {*hashes(train), *hashes(valid)} & set(hashes(probe))


def test_frames_beside_a_model_are_replayed_and_probed(records: list[Record], model: MaceModel, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    split: tuple[Split, Split] = ("train", "test")
    kept = [replace(r, provenance=replace(r.provenance, split=split[i % 4 == 0])) for i, r in enumerate(records)]
    folder.mkdir()
    with Store(folder / "frames.h5") as store:
        store.append(kept)
    assert own_frames(str(folder)) is None
    model.save(folder)
    assert own_frames(f"{folder}#target") == folder / "frames.h5"
    train, valid = replay_records(str(folder), None, None, np.random.default_rng(0))
    assert {*hashes(train), *hashes(valid)} == {r.frame.hash for r in kept if r.provenance.split == "train"}
    assert set(hashes(probe_records(str(folder)))) == {r.frame.hash for r in kept if r.provenance.split == "test"}


def test_each_set_of_elements_is_dealt_alike(corpus: str, records: list[Record]) -> None:
    train, _ = replay_records(corpus, None, 4, np.random.default_rng(0), choose="elements")
    everything, _ = replay_records(corpus, None, None, np.random.default_rng(0))
    sodium = {record.frame.hash for record in everything if 11 in record.frame.numbers}
    # One frame has sodium and fifteen have not: it is among the first two dealt.
    assert sodium
    assert sodium <= set(hashes(train))
    assert len(set(hashes(train))) == 4


def test_any_structures_are_labelled_by_the_foundation(records: list[Record], model: MaceModel, tmp_path: Path) -> None:
    write(tmp_path / "bare.extxyz", [atoms_from_frame(record.frame) for record in records[:5]])
    with pytest.raises(ValueError, match=r"bare\.extxyz"):
        replay_records(str(tmp_path / "bare.extxyz"), None, None, np.random.default_rng(0))
    train, valid = replay_records(
        str(tmp_path / "bare.extxyz"), None, None, np.random.default_rng(0), model=model, pseudolabels=True
    )
    assert sorted(hashes(train + valid)) == sorted(hashes(records[:5]))
    for record in train + valid:
        (expected,) = model.predict([record.frame], ("energy", "forces", "stress"))
        assert record.label.energy == pytest.approx(expected.energy, abs=1e-5)
        np.testing.assert_allclose(record.label.forces, expected.forces, atol=1e-5)
        np.testing.assert_allclose(record.label.stress, expected.stress, atol=1e-6)
    check_pseudolabels(train + valid, model.hash, required=True)
    with pytest.raises(ValueError, match="replay of another model"):
        check_pseudolabels(train, 64 * "0", required=False)
    check_pseudolabels(records, 64 * "0", required=False)


def test_foundation_is_needed_where_it_is_used(corpus: str) -> None:
    for options in ({"choose": "farthest"}, {"pseudolabels": True}):
        with pytest.raises(ValueError, match="need the foundation model"):
            replay_records(corpus, None, 3, np.random.default_rng(0), **options)  # type: ignore[arg-type]
