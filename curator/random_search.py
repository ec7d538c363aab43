"""Random structure search for holes in a potential: sensible random cells, relaxed at low and at high pressure.

C. J. Pickard and R. J. Needs, J. Phys.: Condens. Matter 23, 053201 (2011), search for crystals in this way: random
cells of a reasonable volume, no atoms on top of each other, each relaxed to the nearest minimum. A good potential ends
in something dense and ordinary. One with holes ends with atoms on top of each other, and how often it does so is told
by no force error; pressure makes it the more likely (as a measure of robustness: arXiv:2606.12704).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import covalent_radii
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from numpy.typing import NDArray
from scipy.stats import binomtest

from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.units import GPA
from curator.learners.dimers import isolated_energies
from curator.md import min_distance_ratio

N_ATOMS = 8
START_RATIO = 0.8
"""Atoms of a random cell are at least this times the sum of their covalent radii apart: a short bond."""
MAX_PACKING = 0.3
"""They may be nearer where spheres of that size would fill more than this share of the cell, as in metals.

Placement at random jams at 0.38 (J. Feder, J. Theor. Biol. 87, 237 (1980)).
"""
VOLUMES = (0.8, 1.2)
"""Volume of a random cell over that of as many atoms of the structure in question, drawn between these."""
WIDEST_COSINE = 0.5
"""Angles of a random cell are between 60 and 120 degrees."""
N_TRIES = 10_000
HOLE_RATIO = 0.5
"""Two atoms nearer than this times the sum of their covalent radii have fallen together; labellers refuse them too."""
LARGEST_COHESION_EV = 9.0
"""No solid is bound by more than 8.90 eV per atom, tungsten (C. Kittel, *Introduction to Solid State Physics*)."""
FMAX_EV_PER_A = 0.1


@dataclass(frozen=True, slots=True)
class HoleRate:
    """How many random structures fell into a hole at one pressure.

    Attributes
    ----------
    pressure_GPa
        Pressure in GPa.
    holes
        How each run ended in a hole, in the order of the structures; empty for a run that did not.
    n_steps
        Steps of all relaxations together.
    cpu_s
        CPU seconds they took.
    """

    pressure_GPa: float
    holes: tuple[str, ...]
    n_steps: int
    cpu_s: float

    @property
    def n_runs(self) -> int:
        """Structures that were relaxed."""
        return len(self.holes)

    @property
    def n_holes(self) -> int:
        """Runs that fell into a hole."""
        return sum(map(bool, self.holes))

    @property
    def ci95(self) -> tuple[float, float]:
        """Interval of the rate, see :func:`wilson95`."""
        return wilson95(self.n_holes, self.n_runs)


def wilson95(n_hits: int, n_runs: int) -> tuple[float, float]:
    """95 % interval of a share: E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927)."""
    interval = binomtest(n_hits, n_runs).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def small_composition(numbers: NDArray[np.int32], n_atoms: int = N_ATOMS) -> NDArray[np.int32]:
    """Atomic numbers of a cell of about ``n_atoms``, in the proportions of ``numbers``; each element at least once."""
    elements, counts = np.unique(numbers, return_counts=True)
    shares = counts * (n_atoms / counts.sum())
    few = np.maximum(np.floor(shares), 1).astype(int)
    # The largest remainders are rounded up.
    for idx in np.argsort(few - shares, kind="stable")[: max(0, n_atoms - few.sum())]:
        few[idx] += 1
    return np.repeat(elements, few).astype(np.int32)


def random_structures(like: Frame, n: int, rng: np.random.Generator, *, n_atoms: int = N_ATOMS) -> list[Frame]:
    """Random cells of the composition and density of a structure.

    Cell vectors of random directions and lengths, angles between 60 and 120 degrees, a volume drawn from 0.8 to 1.2
    times that of the structure; atoms one after the other at random, none nearer to another or its image than 0.8
    times the sum of the covalent radii, or less where the structure is too dense for that.

    Parameters
    ----------
    like
        Periodic in three dimensions.

    Raises
    ------
    ValueError
        If it is not, or no such cell is found.
    """
    if not like.pbc.all():
        raise ValueError(f"random structures need one that is periodic in three dimensions; pbc is {like.pbc.tolist()}")
    numbers = small_composition(like.numbers, n_atoms)
    volume_A3 = abs(np.linalg.det(like.cell)) / len(like) * len(numbers)
    return [_random_structure(numbers, volume_A3, rng) for _ in range(n)]


def hole_rate(
    calculator: Calculator, starts: Sequence[Frame], pressure_GPa: float, *, like: Frame, max_steps: int
) -> HoleRate:
    """Relax structures under pressure, cells included, and count the holes they fall into.

    Parameters
    ----------
    calculator
        With energy, forces and stress.
    starts
        Of :func:`random_structures`; the same for all potentials that are to be compared.
    like
        The structure they were made for, an ordinary one. What lies 9 eV per atom below it, more than a solid is
        bound by, is a hole too; energies are counted from those of the atoms alone.
    max_steps
        Most steps of a relaxation (FIRE, to 0.1 eV/Å); one that is not over by then has found no hole.

    Raises
    ------
    Exception
        Whatever the calculator raises at a sane structure.
    """
    began = time.process_time()
    alone = isolated_energies(calculator, like.numbers.tolist())
    atoms = atoms_from_frame(like)
    atoms.calc = calculator
    floor_eV = _binding_eV_per_atom(atoms, alone) - LARGEST_COHESION_EV
    runs = [_relax(calculator, start, pressure_GPa, alone, floor_eV, max_steps) for start in starts]
    holes, n_steps = zip(*runs, strict=True)
    return HoleRate(pressure_GPa, holes, sum(n_steps), time.process_time() - began)


def _random_structure(numbers: NDArray[np.int32], volume_A3: float, rng: np.random.Generator) -> Frame:
    spheres_A3 = float((4 / 3 * np.pi * covalent_radii[numbers] ** 3).sum())
    for _ in range(N_TRIES):
        cell = _random_cell(volume_A3 * rng.uniform(*VOLUMES), rng)
        ratio = min(START_RATIO, float(MAX_PACKING * np.linalg.det(cell) / spheres_A3) ** (1 / 3))
        positions = _random_positions(numbers, cell, ratio, rng)
        if positions is None:
            continue
        frame = Frame(numbers, positions, cell, np.ones(3, dtype=bool))
        # An atom and its own images were not looked at.
        if min_distance_ratio(frame) >= ratio:
            return frame
    raise ValueError(f"no random cell of {len(numbers)} atoms in {volume_A3:.0f} Å³ keeps them apart; give more atoms")


def _random_cell(volume_A3: float, rng: np.random.Generator) -> NDArray[np.float64]:
    while True:
        directions = rng.normal(size=(3, 3))
        directions /= np.linalg.norm(directions, axis=1)[:, None]
        cosines = np.abs(directions @ directions.T)[np.triu_indices(3, 1)]
        if cosines.max() <= WIDEST_COSINE:
            break
    cell = directions * rng.uniform(0.7, 1.4, size=3)[:, None]
    determinant = np.linalg.det(cell)
    return np.asarray(cell * np.sign(determinant) * (volume_A3 / abs(determinant)) ** (1 / 3))


def _random_positions(
    numbers: NDArray[np.int32], cell: NDArray[np.float64], ratio: float, rng: np.random.Generator, n_tries: int = 100
) -> NDArray[np.float64] | None:
    """Positions, atom by atom, at least ``ratio`` covalent radii sums apart; None if there is no place for one."""
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3) @ cell
    radii = covalent_radii[numbers]
    positions = np.empty((0, 3))
    for k in range(len(numbers)):
        for trial in rng.uniform(size=(n_tries, 3)) @ cell:
            distances = np.linalg.norm(trial - positions + images, axis=-1)
            if (distances >= ratio * (radii[k] + radii[:k])).all():
                positions = np.vstack([positions, trial])
                break
        else:
            return None
    return positions


def _relax(
    calculator: Calculator,
    start: Frame,
    pressure_GPa: float,
    alone: dict[int, float],
    floor_eV: float,
    max_steps: int,
) -> tuple[str, int]:
    """The hole that a relaxation falls into, empty if none; and the steps it took."""
    atoms = atoms_from_frame(start)
    atoms.calc = calculator
    optimiser = FIRE(FrechetCellFilter(atoms, scalar_pressure=pressure_GPa * GPA), logfile=None)
    steps = optimiser.irun(fmax=FMAX_EV_PER_A, steps=max_steps)
    hole = ""
    while not hole:
        try:
            if next(steps, None) is None:
                break
            hole = _geometry_hole(atoms) or _energy_hole(atoms, alone, floor_eV)
        except Exception as error:
            # A calculator may choke on a wild structure; at a sane one the error is real.
            hole = _geometry_hole(atoms)
            if not hole:
                raise
            hole += f"; the calculator raised {type(error).__name__}"
    return hole, optimiser.get_number_of_steps()


def _geometry_hole(atoms: Atoms) -> str:
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "a position is not finite"
    # As dense as that, atoms have fallen together, and a neighbour list may not fit into memory.
    least_A3 = float((4 / 3 * np.pi * (HOLE_RATIO * covalent_radii[atoms.numbers]) ** 3).sum())
    if (volume_A3 := atoms.get_volume()) < least_A3:
        return f"the volume collapsed to {volume_A3:.2f} Å³"
    ratio = min_distance_ratio(frame_from_atoms(atoms), HOLE_RATIO)
    if ratio < HOLE_RATIO:
        return f"a pair distance of {ratio:.2f} covalent radii sums is below {HOLE_RATIO:g}"
    return ""


def _energy_hole(atoms: Atoms, alone: dict[int, float], floor_eV: float) -> str:
    binding_eV = _binding_eV_per_atom(atoms, alone)
    if not (
        np.isfinite(binding_eV) and np.isfinite(atoms.get_forces()).all() and np.isfinite(atoms.get_stress()).all()
    ):
        return "an energy, force or stress is not finite"
    if binding_eV < floor_eV:
        return f"an energy {floor_eV + LARGEST_COHESION_EV - binding_eV:.1f} eV per atom below the structure's own"
    return ""


def _binding_eV_per_atom(atoms: Atoms, alone: dict[int, float]) -> float:
    return float(atoms.get_potential_energy() - sum(alone[z] for z in atoms.numbers.tolist())) / len(atoms)
