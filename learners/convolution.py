"""A faster message for scalar node features, put into MACE's interactions at the place mace keeps for fused kernels.

For scalar features the tensor product of e3nn is no more than ``m[i, c, lm] = sum_j h[j, c] R[ij, cl] Y[ij, lm]``.
mace multiplies it out edge by edge, ``(n_edges, channels * (l_max + 1)**2)`` numbers that go to memory and back, and
adds them up by receiver. Sorted by receiver and padded to one number of neighbours, each ``l`` is one batched matrix
product. ``python tests/benchmarks/bench_convolution.py`` tells how much time that saves in a training step.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch


class ScalarConvolution(torch.nn.Module):
    """Convolution of scalar node features with spherical harmonics; edges must be sorted by receiver.

    Attributes
    ----------
    n_channels
        Scalars per node.
    l_max
        Highest order of the spherical harmonics.
    state
        Constants that are kept with it.
    """

    def __init__(self, n_channels: int, l_max: int, state: Mapping[str, torch.Tensor] = MappingProxyType({})) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.l_max = l_max
        # Those of the tensor product it replaces, so that the module's state has the same entries.
        for name, constant in state.items():
            self.register_buffer(name, constant)

    def forward(
        self, node_feats: torch.Tensor, edge_attrs: torch.Tensor, weights: torch.Tensor, edge_index: torch.Tensor
    ) -> torch.Tensor:
        """Messages in e3nn's layout, shape ``(n_nodes, n_channels * (l_max + 1)**2)``."""
        sender, receiver = edge_index[0], edge_index[1]
        n_nodes = len(node_feats)
        n_neighbours = torch.bincount(receiver, minlength=n_nodes)
        width = int(n_neighbours.max())
        node = torch.arange(n_nodes, device=receiver.device)
        skipped = node * width - (torch.cumsum(n_neighbours, 0) - n_neighbours)
        slot = torch.arange(len(receiver), device=receiver.device) + skipped[receiver]

        def padded(values: torch.Tensor) -> torch.Tensor:
            empty = values.new_zeros((n_nodes * width, values.shape[1]))
            return empty.index_copy(0, slot, values).view(n_nodes, width, values.shape[1])

        features = node_feats[sender]
        harmonics = padded(edge_attrs).split_with_sizes([2 * order + 1 for order in range(self.l_max + 1)], dim=2)
        return torch.cat(
            [
                torch.bmm(padded(features * radial).transpose(1, 2), harmonic).reshape(n_nodes, -1)
                for radial, harmonic in zip(weights.chunk(self.l_max + 1, dim=1), harmonics, strict=True)
            ],
            dim=1,
        )


def accelerate(module: Any) -> None:
    """Replace the tensor products of ``module`` that act on scalars alone, in place; the others stay as they are."""
    for interaction in module.interactions:
        product = interaction.conv_tp
        if _is_scalar_product(product):
            l_max = product.irreps_in2.lmax
            interaction.conv_tp = ScalarConvolution(product.irreps_in1.dim, l_max, product.state_dict())
            interaction.conv_fusion = True


def _is_scalar_product(product: Any) -> bool:
    """Whether a tensor product is, path by path, scalars times one spherical harmonic of each order."""
    if isinstance(product, ScalarConvolution) or not hasattr(product, "instructions"):
        return False
    scalars, harmonics = product.irreps_in1, product.irreps_in2
    paths = [
        (path.i_in1, path.i_in2, path.i_out, path.connection_mode, path.has_weight) for path in product.instructions
    ]
    return (
        len(scalars) == 1
        and scalars[0].ir.l == 0
        and scalars[0].ir.p == 1
        and [(multiplicity, ir.l) for multiplicity, ir in harmonics] == [(1, i) for i in range(len(harmonics))]
        and paths == [(0, i, i, "uvu", True) for i in range(len(harmonics))]
        and [ir for _, ir in product.irreps_out] == [ir for _, ir in harmonics]
    )
