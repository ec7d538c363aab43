"""Labels that are wrong in a known way, held against a model that is right, poor, or knows nothing."""

from dataclasses import replace

import numpy as np
import pytest

from curator.datasets.label import Record
from curator.learners.base import Prediction
from curator.learners.plausible import check_energies, check_forces, outliers


def model_of(records: list[Record], noise: float, energy_noise_eV: float = 0.005) -> list[Prediction]:
    """Predictions off by noise, in units of the RMS force; energies off by an E0 of each element and noise per atom."""
    rng = np.random.default_rng(0)
    scale = noise * np.sqrt(np.mean(np.concatenate([r.label.forces.ravel() for r in records]) ** 2))
    found = []
    for record in records:
        numbers, label = record.frame.numbers, record.label
        shift = sum({3: 1.3, 9: -700.0}[int(z)] for z in numbers) + energy_noise_eV * len(numbers) * rng.normal()
        found.append(Prediction(label.energy + shift, label.forces + scale * rng.normal(size=label.forces.shape)))
    return found


def times(records: list[Record], factor: float) -> list[Record]:
    return [replace(r, label=replace(r.label, forces=factor * r.label.forces)) for r in records]


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.8])
@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (-1.0, "as gradients of the energy are; .* multiply them by -1"),
        (1 / 51.4221, "as of Hartree/bohr; labels must be in eV/Å"),
        (1 / 25.711, "as of Ry/bohr or Hartree/Å; "),
        (23.0605, "as of kcal/mol/Å or Hartree/Å converted twice"),
        (5.0, r"5(\.\d+)? times the foundation's in the median frame \(correlation \d\.\d+\); labels must be in eV/Å"),
    ],
)
def test_sign_and_unit_are_named(records: list[Record], noise: float, factor: float, told: str) -> None:
    with pytest.raises(ValueError, match=rf"^f\.xyz: .*{told}"):
        check_forces(model_of(records, noise), times(records, factor), "f.xyz")


def test_right_labels_are_let_pass_by_any_model(records: list[Record]) -> None:
    for noise in (0.0, 0.5, 1.0, 3.0, 30.0):
        for factor in (1.0, 0.5, 2.0):
            check_forces(model_of(records, noise), times(records, factor), "f")


def test_nothing_is_claimed_by_a_model_that_knows_nothing(records: list[Record]) -> None:
    for factor in (-1.0, 27.2114):
        check_forces(model_of(records, 30.0), times(records, factor), "f")
    # Of a crystal at rest there is no force to compare.
    check_forces(model_of(records, 0.1), times(records, 0.0), "f")


def test_one_absurd_frame_is_not_taken_for_a_unit(records: list[Record]) -> None:
    predicted = model_of(records, 0.2)
    check_forces(predicted, [*times(records[:1], -500.0), *records[1:]], "f")


def energies_times(records: list[Record], factor: float) -> list[Record]:
    return [replace(r, label=replace(r.label, energy=factor * r.label.energy)) for r in records]


@pytest.mark.parametrize(
    ("factor", "told"),
    [(1 / 27.2114, "Hartree"), (1 / 13.6057, "Ry"), (23.0605, "kcal/mol"), (1000.0, "meV")],
)
def test_the_unit_of_energies_is_named(records: list[Record], factor: float, told: str) -> None:
    """Though forces are in eV/Å, and E0s would take up the unit of the energies."""
    with pytest.raises(ValueError, match=rf"^f\.xyz: among frames of one composition .* as of {told}; labels must be"):
        check_energies(model_of(records, 0.3), energies_times(records, factor), "f.xyz")


def test_energies_per_atom_are_named(records: list[Record]) -> None:
    each = [replace(r, label=replace(r.label, energy=r.label.energy / len(r.frame))) for r in records]
    with pytest.raises(ValueError, match=r"as of .*eV per atom; labels must be in eV of the whole frame"):
        check_energies(model_of(records, 0.3), each, "f")


def test_right_energies_are_let_pass_by_any_model(records: list[Record]) -> None:
    for error_eV_per_atom in (0.0, 0.005, 0.1, 3.0):
        for factor in (1.0, 0.4, 2.5):
            check_energies(model_of(records, 0.3, error_eV_per_atom), energies_times(records, factor), "f")
    # A handful of energies, or none that differ, show no unit.
    check_energies(model_of(records[:6], 0.0), energies_times(records[:6], 1 / 27.2114), "f")
    check_energies(model_of(records[:1] * 8, 0.0, 0.0), records[:1] * 8, "f")


def test_the_energy_that_stands_apart_is_named(records: list[Record]) -> None:
    predicted = model_of(records, 0.2)
    assert outliers(predicted, records) == []
    for energy in (30.0, -2.0):
        wrong = [*records]
        wrong[5] = replace(wrong[5], label=replace(wrong[5].label, energy=wrong[5].label.energy + energy))
        (note,) = outliers(predicted, wrong)
        assert records[5].frame.hash[:12] in note
        found = float(note.split(" is ")[1].split(" eV")[0])
        assert found == pytest.approx(energy, abs=0.2)


def test_a_composition_of_its_own_is_no_outlier(records: list[Record]) -> None:
    """Of all frames but one only the sum of two E0s is known, which says nothing of the one."""
    alike = [r for r in records if len(r.frame) == len(records[0].frame)]
    other = next(r for r in records if len(r.frame) != len(records[0].frame))
    together = [*alike, replace(other, label=replace(other.label, energy=other.label.energy + 50.0))]
    assert outliers(model_of([*alike, other], 0.2), together) == []


def test_an_absurd_force_is_named(records: list[Record]) -> None:
    forces = records[3].label.forces.copy()
    forces[2, 1] = 500.0
    wrong = [*records]
    wrong[3] = replace(wrong[3], label=replace(wrong[3].label, forces=forces))
    (note,) = outliers(model_of(records, 0.2), wrong)
    assert note.startswith("a force of 500 eV/Å at atom 2 of ")
    assert records[3].frame.hash[:12] in note
