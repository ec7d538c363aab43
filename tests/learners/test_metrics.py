import numpy as np
import pytest

from curator.datasets.label import Record
from curator.learners.base import Prediction
from curator.learners.metrics import (
    energy_rmse_per_atom,
    force_errors,
    force_rmse,
    median_frame_force_rmse,
    stress_rmse,
)


@pytest.fixture(scope="module")
def predictions(records: list[Record]) -> list[Prediction]:
    rng = np.random.default_rng(0)
    return [
        Prediction(
            r.label.energy + 0.3 * len(r.frame) + rng.normal(),
            r.label.forces + rng.normal(size=r.label.forces.shape),
            None if i == 0 or r.label.stress is None else r.label.stress + 0.01,
        )
        for i, r in enumerate(records)
    ]


def test_forces_against_numpy(predictions: list[Prediction], records: list[Record]) -> None:
    predicted = np.concatenate([p.forces for p in predictions if p.forces is not None])
    labels = np.concatenate([r.label.forces for r in records])
    found = force_errors(predictions, records)
    assert found.rmse == pytest.approx(np.sqrt(((predicted - labels) ** 2).mean()))
    assert force_rmse(predictions, records) == pytest.approx(found.rmse)
    assert found.reference_rms == pytest.approx(labels.std(mean=0.0))


def test_one_bad_frame_moves_the_mean_and_not_the_median(records: list[Record]) -> None:
    off = [0.1, 0.1, 0.2, 10.0, 0.1]
    some = (records * len(off))[: len(off)]
    predictions = [Prediction(0.0, r.label.forces + x) for r, x in zip(some, off, strict=True)]
    assert median_frame_force_rmse(predictions, some) == pytest.approx(0.1)
    assert force_rmse(predictions, some) > 1.0


def test_energies_against_numpy(predictions: list[Prediction], records: list[Record]) -> None:
    errors = np.array([(p.energy - r.label.energy) / len(r.frame) for p, r in zip(predictions, records, strict=True)])
    assert energy_rmse_per_atom(predictions, records) == pytest.approx(np.sqrt((errors**2).mean()))
    assert energy_rmse_per_atom(predictions, records, centred=True) == pytest.approx(errors.std())


def test_constant_per_atom_vanishes_when_centred(records: list[Record]) -> None:
    shifted = [Prediction(r.label.energy - 1.7 * len(r.frame)) for r in records]
    assert energy_rmse_per_atom(shifted, records) == pytest.approx(1.7)
    assert energy_rmse_per_atom(shifted, records, centred=True) == pytest.approx(0.0, abs=1e-12)


def test_stress_skips_frames_without_one(predictions: list[Prediction], records: list[Record]) -> None:
    assert stress_rmse(predictions, records) == pytest.approx(0.01)
    assert stress_rmse(predictions[:1], records[:1]) is None


def test_missing_forces_are_told(records: list[Record]) -> None:
    with pytest.raises(ValueError, match="a prediction has no forces"):
        force_rmse([Prediction(0.0)], records[:1])


def test_counts_must_agree(predictions: list[Prediction], records: list[Record]) -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        force_rmse(predictions[:-1], records)
