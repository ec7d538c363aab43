"""Labels made elsewhere, into a data set: all of them or none, each with its level of theory and where it is from."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from vasp_files import PBE_520, TITLES, walk, write_outcar, write_vasprun

from curator.dataset import open_dataset, read_dataset, read_labelled
from curator.datasets.extxyz import read_records, write_records
from curator.datasets.frame import frame_from_atoms
from curator.datasets.label import Label, Provenance, Record, Split, Theory
from curator.datasets.store import Store
from curator.errors import BadInput
from curator.importing import ImportReport, ImportSettings, import_files
from curator.learners.e0 import ISOLATED_GROUP

Import = Callable[..., ImportReport]


@pytest.fixture
def import_here(tmp_path: Path) -> Import:
    """Import files into ``data`` below the test's folder."""

    def run(*paths: Path, theory: str = "pbe", **settings: Any) -> ImportReport:
        return import_files(paths, tmp_path / "data", ImportSettings(theory, **settings))

    return run


def run_folder(tmp_path: Path, name: str, images: Sequence[Atoms], **options: Any) -> Path:
    (tmp_path / name).mkdir(exist_ok=True)
    write_vasprun(tmp_path / name / "vasprun.xml", images, **options)
    return tmp_path / name / "vasprun.xml"


def records_in(tmp_path: Path) -> list[Record]:
    return list(read_dataset(tmp_path / "data").records)


def with_energy(images: Sequence[Atoms], change: Callable[[float], float]) -> list[Atoms]:
    changed = [image.copy() for image in images]
    for image, source in zip(changed, images, strict=True):
        results = source.calc.results
        image.calc = SinglePointCalculator(image, **(results | {"energy": change(results["energy"])}))
    return changed


def test_what_is_imported_and_what_is_left_out(tmp_path: Path, import_here: Import):
    images = walk(5)
    images[3].calc.results["forces"] = images[3].calc.results["forces"] + 200.0
    path = run_folder(tmp_path, "run1", images, n_iterations=[9, 60, 9, 9, 9])
    report = import_here(path)
    assert report.n_imported == 3
    assert report.left_out == {"unconverged": 1, "absurd": 1}
    records = records_in(tmp_path)
    assert [record.provenance.source for record in records] == [f"import/run1/vasprun.xml#{i}" for i in (0, 2, 4)]
    assert {record.provenance.reason for record in records} == {"import"}
    assert len({record.provenance.group for record in records}) == 1
    for record, idx in zip(records, (0, 2, 4), strict=True):
        results = images[idx].calc.results
        assert record.label.energy == pytest.approx(results["energy"], abs=1e-7)
        np.testing.assert_allclose(record.label.forces, results["forces"], atol=1e-9)
        np.testing.assert_allclose(record.label.stress, results["stress"], atol=1e-10)
        np.testing.assert_allclose(record.frame.positions, images[idx].positions, atol=1e-7)
    theory = read_dataset(tmp_path / "data").theories[report.theory.key]
    assert (theory.method, theory.code) == ("pbe", "vasp")
    assert theory.settings == PBE_520
    assert theory.details["kpoints"] == [2, 2, 2]
    assert theory.versions == {"vasp": "6.3.0"}
    # One segment, and a store that holds the same.
    assert len(list((tmp_path / "data" / "journal").glob("*.journal"))) == 1
    with Store(tmp_path / "data" / "frames.h5", "r") as store:
        assert [r.frame for r in store.records(report.theory.key)] == [r.frame for r in records]
    again = import_here(path)
    assert again.n_imported == 0
    assert again.left_out == {"duplicate": 3, "unconverged": 1, "absurd": 1}
    assert len(records_in(tmp_path)) == 3


