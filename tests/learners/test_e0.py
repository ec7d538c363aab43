from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from curator.datasets.frame import frame_from_atoms
from curator.datasets.label import Record
from curator.learners.e0 import estimate_e0s, fit_e0s
from curator.learners.mace import MaceModel

from .conftest import lif

SHIFT = {3: -0.731, 9: 2.417, 11: 0.513}
MakeRecord = Callable[..., Record]


def shifted(model: MaceModel, structures: list[Atoms], make_record: MakeRecord) -> list[Record]:
    """Records whose energies are the model's plus a known shift per atom."""
    predictions = model.predict([frame_from_atoms(atoms) for atoms in structures], ("energy",))
    return [
        make_record(atoms, prediction.energy + sum(SHIFT[z] for z in atoms.numbers))
        for atoms, prediction in zip(structures, predictions, strict=True)
    ]


def test_known_shifts_are_recovered(model: MaceModel, make_record: MakeRecord) -> None:
    naf = bulk("NaF", "rocksalt", a=4.6, cubic=True)
    estimate = estimate_e0s(model, shifted(model, [lif(0), lif(1), naf], make_record))
    assert estimate.values == pytest.approx({z: e0 + SHIFT[z] for z, e0 in model.e0s().items()}, abs=1e-9)
    assert not estimate.rank_deficient
    assert estimate.message is None


def test_absent_element_keeps_its_value(model: MaceModel, make_record: MakeRecord) -> None:
    estimate = estimate_e0s(model, shifted(model, [lif(0), lif(1)], make_record))
    assert estimate.values[11] == model.e0s()[11]
    assert estimate.values[3] == pytest.approx(model.e0s()[3] + SHIFT[3], abs=1e-9)


def test_one_composition_gets_the_shift_of_least_norm(model: MaceModel, make_record: MakeRecord) -> None:
    records = shifted(model, [lif(1, seed=0), lif(1, seed=1)], make_record)
    estimate = estimate_e0s(model, records)
    assert estimate.rank_deficient
    assert estimate.message == (
        "all 2 frames have the composition ratio Li:F 5:4, so only the sum 5 E0(Li) + 4 E0(F) is determined; "
        "the shift of least norm from the model's own E0s was taken"
    )
    shift = np.array([estimate.values[z] - model.e0s()[z] for z in (3, 9)])
    counts = np.array([5.0, 4.0])
    total = 5 * SHIFT[3] + 4 * SHIFT[9]
    # The minimum-norm solution of one equation is along its row.
    np.testing.assert_allclose(shift, counts * total / (counts @ counts), atol=1e-9)


def test_two_compositions_of_three_elements_are_told(model: MaceModel, make_record: MakeRecord) -> None:
    mixed = lif(0)
    mixed.numbers[mixed.numbers == 3] = [11, 11, 3, 3]
    records = shifted(model, [mixed, lif(0)], make_record)
    estimate = estimate_e0s(model, records)
    assert estimate.rank_deficient
    assert estimate.message is not None
    assert "2 independent compositions for 3 elements (Li, F, Na)" in estimate.message
    for record in records:
        predicted = model.predict([record.frame], ("energy",))[0].energy
        shift = sum(estimate.values[int(z)] - model.e0s()[int(z)] for z in record.frame.numbers)
        assert predicted + shift == pytest.approx(record.label.energy, abs=1e-9)


@pytest.mark.parametrize("how", ["frame", "value"])
def test_isolated_atom_takes_precedence(how: str, model: MaceModel, make_record: MakeRecord) -> None:
    records = shifted(model, [lif(1, seed=0), lif(1, seed=1)], make_record)
    if how == "frame":
        estimate = estimate_e0s(model, [*records, make_record(Atoms("Li"), -0.25)])
    else:
        estimate = estimate_e0s(model, records, {3: -0.25})
    assert estimate.values[3] == -0.25
    assert not estimate.rank_deficient
    # What the known atom leaves over is the other's.
    rest = 5 * SHIFT[3] + 4 * SHIFT[9] - 5 * (-0.25 - model.e0s()[3])
    assert estimate.values[9] == pytest.approx(model.e0s()[9] + rest / 4, abs=1e-9)


def test_from_scratch_fits_the_energies(make_record: MakeRecord) -> None:
    structures = [lif(0), lif(1), lif(2)]
    records = [make_record(atoms, sum({3: -2.0, 9: -5.0}[z] for z in atoms.numbers)) for atoms in structures]
    estimate = fit_e0s((3, 9, 11), records)
    assert estimate.values == pytest.approx({3: -2.0, 9: -5.0, 11: 0.0}, abs=1e-9)


def test_shift_is_the_least_squares_one(model: MaceModel, make_record: MakeRecord) -> None:
    rng = np.random.default_rng(0)
    structures = [lif(n, seed=s) for n in (0, 1, 2) for s in range(3)]
    records = [make_record(atoms, rng.normal() - 4.0 * len(atoms)) for atoms in structures]
    predictions = model.predict([record.frame for record in records], ("energy",))
    residual = np.array([r.label.energy - p.energy for r, p in zip(records, predictions, strict=True)])
    counts = np.array([[np.count_nonzero(r.frame.numbers == z) for z in (3, 9)] for r in records], dtype=float)
    estimate = estimate_e0s(model, records)
    best = np.array([estimate.values[z] - model.e0s()[z] for z in (3, 9)])
    # Normal equations: the residual is orthogonal to every column.
    np.testing.assert_allclose(counts.T @ (residual - counts @ best), 0.0, atol=1e-7)
