"""Structures to start from: alkali halides in the rock salt structure, perfect or with one defect that hops.

The migration paths are the textbook ones. A cation interstitial sits at the body centre of an octant of the cubic
cell and moves by the collinear interstitialcy (knock-off) mechanism: it takes the place of a neighbouring lattice
cation, which is pushed on along the same <111> direction to the next body centre. A cation vacancy exchanges its
place with one of its twelve nearest cations. Either path is its own image under inversion about its middle, so that
its saddle point is fixed by symmetry.

An interstitial has a second hop, held out to examine a model with: the direct jump to an octant that shares a face
with the first. The centre of the face itself is no saddle point but a ridge, with two negative modes: squeezed between
two anions, the ion slides towards one of the two lattice cations at the other corners. The saddle point is the <110>
split dumbbell of the two on that lattice site, fixed by the mirror plane of the face; the lattice cation, pushed aside
meanwhile, returns to its place.
"""

from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray

from curator.datasets.frame import Frame

Defect = Literal["interstitial", "vacancy"]
Mechanism = Literal["vacancy", "interstitial", "interstitialcy"]
"""How a species hops: into a vacancy, from void to void, or by pushing a lattice atom on into the next void."""

EXPERIMENTAL_LATTICE_CONSTANTS_A: dict[str, float] = {
    "LiF": 4.03,
    "LiCl": 5.13,
    "LiBr": 5.50,
    "NaF": 4.63,
    "NaCl": 5.64,
    "NaBr": 5.97,
    "KF": 5.35,
    "KCl": 6.29,
    "KBr": 6.60,
}
"""Experimental lattice constants at room temperature in Å, rounded to 0.01 Å.

D. B. Sirdeshmukh, L. Sirdeshmukh and K. G. Subhadra, *Alkali Halides: A Handbook of Physical Properties*,
Springer (2001). Starting points of a relaxation, no more.
"""


@dataclass(frozen=True, slots=True)
class Hop:
    """One elementary jump of a defect.

    Attributes
    ----------
    initial, final
        End states; an atom has the same index in both.
    saddle
        First guess of the saddle point, or None if it is not known by symmetry.
    """

    initial: Frame
    final: Frame
    saddle: Frame | None = None


@dataclass(frozen=True, slots=True)
class Seed:
    """A structure to start a campaign from.

    Attributes
    ----------
    name
        Name it was built by, such as ``lif-interstitial``.
    frame
        The structure; with a defect, the initial state of the hop.
    hop
        The jump of the defect, or None for a perfect crystal.
    heldout
        Another jump of an interstitial, which begins in the same state and is never trained on; None for anything else.
    host_formula
        Formula of the host crystal, such as ``LiF``.
    mobile
        Symbol of the element that diffuses.
    defect
        ``interstitial``, ``vacancy`` or None.
    lattice_constant_A
        Lattice constant of the conventional cubic cell in Å.
    supercell
        Conventional cells along each lattice vector.
    """

    name: str
    frame: Frame
    hop: Hop | None
    heldout: Hop | None
    host_formula: str
    mobile: str
    defect: Defect | None
    lattice_constant_A: float
    supercell: tuple[int, int, int]


def rocksalt(formula: str, lattice_constant_A: float) -> Frame:
    """Conventional cubic cell (8 atoms) of an alkali halide; a cation is at the origin."""
    if not 1.0 < lattice_constant_A < 20.0:
        raise ValueError(
            f"lattice constant {lattice_constant_A} Å is out of range; give one in Å, such as 4.03 for LiF"
        )
    return _frame(bulk(_known(formula), "rocksalt", a=lattice_constant_A, cubic=True))


