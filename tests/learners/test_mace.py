import dataclasses
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from mace.calculators import MACECalculator

from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.learners.architecture import Head, build_module, with_heads
from curator.learners.base import check_model
from curator.learners.mace import MaceModel, export_model, from_module, keep_head, load_model

from .conftest import SMALL, lif

TWO_HEADS = dataclasses.replace(
    SMALL,
    hidden_irreps="4x0e+4x1o",
    distance_transform="Agnesi",
    heads=(Head("target", (-1.0, -3.0, -0.5), 1.5, 0.1), Head("replay", (-2.0, -4.0, -1.5), 1.7, 0.3)),
)


@pytest.fixture(scope="module")
def two_heads() -> MaceModel:
    return MaceModel(TWO_HEADS, build_module(TWO_HEADS, seed=5, dtype=torch.float64))


@pytest.mark.parametrize("which", ["scalar", "vector"])
def test_conforms(which: str, model: MaceModel, two_heads: MaceModel, frames: list[Frame]) -> None:
    molecule = frame_from_atoms(Atoms("LiFNa", [[0, 0, 0], [1.6, 0.1, 0], [0.3, 2.1, 0.4]]))
    check_model(
        model.double() if which == "scalar" else two_heads,
        [*frames[:2], molecule],
        np.random.default_rng(0),
        load=load_model,
    )


def test_energy_keeps_more_digits_than_single_precision(model: MaceModel) -> None:
    frame = frame_from_atoms(lif(1).repeat(2))
    single, double = model.predict([frame])[0], model.double().predict([frame])[0]
    assert single.energy == pytest.approx(double.energy, abs=5e-6)
    # The atomic energies alone are far larger than what single precision could hold to that accuracy.
    assert abs(double.energy) * np.finfo(np.float32).eps > 5e-6


def test_file_round_trip_keeps_every_bit(two_heads: MaceModel, frames: list[Frame], tmp_path: Path) -> None:
    model = MaceModel(two_heads.architecture, two_heads.module, {"base": "abc", "n_train": 3}, head="replay")
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.architecture == model.architecture
    assert (loaded.hash, loaded.head, loaded.metadata) == (model.hash, "replay", {"base": "abc", "n_train": 3})
    assert loaded.predict(frames)[0].energy == model.predict(frames)[0].energy


def test_files_that_do_not_belong_together_are_refused(model: MaceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    description["architecture"]["heads"][0]["e0s_eV"][0] += 1e-3
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"not those that model\.json describes"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}'])
def test_broken_description_is_named(text: str, model: MaceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ValueError, match=r"model\.json"):
        load_model(tmp_path)


def test_newer_format_is_named(model: MaceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="has format 2; this version of curator reads 1"):
        load_model(tmp_path)


def test_truncated_weights_are_named(model: MaceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_model(tmp_path)


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"no model in {tmp_path}: model\.safetensors and model\.json are expected"):
        load_model(tmp_path)


def test_members_of_a_committee_are_named(model: MaceModel, tmp_path: Path) -> None:
    for member in range(2):
        model.save(tmp_path / f"member-{member}")
    inside = f"{tmp_path}/member-0, {tmp_path}/member-1"
    with pytest.raises(ValueError, match=f"no model in {tmp_path}: name one of those inside, {inside}"):
        load_model(tmp_path)


def test_heads_have_their_own_energies(two_heads: MaceModel, frames: list[Frame]) -> None:
    assert two_heads.head == "target"
    assert two_heads.e0s() == {3: -1.0, 9: -3.0, 11: -0.5}
    assert two_heads.with_head("replay").e0s() == {3: -2.0, 9: -4.0, 11: -1.5}
    target, replay = two_heads.predict(frames)[0], two_heads.with_head("replay").predict(frames)[0]
    assert abs(target.energy - replay.energy) > 1
    with pytest.raises(ValueError, match="no head 'other'; the model has target, replay"):
        two_heads.with_head("other")


@pytest.mark.parametrize("readout", ["NonLinearReadoutBlock", "NonLinearBiasReadoutBlock"])
def test_copying_and_dropping_heads_changes_no_prediction(readout: str, frames: list[Frame]) -> None:
    architecture = dataclasses.replace(TWO_HEADS, readout=readout)
    model = MaceModel(architecture, build_module(architecture, seed=1, dtype=torch.float64))
    for parameter in model.module.readouts.parameters():
        parameter.data += 0.3
    replay = model.with_head("replay").predict(frames)
    alone = keep_head(model, "replay")
    assert alone.heads == ("replay",)
    module, widened = with_heads(alone.module, alone.architecture, [0, 0, 0], ["a", "b", "c"])
    three = MaceModel(widened, module)
    for copy in (alone, three, three.with_head("c")):
        for prediction, expected in zip(copy.predict(frames), replay, strict=True):
            assert prediction.energy == pytest.approx(expected.energy, abs=1e-10)
            np.testing.assert_allclose(prediction.forces, expected.forces, atol=1e-10)


@pytest.mark.parametrize("head", ["target", "replay"])
def test_exported_file_agrees_in_the_calculator_of_mace(
    head: str, two_heads: MaceModel, frames: list[Frame], tmp_path: Path
) -> None:
    model = two_heads.with_head(head)
    export_model(model, tmp_path / "exported.model")
    theirs = MACECalculator(tmp_path / "exported.model", device="cpu", default_dtype="float64")
    for frame, ours in zip(frames, model.predict(frames, ("energy", "forces", "stress")), strict=True):
        atoms = atoms_from_frame(frame)
        atoms.calc = theirs
        assert atoms.get_potential_energy() == pytest.approx(ours.energy, abs=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), ours.forces, atol=1e-10)
        np.testing.assert_allclose(atoms.get_stress(), ours.stress, atol=1e-12)


