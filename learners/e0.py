"""Energies of isolated atoms: the E0s that carry a model from one level of theory to another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from types import MappingProxyType

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from curator.datasets.label import Record
from curator.learners.mace import MaceModel


@dataclass(frozen=True, slots=True)
class E0Estimate:
    """Atomic energies in eV by atomic number, and how far the data determine them.

    Attributes
    ----------
    values
        E0 in eV of every element the model knows.
    rank_deficient
        Whether the compositions of the frames leave some combination of the E0s open.
    message
        What was open and how it was settled, in plain words, or None.
    """

    values: Mapping[int, float]
    rank_deficient: bool
    message: str | None


def estimate_e0s(
    model: MaceModel, records: Sequence[Record], known: Mapping[int, float] = MappingProxyType({})
) -> E0Estimate:
    """Model-aware E0s: the model's own, shifted to fit the labels of ``records`` by least squares.

    Solves ``A x = E_label - E_model`` with the composition matrix ``A`` (frames by elements) and adds ``x`` to the
    model's E0s (arXiv:2606.12704, section on E0 re-estimation). Where ``A`` has not full rank, ``x`` has the least
    norm. An isolated atom among the records, or a value in ``known``, fixes the E0 of its element; an element in no
    record keeps the model's.
    """
    periodic = [record for record in records if not is_isolated_atom(record)]
    predictions = model.predict([record.frame for record in periodic], ("energy",))
    return _solve(
        model.e0s(),
        records,
        [r.label.energy - p.energy for r, p in zip(periodic, predictions, strict=True)],
        known,
        start="from the model's own E0s",
    )


def fit_e0s(
    elements: Sequence[int], records: Sequence[Record], known: Mapping[int, float] = MappingProxyType({})
) -> E0Estimate:
    """E0s by least squares on the energies alone, for training from scratch; 0 for an element in no record."""
    energies = [record.label.energy for record in records if not is_isolated_atom(record)]
    return _solve(dict.fromkeys(elements, 0.0), records, energies, known, start="from zero")


def is_isolated_atom(record: Record) -> bool:
    """Whether the record is one atom without periodic images."""
    return len(record.frame) == 1 and not record.frame.pbc.any()


def _solve(
    base: Mapping[int, float],
    records: Sequence[Record],
    residuals: Sequence[float],
    known: Mapping[int, float],
    start: str,
) -> E0Estimate:
    isolated = {int(r.frame.numbers[0]): r.label.energy for r in records if is_isolated_atom(r)} | dict(known)
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
    return E0Estimate(values, rank_deficient=message is not None, message=message)


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
