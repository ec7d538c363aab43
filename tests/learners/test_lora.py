import copy
import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from mace.modules.lora import LoRAO3Linear, inject_LoRAs, merge_lora_weights
from safetensors import safe_open

from curator.datasets.frame import Frame
from curator.learners.architecture import Architecture, build_module
from curator.learners.base import Prediction
from curator.learners.lora import attach, is_adapter, merge, save_adapters
from curator.learners.mace import MaceModel
from curator.learners.strategies import Strategy, strategy

from .conftest import SMALL

VECTORS = dataclasses.replace(SMALL, hidden_irreps="8x0e+8x1o", readout="NonLinearBiasReadoutBlock")


def lora(rank: int, **changes: object) -> Strategy:
    return strategy("lora", lora_rank=rank, **changes)


@functools.cache
def _built(architecture: Architecture) -> torch.nn.Module:
    return build_module(architecture, seed=3, dtype=torch.float64)


def plain(architecture: Architecture = SMALL) -> torch.nn.Module:
    """Module in double precision, a new one each time."""
    return copy.deepcopy(_built(architecture))


def adapted(architecture: Architecture = SMALL, rank: int = 3, **changes: object) -> torch.nn.Module:
    """The same with adapters that do something."""
    module = plain(architecture)
    attach(module, lora(rank, **changes), seed=1)
    torch.manual_seed(5)
    for name, parameter in module.named_parameters():
        if is_adapter(name):
            parameter.data = 0.3 * torch.randn_like(parameter)
    return module


def predictions(module: torch.nn.Module, frames: list[Frame], architecture: Architecture = SMALL) -> list[Prediction]:
    return MaceModel(architecture, module).predict(frames, ("energy", "forces", "stress"))


def largest(one: list[Prediction], other: list[Prediction], what: str) -> float:
    """Largest difference relative to the largest value."""
    a, b = (np.concatenate([np.ravel(getattr(p, what)) for p in part]) for part in (one, other))
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize(
    ("architecture", "rank"),
    [(SMALL, 4), (VECTORS, 1), (VECTORS, 20)],
    ids=["scalars", "vectors and biases", "vectors and biases, high rank"],
)
def test_merged_equals_unmerged(architecture: Architecture, rank: int, frames: list[Frame]) -> None:
    module = adapted(architecture, rank)
    before = predictions(plain(architecture), frames, architecture)
    unmerged = predictions(module, frames, architecture)
    assert largest(unmerged, before, "forces") > 1e-3
    merge(module)
    assert not any(is_adapter(name) for name in module.state_dict())
    assert module.state_dict().keys() == plain(architecture).state_dict().keys()
    merged = predictions(module, frames, architecture)
    for what in ("energy", "forces", "stress"):
        assert largest(merged, unmerged, what) <= 1e-12


def test_starts_as_the_model_it_adapts(frames: list[Frame]) -> None:
    module = plain()
    expected = predictions(module, frames)
    attach(module, lora(4))
    for one, other in zip(predictions(module, frames), expected, strict=True):
        assert one.energy == other.energy
        np.testing.assert_array_equal(one.forces, other.forces)


def test_every_linear_layer_is_adapted_as_by_mace() -> None:
    """As many numbers as mace's own injection trains, where it can inject at all."""
    ours, theirs = plain(), plain()
    attach(ours, lora(4))
    inject_LoRAs(theirs, rank=4, alpha=4)
    n_ours = sum(p.numel() for name, p in ours.named_parameters() if is_adapter(name))
    n_theirs = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert n_ours == n_theirs > 0


