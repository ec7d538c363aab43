import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.calculator import Calculator

from curator.datasets.frame import Frame
from curator.datasets.label import Record
from curator.learners.base import Model, Prediction, Want, check_learner, check_model
from curator.learners.mace import MaceCalculator, MaceModel

Spoil = Callable[[Prediction, Frame], Prediction]


class Broken:
    """A good model whose predictions are tampered with."""

    def __init__(self, model: MaceModel, spoil: Spoil) -> None:
        self.model, self.spoil = model, spoil
        self.elements, self.hash = model.elements, model.hash

    def predict(
        self, frames: Sequence[Frame], want: Sequence[Want] = ("energy", "forces"), *, batch_size: int = 8
    ) -> list[Prediction]:
        found = self.model.predict(frames, want, batch_size=batch_size)
        return [self.spoil(prediction, frame) for prediction, frame in zip(found, frames, strict=True)]

    def calculator(self) -> Calculator:
        return _BrokenCalculator(self.model, self.spoil)

    def save(self, folder: Path) -> None:
        self.model.save(folder)


class _BrokenCalculator(MaceCalculator):
    def __init__(self, model: MaceModel, spoil: Spoil) -> None:
        super().__init__(model)
        self.spoil = spoil

    def calculate(self, *args: object, **kwargs: object) -> None:
        super().calculate(*args, **kwargs)
        good = Prediction(self.results["energy"], self.results["forces"], self.results.get("stress"))
        bad = self.spoil(good, self.atoms)
        self.results |= {"energy": bad.energy, "forces": bad.forces}
        if bad.stress is not None:
            self.results["stress"] = bad.stress


def _spoilt(**change: Callable[[Prediction, Frame], object]) -> Spoil:
    return lambda p, frame: dataclasses.replace(p, **{name: new(p, frame) for name, new in change.items()})


def _if_there(value: object, new: Callable[[], object]) -> object:
    return None if value is None else new()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_spoilt(energy=lambda p, f: p.energy + 1e-6 * f.positions[0, 0]), "energies"),
        (_spoilt(energy=lambda p, f: p.energy + 1e-5 * abs(f.positions[0, 1] - f.positions[1, 2])), "energies"),
        (_spoilt(forces=lambda p, f: _if_there(p.forces, lambda: 1.01 * p.forces)), "forces and the slope"),
        (_spoilt(forces=lambda p, f: _if_there(p.forces, lambda: p.forces + 1e-6)), "forces"),
        (_spoilt(forces=lambda p, f: _if_there(p.forces, lambda: p.forces[:-1])), "forces must be float64 of shape"),
        (_spoilt(stress=lambda p, f: _if_there(p.stress, lambda: -p.stress)), "stress and the slope"),
        (_spoilt(stress=lambda p, f: _if_there(p.stress, lambda: p.stress[[0, 1, 2, 5, 4, 3]])), "stress"),
        (
            _spoilt(
                node_features=lambda p, f: _if_there(
                    p.node_features, lambda: np.hstack([p.node_features, f.positions]).astype(np.float32)
                )
            ),
            "node features",
        ),
    ],
)
def test_broken_models_are_found_out(spoil: Spoil, complaint: str, model: MaceModel, frames: list[Frame]) -> None:
    broken: Model = Broken(model.double(), spoil)
    with pytest.raises(AssertionError, match=complaint):
        check_model(broken, frames[1:2], np.random.default_rng(0))


def test_random_predictions_are_found_out(model: MaceModel, frames: list[Frame]) -> None:
    rng = np.random.default_rng(0)
    noisy = Broken(model.double(), _spoilt(energy=lambda p, f: p.energy + 1e-12 * rng.normal()))
    with pytest.raises(AssertionError, match="two predictions"):
        check_model(noisy, frames[:1], np.random.default_rng(0))


def test_file_of_another_model_is_found_out(model: MaceModel, frames: list[Frame]) -> None:
    with pytest.raises(AssertionError, match="hash changed"):
        check_model(model.double(), frames[:1], np.random.default_rng(0), load=lambda folder: model)


def test_learners_without_spread_or_without_repeatability_are_found_out(
    model: MaceModel, records: list[Record]
) -> None:
    with pytest.raises(AssertionError, match="two seeds gave the same model"):
        check_learner(lambda train, valid, seed: model, records[:2], [])
    hashes = iter(["one", "two", "three"])

    def forgetful(train: Sequence[Record], valid: Sequence[Record], seed: int) -> Model:
        found = Broken(model, lambda prediction, frame: prediction)
        found.hash = next(hashes)
        return found

    with pytest.raises(AssertionError, match="one seed gave different models"):
        check_learner(forgetful, records[:2], [])


def test_learner_that_learns_nothing_is_found_out(model: MaceModel, records: list[Record]) -> None:
    def useless(train: Sequence[Record], valid: Sequence[Record], seed: int) -> Model:
        found = Broken(model, _spoilt(forces=lambda p, f: _if_there(p.forces, lambda: 0.0 * p.forces)))
        found.hash = str(seed)
        return found

    with pytest.raises(AssertionError, match="force error"):
        check_learner(useless, records[:2], [])