def test_files_are_groups_and_a_continued_one_goes_on_with_its_own(tmp_path: Path, import_here: Import):
    paths = [run_folder(tmp_path, f"run{seed}", walk(6, seed)) for seed in range(4)]
    report = import_here(*paths, valid_share=0.25, test_share=0.25)
    assert sorted(file.split or "" for file in report.files) == ["test", "train", "train", "valid"]
    before = {record.frame.hash: record.provenance for record in records_in(tmp_path)}
    assert len({origin.group for origin in before.values()}) == 4
    # The run went on, and its output was copied elsewhere.
    whole = [run_folder(tmp_path, f"copy{seed}", walk(9, seed)) for seed in range(4)]
    report = import_here(*whole, valid_share=0.25, test_share=0.25)
    assert [file.n_imported for file in report.files] == [3] * 4
    splits = {}
    for record in records_in(tmp_path):
        splits.setdefault(record.provenance.group, set()).add(record.provenance.split)
    assert len(splits) == 4
    assert all(len(held) == 1 for held in splits.values())
    for record in records_in(tmp_path):
        assert record.provenance == before.get(record.frame.hash, record.provenance)
    # The shares asked for do not move what is settled; a split that is asked for holds for new files.
    (report,) = [import_here(run_folder(tmp_path, "new", walk(2, 9)), split="test")]
    assert report.files[0].split == "test"


def test_runs_that_begin_with_one_structure_are_runs_of_their_own(tmp_path: Path, import_here: Import):
    start = walk(1)[0]
    paths = [run_folder(tmp_path, f"T{seed}", [start, *walk(6, seed)[1:]]) for seed in range(1, 6)]
    report = import_here(*paths, valid_share=0.2, test_share=0.2)
    assert sorted(file.split or "" for file in report.files) == ["test", "train", "train", "train", "valid"]
    assert report.left_out == {"duplicate": 4}
    # One that begins where another ended goes on with it.
    group_of = {record.frame.hash: record.provenance.group for record in records_in(tmp_path)}
    ends = frame_from_atoms(walk(6, 5)[5]).hash
    import_here(run_folder(tmp_path, "on", walk(9, 5)[5:]), split=report.files[4].split)
    added = {record.provenance.group for record in records_in(tmp_path) if record.frame.hash not in group_of}
    assert added == {group_of[ends]}


def test_a_split_that_is_asked_for_is_that_of_all_or_refused(tmp_path: Path, import_here: Import):
    start = walk(1)[0]
    import_here(run_folder(tmp_path, "first", [start, *walk(6, 1)[1:]]), split="train")
    report = import_here(run_folder(tmp_path, "second", [start, *walk(6, 2)[1:]]), split="test")
    assert [(file.n_imported, file.split) for file in report.files] == [(5, "test")]
    with pytest.raises(BadInput, match=r"first/vasprun\.xml@.* are of train, so others cannot be of test.*--split"):
        import_here(run_folder(tmp_path, "on", [start, *walk(9, 1)[1:]]), split="test")
    # At another level of theory a frame stays where it is.
    with pytest.raises(BadInput, match="are of train, so others cannot be of test"):
        import_here(tmp_path / "second" / "vasprun.xml", split="test", theory="other")
    import_here(tmp_path / "second" / "vasprun.xml", theory="other")
    splits: dict[str, set[str]] = {}
    for record in records_in(tmp_path):
        splits.setdefault(record.frame.hash, set()).add(record.provenance.split)
    assert [len(held) for held in splits.values()] == [1] * 11


def own_file(path: Path, splits: Sequence[Split]) -> Path:
    """File of our own with a run of three frames in each split."""
    records = [
        Record(
            frame_from_atoms(image),
            Label(image.calc.results["energy"], image.calc.results["forces"], None, "pbe@0"),
            Provenance(2, f"explore/{seed}", f"explore/T900/r{seed}", split, "random"),
        )
        for seed, split in enumerate(splits)
        for image in walk(3, seed)
    ]
    write_records(path, records)
    return path


def test_a_file_of_our_own_tells_groups_and_splits(tmp_path: Path, import_here: Import):
    path = own_file(tmp_path / "own.extxyz", ["train", "valid", "test", "train"])
    report = import_here(path, valid_share=0.5, code="vasp")
    assert [file.split for file in report.files] == ["train, valid, test"]
    assert report.notes == (f"{path}: tells itself which frames are for what; the shares are of other files",)
    records = records_in(tmp_path)
    assert [record.provenance.split for record in records] == ["train"] * 3 + ["valid"] * 3 + ["test"] * 3 + [
        "train"
    ] * 3
    assert len({record.provenance.group for record in records}) == 4
    # The same runs, longer: each goes on with its own. A split that the user gives comes first.
    again = own_file(tmp_path / "again.extxyz", ["train", "valid", "test", "train", "test"])
    assert import_here(again, code="vasp").n_imported == 3
    assert len({record.provenance.group for record in records_in(tmp_path)}) == 5
    report = import_files([path], tmp_path / "all", ImportSettings("pbe", code="vasp", split="valid"))
    assert [file.split for file in report.files] == ["valid"]
    with pytest.raises(BadInput, match=r"T900/r1@.* are of valid, so others cannot be of train"):
        import_here(own_file(tmp_path / "other.extxyz", ["train", "train"]), code="vasp", theory="other")


