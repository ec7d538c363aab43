from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from curator.datasets.extxyz import write_records
from curator.datasets.frame import atoms_from_frame
from curator.datasets.label import Record, Split, Theory
from curator.datasets.mini_halides.frames import GENERATIONS, theory
from curator.datasets.store import Store
from curator.learners.architecture import build_module
from curator.learners.foundation import load_foundation
from curator.learners.mace import MaceModel
from curator.learners.reference import own_frames
from curator.learners.replay import check_learnt, check_pseudolabels, probe_records, pseudolabelled, replay_records


@pytest.fixture(scope="module")
def corpus(records: list[Record], make_record: Callable[..., Record], tmp_path_factory: pytest.TempPathFactory) -> str:
    naf = bulk("NaF", "rocksalt", a=4.6, cubic=True)
    path = tmp_path_factory.mktemp("replay") / "corpus.extxyz"
    write_records(path, [replace(r, label=replace(r.label, theory="t")) for r in (*records, make_record(naf, -1.0))])
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
    with pytest.raises(ValueError, match=r"is made of the elements Cs only"):
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
        train, _ = replay_records(
            corpus, None, 3, np.random.default_rng(seed), choose="farthest", model=model, pseudolabels=True
        )
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


def of_model(records: list[Record], model: MaceModel, theory: str, shift_eV: float = 0.0) -> list[Record]:
    """The model's own energies and forces, under the name of a level of theory; energies shifted for each atom."""
    labelled = [replace(r, label=replace(r.label, theory=theory)) for r in pseudolabelled(records, model)]
    return [replace(r, label=replace(r.label, energy=r.label.energy + shift_eV * len(r.frame))) for r in labelled]


def test_labels_of_another_model_are_not_replayed(records: list[Record], model: MaceModel) -> None:
    other = MaceModel(model.architecture, build_module(model.architecture, seed=9))
    for maker, name in ((other, "mace-fine"), (other, "mini-halides"), (other, "mace:no-such")):
        key = Theory(name.replace(":", "-"), "mace", hashes={"weights": maker.hash}).key
        with pytest.raises(ValueError, match=rf"f: labels of {key}, which is not the foundation {model.hash[:12]}"):
            check_learnt(of_model(records[:3], model, key), model, "f")
    own = Theory("mace-anything", "mace", hashes={"weights": model.hash}).key
    check_learnt(of_model(records[:3], model, own), model, "f")
    check_learnt(of_model(records[:3], model, "pbe@0123"), model, "f")


def test_labels_are_of_the_theory_that_was_learnt(records: list[Record], model: MaceModel) -> None:
    distilled = MaceModel(
        model.architecture, model.module, {"base": None, "theories": {"target": {"mace-teacher@12": 9}}}
    )
    check_learnt(of_model(records[:3], model, "mace-teacher@12"), distilled, "f")
    with pytest.raises(ValueError, match=r"f: labels of pbe@12, and the foundation has learnt mace-teacher@12"):
        check_learnt(of_model(records[:3], model, "pbe@12"), distilled, "f")
    # Of what was fine-tuned from something else nobody knows that; of its replay head one does.
    tuned = MaceModel(model.architecture, model.module, distilled.metadata | {"base": 64 * "0"})
    check_learnt(of_model(records[:3], model, "pbe@12"), tuned, "f")
    shipped = load_foundation("mini-halides", device="cpu")
    frames, _ = replay_records("mini-halides", shipped.elements, 3, np.random.default_rng(0))
    check_learnt(frames, shipped, "f")
    with pytest.raises(ValueError, match=r"labels of chgnet-r2scan@1, and the foundation has learnt chgnet-0\.3\.0@"):
        check_learnt([replace(r, label=replace(r.label, theory="chgnet-r2scan@1")) for r in frames], shipped, "f")


def test_energies_tell_a_foundation_from_another(records: list[Record], model: MaceModel, tmp_path: Path) -> None:
    path = tmp_path / "replay.extxyz"
    for shift_eV, refused in ((0.4, False), (-0.6, True)):
        write_records(path, of_model(records, model, "pbe@1", shift_eV))
        if refused:
            with pytest.raises(ValueError, match=r"the foundation's energies are 0\.60 eV/atom off these labels"):
                replay_records(str(path), None, None, np.random.default_rng(0), model=model)
        else:
            assert sum(map(len, replay_records(str(path), None, None, np.random.default_rng(0), model=model))) == 16


def test_replay_of_two_theories_is_refused(records: list[Record], model: MaceModel, tmp_path: Path) -> None:
    mixed = of_model(records[:3], model, "pbe@1") + of_model(records[3:], model, "r2scan@1")
    write_records(tmp_path / "mixed.extxyz", mixed)
    with pytest.raises(ValueError, match=r"mixed\.extxyz: labels of several levels of theory: pbe@1, r2scan@1"):
        replay_records(str(tmp_path / "mixed.extxyz"), None, None, np.random.default_rng(0))
