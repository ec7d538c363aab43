"""Energies of isolated atoms: the E0s that carry a model from one level of theory to another.

Which E0s a model starts with is a policy. ``estimated`` shifts the model's own so that its energies fit the labels;
``foundation`` leaves them; ``isolated`` takes the labels of single atoms; ``average`` fits energies by composition
alone; values by atomic number are taken as given and the rest is estimated.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from types import MappingProxyType

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from curator.datasets.frame import Frame
from curator.datasets.isolated import SAME_ENERGY_eV, is_isolated
from curator.datasets.label import Label, Provenance, Record
from curator.learners.mace import MaceModel
from curator.learners.strategies import E0_POLICIES, E0Choice

MAX_EXCESS_eV_PER_ATOM = 0.5
"""How much of the energy error at the start may be the fault of the E0s, as RMS."""
ISOLATED_GROUP = "isolated-atoms"
"""Trajectory group of single atoms, which always belong to the training data."""


@dataclass(frozen=True, slots=True)
class E0Estimate:
    """Atomic energies in eV by atomic number, and how far the data determine them.

    Attributes
    ----------
    values
        E0 in eV of every element the model knows.
    message
        Which combination of the E0s the compositions of the frames leave open and how it was settled, in plain words;
        None if none.
    start_energy_rmse
        RMS error in eV/atom of the model with these E0s on the frames; None from scratch, where the model is random.
    """

    values: Mapping[int, float]
    message: str | None
    start_energy_rmse: float | None = None


def choose_e0s(
    choice: E0Choice, records: Sequence[Record], *, model: MaceModel | None, elements: Sequence[int]
) -> E0Estimate:
    """E0s of a policy, with the error of the energies that it promises at the start of training.

    Parameters
    ----------
    choice
        A policy, or values in eV by atomic number.
    records
        Training frames, isolated atoms among them.
    model
        The model to fine-tune, whose E0s an element in no record keeps; None from scratch.
    elements
        Elements of a model trained from scratch.

    Raises
    ------
    ValueError
        If the policy is unknown or the data cannot serve it; or if its E0s alone would put the energies at the start
        off by more than ``MAX_EXCESS_eV_PER_ATOM``: a model that sets out to learn a shift of each atom's energy with
        its interactions forgets what it knew of forces (arXiv:2606.12704, table 1).
    """
    known: Mapping[int, float] = MappingProxyType({})
    if not isinstance(choice, str):
        unknown = set(choice) - set(elements)
        if unknown:
            symbols = ", ".join(chemical_symbols[z] for z in sorted(unknown))
            raise ValueError(f"e0 names {symbols}, which the model does not know; leave it out")
        known = choice
    elif choice == "isolated":
        _check_isolated(records)
    elif choice == "foundation":
        if model is None:
            raise ValueError("e0 'foundation' needs a foundation model; from scratch, take 'estimated'")
    elif choice not in E0_POLICIES:
        raise ValueError(f"unknown e0 {choice!r}; known are {', '.join(E0_POLICIES)}, or values by element")
    if model is None:
        return fit_e0s(elements, records, known)
    frames = [record for record in records if not is_isolated_atom(record)]
    predicted = [p.energy for p in model.predict([record.frame for record in frames], ("energy",))]
    best = _fit(model, frames, predicted, {})
    if choice == "foundation":
        chosen = E0Estimate(model.e0s(), message=None)
    elif choice == "average":
        average = fit_e0s(elements, records)
        present = {int(z) for record in records for z in record.frame.numbers}
        values = {z: average.values[z] if z in present else e0 for z, e0 in model.e0s().items()}
        chosen = dataclasses.replace(average, values=values)
    elif choice == "estimated":
        # Isolated atoms say nothing of it: a foundation's E0s may hold binding energy.
        chosen = best
    else:
        chosen = _fit(model, records if choice == "isolated" else frames, predicted, known)
    error, least = (_energy_rmse(model, e, frames, predicted) for e in (chosen, best))
    if error**2 - least**2 > MAX_EXCESS_eV_PER_ATOM**2:
        name = choice if isinstance(choice, str) else "as given"
        raise ValueError(
            f"e0 {name}: energies would start {error:.2f} eV/atom off the labels, {least:.2f} with estimated E0s; "
            "use 'estimated', or E0s of the labels' level of theory and of the foundation's convention"
        )
    return dataclasses.replace(chosen, start_energy_rmse=error)


def fit_e0s(
    elements: Sequence[int], records: Sequence[Record], known: Mapping[int, float] = MappingProxyType({})
) -> E0Estimate:
    """E0s by least squares on the energies alone, for training from scratch; 0 for an element in no record."""
    energies = [record.label.energy for record in records if not is_isolated_atom(record)]
    return _solve(dict.fromkeys(elements, 0.0), records, energies, known, start="from zero")


def is_isolated_atom(record: Record) -> bool:
    """Whether the record is of an isolated atom."""
    return is_isolated(record.frame)


def isolated_atom(number: int, energy_eV: float, theory: str) -> Record:
    """Record of a single atom in no cell."""
    frame = Frame(np.array([number]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool))
    label = Label(energy_eV, np.zeros((1, 3)), None, theory)
    return Record(frame, label, Provenance(-1, "import/isolated-atom", ISOLATED_GROUP, "train", "import"))


def _isolated_energies(records: Sequence[Record]) -> dict[int, float]:
    """Energies in eV of the isolated atoms among the records, by atomic number."""
    energies: dict[int, float] = {}
    for record in records:
        if is_isolated_atom(record):
            number, energy = int(record.frame.numbers[0]), record.label.energy
            if abs(energies.setdefault(number, energy) - energy) > SAME_ENERGY_eV:
                raise ValueError(
                    f"isolated atoms of {chemical_symbols[number]} have the energies {energies[number]:g} and "
                    f"{energy:g} eV; leave one of them out"
                )
    return energies


def _check_isolated(records: Sequence[Record]) -> None:
    missing = sorted({int(z) for record in records for z in record.frame.numbers} - _isolated_energies(records).keys())
    if missing:
        raise ValueError(
            f"e0 'isolated' needs a labelled single atom of {', '.join(chemical_symbols[z] for z in missing)} among "
            "the training data; add it, or use 'estimated'"
        )


def _energy_rmse(model: MaceModel, e0: E0Estimate, records: Sequence[Record], predicted: Sequence[float]) -> float:
    """RMS error in eV/atom of predicted energies once the model's E0s are replaced."""
    shift = {z: e0.values[z] - value for z, value in model.e0s().items()}
    errors = [
        (energy + sum(shift[int(z)] for z in record.frame.numbers) - record.label.energy) / len(record.frame)
        for record, energy in zip(records, predicted, strict=True)
    ]
    return float(np.sqrt(np.mean(np.square(errors))))