def test_a_run_with_fewer_decimals_is_the_same_run(tmp_path: Path, import_here: Import):
    """``OUTCAR`` has five of them, ``vasprun.xml`` as many as there are."""
    path = run_folder(tmp_path, "run", walk(6, 3))
    write_outcar(tmp_path / "run" / "OUTCAR", walk(9, 3))
    report = import_here(path, tmp_path / "run" / "OUTCAR", test_share=0.5)
    assert [file.n_imported for file in report.files] == [6, 3]
    assert report.left_out == {"duplicate": 6}
    assert report.notes == (
        f"{tmp_path / 'run' / 'OUTCAR'}: 6 frames are there already to within 0.0001 Å, and count as the same",
    )
    assert len({(r.provenance.group, r.provenance.split) for r in records_in(tmp_path)}) == 1
    # Other steps are others, however short.
    short = import_here(run_folder(tmp_path, "short", walk(4, 4, step_A=5e-5)))
    assert (short.n_imported, short.notes) == (4, ())
    assert import_here(run_folder(tmp_path, "shifted", walk(2, 4, step_A=3e-4)[1:])).n_imported == 1


def test_nothing_is_imported_of_files_that_contradict_each_other(tmp_path: Path, import_here: Import):
    good = run_folder(tmp_path, "run1", walk(3))
    other = run_folder(tmp_path, "run2", walk(3, 1), encut=400.0)
    with pytest.raises(BadInput, match=r"run2.*cutoff_eV: 520.0 and 400.0.*its own name"):
        import_here(good, other)
    # A correction that only one of them has is no less a contradiction.
    other = run_folder(tmp_path, "run2", walk(3, 1), ivdw=12)
    with pytest.raises(BadInput, match="dispersion: 0 and 12"):
        import_here(good, other)
    titles = TITLES | {"Li": "PAW_PBE Li 17Jan2003"}
    other = run_folder(tmp_path, "run3", walk(3, 1), titles=titles)
    with pytest.raises(BadInput, match="pseudopotentials of Li: PAW_PBE Li_sv 10Sep2004 and PAW_PBE Li 17Jan2003"):
        import_here(good, other)
    (tmp_path / "cut.xml").write_text("<modeling>")
    with pytest.raises(BadInput, match=r"cut.xml: not readable as vasprun"):
        import_here(good, tmp_path / "cut.xml")
    shifted = run_folder(tmp_path, "run4", with_energy(walk(3), lambda energy: energy + 0.5))
    with pytest.raises(BadInput, match=r"run4.*step 0.*another label.*62.5 meV/atom"):
        import_here(good, shifted)
    hartree = run_folder(tmp_path, "run5", with_energy(walk(5, 2), lambda energy: energy / 27.2114))
    with pytest.raises(BadInput, match=r"run5.*0.036[5-9] times the work.*energies in Hartree"):
        import_here(good, hartree)
    assert not list((tmp_path / "data" / "journal").glob("*.journal"))
    assert import_here(good).n_imported == 3
    # What the data set says of the level of theory counts as well.
    import_here(run_folder(tmp_path, "run6", walk(1, 6)))
    with pytest.raises(BadInput, match="the data set holds another pbe: pseudopotentials of Li"):
        import_here(run_folder(tmp_path, "run3", walk(3, 1), titles=titles))


