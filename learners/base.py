"""What a learner is to the rest of curator: a model that predicts, and the events of its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from curator.datasets.frame import Frame

Want = Literal["energy", "forces", "stress", "node_features"]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of one frame.

    Attributes
    ----------
    energy
        Total energy in eV.
    forces
        float64, shape ``(n_atoms, 3)``, eV/Å, or None if not wanted.
    stress
        float64, shape ``(6,)``, eV/Å³, ASE's sign and Voigt order, or None.
    node_features
        float32, shape ``(n_atoms, n_features)``, rotation-invariant, or None.
    """

    energy: float
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    node_features: NDArray[np.float32] | None = None


class Model(Protocol):
    """A trained interatomic potential."""

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers it knows, ascending."""
        ...

    @property
    def hash(self) -> str:
        """SHA-256 over the weights and everything else that changes its numbers, 64 hexadecimal digits."""
        ...

    def predict(
        self, frames: Sequence[Frame], want: Sequence[Want] = ("energy", "forces"), *, batch_size: int = 8
    ) -> list[Prediction]:
        """Predictions in the order of ``frames``; node features come free with the forces."""
        ...

    def calculator(self) -> Calculator:
        """ASE calculator with energy, forces and stress."""
        ...

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``model.json`` to ``folder``; nothing in them runs code when loaded."""
        ...


@dataclass(frozen=True, slots=True)
class TrainEvent:
    """One epoch of training, for progress bars and learning curves.

    Attributes
    ----------
    epoch, n_epochs
        Epochs done, and the most there will be.
    loss
        Mean training loss over the epoch.
    valid_force_rmse
        Force RMSE in eV/Å on validation frames by head: ``target`` and, with replay, ``replay``.
    learning_rate
        Learning rate of the epoch.
    """

    epoch: int
    n_epochs: int
    loss: float
    valid_force_rmse: Mapping[str, float]
    learning_rate: float
