"""Probes that need no dynamics: what a model has forgotten, its dimers and its symmetry."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from curator.datasets.frame import Frame
from curator.datasets.label import Record
from curator.learners.dimers import Dimer, dimer_curves
from curator.learners.equivariance import Equivariance, measure_equivariance
from curator.learners.mace import REPLAY, MaceModel
from curator.learners.metrics import energy_rmse_per_atom, force_rmse, median_frame_force_rmse


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Errors on frames of the foundation's level of theory.

    Attributes
    ----------
    n_frames
        Frames.
    force_rmse_eV_per_A
        Of force components, in eV/Å.
    median_frame_force_rmse_eV_per_A
        The same of each frame by itself, and the median of them.
    energy_rmse_eV_per_atom
        In eV/atom; None for a model that no longer predicts energies of that level of theory.
    """

    n_frames: int
    force_rmse_eV_per_A: float
    median_frame_force_rmse_eV_per_A: float
    energy_rmse_eV_per_atom: float | None


@dataclass(frozen=True, slots=True, eq=False)
class PairsAndSymmetry:
    """Dimers and equivariance of a model, and the CPU seconds that they took."""

    dimers: tuple[Dimer, ...]
    equivariance: Equivariance
    cpu_s: float


def forgetting(model: MaceModel, records: Sequence[Record], *, is_foundation: bool = False) -> Forgetting:
    """Errors on labelled frames of the foundation's level of theory: of the replay head where there is one.

    Parameters
    ----------
    is_foundation
        Whether energies can be compared without a replay head, the model being the foundation itself.
    """
    replays = REPLAY in model.heads
    predictions = (model.with_head(REPLAY) if replays else model).predict([record.frame for record in records])
    energy = energy_rmse_per_atom(predictions, records) if replays or is_foundation else None
    return Forgetting(
        len(records), force_rmse(predictions, records), median_frame_force_rmse(predictions, records), energy
    )


def pairs_and_symmetry(
    model: MaceModel, elements: Iterable[int], frames: Sequence[Frame], rng: np.random.Generator
) -> PairsAndSymmetry:
    """Dimer curves of every pair of elements, and the deviations from symmetry in double precision.

    Parameters
    ----------
    frames
        Small frames without symmetry.
    rng
        Of :func:`curator.learners.equivariance.measure_equivariance`.
    """
    began = time.process_time()
    dimers = dimer_curves(model.calculator(), elements)
    equivariance = measure_equivariance(model.double().calculator(), frames, rng)
    return PairsAndSymmetry(tuple(dimers), equivariance, time.process_time() - began)