def test_one_level_of_theory_over_cells_elements_and_files(tmp_path: Path, import_here: Import):
    """k-points and potentials of other elements make no other level of theory, and an OUTCAR of the run is of it."""
    first = import_here(run_folder(tmp_path, "lif", walk(3)))
    images = []
    for strain in (0.97, 1.0, 1.03):
        lithium = bulk("Li", "bcc", a=3.44 * strain, cubic=True)
        lithium.calc = SinglePointCalculator(lithium, energy=-3.8, forces=np.zeros((2, 3)), stress=np.zeros(6))
        images.append(lithium)
    second = import_here(run_folder(tmp_path, "lithium", images, mesh=(12, 12, 12)))
    assert second.theory.key == first.theory.key
    assert not second.notes
    write_outcar(tmp_path / "OUTCAR", walk(3, 5))
    assert import_here(tmp_path / "OUTCAR").theory.key == first.theory.key
    theory = read_dataset(tmp_path / "data").theories[first.theory.key]
    assert set(theory.details["pseudopotentials"]) == {"Li", "F"}  # type: ignore[call-overload]
    coarse = import_here(
        run_folder(tmp_path, "fine", walk(1, 7), mesh=(8, 8, 8)), run_folder(tmp_path, "coarse", walk(1, 8))
    )
    assert coarse.theory.key == first.theory.key
    assert "k-points are" in coarse.notes[0]
    other = import_here(run_folder(tmp_path, "hard", walk(1, 9), encut=900.0))
    assert other.theory.key != first.theory.key
    assert other.notes == (
        f"the data set also holds {first.theory.key} (11 labels), which is kept apart: cutoff_eV: 520.0 and 900.0",
    )


def test_a_file_that_tells_nothing_can_be_said_to_be_of_a_known_theory(tmp_path: Path, import_here: Import):
    first = import_here(run_folder(tmp_path, "run", walk(2)))
    ase.io.write(tmp_path / "more.traj", walk(2, 1))
    apart = import_here(tmp_path / "more.traj", code="vasp")
    assert apart.theory.key != first.theory.key
    assert f"say --theory {first.theory.key}" in apart.notes[0]
    ase.io.write(tmp_path / "rest.traj", walk(2, 2))
    same = import_here(tmp_path / "rest.traj", theory=first.theory.key)
    assert same.theory.key == first.theory.key
    assert len(read_labelled(tmp_path / "data", first.theory.key)) == 4
    with pytest.raises(BadInput, match=r"holds no pbe@0; there is pbe@"):
        import_here(tmp_path / "rest.traj", theory="pbe@0")
    with pytest.raises(BadInput, match=r"cutoff_eV: 520\.0 and 400\.0"):
        import_here(run_folder(tmp_path, "soft", walk(1, 4), encut=400.0), theory=first.theory.key)
    espresso = Path(__file__).parents[1] / "datasets" / "outputs" / "lif_md.pwo"
    with pytest.raises(BadInput, match="is of vasp, these files are of espresso"):
        import_here(espresso, theory=first.theory.key)
    with pytest.raises(BadInput, match="is of espresso, not of vasp"):
        import_here(espresso, code="vasp")


def test_charge_and_multiplicity(tmp_path: Path, import_here: Import):
    path = run_folder(tmp_path, "run", walk(2))
    import_here(path)
    assert import_here(path, charge=1, multiplicity=2, theory="charged").n_imported == 2
    assert {(r.frame.charge, r.frame.multiplicity) for r in read_labelled(tmp_path / "data", "charged")} == {(1, 2)}
    images = walk(1, 3)
    images[0].info["charge"] = -1
    ase.io.write(tmp_path / "ion.extxyz", images)
    with pytest.raises(BadInput, match="its charge is -1, not 1"):
        import_here(tmp_path / "ion.extxyz", use_calculator=True, charge=1)


def test_an_isolated_ion_is_no_atom(tmp_path: Path, import_here: Import):
    atom = Atoms("Li", cell=[15.0] * 3, pbc=True)
    atom.calc = SinglePointCalculator(atom, energy=-0.3, forces=np.zeros((1, 3)), stress=np.zeros(6))
    path = run_folder(tmp_path, "ion", [atom], charge=1)
    with pytest.raises(BadInput, match=r"ion/vasprun\.xml, step 0: an isolated Li with a charge of \+1 .*leave it out"):
        import_here(path)
    untold = run_folder(tmp_path, "untold", [atom])
    with pytest.raises(BadInput, match=r"a charge of \+1"):
        import_here(untold, charge=1)
    assert import_here(run_folder(tmp_path, "atom", [atom], charge=0)).n_isolated == 1


