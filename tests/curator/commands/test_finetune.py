"""The command that fine-tunes, with every strategy, on a few small frames."""

import json
import re
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from curator.backends.classical import FumiTosiLiF
from curator.commands.finetune import app
from curator.datasets.extxyz import read_frames
from curator.datasets.frame import frame_from_atoms
from curator.datasets.notice import Notice
from curator.errors import BadInput, CuratorError
from curator.labelled import labelled_records
from curator.lammps import MODEL as LAMMPS_MODEL
from curator.learners.architecture import Architecture, Head, build_module, with_heads
from curator.learners.foundation import load_foundation
from curator.learners.mace import MaceModel, load_model
from curator.learners.strategies import STRATEGIES, strategy
from curator.learners.train import fit
from curator.probes import ProbeSettings

TINY = Architecture(
    (3, 9, 11),
    r_max=3.2,
    heads=(Head("target", (-1.25, -3.5, -0.75)),),
    avg_num_neighbors=12.0,
    n_interactions=1,
    hidden_irreps="8x0e",
    max_ell=1,
    mlp_irreps="4x0e",
    radial_mlp=(8,),
)
E0S = dict(zip(TINY.atomic_numbers, TINY.heads[0].e0s_eV, strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a foundation, ``model``, ``labelled.extxyz`` and other frames in ``valid.extxyz``."""
    folder = tmp_path_factory.mktemp("finetune")
    foundation = MaceModel(TINY, build_module(TINY, seed=3))
    foundation.save(folder / "model")
    write_labelled(folder / "labelled.extxyz", foundation, range(4))
    write_labelled(folder / "valid.extxyz", foundation, range(4, 6))
    return folder


@pytest.fixture
def labelled(folder: Path) -> Path:
    return folder / "labelled.extxyz"


def write_labelled(path: Path, foundation: MaceModel, seeds: range) -> None:
    """Rattled frames of 8 atoms with the foundation's energies."""
    images = []
    for seed in seeds:
        atoms = bulk("LiF", "rocksalt", a=4.0, cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = FumiTosiLiF()
        forces = atoms.get_forces()
        atoms.calc = foundation.calculator()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.calc = None
        atoms.arrays["REF_forces"] = forces
        images.append(atoms)
    write(path, images)


def finetune(labelled: Path, *arguments: object, probes: bool = False) -> dict[str, Any]:
    """What the command says as JSON."""
    row = dict(pairwise(map(str, arguments))).get("--strategy", "multihead_replay")
    replay = () if "--replay" in arguments or "replay" not in row else ("--replay", labelled)
    model = () if "--model" in arguments else ("--model", labelled.parent / "model")
    options = (*model, "--epochs", "1", "--replay-frames", "2", "--json", *(() if probes else ("--no-probes",)))
    command = ["finetune", str(labelled), *map(str, (*arguments, *replay, *options))]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("name", list(STRATEGIES["small_data"]))
def test_every_strategy(name: str, labelled: Path, tmp_path: Path) -> None:
    valid = labelled.with_name("valid.extxyz")
    told = finetune(labelled, "--valid", valid, "--strategy", name, "--out", tmp_path / "model")
    assert told["epochs"] == 1
    trains_all = name in ("scratch", "naive", "multihead_replay", "pseudolabel_replay")
    assert (told["n_trainable"] == told["n_parameters"]) == trains_all
    assert (tmp_path / "model" / "adapters.safetensors").exists() == ("lora" in name)
    model = json.loads((tmp_path / "model" / "model.json").read_text())
    heads = [head["name"] for head in model["architecture"]["heads"]]
    assert heads == (["target", "replay"] if "replay" in name else ["target"])
    assert model["metadata"]["strategy"]["name"] == name


def test_it_tells_what_was_learnt(labelled: Path, tmp_path: Path) -> None:
    images = read(labelled, index=":")
    for atoms, mark in zip(images, ("strain", "strain", "alone"), strict=False):
        atoms.info["difference_group"] = mark
    write(tmp_path / "marked.extxyz", images)
    model = labelled.parent / "model"
    options = ("--model", model, "--strategy", "naive", "--out", tmp_path / "a", "--e0", "foundation")
    told = finetune(tmp_path / "marked.extxyz", *options)
    assert (told["n_train"], told["n_valid"], told["n_groups"]) == (len(images), 0, 2)
    tuned = load_model(tmp_path / "a").calculator()
    energies, forces = [], []
    for atoms in images:
        energy, reference = atoms.info["REF_energy"], atoms.arrays["REF_forces"]
        atoms.calc = tuned
        energies.append((atoms.get_potential_energy() - energy) / len(atoms))
        forces.append(atoms.get_forces() - reference)
    assert told["train_energy_rmse_eV_per_atom"] == pytest.approx(np.sqrt(np.mean(np.square(energies))), rel=1e-3)
    assert told["train_force_rmse_eV_per_A"] == pytest.approx(np.sqrt(np.mean(np.square(forces))), rel=1e-3)
    command = [
        "finetune",
        str(tmp_path / "marked.extxyz"),
        *map(str, options),
        "--epochs",
        "1",
        "--no-probes",
        "--force",
    ]
    lines = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "for want of frames to validate with" in lines
    assert "energy differences are learnt within 1 group, not in 1 of a single frame" in lines
    assert f"naive from {model}: 1 epoch, " in lines
    assert f"E0 foundation: Li {E0S[3]:.4f}, F {E0S[9]:.4f}, Na {E0S[11]:.4f}" in lines
    # Beside the errors those of the foundation, whose own energies are the labels.
    before = told["start_force_rmse_eV_per_A"]
    assert (
        f"train target: forces {1000 * told['train_force_rmse_eV_per_A']:.0f} meV/Å (foundation {1000 * before:.0f})"
        in lines
    )
    untuned = load_model(model).predict([frame_from_atoms(atoms) for atoms in images])
    errors = [p.forces - atoms.arrays["REF_forces"] for p, atoms in zip(untuned, images, strict=True)]
    assert before == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-4)
    assert told["start_energy_rmse_eV_per_atom"] < 1e-5
    card = json.loads((tmp_path / "a" / "model.json").read_text())["metadata"]
    assert (card["foundation_name"], card["e0_policy"], card["n_valid"]) == (str(model), "foundation", 0)
    assert card["errors"]["train_force_rmse_eV_per_A"] == told["train_force_rmse_eV_per_A"]


def test_frames_that_no_training_saw_tell_the_error_of_both_models(labelled: Path, tmp_path: Path) -> None:
    held_out = labelled.with_name("valid.extxyz")
    naive = ("--strategy", "naive", "--test", held_out, "--out", tmp_path / "model")
    told = finetune(labelled, *naive)
    assert (told["n_test"], told["n_valid"]) == (2, 0)
    card = json.loads((tmp_path / "model" / "model.json").read_text())["metadata"]
    assert card["n_test"] == 2
    for start, folder in (("start_", labelled.parent / "model"), ("", tmp_path / "model")):
        energies, forces = [], []
        for atoms in read(held_out, index=":"):
            energy, reference = atoms.info["REF_energy"], atoms.arrays["REF_forces"]
            atoms.calc = load_model(folder).calculator()
            energies.append((atoms.get_potential_energy() - energy) / len(atoms))
            forces.append(atoms.get_forces() - reference)
        force, energy = f"{start}test_force_rmse_eV_per_A", f"{start}test_energy_rmse_eV_per_atom"
        assert told[force] == pytest.approx(np.sqrt(np.mean(np.square(forces))), rel=1e-4)
        assert told[energy] == pytest.approx(np.std(energies), rel=1e-2, abs=1e-6)
        assert card["errors"][force] == told[force]
    same = finetune(labelled, *naive[:2], "--out", tmp_path / "untested")
    assert same["test_force_rmse_eV_per_A"] is None
    assert same["train_force_rmse_eV_per_A"] == told["train_force_rmse_eV_per_A"]
    with pytest.raises(BadInput, match=r"labelled\.extxyz: 4 of its 4 frames are in .*labelled\.extxyz too"):
        finetune(labelled, *naive[:2], "--test", labelled, "--out", tmp_path / "again")


def test_the_error_of_a_test_is_a_line(labelled: Path, tmp_path: Path) -> None:
    options = ("--strategy", "naive", "--epochs", 1, "--no-probes", "--model", labelled.parent / "model")
    command = ["finetune", labelled, "--test", labelled.with_name("valid.extxyz"), "--out", tmp_path / "m", *options]
    lines = CliRunner().invoke(app, [str(word) for word in command], catch_exceptions=False).stdout
    assert "4 frames of file@" in lines
    assert "0 to validate with, 2 to test with" in lines
    assert re.search(
        r"^test: forces \d+ meV/Å \(foundation \d+\), energies about their mean [\d.]+ meV/atom \(foundation 0\.0\)$",
        lines,
        re.MULTILINE,
    )


def test_options_of_adapters_replay_and_atomic_energies(labelled: Path, tmp_path: Path) -> None:
    lora = ("--strategy", "lora", "--lora-alpha", "2", "--out", tmp_path / "a")
    n = [finetune(labelled, *lora, "--force", "--lora-rank", rank)["n_trainable"] for rank in (1, 3)]
    assert n[1] == 3 * n[0]
    bare = tmp_path / "bare.extxyz"
    images = read(labelled, index=":")
    for atoms in images:
        atoms.info.clear()
        del atoms.arrays["REF_forces"]
    write(bare, images)
    replay = ("--strategy", "pseudolabel_replay", "--replay", bare, "--replay-choice", "farthest")
    given = f"Li={E0S[3] + 0.01},F={E0S[9] - 0.01}"
    told = finetune(labelled, *replay, "--e0", given, "--out", tmp_path / "b")
    assert told["e0"]["Li"] == pytest.approx(E0S[3] + 0.01)
    assert told["e0"]["Na"] == E0S[11]
    assert told["start_energy_rmse_eV_per_atom"] < 1e-3


def test_scratch_takes_the_architecture_alone(labelled: Path, tmp_path: Path) -> None:
    """The elements are those of the data, whether the foundation knows them or not."""
    images = read(labelled, index=":")
    for atoms in images:
        atoms.symbols[atoms.symbols == "F"] = "Br"
    write(tmp_path / "libr.extxyz", images)
    scratch = ("--strategy", "scratch", "--out", tmp_path / "model")
    finetune(tmp_path / "libr.extxyz", *scratch, "--model", labelled.parent / "model")
    model = load_model(tmp_path / "model")
    assert model.elements == (3, 35)
    assert model.heads == ("target",)
    assert model.r_max == TINY.r_max
    n_neighbours = [len(model.graph(frame_from_atoms(atoms)).edge_index[0]) / len(atoms) for atoms in images]
    assert min(n_neighbours) <= (model.architecture.avg_num_neighbors or 0) <= max(n_neighbours)
    with pytest.raises(BadInput, match=r"--valid: frame labelled\.extxyz#0 holds F, which no training frame does"):
        finetune(tmp_path / "libr.extxyz", *scratch, "--force", "--valid", labelled)
    naive = ("--strategy", "naive", "--out", tmp_path / "naive", "--model", labelled.parent / "model")
    with pytest.raises(BadInput, match="does not know Br; choose a model that does"):
        finetune(tmp_path / "libr.extxyz", *naive)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--e0", "guessed"), "--e0: no policy 'guessed'; there are estimated, foundation, isolated, average"),
        (("--e0", "Li=one"), "--e0: 'Li=one' is no value in eV of an element"),
        (("--e0", "Li=nan"), "--e0: 'Li=nan' is no value in eV of an element"),
        (("--e0", "Li:-5.07"), "--e0: 'Li:-5.07' is no value in eV of an element; write, for example, Li=-1.9"),
        (("--e0", "Li=-5,Li=-6"), "--e0: Li has two values, -5 and -6; give one"),
        (("--e0", "Cl=-5"), "e0 names Cl, which the model does not know"),
        (("--replay", "f.extxyz"), "--replay: naive replays nothing; drop it, or take multihead_replay"),
        (("--lora-rank", "4"), "--lora-rank: naive has no adapters; drop it, or take lora or replay_lora"),
        (("--replay-per-epoch", "4"), "--replay-per-epoch: naive replays nothing; drop it, or take multihead_replay"),
        (("--e0", "Xx=1"), "'Xx' is not the symbol of an element"),
        (("--e0", "isolated"), "needs a labelled single atom of Li, F"),
        (("--e0", "Li=50,F=50"), "e0 as given: energies would start"),
        (
            ("--batch-size", "9"),
            "a batch of 9 is larger than the data: there are 4 frames .*set --batch-size to 4 or less",
        ),
        (("--replay-choice", "best"), "unknown choice 'best'"),
        (("--strategy", "magic"), "unknown strategy 'magic'"),
    ],
)
def test_bad_input_is_told(options: tuple[str, ...], complaint: str, labelled: Path, tmp_path: Path) -> None:
    row = () if options[0] in ("--strategy", "--replay-choice") else ("--strategy", "naive")
    with pytest.raises(BadInput, match=complaint):
        finetune(labelled, *row, *options, "--out", tmp_path / "model")


