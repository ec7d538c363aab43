"""What `curator distil` makes of given structures: the recipe, and the configurations that need no force field."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np
from ase import Atoms

from curator.datasets.contacts import contact
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.variations import Structure, rattled, strained, without

CONTACT_RATTLE_A = 0.08
CONTACT_DEPTHS = (0.4, 1.0)
SHORTEST_PS = 0.4
"""A shorter trajectory yields no frame."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is labelled, and how the students are trained; the defaults are about those of `mini-halides`.

    Attributes
    ----------
    supercells
        Repeats of each given structure.
    rattles_A
        Standard deviations of the displacements in Å.
    copies
        Rattled and strained copies of each structure, supercell and displacement.
    strain, shear
        Largest isotropic strain of a copy, and scale of its other strains.
    vacancies
        Copies of each structure and supercell that lack one atom, each element in turn.
    contacts
        Copies in which two neighbours are pushed together, each pair of elements in turn.
    temperatures_K, duration_ps, replicas, timestep_fs
        Molecular dynamics of the students: temperatures, length, trajectories of each structure, supercell and
        temperature, and time step, which suits the lightest atom of each structure if None.
    loops
        How often a student's dynamics is harvested and another student trained.
    crude_epochs, epochs
        Epochs of the first student, and of each later one.
    max_force_eV_per_A
        Configurations on which the teacher's forces exceed this are left out.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    supercells: tuple[tuple[int, int, int], ...] = ((1, 1, 1),)
    rattles_A: tuple[float, ...] = (0.03, 0.1, 0.2)
    copies: int = 8
    strain: float = 0.06
    shear: float = 0.02
    vacancies: int = 4
    contacts: int = 24
    temperatures_K: tuple[float, ...] = (500.0, 1000.0)
    duration_ps: float = 1.5
    replicas: int = 2
    timestep_fs: float | None = None
    loops: int = 2
    crude_epochs: int = 24
    epochs: int = 80
    max_force_eV_per_A: float = 30.0

    def __post_init__(self) -> None:
        for name in (
            "copies",
            "duration_ps",
            "replicas",
            "timestep_fs",
            "loops",
            "crude_epochs",
            "epochs",
            "max_force_eV_per_A",
        ):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} must be positive; got {value:g}")
        for name in ("strain", "shear", "vacancies", "contacts"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name):g}")
        for name in ("rattles_A", "temperatures_K", "supercells"):
            values = np.array(getattr(self, name))
            if not values.size or not (values > 0).all():
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        if self.duration_ps < SHORTEST_PS:
            raise ValueError(
                f"duration_ps must be at least {SHORTEST_PS:g}, or no frame is kept: equilibration comes first; got "
                f"{self.duration_ps:g}"
            )
        if not self.strain < 0.3:
            raise ValueError(f"strain must be below 0.3; got {self.strain:g}")


def variations(given: Sequence[Frame], recipe: Recipe, rng: np.random.Generator) -> Iterator[Structure]:
    """Structures as they are, rattled and strained, with an atom missing, and with two atoms pushed together."""
    hosts = [atoms_from_frame(frame).repeat(repeats) for frame, repeats in product(given, recipe.supercells)]
    for idx, atoms in enumerate(hosts):
        yield Structure(frame_from_atoms(atoms), "given", f"given/{idx}")
        for n, (sigma_A, _) in enumerate(product(recipe.rattles_A, range(recipe.copies))):
            moved = rattled(_strained(atoms, recipe, rng), sigma_A, rng)
            yield Structure(frame_from_atoms(moved), "rattled", f"rattled/{idx}/{n}")
        symbols = sorted(set(atoms.get_chemical_symbols()))
        for n in range(recipe.vacancies if len(atoms) > 1 else 0):
            defective = without(atoms, symbols[n % len(symbols)], rng)
            sigma_A = float(rng.choice(recipe.rattles_A))
            moved = rattled(_strained(defective, recipe, rng), sigma_A, rng)
            yield Structure(frame_from_atoms(moved), "vacancy", f"vacancy/{idx}/{n}")
    for n in range(recipe.contacts):
        host = frame_from_atoms(rattled(hosts[n % len(hosts)], CONTACT_RATTLE_A, rng))
        pairs = list(combinations_with_replacement(sorted(set(host.numbers.tolist())), 2))
        pushed = contact(host, pairs[n // len(hosts) % len(pairs)], float(rng.uniform(*CONTACT_DEPTHS)), rng)
        if pushed is not None:
            yield Structure(pushed, "contact", f"contact/{n}")


def _strained(atoms: Atoms, recipe: Recipe, rng: np.random.Generator) -> Atoms:
    return strained(atoms, recipe.strain, recipe.shear, rng) if atoms.cell.rank == 3 else atoms