def build_seed(
    name: str,
    lattice_constant_A: float | None = None,
    supercell: tuple[int, int, int] = (2, 2, 2),
    *,
    charge: int = 0,
    multiplicity: int = 0,
) -> Seed:
    """Build ``<formula>``, ``<formula>-interstitial`` or ``<formula>-vacancy`` of an alkali halide.

    Parameters
    ----------
    name
        Such as ``lif-interstitial``; case does not matter.
    lattice_constant_A
        In Å; the experimental one if None.
    supercell
        Conventional cells (8 atoms) along each lattice vector.
    charge, multiplicity
        Of every frame of the seed.

    Returns
    -------
    Seed
        Ideal, unrelaxed positions; the hop is in the middle of the cell. An interstitial is the last atom.

    Raises
    ------
    ValueError
        If the name is not known, or a cell is too small to hold the hop.
    """
    formula, _, defect = name.lower().partition("-")
    formula = _known(formula, name)
    if defect and defect not in get_args(Defect):
        raise ValueError(f"unknown defect '{defect}' in '{name}'; known: {formula.lower()}-interstitial, -vacancy")
    a = EXPERIMENTAL_LATTICE_CONSTANTS_A[formula] if lattice_constant_A is None else lattice_constant_A
    if min(supercell) < 1 or (defect and sorted(supercell)[1] < 2):
        raise ValueError(f"supercell {supercell} is too small for '{name}'; give (2, 2, 1) or larger")
    cell = rocksalt(formula, a)
    atoms = Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True).repeat(supercell)
    symbols = atoms.get_chemical_symbols()
    mobile = symbols[0]

    # The lattice cation closest to the middle of the cell; the first one of several.
    cations = np.flatnonzero(atoms.numbers == atoms.numbers[0])
    to_middle = np.linalg.norm(atoms.positions[cations] - atoms.cell.array.sum(axis=0) / 2, axis=1)
    site = int(cations[np.argmin(np.round(to_middle, 6))])

    def hop_of(start: NDArray[np.float64], end: NDArray[np.float64], top: NDArray[np.float64]) -> Hop:
        return Hop(*(_frame(atoms, x, charge, multiplicity) for x in (start, end, top)))

    hop = heldout = None
    if defect == "interstitial":
        atoms, start, end = _interstitialcy(atoms, site, mobile, a)
        hop = hop_of(start, end, (start + end) / 2)
        heldout = hop_of(start, *_direct_jump(start, site, a))
    elif defect == "vacancy":
        atoms, start, end = _vacancy_jump(atoms, site, a)
        hop = hop_of(start, end, (start + end) / 2)
    return Seed(
        name=name.lower(),
        frame=hop.initial if hop else _frame(atoms, None, charge, multiplicity),
        hop=hop,
        heldout=heldout,
        host_formula=formula,
        mobile=mobile,
        defect=cast(Defect, defect) if defect else None,
        lattice_constant_A=a,
        supercell=supercell,
    )


def _interstitialcy(
    atoms: Atoms, site: int, mobile: str, a: float
) -> tuple[Atoms, NDArray[np.float64], NDArray[np.float64]]:
    lattice_site = atoms.positions[site].copy()
    body_centre = np.full(3, a / 4)
    atoms = atoms + Atoms(mobile, positions=[lattice_site + body_centre])
    end = atoms.positions.copy()
    end[-1] = lattice_site
    end[site] = lattice_site - body_centre
    # Half way between the two, the pair is the <111> split dumbbell on the lattice site.
    return atoms, atoms.positions.copy(), end


def _direct_jump(start: NDArray[np.float64], site: int, a: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """End and saddle point of the direct jump of the interstitial, which begins like the interstitialcy."""
    end = start.copy()
    end[-1, 2] -= a / 2
    # Half a lattice constant apart, as two cations that repel each other.
    arm = a / 4 * np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    top = start.copy()
    top[-1], top[site] = start[site] + arm, start[site] - arm
    return end, top


def _vacancy_jump(atoms: Atoms, site: int, a: float) -> tuple[Atoms, NDArray[np.float64], NDArray[np.float64]]:
    vacancy = atoms.positions[site].copy()
    # Towards the side with more room, so that the path does not cross the boundary of the cell.
    room = np.diag(atoms.cell.array)
    axes = np.argsort(-room, kind="stable")[:2]
    step = np.zeros(3)
    step[axes] = np.where(vacancy[axes] > 0.25 * a, -a / 2, a / 2)
    jumper = int(np.argmin(np.linalg.norm(atoms.positions - (vacancy + step), axis=1)))
    jumper -= jumper > site
    del atoms[site]
    end = atoms.positions.copy()
    end[jumper] = vacancy
    return atoms, atoms.positions.copy(), end


def _known(formula: str, name: str | None = None) -> str:
    for known in EXPERIMENTAL_LATTICE_CONSTANTS_A:
        if known.lower() == formula.lower():
            return known
    names = ", ".join(known.lower() for known in EXPERIMENTAL_LATTICE_CONSTANTS_A)
    raise ValueError(
        f"unknown structure '{name or formula}'; known: {names}, each alone or with -interstitial or -vacancy"
    )


def _frame(atoms: Atoms, positions: NDArray[np.float64] | None = None, charge: int = 0, multiplicity: int = 0) -> Frame:
    x = atoms.positions if positions is None else positions
    return Frame(atoms.numbers, x, atoms.cell.array, atoms.pbc, charge, multiplicity)
