"""How exactly a potential obeys the symmetries of space and the laws of mechanics.

The energy of a structure does not change when it is turned, reflected, shifted or its atoms are numbered otherwise;
its forces and stress turn with it, and are the slopes of the energy. What breaks one of these breaks conservation of
energy or momentum in molecular dynamics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import ArrayLike, NDArray

from curator.datasets.frame import Frame, atoms_from_frame

SLOPE_STEP = 1e-4
"""Step of central differences, in Å and as a strain."""

Evaluated = tuple[float, NDArray[np.float64], NDArray[np.float64] | None]


@dataclass(frozen=True, slots=True)
class Deviation:
    """Largest difference from what a symmetry demands; not a number where a prediction is none.

    Attributes
    ----------
    energy_eV
        Of the total energy in eV.
    forces_eV_per_A
        Of a force component in eV/Å.
    stress_eV_per_A3
        Of a stress component in eV/Å³; None where not all directions are periodic.
    """

    energy_eV: float
    forces_eV_per_A: float
    stress_eV_per_A3: float | None


@dataclass(frozen=True, slots=True)
class Equivariance:
    """Deviations of one potential from exact symmetry and from conservative forces.

    Attributes
    ----------
    rotated, reflected, translated, permuted
        After a random rotation, a random improper rotation, a random shift, and a random numbering of the atoms.
    force_slope_eV_per_A
        Difference of the forces along a random direction and the slope of the energy there, in eV/Å.
    stress_slope_eV
        The same of stress times volume under a random strain of norm 1, in eV; None without stress.
    """

    rotated: Deviation
    reflected: Deviation
    translated: Deviation
    permuted: Deviation
    force_slope_eV_per_A: float
    stress_slope_eV: float | None

    @property
    def worst_force_eV_per_A(self) -> float:
        """Largest deviation of a force component under any of the symmetries, in eV/Å."""
        return _largest(
            [part.forces_eV_per_A for part in (self.rotated, self.reflected, self.translated, self.permuted)]
        )


def measure_equivariance(calculator: Calculator, frames: Sequence[Frame], rng: np.random.Generator) -> Equivariance:
    """Largest deviations over frames.

    Parameters
    ----------
    calculator
        In double precision, or its rounding is all that is seen.
    frames
        Small frames without symmetry.
    rng
        Draws rotations, shifts, permutations, and the directions of finite differences.
    """
    found = [_of_frame(calculator, frame, rng) for frame in frames]
    return Equivariance(
        rotated=_worst([each.rotated for each in found]),
        reflected=_worst([each.reflected for each in found]),
        translated=_worst([each.translated for each in found]),
        permuted=_worst([each.permuted for each in found]),
        force_slope_eV_per_A=_largest([each.force_slope_eV_per_A for each in found]),
        stress_slope_eV=_largest_of_known([each.stress_slope_eV for each in found]),
    )


def random_orthogonal(rng: np.random.Generator) -> NDArray[np.float64]:
    """Random rotation or reflection, uniform over both, shape ``(3, 3)``.

    The orthogonal factor of a normal matrix, with the signs of F. Mezzadri, Notices of the AMS 54, 592 (2007).
    """
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))


def turned(atoms: Atoms, matrix: NDArray[np.float64]) -> Atoms:
    """Copy of atoms and cell, turned about the origin."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ matrix.T, scale_atoms=False)
    copy.positions = atoms.positions @ matrix.T
    return copy


def _of_frame(calculator: Calculator, frame: Frame, rng: np.random.Generator) -> Equivariance:
    atoms = atoms_from_frame(frame)
    energy, forces, stress = _evaluate(calculator, atoms)
    proper = random_orthogonal(rng)
    proper *= np.linalg.det(proper)
    rotated, reflected = (
        _deviation(
            _evaluate(calculator, turned(atoms, matrix)),
            (energy, forces @ matrix.T, None if stress is None else matrix @ stress @ matrix.T),
        )
        for matrix in (proper, -proper)
    )
    moved = atoms.copy()
    moved.positions += rng.normal(size=3)
    order = rng.permutation(len(frame))
    return Equivariance(
        rotated,
        reflected,
        _deviation(_evaluate(calculator, moved), (energy, forces, stress)),
        _deviation(_evaluate(calculator, atoms[order]), (energy, forces[order], stress)),
        *_slopes(calculator, atoms, forces, stress, rng),
    )


def _slopes(
    calculator: Calculator,
    atoms: Atoms,
    forces: NDArray[np.float64],
    stress: NDArray[np.float64] | None,
    rng: np.random.Generator,
) -> tuple[float, float | None]:
    """Forces and stress against central differences of the energy along random directions."""
    direction = rng.normal(size=(len(atoms), 3))
    direction /= np.linalg.norm(direction)
    strain = rng.normal(size=(3, 3))
    strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)

    def energy(displacement: float, scale: float) -> float:
        displaced = atoms.copy()
        displaced.positions += displacement * direction
        displaced.set_cell(atoms.cell.array @ (np.eye(3) + scale * strain), scale_atoms=True)
        displaced.calc = calculator
        return float(displaced.get_potential_energy())

    slope = (energy(SLOPE_STEP, 0.0) - energy(-SLOPE_STEP, 0.0)) / (2 * SLOPE_STEP)
    force_slope = _difference(-slope, (forces * direction).sum())
    if stress is None:
        return force_slope, None
    slope = (energy(0.0, SLOPE_STEP) - energy(0.0, -SLOPE_STEP)) / (2 * SLOPE_STEP)
    return force_slope, _difference(slope, (stress * strain).sum() * atoms.get_volume())


def _evaluate(calculator: Calculator, atoms: Atoms) -> Evaluated:
    atoms = atoms.copy()
    atoms.calc = calculator
    stress = atoms.get_stress(voigt=False) if atoms.pbc.all() else None
    return float(atoms.get_potential_energy()), atoms.get_forces(), stress


def _deviation(found: Evaluated, expected: Evaluated) -> Deviation:
    energy, forces, stress = (
        None if one is None or other is None else _difference(one, other)
        for one, other in zip(found, expected, strict=True)
    )
    assert energy is not None
    assert forces is not None
    return Deviation(energy, forces, stress)


def _difference(one: ArrayLike, other: ArrayLike) -> float:
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


def _worst(parts: Sequence[Deviation]) -> Deviation:
    return Deviation(
        _largest([part.energy_eV for part in parts]),
        _largest([part.forces_eV_per_A for part in parts]),
        _largest_of_known([part.stress_eV_per_A3 for part in parts]),
    )


def _largest(values: Sequence[float]) -> float:
    # Python's max would lose a value that is not a number.
    return float(np.max(values))


def _largest_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _largest(known) if known else None
