"""Foundations with several heads, made by mace itself: the head is chosen by name, wherever a model is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from e3nn import o3
from mace.calculators import MACECalculator
from mace.modules import (
    NonLinearReadoutBlock,
    RealAgnosticInteractionBlock,
    RealAgnosticResidualInteractionBlock,
    ScaleShiftMACE,
)

from curator.backends.base import LabellerSpec
from curator.backends.labellers import make_labeller
from curator.backends.pseudolabel import mace_theory
from curator.build import build_plan
from curator.config import CampaignFile
from curator.datasets.frame import Frame, atoms_from_frame
from curator.errors import BadInput
from curator.learners.architecture import with_heads
from curator.learners.foundation import load_foundation
from curator.learners.mace import MaceModel, from_module, keep_head
from curator.learners.replay import foundation_hash
from curator.setup import gather_inputs

HEADS = ("pbe", "r2scan")
E0S_EV = np.array([[-1.2, -3.4, -0.7], [-1.9, -4.1, -1.1]])


@pytest.fixture(scope="module")
def two_headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File as ``mace_run_train`` writes it, with a head for each of two levels of theory."""
    torch.manual_seed(5)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        module = ScaleShiftMACE(
            r_max=3.5,
            num_bessel=8,
            num_polynomial_cutoff=5,
            max_ell=1,
            interaction_cls=RealAgnosticResidualInteractionBlock,
            interaction_cls_first=RealAgnosticInteractionBlock,
            num_interactions=2,
            num_elements=3,
            hidden_irreps=o3.Irreps("8x0e"),
            MLP_irreps=o3.Irreps("4x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=E0S_EV,
            avg_num_neighbors=12.0,
            atomic_numbers=[3, 9, 11],
            correlation=2,
            radial_MLP=[8],
            radial_type="bessel",
            heads=list(HEADS),
            readout_cls=NonLinearReadoutBlock,
            atomic_inter_scale=[1.0, 1.5],
            atomic_inter_shift=[0.0, 0.2],
        )
    finally:
        torch.set_default_dtype(default)
    path = tmp_path_factory.mktemp("heads") / "two.model"
    torch.save(module, path)
    return path


@pytest.fixture(scope="module")
def whole(two_headed: Path) -> MaceModel:
    """The same model as ours, its second head predicting."""
    return from_module(torch.load(two_headed, weights_only=False).float()).with_head("r2scan")


@pytest.fixture(scope="module")
def folder(two_headed: Path, whole: MaceModel) -> Path:
    """Folder of ours that holds it."""
    whole.save(two_headed.parent / "ours")
    return two_headed.parent / "ours"


@pytest.fixture(scope="module")
def chosen(folder: Path) -> dict[str, MaceModel]:
    return {head: load_foundation(f"{folder}#{head}", device="cpu") for head in HEADS}


@pytest.mark.parametrize("head", HEADS)
def test_chosen_head_predicts_what_mace_does(
    head: str, two_headed: Path, chosen: dict[str, MaceModel], frames: list[Frame]
) -> None:
    theirs = MACECalculator(two_headed, device="cpu", default_dtype="float64", head=head)
    for model in (load_foundation(f"{two_headed}#{head}", trust=True, device="cpu"), chosen[head]):
        assert model.heads == (head,)
        for frame, own in zip(frames, model.double().predict(frames), strict=True):
            atoms = atoms_from_frame(frame)
            atoms.calc = theirs
            # The weights of the model were rounded to single precision on import.
            assert own.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
            np.testing.assert_allclose(own.forces, atoms.get_forces(), atol=1e-4)


def test_heads_differ(chosen: dict[str, MaceModel], frames: list[Frame]) -> None:
    pbe, r2scan = (chosen[head].predict(frames[:1])[0] for head in HEADS)
    assert abs(pbe.energy - r2scan.energy) > 1
    assert np.abs(pbe.forces - r2scan.forces).max() > 1e-3


def test_folder_keeps_the_head_it_was_saved_with(
    folder: Path, chosen: dict[str, MaceModel], frames: list[Frame]
) -> None:
    loaded = load_foundation(str(folder), device="cpu")
    assert loaded.heads == HEADS
    np.testing.assert_allclose(loaded.predict(frames)[0].forces, chosen["r2scan"].predict(frames)[0].forces, atol=1e-6)


@pytest.mark.parametrize(("which", "has"), [("file", "pbe, r2scan"), ("folder", "pbe, r2scan"), ("embedded", "target")])
def test_unknown_head_lists_those_there_are(which: str, has: str, two_headed: Path, folder: Path) -> None:
    reference = {"file": str(two_headed), "folder": str(folder), "embedded": "mini-halides"}[which]
    with pytest.raises(ValueError, match=rf"has no head 'scan'; it has {has}$"):
        load_foundation(f"{reference}#scan", trust=True, device="cpu")


def test_only_head_may_be_named() -> None:
    plain, named = (load_foundation(name, device="cpu") for name in ("mini-halides", "mini-halides#target"))
    assert named.hash == plain.hash


def test_kept_head_is_its_own_foundation(whole: MaceModel) -> None:
    """A head called `replay` and kept alone is what is replayed, whatever it was once fine-tuned from."""
    module, architecture = with_heads(whole.module, whole.architecture, [0, 0], ["target", "replay"])
    alone = keep_head(MaceModel(architecture, module, {"foundation": "f" * 64}), "replay")
    assert foundation_hash(alone) == alone.hash


def campaign(foundation: str, **learn: object) -> CampaignFile:
    content = {
        "system": {"structure": "lif-interstitial"},
        "foundation": foundation,
        "label": {"kind": "classical", "model": "lif-fumi-tosi"},
        "learn": {"strategy": "naive", **learn},
    }
    return CampaignFile.model_validate(content)


@pytest.mark.parametrize("name", ["two.model", "ours"])
def test_campaign_takes_a_head_by_a_path_relative_to_its_file(name: str, folder: Path) -> None:
    plan = build_plan(campaign(f"{name}#r2scan"), folder.parent, trust=True)
    model = gather_inputs(plan).foundation
    assert model.heads == ("r2scan",)
    assert model.e0s()[3] == pytest.approx(E0S_EV[1, 0])


def test_unknown_head_in_a_campaign_is_told(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"^foundation: .*has no head 'lda'; it has pbe, r2scan"):
        gather_inputs(build_plan(campaign("ours#lda"), folder.parent))


def test_labeller_takes_a_head(two_headed: Path, chosen: dict[str, MaceModel], frames: list[Frame]) -> None:
    labeller = make_labeller(LabellerSpec("pseudolabel", f"{two_headed}#r2scan", "cpu", trust=True))
    assert labeller.theory.method == "mace-two-r2scan"
    label = labeller.label(atoms_from_frame(frames[0]))
    assert label.energy == pytest.approx(chosen["r2scan"].predict(frames[:1])[0].energy, abs=1e-4)
    other = mace_theory(f"{two_headed}#pbe", chosen["pbe"])
    assert other.method == "mace-two-pbe"
    assert other.key != labeller.theory.key
    with pytest.raises(ValueError, match="no labeller"):
        make_labeller(LabellerSpec("pseudolabel", "nowhere.model#pbe", "cpu"))