def test_labels_of_other_units_are_named(labelled: Path, tmp_path: Path) -> None:
    """Forces of the foundation itself, in other units, or as gradients."""
    foundation = load_model(labelled.parent / "model")
    images = read(labelled, index=":")
    for factor, told in ((-1.0, "multiply them by -1"), (1 / 51.4221, "as of Hartree/bohr")):
        for atoms in images:
            forces = foundation.predict([frame_from_atoms(atoms)])[0].forces
            assert forces is not None
            atoms.arrays["REF_forces"] = factor * forces
        write(tmp_path / "wrong.extxyz", images)
        model = ("--model", labelled.parent / "model", "--strategy", "naive")
        with pytest.raises(BadInput, match=rf"wrong\.extxyz: the forces are .*{told}"):
            finetune(tmp_path / "wrong.extxyz", *model, "--out", tmp_path / "model")


def test_energies_of_another_unit_are_named(labelled: Path, tmp_path: Path) -> None:
    """Forces and energies of the foundation itself, but for the unit of the energies."""
    foundation = load_model(labelled.parent / "model")
    images = [read(labelled, index=0) for _ in range(8)]
    for seed, atoms in enumerate(images):
        atoms.rattle(0.1, seed=seed)
        (known,) = foundation.predict([frame_from_atoms(atoms)])
        atoms.arrays["REF_forces"], atoms.info["REF_energy"] = known.forces, known.energy / 27.2114
    write(tmp_path / "hartree.extxyz", images)
    model = ("--model", labelled.parent / "model", "--strategy", "naive")
    with pytest.raises(BadInput, match=r"hartree\.extxyz: .* energies differ by 0\.0367 times .* as of Hartree"):
        finetune(tmp_path / "hartree.extxyz", *model, "--out", tmp_path / "model")


