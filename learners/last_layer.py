"""Uncertainty from one model: how freely its last layer could move without the training forces noticing.

Each readout of a MACE model ends in a linear layer, so the energy is a scalar product of its weights with features
summed over atoms, and a force component is one with their derivatives J. After training on forces with Gaussian errors
the weights have the covariance C = (sum over training force components of J Jᵀ + ridge)⁻¹ up to a factor, and a force
component has the variance Jᵀ C J: the Laplace approximation of the last layer, as in Bigi, Chong, Ceriotti and
Grasselli, arXiv:2403.02251, here with forces both in the covariance and in the prediction. The factor is left to the
calibration. Nothing is trained a second time; ``docs/uncertainty.md`` compares it with a committee.

All of C needs one backward pass for each feature. ``n_directions`` combinations, drawn at random and orthogonal, need
fewer and estimate the variance without bias.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curator.datasets.frame import Frame
from curator.learners.graphs import collate
from curator.learners.mace import MaceModel

RIDGE: float = 1e-4
"""Added to the diagonal of the covariance of the derivatives, over its mean.

Directions that no training force depends on stay free, not infinitely so.
"""


@dataclass(frozen=True, slots=True, eq=False)
class LastLayer:
    """Ways in which the last layer of one model may move.

    Attributes
    ----------
    directions
        Changes of the weights, shape ``(n_directions, n_features)``: the sum of their outer products estimates C.
    model_hash
        Hash of the model whose last layer it is.
    """

    directions: NDArray[np.float64]
    model_hash: str


def fit_last_layer(
    model: MaceModel,
    train: Sequence[Frame],
    rng: np.random.Generator,
    *,
    n_directions: int | None = None,
    batch_size: int = 8,
) -> LastLayer:
    """Find how the last layer may move, from the frames that the model was trained on.

    Costs a backward pass for each feature and training frame.

    Parameters
    ----------
    model
        Trained model; its predicting head counts.
    train
        Training frames; their labels are not needed.
    rng
        Draws the directions, if there are fewer than features.
    n_directions
        How many, each a backward pass when predicting; None takes all, which is exact.

    Raises
    ------
    ValueError
        If there are no frames or no directions.
    """
    if not train or (n_directions is not None and n_directions < 1):
        raise ValueError(f"{len(train)} training frames and {n_directions} directions; at least one of each is needed")
    squares: NDArray[np.float64] | float = 0.0
    for features, positions in _features(model, train, batch_size):
        rows = _gradients(features.sum(dim=0), positions).reshape(features.shape[1], -1)
        squares = squares + rows @ rows.T
    squares = np.asarray(squares)
    n_features = len(squares)
    variance, axes = np.linalg.eigh(squares + RIDGE * np.trace(squares) / n_features * np.eye(n_features))
    root = (axes / np.sqrt(variance)).T
    if n_directions is None or n_directions >= n_features:
        return LastLayer(root, model.hash)
    drawn, _ = np.linalg.qr(rng.standard_normal((n_features, n_directions)))
    return LastLayer(np.sqrt(n_features / n_directions) * drawn.T @ root, model.hash)


def last_layer_spread(
    model: MaceModel, last_layer: LastLayer, frames: Sequence[Frame], *, batch_size: int = 8
) -> list[NDArray[np.float64]]:
    """Spread of the forces on each atom, up to a factor: rms over its components, like a committee's.

    Parameters
    ----------
    model, last_layer
        A model and what `fit_last_layer` found of it.
    frames
        Frames to predict.

    Returns
    -------
    list of NDArray
        One array for each frame, shape ``(n_atoms,)``, to be calibrated (`curator.uncertainty.fit_calibration`).

    Raises
    ------
    ValueError
        If the two do not belong together.
    """
    if last_layer.model_hash != model.hash:
        raise ValueError(
            f"this is the last layer of model {last_layer.model_hash[:12]}, not of {model.hash[:12]}; fit it again"
        )
    directions = torch.tensor(last_layer.directions, dtype=model.dtype, device=model.device)
    spread = []
    for features, positions in _features(model, frames, batch_size):
        deviations = _gradients((features @ directions.T).sum(dim=0), positions)
        spread.append(np.sqrt(np.mean(np.sum(deviations**2, axis=0), axis=1)))
    ends = np.cumsum([len(frame) for frame in frames])[:-1]
    return np.split(np.concatenate(spread), ends) if spread else []


def _features(
    model: MaceModel, frames: Sequence[Frame], batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs of the last linear layers, shape (n_atoms, n_features), with their graph back to the positions."""
    readouts: Any = model.module.readouts
    layers = [readout.linear_2 if hasattr(readout, "linear_2") else readout.linear for readout in readouts]
    caught: list[torch.Tensor] = []

    def catch(layer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        parts = zip(layer.irreps_in.slices(), layer.irreps_in, strict=True)
        caught.extend(inputs[0][:, part] for part, (_, irrep) in parts if irrep.is_scalar())

    head = model.heads.index(model.head)
    for start in range(0, len(frames), batch_size):
        graphs = [model.graph(frame) for frame in frames[start : start + batch_size]]
        batch = collate(
            graphs, [head] * len(graphs), n_elements=len(model.elements), dtype=model.dtype, device=model.device
        )
        batch["positions"].requires_grad_(True)
        hooks = [layer.register_forward_pre_hook(catch) for layer in layers]
        try:
            with torch.enable_grad():
                model.module(batch, compute_force=False)
        finally:
            for hook in hooks:
                hook.remove()
        yield torch.cat(caught, dim=1), batch["positions"]
        caught.clear()


def _gradients(values: torch.Tensor, positions: torch.Tensor) -> NDArray[np.float64]:
    """Derivatives of each value by the positions, shape (n_values, n_atoms, 3)."""
    rows = [torch.autograd.grad(value, positions, retain_graph=True)[0] for value in values]
    return torch.stack(rows).cpu().numpy().astype(np.float64)
