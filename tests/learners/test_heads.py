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
from curator.build import build_plan
from curator.config import CampaignFile
from curator.datasets.frame import Frame, atoms_from_frame
from curator.errors import BadInput
from curator.learners.foundation import load_foundation
from curator.learners.mace import MaceModel, keep_head
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
def folder(two_headed: Path) -> Path:
    """Folder of ours with the same two heads, of which the second predicts."""
    pbe = load_foundation(f"{two_headed}#pbe", trust=True, device="cpu")
    module = torch.load(two_headed, weights_only=False)
    both = MaceModel(*_architecture_and_module(module), {}, "r2scan")
    assert pbe.heads == ("pbe",)
    both.save(two_headed.parent / "ours")
    return two_headed.parent / "ours"


def _architecture_and_module(module: torch.nn.Module):
    from curator.learners.mace import from_module

    model = from_module(module.float())
    return model.architecture, model.module


@pytest.mark.parametrize("head", HEADS)
def test_chosen_head_predicts_what_mace_does(head: str, two_headed: Path, folder: Path, frames: list[Frame]) -> None:
    theirs = MACECalculator(two_headed, device="cpu", default_dtype="float64", head=head)
    for reference in (two_headed, folder):
        model = load_foundation(f"{reference}#{head}", trust=True, device="cpu").double()
        assert model.heads == (head,)
        for frame in frames:
            atoms = atoms_from_frame(frame)
            atoms.calc = theirs
            (own,) = model.predict([frame])
            # The weights of the model were rounded to single precision on import.
            assert own.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
            np.testing.assert_allclose(own.forces, atoms.get_forces(), atol=1e-4)


def test_heads_differ(folder: Path, frames: list[Frame]) -> None:
    pbe, r2scan = (load_foundation(f"{folder}#{head}", device="cpu").predict(frames[:1])[0] for head in HEADS)
    assert abs(pbe.energy - r2scan.energy) > 1
    assert np.abs(pbe.forces - r2scan.forces).max() > 1e-3


def test_folder_keeps_the_head_it_was_saved_with(folder: Path, frames: list[Frame]) -> None:
    whole, chosen = load_foundation(str(folder), device="cpu"), load_foundation(f"{folder}#r2scan", device="cpu")
    assert whole.heads == HEADS
    np.testing.assert_allclose(whole.predict(frames)[0].forces, chosen.predict(frames)[0].forces, atol=1e-6)


@pytest.mark.parametrize(("which", "has"), [("file", "pbe, r2scan"), ("folder", "pbe, r2scan"), ("embedded", "target")])
def test_unknown_head_lists_those_there_are(which: str, has: str, two_headed: Path, folder: Path) -> None:
    reference = {"file": str(two_headed), "folder": str(folder), "embedded": "mini-halides"}[which]
    with pytest.raises(ValueError, match=rf"has no head 'scan'; it has {has}$"):
        load_foundation(f"{reference}#scan", trust=True, device="cpu")


def test_only_head_may_be_named() -> None:
    plain, named = (load_foundation(name, device="cpu") for name in ("mini-halides", "mini-halides#target"))
    assert named.hash == plain.hash


def test_kept_head_is_its_own_foundation(folder: Path) -> None:
    """A head called `replay` and kept alone is what is replayed, whatever it was once fine-tuned from."""
    both = load_foundation(str(folder), device="cpu")
    tuned = MaceModel(both.architecture, both.module, {"foundation": "f" * 64})
    alone = keep_head(tuned, "pbe", "replay")
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
def test_campaign_takes_a_head_by_a_path_relative_to_its_file(name: str, folder: Path, frames: list[Frame]) -> None:
    plan = build_plan(campaign(f"{name}#r2scan"), folder.parent, trust=True)
    model = gather_inputs(plan, folder.parent, trust=True).foundation
    assert model.heads == ("r2scan",)
    assert model.e0s()[3] == pytest.approx(E0S_EV[1, 0])
    with pytest.raises(BadInput, match=r"^foundation: .*has no head 'lda'; it has pbe, r2scan"):
        gather_inputs(build_plan(campaign(f"{name}#lda"), folder.parent, trust=True), folder.parent, trust=True)


def test_labeller_takes_a_head(two_headed: Path, folder: Path, frames: list[Frame]) -> None:
    labels = {}
    for head in HEADS:
        labeller = make_labeller(LabellerSpec("pseudolabel", f"{two_headed}#{head}", "cpu", trust=True))
        assert labeller.theory.method == f"mace-two-{head}"
        labels[head] = labeller.label(atoms_from_frame(frames[0]))
    assert labels["pbe"].theory != labels["r2scan"].theory
    expected = load_foundation(f"{folder}#r2scan", device="cpu").predict(frames[:1])[0]
    assert labels["r2scan"].energy == pytest.approx(expected.energy, abs=1e-4)
    with pytest.raises(ValueError, match="no labeller"):
        make_labeller(LabellerSpec("pseudolabel", "nowhere.model#pbe", "cpu"))
