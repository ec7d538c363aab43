"""Errors of predictions against labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curator.datasets.label import Record
from curator.learners.base import Prediction


@dataclass(frozen=True, slots=True)
class ForceErrors:
    """Errors of force components in eV/Å.

    Attributes
    ----------
    rmse
        Root mean square error.
    reference_rms
        Root mean square of the labels: what a model that predicts no force would score.
    """

    rmse: float
    reference_rms: float


def force_errors(predictions: Sequence[Prediction], records: Sequence[Record]) -> ForceErrors:
    """Errors of predicted forces, pooled over all atoms of all frames."""
    references = np.concatenate([record.label.forces for record in records])
    return ForceErrors(rmse=force_rmse(predictions, records), reference_rms=_rms(references))


def force_rmse(predictions: Sequence[Prediction], records: Sequence[Record]) -> float:
    """Root mean square error of force components in eV/Å, pooled over all atoms of all frames."""
    return _rms(np.concatenate([_force_error(p, r) for p, r in zip(predictions, records, strict=True)]))


def median_frame_force_rmse(predictions: Sequence[Prediction], records: Sequence[Record]) -> float:
    """Median over the frames of each frame's root mean square error of force components, in eV/Å.

    What a usual frame says. Pooled over all frames, a few with atoms pushed together carry most of the square.
    """
    return float(np.median([force_rmse([p], [r]) for p, r in zip(predictions, records, strict=True)]))


def energy_rmse_per_atom(
    predictions: Sequence[Prediction], records: Sequence[Record], *, centred: bool = False
) -> float:
    """Root mean square error of the energy per atom in eV/atom.

    Parameters
    ----------
    centred
        Take the mean error off first. Two levels of theory differ by a constant per composition, which has no
        influence on forces, barriers or diffusion.
    """
    errors = np.array([(p.energy - r.label.energy) / len(r.frame) for p, r in zip(predictions, records, strict=True)])
    return _rms(errors - errors.mean() if centred else errors)


def stress_rmse(predictions: Sequence[Prediction], records: Sequence[Record]) -> float | None:
    """Root mean square error of stress components in eV/Å³, over frames with a stress; None if none has."""
    pairs = [(p.stress, r.label.stress) for p, r in zip(predictions, records, strict=True)]
    errors = [predicted - label for predicted, label in pairs if predicted is not None and label is not None]
    return _rms(np.array(errors)) if errors else None


def _force_error(prediction: Prediction, record: Record) -> NDArray[np.float64]:
    if prediction.forces is None:
        raise ValueError("a prediction has no forces; ask the model for them with want=('energy', 'forces')")
    return prediction.forces - record.label.forces


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
