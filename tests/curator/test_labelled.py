"""Which records a user's files give, and which files are refused together."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from curator.dataset import open_dataset
from curator.datasets.extxyz import write_records
from curator.datasets.frame import frame_from_atoms
from curator.datasets.label import Label, Provenance, Record, Split
from curator.datasets.notice import Notice
from curator.errors import BadInput
from curator.labelled import labelled_records
from curator.learners.e0 import is_isolated_atom, isolated_atom

KEYS = {"energy_key": None, "forces_key": None, "use_calculator": False}


def image(seed: int) -> Atoms:
    atoms = bulk("LiF", "rocksalt", a=4.0, cubic=True)
    atoms.rattle(0.05, seed=seed)
    return atoms


def images(seeds: range) -> list[Atoms]:
    """Labelled frames that tell no level of theory."""
    found = [image(seed) for seed in seeds]
    for seed, atoms in zip(seeds, found, strict=True):
        atoms.info["REF_energy"] = -float(seed)
        atoms.new_array("REF_forces", np.zeros((len(atoms), 3)))
    return found


def own(path: Path, seeds: range, *theories: str) -> Path:
    """File of our own with labels of several theories in turn."""
    records = []
    for idx, seed in enumerate(seeds):
        frame = frame_from_atoms(image(seed))
        label = Label(-float(seed), np.zeros((len(frame), 3)), None, theories[idx % len(theories)])
        records.append(Record(frame, label, Provenance(-1, "s", "g", "train", "random")))
    write_records(path, records)
    return path


def test_isolated_atoms_in_a_box_are_no_frames(tmp_path: Path) -> None:
    atom = Atoms("Li", cell=[15.0] * 3, pbc=True)
    atom.info["REF_energy"] = -5.07
    atom.new_array("REF_forces", np.zeros((1, 3)))
    write(tmp_path / "train.xyz", [*images(range(2)), atom], format="extxyz")
    training, *_ = labelled_records(tmp_path / "train.xyz", KEYS)
    assert [is_isolated_atom(record) for record in training] == [False, False, True]
    assert training[-1].label.energy == -5.07
    atom.info["charge"] = 1
    write(tmp_path / "ion.xyz", [*images(range(2)), atom], format="extxyz")
    with pytest.raises(ValueError, match=r"ion\.xyz, frame 2: an isolated Li with a charge of \+1"):
        labelled_records(tmp_path / "ion.xyz", KEYS)


def test_a_frame_is_known_by_its_place_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "train.xyz", images(range(2)), format="extxyz")
    training, *_ = labelled_records(tmp_path / "train.xyz", KEYS)
    assert [record.provenance.source for record in training] == ["import/train.xyz#0", "import/train.xyz#1"]


def test_a_file_of_our_own_tells_what_is_not_trained_on(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    records = [*records_of(range(3), "train"), *records_of(range(3, 5), "valid"), *records_of(range(5, 6), "test")]
    write_records(tmp_path / "own.xyz", records)
    with pytest.warns(Notice, match=r"own\.xyz tells .*: 2 to validate and 1 to test with are not trained on"):
        training, validation, _ = labelled_records(tmp_path / "own.xyz", KEYS)
    assert {r.frame.hash for r in training} == {r.frame.hash for r in records[:3]}
    assert {r.frame.hash for r in validation} == {r.frame.hash for r in records[3:5]}
    # All of a file that is named to validate with is taken, as of a data set.
    write_records(tmp_path / "train.xyz", records[:3])
    recwarn.clear()
    write_records(tmp_path / "valid.xyz", records[3:])
    training, validation, _ = labelled_records(tmp_path / "train.xyz", KEYS, valid=tmp_path / "valid.xyz")
    assert (len(training), len(validation)) == (3, 3)
    assert not [warning for warning in recwarn if issubclass(warning.category, Notice)]
    with pytest.raises(BadInput, match=r"valid\.xyz: has no frames to train on, only to validate and test with"):
        labelled_records(tmp_path / "valid.xyz", KEYS)


def test_validation_of_another_theory_is_refused(tmp_path: Path) -> None:
    train = own(tmp_path / "train.xyz", range(3), "pbe@1")
    for theory in ("pbe@2", "r2scan@1"):
        valid = own(tmp_path / "valid.xyz", range(3, 5), theory)
        with pytest.raises(BadInput, match=rf"valid\.xyz: labels of {theory}, and .*train\.xyz has labels of pbe@1"):
            labelled_records(train, KEYS, valid=valid)
    valid = own(tmp_path / "valid.xyz", range(3, 5), "pbe@1")
    assert [len(part) for part in labelled_records(train, KEYS, valid=valid)] == [3, 2, 0]


def test_validation_of_an_untold_theory_is_told(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    train = own(tmp_path / "train.xyz", range(3), "pbe@1")
    write(tmp_path / "valid.xyz", images(range(3, 5)), format="extxyz")
    with pytest.warns(Notice, match=r"only one of .* tells its level of theory, pbe@1"):
        labelled_records(train, KEYS, valid=tmp_path / "valid.xyz")
    write(tmp_path / "plain.xyz", images(range(3)), format="extxyz")
    recwarn.clear()
    labelled_records(tmp_path / "plain.xyz", KEYS, valid=tmp_path / "valid.xyz")
    assert not [warning for warning in recwarn if issubclass(warning.category, Notice)]


def test_files_of_mixed_theories_are_refused(tmp_path: Path) -> None:
    mixed = own(tmp_path / "mixed.xyz", range(4), "pbe@1", "r2scan@1")
    with pytest.raises(ValueError, match=r"labels of several levels of theory: pbe@1, r2scan@1"):
        labelled_records(mixed, KEYS)
    half = own(tmp_path / "half.xyz", range(2), "pbe@1")
    write(half, images(range(2, 5)), format="extxyz", append=True)
    with pytest.raises(ValueError, match=r"3 of 5 frames, the first of them 2, do not tell .*the others are of pbe@1"):
        labelled_records(half, KEYS)


def test_frames_to_train_on_are_not_validated_with(tmp_path: Path) -> None:
    write(tmp_path / "train.xyz", images(range(5)), format="extxyz")
    write(tmp_path / "valid.xyz", images(range(3, 7)), format="extxyz")
    with pytest.raises(BadInput, match=r"valid\.xyz: 2 of its 4 frames are in .*train\.xyz too"):
        labelled_records(tmp_path / "train.xyz", KEYS, valid=tmp_path / "valid.xyz")


def dataset(path: Path, *records: Record) -> Path:
    with open_dataset(path) as journal:
        journal.publish_many(records)
    return path


def records_of(seeds: range, split: Split) -> list[Record]:
    frames = [frame_from_atoms(image(seed)) for seed in seeds]
    origin = Provenance(-1, "s", split, split, "import")
    return [Record(frame, Label(-1.0, np.zeros((8, 3)), None, "pbe@1"), origin) for frame in frames]


def test_all_of_a_data_set_named_to_validate_with_is_taken(tmp_path: Path) -> None:
    train = dataset(tmp_path / "train", *records_of(range(3), "train"), *records_of(range(3, 4), "valid"))
    valid = dataset(tmp_path / "valid", *records_of(range(4, 6), "train"), *records_of(range(6, 7), "test"))
    assert [len(part) for part in labelled_records(train, KEYS)] == [3, 1, 0]
    training, validation, _ = labelled_records(train, KEYS, valid=valid)
    assert [record.provenance.split for record in training] == ["train"] * 3
    assert {r.frame.hash for r in validation} == {frame_from_atoms(image(seed)).hash for seed in range(4, 7)}


def test_of_a_data_set_its_test_frames_test(tmp_path: Path) -> None:
    parts = (("train", range(3)), ("valid", range(3, 4)), ("test", range(4, 6)))
    records = [record for split, seeds in parts for record in records_of(seeds, split)]
    data = dataset(tmp_path / "data", *records, isolated_atom(3, -5.07, "pbe@1"))
    by_itself = labelled_records(data, KEYS)[2]
    assert [record.provenance.split for record in by_itself] == ["test", "test"]
    part = own(tmp_path / "part.xyz", range(2), "pbe@1")
    assert len(labelled_records(part, KEYS, test=data)[2]) == 2
    assert labelled_records(part, KEYS)[2] == []
    plain = dataset(tmp_path / "plain", *records_of(range(6, 9), "train"))
    assert len(labelled_records(data, KEYS, test=plain)[2]) == 3


def test_frames_that_the_training_sees_do_not_test(tmp_path: Path) -> None:
    train, valid = (
        own(tmp_path / name, seeds, "pbe@1") for name, seeds in (("t.xyz", range(3)), ("v.xyz", range(3, 5)))
    )
    for seeds, where in ((range(2, 6), r"t\.xyz"), (range(4, 7), r"v\.xyz")):
        test = own(tmp_path / "test.xyz", seeds, "pbe@1")
        with pytest.raises(BadInput, match=rf"test\.xyz: 1 of its {len(seeds)} frames are in .*{where} too"):
            labelled_records(train, KEYS, valid=valid, test=test)
    other = own(tmp_path / "other.xyz", range(5, 7), "r2scan@1")
    with pytest.raises(BadInput, match=r"other\.xyz: labels of r2scan@1, and .* has labels of pbe@1"):
        labelled_records(train, KEYS, valid=valid, test=other)


def test_a_data_set_without_frames_to_validate_with_is_refused(tmp_path: Path) -> None:
    train = dataset(tmp_path / "train", *records_of(range(3), "train"), *records_of(range(3, 4), "valid"))
    valid = dataset(tmp_path / "valid", isolated_atom(3, -5.07, "pbe@1"))
    with pytest.raises(BadInput, match=r"valid: holds isolated atoms only; give frames to validate with"):
        labelled_records(train, KEYS, valid=valid)


def test_the_remedy_for_missing_labels_is_an_option(tmp_path: Path) -> None:
    write(tmp_path / "train.xyz", images(range(2)), format="extxyz")
    with pytest.raises(BadInput, match=r"no 'dft'; found .*; say which one it is with --energy-key"):
        labelled_records(tmp_path / "train.xyz", KEYS | {"energy_key": "dft"})
    with pytest.raises(BadInput, match=r"frame 0: no 'energy'; found .*; drop --use-calculator"):
        labelled_records(tmp_path / "train.xyz", KEYS | {"use_calculator": True})
