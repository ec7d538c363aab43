import copy
import dataclasses

import numpy as np
import pytest
import torch

from curator.datasets.frame import Frame
from curator.learners.architecture import build_module
from curator.learners.convolution import ScalarConvolution, accelerate
from curator.learners.graphs import collate, frame_graph

from .conftest import SMALL


@pytest.mark.parametrize(
    ("change", "n_accelerated"),
    [
        ({}, 2),
        ({"max_ell": 3, "distance_transform": "Agnesi"}, 2),
        ({"hidden_irreps": "4x0e+4x1o"}, 1),
        (
            {
                "interaction": "RealAgnosticDensityResidualInteractionBlock",
                "interaction_first": "RealAgnosticDensityInteractionBlock",
            },
            2,
        ),
    ],
)
def test_accelerated_module_is_the_same_function(
    change: dict[str, object], n_accelerated: int, frames: list[Frame]
) -> None:
    """Energies, forces and the gradient of a loss of both agree with mace's own module."""
    architecture = dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]
    plain = build_module(architecture, seed=2, dtype=torch.float64)
    fast = copy.deepcopy(plain)
    accelerate(fast)
    assert sum(isinstance(block.conv_tp, ScalarConvolution) for block in fast.interactions) == n_accelerated
    assert fast.state_dict().keys() == plain.state_dict().keys()
    graphs = [frame_graph(frame, elements=SMALL.atomic_numbers, r_max=SMALL.r_max) for frame in frames]
    results = []
    for module in (plain, fast):
        batch = collate(graphs, [0] * len(graphs), n_elements=3, dtype=torch.float64)
        out = module(batch, training=True, compute_stress=True)
        (out["energy"].sum() + out["forces"].square().sum() + out["stress"].square().sum()).backward()
        gradient = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
        results.append([out[key].detach().numpy() for key in ("energy", "forces", "stress")] + [gradient.numpy()])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_atoms_without_neighbours_get_no_message() -> None:
    convolution = ScalarConvolution(2, 1)
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    edge_index = torch.tensor([[1, 2], [0, 0]])
    harmonics = torch.tensor([[1.0, 0.1, 0.2, 0.3], [1.0, 0.4, 0.5, 0.6]])
    weights = torch.tensor([[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 10.0, 10.0]])
    out = convolution(features, harmonics, weights, edge_index)
    expected = [8, 10, 2 * 3 * 0.1 + 50 * 0.4, 2 * 3 * 0.2 + 50 * 0.5, 2 * 3 * 0.3 + 50 * 0.6]
    np.testing.assert_allclose(out[0, :5], expected, rtol=1e-6)
    np.testing.assert_array_equal(out[1:], np.zeros((2, 8)))
    none = convolution(features, harmonics[:0], weights[:0], edge_index[:, :0])
    np.testing.assert_array_equal(none, np.zeros((3, 8)))