def test_a_campaign_keeps_its_own_labels(tmp_path: Path):
    (tmp_path / "campaign.yaml").write_text("name: lif")
    with pytest.raises(BadInput, match="belongs to a campaign"):
        import_files([run_folder(tmp_path, "run", walk(1))], tmp_path, ImportSettings("pbe"))


def test_labels_of_lithium_chloride(tmp_path: Path, shared_data: Path, import_here: Import):
    """Real VASP labels with virials and isolated atoms, against the reader of training files."""
    path = shared_data / "licl_vasp" / "train.extxyz"
    report = import_here(path, theory="pbesol", code="vasp")
    expected = {record.frame.hash: record.label for record in read_records(path, theory=Theory("pbesol", "vasp"))}
    records = records_in(tmp_path)
    frames = [record for record in records if record.provenance.group != ISOLATED_GROUP]
    # Two of its eight frames repeat others, which both readers pass over.
    assert (report.n_imported, report.n_isolated, report.left_out) == (8, 2, {"duplicate": 2})
    assert {record.frame.hash for record in frames} == set(expected)
    for record in frames:
        label = expected[record.frame.hash]
        assert record.label.energy == label.energy
        np.testing.assert_array_equal(record.label.forces, label.forces)
        np.testing.assert_array_equal(record.label.stress, label.stress)
    atoms = [record for record in records if record.provenance.group == ISOLATED_GROUP]
    assert sorted(int(record.frame.numbers[0]) for record in atoms) == [3, 17]
    assert not any(record.frame.pbc.any() for record in atoms)


@pytest.mark.parametrize(
    ("name", "keys", "n"),
    [
        ("nacl_rattled/train.extxyz", {}, 100),
        ("lithium_mlearn/train.extxyz", {}, 241),
        ("solvents_xtb/train_50.extxyz", {"energy_key": "energy_xtb", "forces_key": "forces_xtb"}, None),
        ("alkali_mpf/frames.extxyz", {"use_calculator": True}, 460),
    ],
)
def test_real_files_of_three_conventions(
    tmp_path: Path, shared_data: Path, import_here: Import, name: str, keys: dict[str, Any], n: int | None
):
    path = shared_data / name
    report = import_here(path, theory="as-published", **keys)
    n_steps = len(ase.io.read(path, index=":"))
    assert n in (None, n_steps)
    assert report.n_imported + sum(report.left_out.values()) == n_steps
    assert set(report.left_out) <= {"duplicate"}
    if keys:
        with pytest.raises(BadInput, match="say which one it is with --"):
            import_here(path, theory="as-published")


def test_imports_are_kept_apart_from_what_was_calculated_here(tmp_path: Path, import_here: Import):
    """Its theory knows pseudopotentials by their content and much that no output tells, so they cannot be compared."""
    espresso = Path(__file__).parents[1] / "datasets" / "outputs" / "lif_md.pwo"
    import_here(espresso, theory="other")
    record = records_in(tmp_path)[0]
    here = Theory("pbe", "espresso", {"cutoff": 25.0}, hashes={"Li": "0" * 64, "F": "1" * 64})
    label = replace(record.label, theory=here.key, energy=record.label.energy + 28.0)
    with open_dataset(tmp_path / "data") as journal:
        journal.publish_many([replace(record, label=label)], [here])
    with pytest.raises(BadInput, match=r"calculated by curator.*choose a name of their own"):
        import_here(espresso, theory=here.key)
    apart = import_here(espresso)
    assert apart.theory.key != here.key
    assert any("with more settings than these files tell" in note for note in apart.notes)


def test_only_the_store_of_a_data_set_stands_for_its_folder(tmp_path: Path, import_here: Import):
    path = run_folder(tmp_path, "run", walk(3))
    import_here(path)
    data = tmp_path / "data"
    assert len(read_dataset(data / "frames.h5").records) == 3
    with pytest.raises(BadInput, match=r"no-such-file\.h5: no such data set"):
        read_dataset(data / "no-such-file.h5")
    with pytest.raises(BadInput, match=r"new\.h5: labels are kept in a folder, with its frames\.h5"):
        import_files([path], tmp_path / "new.h5", ImportSettings("pbe"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "run"]
    assert import_files([path], tmp_path / "other" / "frames.h5", ImportSettings("pbe")).n_imported == 3
    assert len(read_dataset(tmp_path / "other").records) == 3