def test_elements_and_missing_labels_are_told_by_place(labelled: Path, tmp_path: Path) -> None:
    images = read(labelled.with_name("valid.extxyz"), index=":")
    images[1].symbols[0] = "Cl"
    write(tmp_path / "valid.extxyz", images)
    with pytest.raises(BadInput, match=r"--valid: frame valid\.extxyz#1 holds Cl, which .* does not know"):
        finetune(labelled, "--valid", tmp_path / "valid.extxyz", "--strategy", "naive", "--out", tmp_path / "model")
    for atoms in images:
        del atoms.info["REF_energy"]
    write(tmp_path / "bare.extxyz", images)
    with pytest.raises(
        BadInput, match=r"--replay: .*no 'REF_energy'; .*label them at the foundation's level"
    ) as raised:
        finetune(labelled, "--replay", tmp_path / "bare.extxyz", "--out", tmp_path / "model")
    assert "energy_key" not in str(raised.value)


def test_nothing_is_overwritten_unasked(labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    finetune(labelled, "--strategy", "lora", "--out", out)
    assert (out / "adapters.safetensors").exists()
    before = (out / "model.json").read_bytes()
    with pytest.raises(BadInput, match="holds a model; choose another folder, or overwrite it with --force"):
        finetune(labelled, "--strategy", "naive", "--out", out)
    assert (out / "model.json").read_bytes() == before
    finetune(labelled, "--strategy", "naive", "--out", out, "--force")
    assert load_model(out).metadata["strategy"]["name"] == "naive"
    assert not (out / "adapters.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "out", "complaint"),
    [
        ("file", "file", "is a file; name a folder"),
        ("file", "file/model", "cannot be written there"),
        ("data/journal/0", "data", "holds a data set, a campaign or a distilled model"),
        ("camp/campaign.yaml", "camp", "holds a data set, a campaign or a distilled model"),
        ("other/notes.txt", "other", "holds other files; choose another folder"),
        ("m.checkpoint/x", "m", "is a folder, and is where the state of the training goes"),
    ],
)
def test_where_no_model_can_go(content: str, out: str, complaint: str, labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / content
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    force = () if out == "other" else ("--force",)
    with pytest.raises(BadInput, match=complaint):
        finetune(labelled, "--strategy", "naive", "--out", tmp_path / out, *force)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


@pytest.mark.parametrize("option", ["train", "--valid"])
def test_empty_files_are_named(option: str, labelled: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.extxyz"
    empty.touch()
    arguments = (empty,) if option == "train" else (labelled, option, empty)
    with pytest.raises(BadInput, match=r"empty\.extxyz"):
        finetune(*arguments, "--model", labelled.parent / "model", "--strategy", "naive", "--out", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_divergence_names_the_frame_and_leaves_the_last_good_weights(labelled: Path, tmp_path: Path) -> None:
    images = read(labelled, index=":")
    images[1].arrays["REF_forces"][0, 0] = 1e39  # a number, but not in single precision
    write(tmp_path / "absurd.extxyz", images)
    culprit = read_frames(tmp_path / "absurd.extxyz")[1].hash[:12]
    naive = ("--strategy", "naive", "--model", labelled.parent / "model", "--batch-size", 1)
    with pytest.raises(CuratorError, match=rf"the loss became inf .*{culprit}.*holds weights of epoch 0"):
        finetune(tmp_path / "absurd.extxyz", *naive, "--out", tmp_path / "model")
    kept, foundation = (load_model(folder) for folder in (tmp_path / "model", labelled.parent / "model"))
    frame = frame_from_atoms(images[0])
    np.testing.assert_allclose(kept.predict([frame])[0].forces, foundation.predict([frame])[0].forces, atol=1e-6)


def test_isolated_atoms_of_the_file_serve(labelled: Path, tmp_path: Path) -> None:
    images = read(labelled, index=":")
    for symbol, number in (("Li", 3), ("F", 9)):
        atom = Atoms(symbol)
        atom.info |= {"REF_energy": E0S[number] + 0.02, "config_type": "IsolatedAtom"}
        atom.arrays["REF_forces"] = np.zeros((1, 3))
        images.append(atom)
    path = labelled.with_name("with-atoms.extxyz")
    write(path, images)
    told = finetune(path, "--strategy", "naive", "--e0", "isolated", "--out", tmp_path / "model")
    assert told["e0"]["Li"] == pytest.approx(E0S[3] + 0.02)


def test_a_tuned_model_carries_its_probes(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = partial(ProbeSettings, n_structures=1, max_steps=5, duration_ps=0.1)
    monkeypatch.setattr("curator.probes.ProbeSettings", few)
    told = finetune(labelled, "--strategy", "naive", "--out", tmp_path / "model", probes=True)
    assert told["probes"]["forgetting"] is None  # the foundation has no frames of its own
    assert [search["n_runs"] for search in told["probes"]["random_search"]] == [1, 1]
    assert told["probes"]["equivariance"]["worst_force_eV_per_A"] < 1e-9
    kept = load_model(tmp_path / "model")
    assert kept.metadata["probes"] == told["probes"]
    plain = finetune(labelled, "--strategy", "naive", "--out", tmp_path / "plain")
    assert plain["probes"] is None
    assert load_model(tmp_path / "plain").hash == kept.hash


def test_head_of_the_foundation_is_chosen_by_name(labelled: Path, tmp_path: Path) -> None:
    """The energies are those of the first head; the second is 2 eV an atom off, which the E0s make up for."""
    foundation = load_model(labelled.parent / "model")
    module, architecture = with_heads(foundation.module, foundation.architecture, [0, 0], ["pbe", "r2scan"])
    shifted = tuple(replace(h, e0s_eV=tuple(e + 2 * i for e in h.e0s_eV)) for i, h in enumerate(architecture.heads))
    MaceModel(replace(architecture, heads=shifted), module).save(tmp_path / "two")
    common = ("--strategy", "naive", "--e0", "estimated")
    for head, shift in (("pbe", 0.0), ("r2scan", -2.0)):
        out = tmp_path / head
        told = finetune(labelled, *common, "--model", f"{tmp_path / 'two'}#{head}", "--out", out)
        assert told["start_energy_rmse_eV_per_atom"] < 1e-3
        moved = told["e0"]["Na"] - E0S[11]
        assert moved == pytest.approx(-shift)
        assert load_model(out).heads == ("target",)
    with pytest.raises(BadInput, match="has no head 'lda'; it has pbe, r2scan"):
        finetune(labelled, *common, "--model", f"{tmp_path / 'two'}#lda", "--out", tmp_path / "lda")


def test_a_run_that_was_cut_off_goes_on_and_says_so(labelled: Path, tmp_path: Path) -> None:
    told = finetune(labelled, "--strategy", "naive", "--out", tmp_path / "model")
    base, row = load_model(labelled.parent / "model"), strategy("naive", max_epochs=1)
    keys = {"energy_key": None, "forces_key": None, "use_calculator": False}
    training, *_ = labelled_records(labelled, keys)
    checkpoint = tmp_path / "again.checkpoint"
    fit(base, training, [], row, seed=0, checkpoint=checkpoint)
    with pytest.warns(Notice, match=r"again\.checkpoint: is of other data or settings; it is left aside"):
        finetune(labelled, "--strategy", "naive", "--out", tmp_path / "again", "--seed", 1)
    fit(base, training, [], row, seed=0, checkpoint=checkpoint)
    with pytest.warns(Notice, match=r"again\.checkpoint: going on from epoch 1$"):
        again = finetune(labelled, "--strategy", "naive", "--out", tmp_path / "again", "--force")
    assert again["train_force_rmse_eV_per_A"] == told["train_force_rmse_eV_per_A"]
    assert not checkpoint.exists()


def test_odd_labels_are_noted(labelled: Path, tmp_path: Path) -> None:
    images = read(labelled, index=":")
    images[2].arrays["REF_forces"][5, 0] = 500.0
    write(tmp_path / "odd.extxyz", images)
    model = ("--model", labelled.parent / "model", "--strategy", "naive")
    with pytest.warns(Notice, match=r"a force of 500 eV/Å at atom 5 of Li4F4 of import/odd\.extxyz#2"):
        finetune(tmp_path / "odd.extxyz", *model, "--out", tmp_path / "model")


def test_a_model_is_exported_for_mace_and_lammps(labelled: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(labelled.parent / "model"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    frame = read_frames(labelled)[0]
    exported = load_foundation(str(tmp_path / "out" / "model.model"), trust=True, device="cpu")
    (found,), (expected,) = (m.predict([frame]) for m in (exported, load_model(labelled.parent / "model")))
    assert found.energy == pytest.approx(expected.energy, abs=1e-5)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.model", LAMMPS_MODEL}