def _fit(
    model: MaceModel, records: Sequence[Record], predicted: Sequence[float], known: Mapping[int, float]
) -> E0Estimate:
    """The model's own E0s, shifted to fit the labels of ``records`` by least squares.

    Solves ``A x = E_label - E_model`` with the composition matrix ``A`` (frames by elements) and adds ``x`` to the
    model's E0s (arXiv:2606.12704, section on E0 re-estimation). Where ``A`` has not full rank, ``x`` has the least
    norm. An isolated atom among the records, or a value in ``known``, fixes the E0 of its element; an element in no
    record keeps the model's.
    """
    labels = [record.label.energy for record in records if not is_isolated_atom(record)]
    residuals = [label - energy for label, energy in zip(labels, predicted, strict=True)]
    return _solve(model.e0s(), records, residuals, known, start="from the model's own E0s")


def _solve(
    base: Mapping[int, float],
    records: Sequence[Record],
    residuals: Sequence[float],
    known: Mapping[int, float],
    start: str,
) -> E0Estimate:
    isolated = _isolated_energies(records) | dict(known)
    shift = {z: energy - base[z] for z, energy in isolated.items()}
    frames = [record.frame for record in records if not is_isolated_atom(record)]
    elements = sorted({int(z) for frame in frames for z in frame.numbers} - isolated.keys())
    message = None
    if elements:
        counts = np.array([[np.count_nonzero(frame.numbers == z) for z in elements] for frame in frames])
        fixed = np.array([sum(shift.get(int(z), 0.0) for z in frame.numbers) for frame in frames])
        solution, _, rank, _ = np.linalg.lstsq(counts.astype(float), np.asarray(residuals) - fixed, rcond=None)
        shift |= dict(zip(elements, map(float, solution), strict=True))
        if rank < len(elements):
            message = _deficiency(counts, elements, int(rank), start)
    values = {z: e0 + shift.get(z, 0.0) for z, e0 in base.items()}
    return E0Estimate(values, message)


def _deficiency(counts: NDArray[np.int64], elements: Sequence[int], rank: int, start: str) -> str:
    symbols = [chemical_symbols[z] for z in elements]
    taken = f"the shift of least norm {start} was taken"
    if rank == 1:
        ratio = counts[0] // gcd(*map(int, counts[0]))
        total = " + ".join(f"{n} E0({s})" for n, s in zip(ratio, symbols, strict=True))
        return (
            f"all {len(counts)} frames have the composition ratio {':'.join(symbols)} {':'.join(map(str, ratio))}, "
            f"so only the sum {total} is determined; {taken}"
        )
    return (
        f"the {len(counts)} frames have {rank} independent compositions for {len(elements)} elements "
        f"({', '.join(symbols)}), so not every E0 is determined; {taken}"
    )
