"""Low-rank adapters: few trainable numbers on top of frozen weights, merged into them when training is over.

The weight matrix ``W`` of a linear layer becomes ``W + (alpha / rank) L R`` with ``L`` of ``rank`` columns and ``R``
of ``rank`` rows (Hu et al., *LoRA*, arXiv:2106.09685, equation 3). An equivariant layer mixes the channels of each
irreducible representation by a matrix of its own, a path; adapting these matrices, and nothing else, keeps it
equivariant. A bias adds to scalars only, belongs to no path, and stays frozen.

Adapters are parametrisations of ``weight``: the layer itself is untouched, so a merged model computes exactly what
the unmerged one did.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import mace  # noqa: F401  comes before e3nn, which torch cannot import by itself
import torch
from e3nn import o3
from e3nn.nn._fc import _Layer
from safetensors.torch import save
from torch.nn.utils import parametrize

from curator.datasets.atomic import write_atomically
from curator.learners.strategies import Strategy

_INFIX = ".parametrizations.weight.0."


class LowRank(torch.nn.Module):
    """Adds a low-rank matrix to each block of a weight.

    Attributes
    ----------
    left, right
        Factors of each block, shapes ``(n_rows, rank)`` and ``(rank, n_columns)``.
    """

    def __init__(self, weight: torch.Tensor, shapes: Sequence[tuple[int, int]], rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        # One factor is zero: the adapted layer starts as the layer it adapts.
        self.left = torch.nn.ParameterList(1e-3 * torch.randn(n, rank).to(weight) for n, _ in shapes)
        self.right = torch.nn.ParameterList(weight.new_zeros(rank, n) for _, n in shapes)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Adapted weight, in the shape of ``weight``."""
        deltas = [(left @ right).flatten() for left, right in zip(self.left, self.right, strict=True)]
        return weight + self.scale * torch.cat(deltas).reshape(weight.shape)


def attach(module: torch.nn.Module, strategy: Strategy, *, seed: int = 0) -> None:
    """Put the adapters of a strategy on the linear layers whose names begin with one of its prefixes, in place.

    Layers are ``torch.nn.Linear``, those of e3nn's ``FullyConnectedNet``, and ``o3.Linear``. As in mace, whose
    factors of an ``o3.Linear`` are layers that e3nn normalises, its adapters are scaled by ``1 / sqrt(rank)`` more.

    Raises
    ------
    ValueError
        If the strategy has no rank, or there is no such layer.
    """
    rank = strategy.lora_rank
    if rank < 1:
        raise ValueError(f"strategy {strategy.name!r} has no adapters; take lora or replay_lora")
    alpha = rank if strategy.lora_alpha is None else strategy.lora_alpha
    found = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, layer in list(module.named_modules()):
            shapes = _block_shapes(layer) if name.startswith(strategy.trainable) else []
            if shapes:
                scale = alpha / rank / (math.sqrt(rank) if isinstance(layer, o3.Linear) else 1.0)
                weight: torch.Tensor = layer.weight
                parametrize.register_parametrization(layer, "weight", LowRank(weight, shapes, rank, scale))
                found = True
    if not found:
        raise ValueError(f"there is no linear layer to adapt: no name begins with {strategy.trainable}")


def is_adapter(name: str) -> bool:
    """Whether an entry of a module's state belongs to an adapter."""
    return _INFIX in name


def merge(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Add the adapters to the weights they adapt and take them off, in place.

    Returns
    -------
    dict
        The adapters' factors, by their names in the state of the unmerged module.
    """
    factors = {name: value.detach().clone() for name, value in module.state_dict().items() if is_adapter(name)}
    for layer in _adapted(module):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return factors


def save_adapters(path: Path, adapters: Mapping[str, torch.Tensor], *, base: str, strategy: Strategy) -> None:
    """Write adapters by themselves to a safetensors file, with what it takes to attach them again.

    The header names the model they were trained on by its hash, ``base``, and the strategy.
    """
    tensors = {name: value.cpu().contiguous() for name, value in adapters.items()}
    write_atomically(path, save(tensors, {"base": base, "strategy": json.dumps(dataclasses.asdict(strategy))}))


def _adapted(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            yield layer


def _block_shapes(layer: torch.nn.Module) -> list[tuple[int, int]]:
    """Shapes of the matrices that a linear layer's weight is made of; none if it cannot be adapted."""
    if isinstance(layer, torch.nn.Linear | _Layer):
        n_rows, n_columns = layer.weight.shape
        return [(n_rows, n_columns)]
    if isinstance(layer, o3.Linear) and isinstance(layer.weight, torch.nn.Parameter):
        # The path of a bias comes from no input.
        return [tuple(path.path_shape) for path in layer.instructions if path.i_in != -1 and 0 not in path.path_shape]
    return []