def test_imported_module_predicts_the_same(two_heads: MaceModel, frames: list[Frame], tmp_path: Path) -> None:
    export_model(two_heads, tmp_path / "exported.model")
    module = torch.load(tmp_path / "exported.model", weights_only=False)
    imported = from_module(module)
    assert imported.heads == ("Default",)
    (head,) = keep_head(two_heads, "target").architecture.heads
    assert imported.architecture == dataclasses.replace(TWO_HEADS, heads=(dataclasses.replace(head, name="Default"),))
    for prediction, expected in zip(imported.predict(frames), two_heads.predict(frames), strict=True):
        assert prediction.energy == pytest.approx(expected.energy, abs=1e-10)
        np.testing.assert_allclose(prediction.forces, expected.forces, atol=1e-10)


def test_node_features_are_those_of_mace(two_heads: MaceModel, frames: list[Frame], tmp_path: Path) -> None:
    export_model(two_heads, tmp_path / "exported.model")
    theirs = MACECalculator(tmp_path / "exported.model", device="cpu", default_dtype="float64")
    (ours,) = two_heads.predict(frames[:1], ("energy", "node_features"))
    expected = theirs.get_descriptors(atoms_from_frame(frames[0]), invariants_only=True)
    np.testing.assert_allclose(ours.node_features, expected, atol=1e-6)


def test_calculator_agrees_with_predict_and_leaves_global_state_alone(model: MaceModel, frames: list[Frame]) -> None:
    before = torch.get_default_dtype(), torch.get_rng_state()
    atoms = atoms_from_frame(frames[1])
    atoms.calc = model.calculator()
    (expected,) = model.predict(frames[1:2], ("energy", "forces", "stress", "node_features"))
    assert atoms.get_potential_energy() == expected.energy
    assert "stress" not in atoms.calc.results
    np.testing.assert_array_equal(atoms.get_forces(), expected.forces)
    np.testing.assert_array_equal(atoms.calc.results["node_features"], expected.node_features)
    np.testing.assert_allclose(atoms.get_stress(), expected.stress, atol=1e-9)
    build_module(SMALL, dtype=torch.float64)
    assert torch.get_default_dtype() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_stress_is_symmetric_and_in_voigt_order(two_heads: MaceModel, frames: list[Frame]) -> None:
    (prediction,) = two_heads.predict(frames[1:2], ("energy", "stress"))
    atoms = atoms_from_frame(frames[1])
    volume = atoms.get_volume()
    stress = voigt_6_to_full_3x3_stress(prediction.stress)
    for i, j in ((0, 0), (1, 2), (0, 1)):
        energies = []
        for step in (1e-4, -1e-4):
            strain = np.eye(3)
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            strained.calc = two_heads.calculator()
            energies.append(strained.get_potential_energy())
        assert stress[i, j] == pytest.approx((energies[0] - energies[1]) / 2e-4 / volume, abs=1e-7)


def test_isolated_atom_is_its_own_reference(two_heads: MaceModel) -> None:
    (prediction,) = two_heads.predict([frame_from_atoms(Atoms("F"))], ("energy", "forces", "stress"))
    assert np.isfinite(prediction.energy)
    np.testing.assert_array_equal(prediction.forces, np.zeros((1, 3)))
    assert prediction.stress is None


def test_stress_of_a_molecule_is_refused(model: MaceModel) -> None:
    atoms = Atoms("LiF", [[0, 0, 0], [1.6, 0, 0]], calculator=model.calculator())
    with pytest.raises(ValueError, match="periodicity in three dimensions"):
        atoms.get_stress()


def test_unknown_element_is_named(model: MaceModel) -> None:
    with pytest.raises(ValueError, match="does not know Cl; it knows Li, F, Na"):
        model.predict([frame_from_atoms(Atoms("LiCl", [[0, 0, 0], [2, 0, 0]]))])


def test_import_of_another_kind_of_module_is_refused() -> None:
    with pytest.raises(ValueError, match="model of type Linear"):
        from_module(torch.nn.Linear(2, 2))


def test_no_predictions_of_no_frames(model: MaceModel) -> None:
    assert model.predict([]) == []


def test_saved_model_holds_no_pickle(model: MaceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "model.json"}
    weights = (tmp_path / "model.safetensors").read_bytes()
    assert weights[8:9] == b"{"
    assert not zipfile.is_zipfile(tmp_path / "model.safetensors")


def test_tampered_weights_are_refused(model: MaceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"not those that model\.json describes"):
        load_model(tmp_path)


def test_tampered_description_is_refused(model: MaceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    description = tmp_path / "model.json"
    description.write_text(description.read_text().replace("-1.25", "-1.26", 1))
    with pytest.raises(ValueError, match=r"not those that model\.json describes"):
        load_model(tmp_path)


def test_pickle_in_place_of_weights_is_refused_unread(model: MaceModel, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    model.save(tmp_path)
    torch.save({"weights": Bomb()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_model(tmp_path)
    assert not (tmp_path / "exploded").exists()
