"""What a learner is to the rest of curator: a model that predicts, and the events of its training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol

import numpy as np
from ase.calculators.calculator import Calculator
from numpy.typing import ArrayLike, NDArray

from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.label import Record
from curator.learners.equivariance import Equivariance, measure_equivariance, random_orthogonal, turned

SLOPE_TOLERANCE = 1e-5
"""What central differences leave of the difference between a force and the slope of the energy, in eV/Å and eV."""

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


def check_model(
    model: Model,
    frames: Sequence[Frame],
    rng: np.random.Generator,
    *,
    load: Callable[[Path], Model] | None = None,
    tolerance: float = 1e-9,
) -> None:
    """Conformance test of a model: symmetry, conservative forces, batches, files.

    Parameters
    ----------
    model
        In double precision.
    frames
        A few small frames of elements it knows, rattled off their symmetric positions.
    rng
        Draws rotations, permutations and displacements.
    load
        Inverse of ``model.save``; files are tested if it is given.
    tolerance
        Largest difference in eV, eV/Å, eV/Å³ that rounding explains. Finite differences are allowed 1e-5.

    Raises
    ------
    AssertionError
        That says which property failed, on which frame, and by how much.
    """
    everything: tuple[Want, ...] = ("energy", "forces", "stress", "node_features")
    predictions = model.predict(frames, everything, batch_size=1)
    for idx, (one, again) in enumerate(zip(predictions, model.predict(frames, everything, batch_size=1), strict=True)):
        _check_shapes(frames[idx], one, idx)
        _check_equal(one, again, 0.0, f"frame {idx}: two predictions of it")
    for idx, batched in enumerate(model.predict(frames, everything, batch_size=len(frames))):
        _check_equal(predictions[idx], batched, tolerance, f"frame {idx}: alone and in a batch")
    for idx, frame in enumerate(frames):
        _check_equivariance(measure_equivariance(model.calculator(), [frame], rng), tolerance, f"frame {idx}")
        other = turned(atoms_from_frame(frame), random_orthogonal(rng))
        (features,) = model.predict([frame_from_atoms(other)], ("energy", "node_features"))
        # Single precision, and positions of a frame are rounded to 1e-8 Å.
        _check_close(
            features.node_features, predictions[idx].node_features, 1e-5, f"frame {idx}: turned, node features"
        )
    if load is not None:
        with TemporaryDirectory() as folder:
            model.save(Path(folder))
            loaded = load(Path(folder))
            if loaded.hash != model.hash:
                raise AssertionError(
                    f"the hash changed from {model.hash[:12]} to {loaded.hash[:12]} on the way to a file"
                )
            for idx, one in enumerate(loaded.predict(frames, everything, batch_size=1)):
                _check_equal(predictions[idx], one, 0.0, f"frame {idx}: before and after a file")


def check_learner(
    learn: Callable[[Sequence[Record], Sequence[Record], int], Model], train: Sequence[Record], valid: Sequence[Record]
) -> None:
    """Conformance test of a learner, called as ``learn(train, valid, seed)``.

    The same seed must give the same model and another seed another one, or a committee has no spread; and forces on
    training frames must come out better than no forces at all.

    Raises
    ------
    AssertionError
        That says which of these failed.
    """
    model, again, other = learn(train, valid, 1), learn(train, valid, 1), learn(train, valid, 2)
    if model.hash != again.hash:
        raise AssertionError(f"two runs with one seed gave different models: {model.hash[:12]} and {again.hash[:12]}")
    if model.hash == other.hash:
        raise AssertionError("two seeds gave the same model; a committee of such members has no spread")
    predictions = model.predict([record.frame for record in train])
    errors = [p.forces - r.label.forces for p, r in zip(predictions, train, strict=True) if p.forces is not None]
    error = np.sqrt(np.mean(np.concatenate(errors) ** 2))
    reference = np.sqrt(np.mean(np.concatenate([r.label.forces for r in train]) ** 2))
    if not error < reference:
        raise AssertionError(
            f"force error {error:.3g} eV/Å on training frames whose forces have an rms of {reference:.3g}"
        )


def _check_shapes(frame: Frame, prediction: Prediction, idx: int) -> None:
    n = len(frame)
    forces, features, stress = prediction.forces, prediction.node_features, prediction.stress
    if forces is None or forces.shape != (n, 3) or forces.dtype != np.float64:
        raise AssertionError(f"frame {idx}: forces must be float64 of shape {(n, 3)}")
    if features is None or features.ndim != 2 or len(features) != n or features.dtype != np.float32:
        raise AssertionError(f"frame {idx}: node features must be float32, one row for each of {n} atoms")
    if (stress is not None) != bool(frame.pbc.all()) or (stress is not None and stress.shape != (6,)):
        raise AssertionError(f"frame {idx}: stress must have shape (6,) if all directions are periodic, else be None")


def _check_close(one: ArrayLike | None, other: ArrayLike | None, tolerance: float, what: str) -> None:
    if (one is None) != (other is None):
        raise AssertionError(f"{what}: one is missing")
    if one is None or other is None:
        return
    _check_small(float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).max()), tolerance, what)


def _check_equal(one: Prediction, other: Prediction, tolerance: float, what: str) -> None:
    _check_close(one.energy, other.energy, tolerance, f"{what}: energies")
    _check_close(one.forces, other.forces, tolerance, f"{what}: forces")
    _check_close(one.stress, other.stress, tolerance, f"{what}: stresses")
    _check_close(
        one.node_features, other.node_features, max(tolerance, 1e-6 * (tolerance > 0)), f"{what}: node features"
    )


def _check_equivariance(found: Equivariance, tolerance: float, what: str) -> None:
    for name in ("rotated", "reflected", "translated", "permuted"):
        deviation = getattr(found, name)
        _check_small(deviation.energy_eV, tolerance, f"{what}: {name}, energies")
        _check_small(deviation.forces_eV_per_A, tolerance, f"{what}: {name}, forces")
        _check_small(deviation.stress_eV_per_A3, tolerance, f"{what}: {name}, stresses")
    _check_small(found.force_slope_eV_per_A, SLOPE_TOLERANCE, f"{what}: forces and the slope of the energy")
    _check_small(found.stress_slope_eV, SLOPE_TOLERANCE, f"{what}: stress and the slope of the energy")


def _check_small(difference: float | None, tolerance: float, what: str) -> None:
    if difference is not None and not difference <= tolerance:
        raise AssertionError(f"{what}: differ by {difference:.2e}, more than {tolerance:.0e}")
