import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from curator.datasets.frame import atoms_from_frame, frame_from_atoms
from curator.datasets.label import Record
from curator.learners.architecture import build_module
from curator.learners.e0 import E0Estimate, choose_e0s, fit_e0s, isolated_atom
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


def estimated(model: MaceModel, records: list[Record]) -> E0Estimate:
    return choose_e0s("estimated", records, model=model, elements=model.elements)


def test_known_shifts_are_recovered(model: MaceModel, make_record: MakeRecord) -> None:
    naf = bulk("NaF", "rocksalt", a=4.6, cubic=True)
    estimate = estimated(model, shifted(model, [lif(0), lif(1), naf], make_record))
    assert estimate.values == pytest.approx({z: e0 + SHIFT[z] for z, e0 in model.e0s().items()}, abs=1e-9)
    assert estimate.message is None


def test_absent_element_keeps_its_value(model: MaceModel, make_record: MakeRecord) -> None:
    estimate = estimated(model, shifted(model, [lif(0), lif(1)], make_record))
    assert estimate.values[11] == model.e0s()[11]
    assert estimate.values[3] == pytest.approx(model.e0s()[3] + SHIFT[3], abs=1e-9)


def test_one_composition_gets_the_shift_of_least_norm(model: MaceModel, make_record: MakeRecord) -> None:
    records = shifted(model, [lif(1, seed=0), lif(1, seed=1)], make_record)
    estimate = estimated(model, records)
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
    estimate = estimated(model, records)
    assert estimate.message is not None
    assert "2 independent compositions for 3 elements (Li, F, Na)" in estimate.message
    for record in records:
        predicted = model.predict([record.frame], ("energy",))[0].energy
        shift = sum(estimate.values[int(z)] - model.e0s()[int(z)] for z in record.frame.numbers)
        assert predicted + shift == pytest.approx(record.label.energy, abs=1e-9)


def test_given_value_takes_precedence(model: MaceModel, make_record: MakeRecord) -> None:
    records = shifted(model, [lif(1, seed=0), lif(1, seed=1)], make_record)
    estimate = choose_e0s({3: -0.25}, records, model=model, elements=model.elements)
    assert estimate.values[3] == -0.25
    assert estimate.message is None
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
    estimate = estimated(model, records)
    best = np.array([estimate.values[z] - model.e0s()[z] for z in (3, 9)])
    # Normal equations: the residual is orthogonal to every column.
    np.testing.assert_allclose(counts.T @ (residual - counts @ best), 0.0, atol=1e-7)


def test_policies_promise_the_error_they_start_with(model: MaceModel, make_record: MakeRecord) -> None:
    rng = np.random.default_rng(1)
    exact = shifted(model, [lif(n, seed=s) for n in (0, 1, 2) for s in range(2)], make_record)
    noisy = [make_record(atoms_from_frame(r.frame), r.label.energy + 0.1 * len(r.frame) * rng.normal()) for r in exact]
    estimate = estimated(model, noisy)
    errors = []
    for record in noisy:
        predicted = model.predict([record.frame], ("energy",))[0].energy
        predicted += sum(estimate.values[int(z)] - model.e0s()[int(z)] for z in record.frame.numbers)
        errors.append((predicted - record.label.energy) / len(record.frame))
    assert estimate.start_energy_rmse == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-9)
    assert 0.01 < estimate.start_energy_rmse < 0.2


def test_foundation_policy_is_refused_at_another_level_of_theory(model: MaceModel, make_record: MakeRecord) -> None:
    records = shifted(model, [lif(0), lif(1)], make_record)
    with pytest.raises(
        ValueError, match=r"e0 foundation: energies would start 0\.\d\d eV/atom off the labels, 0\.00 with"
    ):
        choose_e0s("foundation", records, model=model, elements=model.elements)
    same = [
        make_record(lif(n), p.energy)
        for n, p in enumerate(model.predict([frame_from_atoms(lif(n)) for n in (0, 1)], ("energy",)))
    ]
    estimate = choose_e0s("foundation", same, model=model, elements=model.elements)
    assert estimate.values == model.e0s()
    assert estimate.start_energy_rmse == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="'foundation' needs a foundation model"):
        choose_e0s("foundation", same, model=None, elements=(3, 9))


