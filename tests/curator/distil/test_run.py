"""A teacher with a known answer, distilled into a small model within seconds."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from typer.testing import CliRunner

from curator.backends.base import LabellerSpec
from curator.backends.labellers import CalculatorLabeller, make_labeller
from curator.build import build_plan
from curator.commands.distil import _speed_told, app
from curator.config import CampaignFile
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.label import Provenance, Record
from curator.datasets.store import Store
from curator.datasets.variations import Structure
from curator.distil.card import markdown
from curator.distil.recipe import Recipe, variations
from curator.distil.run import FRACTIONS, distil, starts
from curator.distil.stages import Distillation, deal
from curator.errors import BadInput
from curator.learners.architecture import Architecture
from curator.learners.foundation import load_foundation
from curator.learners.metrics import force_errors
from curator.setup import gather_inputs

TEACHER = LabellerSpec("classical", "lif-fumi-tosi")
SMALL = ("--channels", "8", "--r-max", "4", "--max-ell", "1", "--vacancies", "0", "--duration-ps", "0.7")
SHORT = ("--copies", "8", "--contacts", "6", "--temperature-K", "600", "--replicas", "1", "--loops", "1")
EPOCHS = ("--crude-epochs", "8", "--epochs", "30")


def lif() -> Atoms:
    return bulk("LiF", "rocksalt", a=4.03, cubic=True)


def run(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["distil", *map(str, arguments), "--json"], catch_exceptions=False)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    folder = tmp_path_factory.mktemp("distil")
    write(folder / "lif.cif", lif())
    given = ("--teacher", "lif-fumi-tosi", "--structures", folder / "lif.cif", "--out", folder / "student")
    return (*given, *SMALL, *SHORT, *EPOCHS)


@pytest.fixture(scope="module")
def told(command: tuple[object, ...]) -> dict[str, Any]:
    return run(*command)


@pytest.fixture
def student(told: dict[str, Any]) -> Path:
    return Path(told["out"])


def test_student_agrees_with_its_teacher_on_frames_it_never_saw(told: dict[str, Any], student: Path) -> None:
    assert told["exam"]["errors_by_kind"]["all"]["force_rmse_relative"] < 0.15
    records = []
    for seed in range(6):
        atoms = lif()
        atoms.rattle(0.08, seed=100 + seed)
        frame = frame_from_atoms(atoms)
        records.append(Record(frame, make_labeller(TEACHER).label(atoms), Provenance(0, "", "", "test", "")))
    model = load_foundation(str(student), device="cpu")
    errors = force_errors(model.predict([record.frame for record in records]), records)
    assert errors.reference_rms > 0.2
    assert errors.rmse < 0.15 * errors.reference_rms


def test_card_tells_teacher_errors_and_cost_and_names_its_files(told: dict[str, Any], student: Path) -> None:
    assert told["theory"]["method"] == "lif-fumi-tosi"
    for name, digest in told["sha256"].items():
        assert hashlib.sha256((student / name).read_bytes()).hexdigest() == digest
    cost = told["exam"]["cost"]
    assert cost["ratio"] == pytest.approx(cost["teacher_cpu_s"] / cost["student_cpu_s"])
    assert set(told["frames"]) == {"given", "rattled", "contact", "md", "own MD"}
    assert set(told["frames"]["own MD"]) == {"test"}
    assert told["exam"]["n_exploded"] <= told["exam"]["n_trajectories"] == 1
    card = json.loads((student / "card.json").read_text())
    assert (student / "CARD.md").read_text() == markdown(card)


def test_frames_are_of_one_theory_and_no_group_is_learnt_and_tested(told: dict[str, Any], student: Path) -> None:
    with Store(student / "frames.h5", "r") as store:
        records = store.records()
    assert {record.label.theory for record in records} == {make_labeller(TEACHER).theory.key}
    groups = {split: {r.provenance.group for r in records if r.provenance.split == split} for split in FRACTIONS}
    assert groups["train"]
    assert not groups["train"] & groups["test"]
    assert len(records) == sum(sum(n.values()) for n in told["frames"].values())


def test_what_is_done_is_not_done_again(
    told: dict[str, Any], command: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CalculatorLabeller, "label", lambda self, atoms: pytest.fail("labelled again"))
    assert run(*command) == told
    with pytest.raises(BadInput, match=r"was begun with another seed, another epochs; choose another folder"):
        run(*command, "--seed", "1", "--epochs", "31")


def test_student_is_a_foundation_that_brings_its_frames(student: Path, tmp_path: Path) -> None:
    content = {
        "system": {"structure": "lif-interstitial"},
        "foundation": str(student),
        "label": {"kind": "classical", "model": "lif-fumi-tosi"},
        "learn": {"strategy": "multihead_replay", "replay_frames": 5},
    }
    inputs = gather_inputs(build_plan(CampaignFile.model_validate(content), tmp_path))
    assert inputs.foundation.hash == load_foundation(str(student), device="cpu").hash
    assert len(inputs.replay_train) == 5
    with Store(student / "frames.h5", "r") as store:
        tested = {r.frame.hash for r in store.records(split="test")}
    assert {r.frame.hash for r in inputs.probe} == tested
    assert not {r.frame.hash for r in (*inputs.replay_train, *inputs.replay_valid)} & tested


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--teacher", "chgnet"), "there are chgnet:r2scan"),
        (("--structures", "nowhere.cif"), r"nowhere\.cif: no such file"),
        (("--structures", "nothing"), "nothing"),
        (("--supercell", "2x2"), "'2x2' is no supercell; write repeats such as 2x2x1"),
        (("--copies", "0"), "copies must be positive; got 0"),
        (("--strain", "0.5"), "strain must be below 0.3"),
        (("--temperature-K", "-5"), "temperatures_K must be positive"),
        (("--duration-ps", "0.3"), "duration_ps must be at least 0.4, or no frame is kept"),
        (("--r-max", "45"), "--r-max: 45 Å is out of range"),
    ],
)
def test_bad_input_is_told(options: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    write(tmp_path / "lif.cif", lif())
    with pytest.raises(BadInput, match=complaint):
        run("--teacher", "lif-fumi-tosi", "--structures", tmp_path / "lif.cif", "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_structure_that_the_teacher_cannot_calculate_is_told(tmp_path: Path) -> None:
    write(tmp_path / "nacl.cif", bulk("NaCl", "rocksalt", a=5.6, cubic=True))
    with pytest.raises(BadInput, match="lif-fumi-tosi: cannot calculate this structure"):
        run("--teacher", "lif-fumi-tosi", "--structures", tmp_path / "nacl.cif", "--out", tmp_path / "out")


def tiny(work: Path, tell: Callable[[str], None] = lambda line: None) -> tuple[Distillation, list[Frame], Recipe]:
    architecture = Architecture(
        (3, 9), r_max=3.2, hidden_irreps="4x0e", mlp_irreps="4x0e", radial_mlp=(8,), n_interactions=1, max_ell=1
    )
    recipe = Recipe(
        copies=2,
        vacancies=1,
        contacts=2,
        temperatures_K=(300.0,),
        duration_ps=0.6,
        replicas=1,
        loops=2,
        crude_epochs=2,
        epochs=3,
    )
    return Distillation(work, TEACHER, architecture, 3, tell=tell), [frame_from_atoms(lif())], recipe


class Killed(BaseException):
    pass


def frames_of(folder: Path) -> dict[str, tuple[float, str]]:
    with Store(folder / "frames.h5", "r") as store:
        return {r.frame.hash: (r.label.energy, r.provenance.split) for r in store.records()}


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_if_it_never_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = distil(*tiny(tmp_path / "a"), tmp_path / "whole")
    label = CalculatorLabeller.label
    n_runs = n_labels = 0

    def tell(line: str) -> None:
        nonlocal n_lines
        n_lines += 1
        if n_lines == n_runs:
            raise Killed

    def killed_at_a_label(self: CalculatorLabeller, atoms: Atoms) -> object:
        nonlocal n_labels
        n_labels += 1
        if n_labels in (3, 9, 14):
            raise Killed
        return label(self, atoms)

    monkeypatch.setattr(CalculatorLabeller, "label", killed_at_a_label)
    while not (tmp_path / "parts" / "model.json").exists():
        n_runs, n_lines = n_runs + 1, 0
        try:
            parts = distil(*tiny(tmp_path / "b", tell), tmp_path / "parts")
        except Killed:
            continue
    assert n_runs > 5
    assert parts.hash == whole.hash
    assert frames_of(tmp_path / "parts") == frames_of(tmp_path / "whole")
    # One label more for each that a kill lost.
    assert n_labels == len(frames_of(tmp_path / "whole")) + 3


def test_variations_are_what_the_recipe_says() -> None:
    recipe = Recipe(
        supercells=((1, 1, 1), (2, 1, 1)), rattles_A=(0.02, 0.1), copies=3, vacancies=2, contacts=8, strain=0.05
    )
    given = [frame_from_atoms(lif())]
    drawn = list(variations(given, recipe, np.random.default_rng(0)))
    again = list(variations(given, recipe, np.random.default_rng(0)))
    assert [s.frame.hash for s in drawn] == [s.frame.hash for s in again]
    kinds = [structure.kind for structure in drawn]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"given": 2, "rattled": 12, "vacancy": 4, "contact": 8}
    assert len({structure.group for structure in drawn}) == len(drawn)
    lacking = [atoms_from_frame(s.frame).get_chemical_formula() for s in drawn if s.kind == "vacancy"]
    assert lacking == ["F3Li4", "F4Li3", "F7Li8", "F8Li7"]
    volumes = [abs(np.linalg.det(s.frame.cell)) / len(s.frame) for s in drawn if s.kind == "rattled"]
    assert 0.1 < np.ptp(volumes) / np.mean(volumes) < 0.6


def test_molecule_has_no_cell_to_strain() -> None:
    water = frame_from_atoms(molecule("H2O"))
    recipe = Recipe(copies=2, vacancies=0, contacts=3)
    drawn = list(variations([water], recipe, np.random.default_rng(0)))
    assert {s.kind for s in drawn} == {"given", "rattled", "contact"}
    assert not any(s.frame.pbc.any() for s in drawn)


def test_dynamics_takes_steps_that_suit_the_lightest_atom() -> None:
    given = [frame_from_atoms(molecule("H2O")), frame_from_atoms(lif())]
    for recipe, steps_fs in ((Recipe(), [0.5, 2.0]), (Recipe(timestep_fs=1.0), [1.0, 1.0])):
        begun = list(starts(given, recipe, np.random.default_rng(0)))
        assert [start.timestep_fs for start in begun] == [steps_fs[0]] * 4 + [steps_fs[1]] * 4


def test_shares_are_kept_over_the_stages() -> None:
    frame = frame_from_atoms(lif())
    first = deal([Structure(frame, "md", f"md/1/{n}") for n in range(2)], FRACTIONS, 0, 1)
    assert sorted(first.values()) == ["test", "train"]
    second = deal([Structure(frame, "md", f"md/2/{n}") for n in range(2)], FRACTIONS, 0, 2, {"md": first})
    assert set(second.values()) == {"train"}
    anchors = deal([Structure(frame, "anchor-8", f"anchor/{n}") for n in range(5)], FRACTIONS, 0, 1)
    assert set(anchors.values()) == {"train"}


def test_slower_is_called_slower() -> None:
    cost = {"n_atoms": 64, "student_cpu_s": 9.03e-3, "teacher_cpu_s": 0.353e-3, "ratio": 0.0391}
    said = _speed_told(cost)
    assert said == "a step of 64 atoms takes 9.03 ms of CPU, the teacher 0.353 ms: 25.6 times slower than the teacher"
    assert _speed_told(cost | {"ratio": 40.0}).endswith(": 40 times faster")
