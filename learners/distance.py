"""How far an atom is from everything a model was trained on: Mahalanobis distance of its node features.

A committee trained on the same frames can agree and be wrong together where none of them has data. The distance asks
another question, and costs nothing: node features come with the forces (`Model.predict`, ``"node_features"``).

For an atom of element Z with invariant features x, d features long, of which atoms of Z in the training frames have the
mean m and the covariance S, the distance is sqrt((x - m)ᵀ S⁻¹ (x - m) / d): 1 for a typical training atom. S is shrunk
(Ledoit and Wolf, J. Multivar. Anal. 88, 365, 2004), so that there may be fewer atoms than features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.covariance import ledoit_wolf

QUANTILE: float = 0.999
"""Quantile of the training atoms' distances from which the limit is set."""
FACTOR: float = 1.25
"""The limit over that quantile."""
RIDGE: float = 1e-3
"""Added to the variance along any direction, over the mean variance within the elements.

An element that was seen once, or in one environment only, must not put every other environment infinitely far away.
"""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureGate:
    """The training atoms in feature space, by element, and the distance beyond which a model should not be believed.

    Attributes
    ----------
    elements
        Atomic numbers seen in training, ascending.
    mean
        Of the features, shape ``(n_elements, d)``.
    whitening
        Maps a deviation from the mean to a vector as long as its distance, shape ``(n_elements, d, d)``.
    limit
        An atom farther away lies outside: ``FACTOR`` times the ``QUANTILE`` of the training atoms' own distances.
    """

    elements: tuple[int, ...]
    mean: NDArray[np.float64]
    whitening: NDArray[np.float64]
    limit: float

    def distance(self, features: ArrayLike, numbers: ArrayLike) -> NDArray[np.float64]:
        """Distance of each atom, shape ``(n_atoms,)``; infinite for an element never seen in training.

        Parameters
        ----------
        features
            Node features of the model whose features the gate was fitted to, shape ``(n_atoms, d)``.
        numbers
            Atomic numbers, shape ``(n_atoms,)``.

        Raises
        ------
        ValueError
            If the shapes do not go together.
        """
        x, z = _checked(features, numbers)
        if x.shape[1] != self.mean.shape[1]:
            raise ValueError(
                f"{x.shape[1]} features for a gate of {self.mean.shape[1]}; fit it to features of the same model"
            )
        found = np.full(len(x), np.inf)
        for element, mean, whitening in zip(self.elements, self.mean, self.whitening, strict=True):
            of_element = z == element
            found[of_element] = np.linalg.norm((x[of_element] - mean) @ whitening, axis=1)
        return found


def fit_gate(features: ArrayLike, numbers: ArrayLike) -> FeatureGate:
    """Learn where the training atoms are.

    Parameters
    ----------
    features
        Node features of all atoms of all training frames, shape ``(n_atoms, d)``.
    numbers
        Their atomic numbers, shape ``(n_atoms,)``.

    Raises
    ------
    ValueError
        If there are no atoms, or the shapes do not go together.
    """
    x, z = _checked(features, numbers)
    if not x.size:
        raise ValueError("a gate needs at least one training atom with features")
    elements = tuple(sorted(set(z.tolist())))
    mean = np.array([x[z == element].mean(axis=0) for element in elements])
    deviation = x - mean[np.searchsorted(elements, z)]
    # Features differ in size by orders of magnitude, and shrinkage towards a sphere needs them alike.
    size = np.abs(x).max(axis=0)
    scale = np.maximum(deviation.std(axis=0), RIDGE * np.where(size > 0, size, 1.0))
    whitening = np.array([_whitening(deviation[z == element] / scale) / scale[:, None] for element in elements])
    gate = FeatureGate(elements, mean, whitening, np.inf)
    limit = FACTOR * float(np.quantile(gate.distance(x, z), QUANTILE))
    return FeatureGate(elements, mean, whitening, limit)


def frame_distance(distances: ArrayLike) -> float:
    """Distance of a frame: that of its farthest atom."""
    return float(np.max(np.asarray(distances, dtype=np.float64)))


def outside(gate: FeatureGate, features: Sequence[ArrayLike], numbers: Sequence[ArrayLike]) -> NDArray[np.bool_]:
    """Whether each frame holds an atom beyond the limit of a gate.

    Parameters
    ----------
    features, numbers
        Of each frame: node features, shape ``(n_atoms, d)``, and atomic numbers.

    Returns
    -------
    NDArray
        Shape ``(n_frames,)``.
    """
    farthest = [frame_distance(gate.distance(x, z)) for x, z in zip(features, numbers, strict=True)]
    return np.array(farthest, dtype=np.float64) > gate.limit


def _whitening(deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    n_features = deviation.shape[1]
    covariance = ledoit_wolf(deviation, assume_centered=True)[0] if len(deviation) > 1 else 0.0
    variances, axes = np.linalg.eigh(covariance + RIDGE * np.eye(n_features))
    return np.asarray(axes / np.sqrt(variances * n_features))


def _checked(features: ArrayLike, numbers: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    x = np.asarray(features, dtype=np.float64)
    z = np.asarray(numbers, dtype=np.int64)
    if x.ndim != 2 or z.shape != x.shape[:1]:
        raise ValueError(f"node features {x.shape} do not go with {z.size} atomic numbers")
    if not np.isfinite(x).all():
        raise ValueError("node features must be finite")
    return x, z
