"""Labels held against the model that is about to learn them: units and signs, and frames that stand apart.

A foundation need not be good to see a sign or a factor of 27; where it has nothing to say of these forces, nothing is
claimed.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curator.datasets.label import Record
from curator.datasets.output import MAX_FORCE_eV_PER_A
from curator.datasets.units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL, RYDBERG
from curator.learners.base import Prediction
from curator.learners.samples import frame_name

N_COMPARED = 16
"""Frames whose forces are enough to tell a sign or a unit."""
LEAST_CORRELATION = 0.5
"""Of predicted and labelled force components; a model below it knows too little to judge labels."""
MAX_FACTOR = 3.0
"""Forces this many times too large or too small are no error of a model that correlates with them."""
LEAST_DEVIATIONS = 6
"""Energies beyond the first of each composition that are enough to tell a unit."""
OUTLIER_TIMES, OUTLIER_eV_PER_ATOM = 10.0, 0.1
"""An energy stands apart if it is this many times farther off than the others are (RMS), and this far off at least."""
_CAUSES = (
    (BOHR / HARTREE, "Hartree/bohr"),
    (BOHR / RYDBERG, "Ry/bohr"),
    (1 / HARTREE, "Hartree/Å"),
    (1 / RYDBERG, "Ry/Å"),
    (10.0, "eV/nm"),
    (1 / KCAL_PER_MOL, "kcal/mol/Å"),
    (1 / KJ_PER_MOL, "kJ/mol/Å"),
    (10 / KJ_PER_MOL, "kJ/mol/nm"),
    (1000.0, "meV/Å"),
    (HARTREE, "Hartree/Å converted twice"),
    (HARTREE / BOHR, "Hartree/bohr converted twice"),
)
_ENERGY_CAUSES = (
    (1 / HARTREE, "Hartree"),
    (1 / RYDBERG, "Ry"),
    (1 / KCAL_PER_MOL, "kcal/mol"),
    (1 / KJ_PER_MOL, "kJ/mol"),
    (1000.0, "meV"),
)
_ALIKE = 1.5
"""Two levels of theory differ by up to a third in their forces as well."""


def check_forces(predictions: Sequence[Prediction], records: Sequence[Record], where: str) -> None:
    """Check that labelled forces have the sign and the unit of a model's.

    Of each frame, predictions are fitted by a multiple of the labels (by least squares: the errors are the model's, and
    a fit the other way round would flatten the slope by them); what counts is the median over the frames, which one
    absurd frame does not move.

    Parameters
    ----------
    where
        What holds the labels, for the message.

    Raises
    ------
    ValueError
        If the forces correlate, and point the other way or are more than 3 times too large or too small.
    """
    factors, correlations = [], []
    for prediction, record in zip(predictions, records, strict=True):
        assert prediction.forces is not None
        # By symmetry all forces of a crystal may vanish.
        if fit := _fitted(prediction.forces.ravel(), record.label.forces.ravel()):
            factors.append(fit[0])
            correlations.append(fit[1])
    if not factors:
        return
    factor, correlation = float(np.median(factors)), float(np.median(correlations))
    told = f"in the median frame (correlation {correlation:.2f})"
    if correlation < -LEAST_CORRELATION:
        raise ValueError(
            f"{where}: the forces are {factor:.3g} times the foundation's {told}, as gradients of the energy are; "
            "labels must be forces, which point downhill: multiply them by -1"
        )
    if correlation > LEAST_CORRELATION and not 1 / MAX_FACTOR < factor < MAX_FACTOR:
        alike = _alike(factor, _CAUSES)
        guess = f", as of {' or '.join(alike)}" if alike else ""
        raise ValueError(
            f"{where}: the forces are {factor:.3g} times the foundation's {told}{guess}; labels must be in eV/Å, and "
            "energies in eV"
        )


def check_energies(predictions: Sequence[Prediction], records: Sequence[Record], where: str) -> None:
    """Check that labelled energies have the unit of a model's, by how they differ among frames of one composition.

    The energies themselves tell nothing: what the model does not know of an element, E0s take up, and with them any
    unit. Nothing is claimed but of a unit that is known by its factor.

    Parameters
    ----------
    where
        What holds the labels, for the message.

    Raises
    ------
    ValueError
        If the differences correlate, and are too large or too small by the factor of another unit.
    """
    compositions: dict[bytes, list[int]] = {}
    for idx, record in enumerate(records):
        compositions.setdefault(np.sort(record.frame.numbers).tobytes(), []).append(idx)
    if len(records) - len(compositions) < LEAST_DEVIATIONS:
        return
    energies = np.array([(p.energy, r.label.energy) for p, r in zip(predictions, records, strict=True)])
    for alike in compositions.values():
        energies[alike] -= energies[alike].mean(axis=0)
    fit = _fitted(*energies.T)
    if fit is None or fit[1] < LEAST_CORRELATION:
        return
    factor, correlation = fit
    n_atoms = float(np.mean([len(record.frame) for record in records]))
    found = _alike(factor, (*_ENERGY_CAUSES, (1 / n_atoms, "eV per atom")))
    if found and not 1 / MAX_FACTOR < factor < MAX_FACTOR:
        raise ValueError(
            f"{where}: among frames of one composition the energies differ by {factor:.3g} times what the foundation's "
            f"do (correlation {correlation:.2f}), as of {' or '.join(found)}; labels must be in eV of the "
            "whole frame"
        )


def _fitted(predicted: NDArray[np.float64], label: NDArray[np.float64]) -> tuple[float, float] | None:
    """How many times the predictions the labels are, and their correlation; None where they have nothing in common."""
    product, norms = float(predicted @ label), float((predicted @ predicted) * (label @ label))
    if norms == 0 or product == 0:
        return None
    return float(label @ label) / product, product / float(np.sqrt(norms))


def _alike(factor: float, causes: Sequence[tuple[float, str]]) -> list[str]:
    """Units whose factor it may be."""
    return [unit for known, unit in causes if 1 / _ALIKE < factor / known < _ALIKE]


def outliers(predictions: Sequence[Prediction], records: Sequence[Record]) -> list[str]:
    """What to tell of the frame whose energy stands apart from all others, and of absurd forces."""
    notes = []
    found = _energy_outlier(predictions, records)
    if found is not None:
        idx, error = found
        notes.append(
            f"the energy of {frame_name(records[idx])} is {error:+.2f} eV ({error / len(records[idx].frame):+.2f} "
            "eV/atom) off what the other frames and the foundation say; look at it"
        )
    largest = [float(np.linalg.norm(record.label.forces, axis=1).max()) for record in records]
    idx = int(np.argmax(largest))
    if largest[idx] > MAX_FORCE_eV_PER_A:
        atom = int(np.linalg.norm(records[idx].label.forces, axis=1).argmax())
        more = sum(force > MAX_FORCE_eV_PER_A for force in largest) - 1
        others = f", and {more} more frames have such forces" if more else ""
        notes.append(f"a force of {largest[idx]:.0f} eV/Å at atom {atom} of {frame_name(records[idx])}{others}")
    return notes


def _energy_outlier(predictions: Sequence[Prediction], records: Sequence[Record]) -> tuple[int, float] | None:
    """Frame whose energy the others do not explain, and how far it is off in eV.

    Errors per atom are fitted by an energy for each element; the worst is judged by a fit to all others.
    """
    n_atoms = np.array([len(record.frame) for record in records], dtype=np.float64)
    elements = sorted({int(z) for record in records for z in record.frame.numbers})
    shares = np.array([[np.count_nonzero(r.frame.numbers == z) for z in elements] for r in records]) / n_atoms[:, None]
    errors = np.array([r.label.energy - p.energy for p, r in zip(predictions, records, strict=True)]) / n_atoms
    idx = int(np.abs(errors - shares @ np.linalg.lstsq(shares, errors, rcond=None)[0]).argmax())
    others = np.arange(len(records)) != idx
    atomic, _, rank, _ = np.linalg.lstsq(shares[others], errors[others], rcond=None)
    # A composition that is in no other frame has an energy that nothing else tells of.
    alone = np.linalg.matrix_rank(shares) > rank
    if alone or others.sum() <= rank + 1:
        return None
    left = errors - shares @ atomic
    usual = float(np.sqrt(np.sum(left[others] ** 2) / (others.sum() - rank)))
    if abs(left[idx]) < max(OUTLIER_TIMES * usual, OUTLIER_eV_PER_ATOM):
        return None
    return idx, float(left[idx] * n_atoms[idx])