def test_equivariant_adapter_computes_what_that_of_mace_does() -> None:
    irreps = o3.Irreps("5x0e+4x1o"), o3.Irreps("3x0e+6x1o")
    torch.manual_seed(0)
    base = o3.Linear(*irreps)
    theirs = LoRAO3Linear(base, rank=2, alpha=6.0)
    for parameter in (*theirs.lora_A.parameters(), *theirs.lora_B.parameters()):
        parameter.data.normal_()
    x = torch.randn(7, irreps[0].dim)
    with torch.enable_grad():
        expected = theirs(x).detach()
    module = torch.nn.Module()
    module.linear = base
    attach(module, lora(2, lora_alpha=6.0))
    factors = module.linear.parametrizations.weight[0]
    for ours, layer in ((factors.left, theirs.lora_A), (factors.right, theirs.lora_B)):
        for factor, view in zip(ours, layer.weight_views(), strict=True):
            factor.data.copy_(view)
    torch.testing.assert_close(module.linear(x), expected)
    merge(module)
    torch.testing.assert_close(module.linear(x), expected)


@pytest.mark.parametrize("kind", ["dense", "scalar net", "equivariant with bias"])
def test_layers_of_every_kind(kind: str) -> None:
    torch.manual_seed(0)
    layers = {
        "dense": lambda: torch.nn.Linear(5, 3),
        "scalar net": lambda: FullyConnectedNet([5, 4, 3], torch.nn.functional.silu),
        "equivariant with bias": lambda: o3.Linear("5x0e+2x1o", "3x0e+2x1o", biases=True),
    }
    module = torch.nn.Sequential(layers[kind]()).double()
    x = torch.randn(6, 11 if "equivariant" in kind else 5, dtype=torch.float64)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    plain = module(x).detach()
    attach(module, lora(2))
    for name, parameter in module.named_parameters():
        if is_adapter(name):
            parameter.data.normal_()
    unmerged = module(x).detach()
    assert not torch.allclose(unmerged, plain)
    factors = merge(module)
    torch.testing.assert_close(module(x).detach(), unmerged, rtol=1e-12, atol=1e-14)
    assert factors
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in after if "bias" in name)


def test_mace_cannot_merge_a_layer_with_a_bias() -> None:
    """mace 0.3.16 fails when training is over; ours has merged the same layer in the test before."""
    module = torch.nn.Sequential(o3.Linear("5x0e", "3x0e", biases=True))
    inject_LoRAs(module, rank=2, alpha=2)
    with pytest.raises(IndexError):
        merge_lora_weights(module)


def test_only_named_layers_are_adapted() -> None:
    module = plain()
    attach(module, lora(2, trainable=("readouts.",)))
    adapters = [name for name in module.state_dict() if is_adapter(name)]
    assert adapters
    assert all(name.startswith("readouts.") for name in adapters)


def test_seed_decides_and_global_state_is_left_alone() -> None:
    states = []
    before = torch.get_rng_state()
    for seed in (1, 1, 2):
        module = plain()
        attach(module, lora(2), seed=seed)
        states.append(torch.cat([v.flatten() for name, v in module.state_dict().items() if is_adapter(name)]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_adapters_by_themselves_rebuild_the_merged_model(tmp_path: Path) -> None:
    module = adapted(VECTORS, rank=3, lora_alpha=6.0)
    factors = merge(module)
    path = tmp_path / "adapters.safetensors"
    save_adapters(path, factors, base="abc", strategy=lora(3, lora_alpha=6.0))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        loaded = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    plan = json.loads(metadata["strategy"])
    assert (metadata["base"], plan["lora_rank"], plan["lora_alpha"]) == ("abc", 3, 6.0)
    again = plain(VECTORS)
    attach(again, lora(plan["lora_rank"], lora_alpha=plan["lora_alpha"]))
    again.load_state_dict(loaded, strict=False)
    merge(again)
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_what_cannot_be_adapted_is_told() -> None:
    module = plain()
    with pytest.raises(ValueError, match="'naive' has no adapters; take lora or replay_lora"):
        attach(module, strategy("naive"))
    with pytest.raises(ValueError, match="no linear layer to adapt"):
        attach(module, lora(2, trainable=("atomic",)))
    with pytest.raises(ValueError, match="lora_rank must not be negative"):
        lora(-1)