def test_isolated_policy_takes_labelled_atoms_and_names_the_missing(model: MaceModel, make_record: MakeRecord) -> None:
    records = shifted(model, [lif(0), lif(1)], make_record)
    atoms = {z: model.e0s()[z] + SHIFT[z] for z in (3, 9)}
    both = [*records, *(isolated_atom(z, energy, "test") for z, energy in atoms.items())]
    estimate = choose_e0s("isolated", both, model=model, elements=model.elements)
    assert estimate.values == atoms | {11: model.e0s()[11]}
    with pytest.raises(ValueError, match="needs a labelled single atom of F among the training data"):
        choose_e0s("isolated", both[:-1], model=model, elements=model.elements)
    with pytest.raises(ValueError, match=r"isolated atoms of Li have the energies .* leave one of them out"):
        choose_e0s("isolated", [*both, isolated_atom(3, 7.0, "test")], model=model, elements=model.elements)
    scratch = choose_e0s("isolated", both, model=None, elements=(3, 9))
    assert scratch.values == atoms
    assert scratch.start_energy_rmse is None


def test_estimated_e0s_do_not_ask_isolated_atoms(model: MaceModel, make_record: MakeRecord) -> None:
    """A foundation's E0s may hold binding energy, by which those of single atoms are off."""
    records = shifted(model, [lif(0), lif(1)], make_record)
    both = [*records, *(isolated_atom(z, 5.0, "test") for z in (3, 9))]
    found = [estimated(model, some) for some in (records, both)]
    assert found[0].values == pytest.approx(found[1].values)


def test_average_policy_fits_compositions_alone(model: MaceModel, make_record: MakeRecord) -> None:
    structures = [lif(0), lif(1)]
    records = [make_record(atoms, sum({3: -2.0, 9: -5.0}[z] for z in atoms.numbers)) for atoms in structures]
    average = choose_e0s("average", records, model=None, elements=(3, 9))
    assert average.values == pytest.approx({3: -2.0, 9: -5.0}, abs=1e-9)
    # A model whose interactions bind by far more than their sum rule: energies would count the binding twice.
    bound = dataclasses.replace(
        model.architecture, heads=(dataclasses.replace(model.architecture.heads[0], shift=-4.0),)
    )
    binding = MaceModel(bound, build_module(bound, seed=3))
    labels = binding.predict([frame_from_atoms(atoms) for atoms in structures], ("energy",))
    records = [make_record(atoms, label.energy) for atoms, label in zip(structures, labels, strict=True)]
    with pytest.raises(ValueError, match=r"e0 average: energies would start [34]\.\d\d eV/atom off the labels"):
        choose_e0s("average", records, model=binding, elements=binding.elements)
    weak = choose_e0s("average", shifted(model, structures, make_record), model=weakly(model), elements=(3, 9, 11))
    assert weak.values[11] == model.e0s()[11]


def weakly(model: MaceModel) -> MaceModel:
    """The model with interactions that bind next to nothing, as where E0s were fitted to compositions."""
    head = dataclasses.replace(model.architecture.heads[0], scale=1e-3, shift=0.0)
    architecture = dataclasses.replace(model.architecture, heads=(head,))
    return MaceModel(architecture, build_module(architecture, seed=3))


def test_values_given_by_mistake_are_refused(model: MaceModel, make_record: MakeRecord) -> None:
    records = shifted(model, [lif(0), lif(1)], make_record)
    right = {z: model.e0s()[z] + SHIFT[z] for z in (3, 9)}
    assert choose_e0s(right, records, model=model, elements=model.elements).values == right | {11: model.e0s()[11]}
    in_hartree = {z: value / 27.2114 for z, value in right.items()}
    with pytest.raises(ValueError, match="e0 as given: energies would start"):
        choose_e0s(in_hartree, records, model=model, elements=model.elements)
