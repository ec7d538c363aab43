"""Configurations of the nine alkali halides LiF to KBr from which `mini-halides` is distilled.

Pure geometry, drawn from a seeded generator: no energies. Thermal configurations, which need a force field, are
added by ``curator.distil.mini_halides``.
"""

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.build import bulk, surface
from ase.data import atomic_numbers
from numpy.typing import NDArray

from curator.datasets.contacts import contact
from curator.datasets.frame import Frame, frame_from_atoms
from curator.datasets.variations import Structure, rattled, strained, without

CHGNET_LATTICE_CONSTANTS_A: dict[str, float] = {
    "LiF": 4.0905,
    "LiCl": 5.1456,
    "LiBr": 5.5111,
    "NaF": 4.7028,
    "NaCl": 5.6974,
    "NaBr": 6.0551,
    "KF": 5.473,
    "KCl": 6.378,
    "KBr": 6.716,
}
"""Rocksalt lattice constants in Å at which CHGNet 0.3.0 has its lowest energy."""
CATIONS: tuple[str, ...] = ("Li", "Na", "K")
ANIONS: tuple[str, ...] = ("F", "Cl", "Br")

_CLOSEST = 0.55
"""Shortest pair distance that is labelled, in units of the cation-anion distance of the same salt."""


def salt(cation: str, anion: str) -> str:
    """Return the formula of the salt of a cation and an anion."""
    return cation + anion


def parts(formula: str) -> tuple[str, str]:
    """Cation and anion of one of the nine formulas; raises ``ValueError`` for any other."""
    for cation in CATIONS:
        if formula.startswith(cation) and formula[len(cation) :] in ANIONS:
            return cation, formula[len(cation) :]
    raise ValueError(f"{formula!r} is none of the nine alkali halides {', '.join(CHGNET_LATTICE_CONSTANTS_A)}")


def rocksalt_cell(formula: str, repeats: tuple[int, int, int] = (1, 1, 1), scale: float = 1.0) -> Atoms:
    """Conventional 8-atom rocksalt cell, repeated, with the lattice constant multiplied by ``scale``."""
    return bulk(formula, "rocksalt", a=CHGNET_LATTICE_CONSTANTS_A[formula] * scale, cubic=True).repeat(repeats)


def knock_off(formula: str, progress: float, repeats: tuple[int, int, int], scale: float = 1.0) -> Atoms:
    """Unrelaxed geometry along the collinear knock-off hop of a cation interstitial (interstitialcy).

    The interstitial moves from one octant centre of the cubic cell to the lattice site of a cation, which it pushes
    to the opposite octant centre along <111>. Halfway, the two share the site: the <111> split dumbbell.

    Parameters
    ----------
    formula
        One of the nine salts.
    progress
        0 at the first octant centre, 0.5 at the dumbbell, 1 at the second.
    repeats
        Conventional cells along each axis.
    scale
        Factor on the lattice constant.
    """
    atoms = rocksalt_cell(formula, repeats, scale)
    step = np.full(3, CHGNET_LATTICE_CONSTANTS_A[formula] * scale / 4)
    site = atoms.positions[0].copy()
    atoms.append(parts(formula)[0])
    atoms.positions[-1] = site + step * (1 - progress)
    atoms.positions[0] = site - step * progress
    return atoms


def dumbbell(formula: str, direction: NDArray[np.float64], repeats: tuple[int, int, int]) -> Atoms:
    """Split cation dumbbell along ``direction`` (any length) on one cation site, its halves 0.5 of the bond apart."""
    atoms = rocksalt_cell(formula, repeats)
    half = direction / np.linalg.norm(direction) * CHGNET_LATTICE_CONSTANTS_A[formula] * 0.21
    site = atoms.positions[0].copy()
    atoms.append(parts(formula)[0])
    atoms.positions[0], atoms.positions[-1] = site + half, site - half
    return atoms


def mixed(n_atoms: int, rng: np.random.Generator) -> Atoms:
    """Rocksalt with random cations and anions on their sublattices and the lattice constant of the mean salt."""
    edge = round((n_atoms / 2) ** (1 / 3))
    atoms = bulk("NaCl", "rocksalt", a=1.0).repeat(edge)
    cation = atoms.numbers == atomic_numbers["Na"]
    cations, anions = (rng.choice(np.array(kinds), size=int(cation.sum())) for kinds in (CATIONS, ANIONS))
    symbols = np.empty(len(atoms), dtype="U2")
    symbols[cation], symbols[~cation] = cations, anions
    mean = float(np.mean([CHGNET_LATTICE_CONSTANTS_A[salt(c, a)] for c in cations for a in anions]))
    atoms.set_chemical_symbols(symbols.tolist())
    atoms.set_cell(atoms.cell.array * mean, scale_atoms=True)
    return atoms


def closest_ratio(frame: Frame) -> float:
    """Shortest pair distance over the cation-anion distance of the elements' own salts (averaged).

    Like ions are held to the same length as unlike ones.
    """
    atoms = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    distances = atoms.get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    symbols = set(atoms.get_chemical_symbols())
    bonds = [CHGNET_LATTICE_CONSTANTS_A[salt(c, a)] / 2 for c in CATIONS for a in ANIONS if {c, a} <= symbols]
    return float(distances.min() / np.mean(bonds))


def static_structures(rng: np.random.Generator) -> Iterator[Structure]:
    """All configurations that need no force field, in a fixed order for a given generator state."""
    for idx, (kind, atoms) in enumerate(_drawn(rng)):
        frame = frame_from_atoms(atoms)
        if closest_ratio(frame) > _CLOSEST:
            yield Structure(frame, kind, f"static/{idx}")


def contact_structures(rng: np.random.Generator) -> Iterator[Structure]:
    """Crystals, with and without an interstitial, and mixtures, each with one pair of atoms pushed close together."""
    hosts = [rattled(mixed(16, rng), 0.08, rng) for _ in range(12)]
    for formula, a in CHGNET_LATTICE_CONSTANTS_A.items():
        hosts += [rattled(bulk(formula, "rocksalt", a=a).repeat(2), 0.08, rng) for _ in range(4)]
        for _ in range(8 if formula == "LiF" else 1):
            progress, scale = float(rng.uniform(0, 0.5)), float(rng.uniform(0.99, 1.02))
            hosts.append(rattled(knock_off(formula, progress, (2, 2, 1), scale), 0.08, rng))
    for idx, host in enumerate(hosts):
        frame = frame_from_atoms(host)
        pairs = list(combinations_with_replacement(sorted(set(frame.numbers.tolist())), 2))
        for i, low in zip(rng.permutation(2 * len(pairs))[:6], (0.4, 0.7) * 3, strict=False):
            pushed = contact(frame, pairs[i % len(pairs)], float(rng.uniform(low, low + 0.3)), rng)
            if pushed is not None:
                yield Structure(pushed, "contact", f"contact/{idx}")


def _drawn(rng: np.random.Generator) -> Iterator[tuple[str, Atoms]]:
    for formula, a in CHGNET_LATTICE_CONSTANTS_A.items():
        cation, anion = parts(formula)
        primitive = bulk(formula, "rocksalt", a=a).repeat(2)
        for _ in range(12):
            yield "rocksalt", rattled(strained(rocksalt_cell(formula), 0.12, 0.02, rng), rng.uniform(0, 0.2), rng)
        for scale in np.linspace(0.90, 1.12, 8):
            yield "rocksalt", rocksalt_cell(formula, scale=float(scale))
        for _ in range(14):
            sigma = rng.uniform(0.03, 0.3)
            yield "rocksalt", rattled(strained(primitive, 0.08, 0.02, rng), sigma, rng)
        for _ in range(4):
            yield "hot", rattled(strained(primitive, 0.10, 0.03, rng), rng.uniform(0.25, 0.4), rng)
        for missing in (cation + anion,) * 3:
            defective = without(primitive, missing, rng)
            yield "vacancy", rattled(strained(defective, 0.05, 0.01, rng), rng.uniform(0.03, 0.2), rng)
        for missing in (cation, cation, cation, anion):
            defective = without(rocksalt_cell(formula, (2, 2, 1)), missing, rng)
            yield "vacancy", rattled(strained(defective, 0.03, 0.01, rng), rng.uniform(0.03, 0.15), rng)
        for structure in ("cesiumchloride", "zincblende"):
            # Bond lengths of the fourfold and eightfold coordinated forms, from Pauling's n^(1/12) rule of thumb.
            edge = a * 0.595 if structure == "cesiumchloride" else a * 1.09
            other = bulk(formula, structure, a=edge).repeat(2)
            for _ in range(3):
                sigma = rng.uniform(0.02, 0.15)
                yield structure, rattled(strained(other, 0.08, 0.02, rng), sigma, rng)
        for _ in range(4):
            slab = surface(rocksalt_cell(formula), (1, 0, 0), 2, vacuum=float(rng.uniform(3, 6)), periodic=True)
            yield "surface", rattled(slab, rng.uniform(0.02, 0.2), rng)
        yield from _interstitials(formula, rng)
        for n in range(8 if formula == "LiF" else 2):
            perfect = strained(rocksalt_cell(formula, (2, 2, 2)), 0.03, 0.005, rng)
            yield "rocksalt-64", rattled(perfect, 0.02 + 0.02 * n, rng)
    for _ in range(110):
        yield "mixed", rattled(strained(mixed(16, rng), 0.10, 0.02, rng), rng.uniform(0.03, 0.3), rng)


def _interstitials(formula: str, rng: np.random.Generator) -> Iterator[tuple[str, Atoms]]:
    flagship = formula == "LiF"
    for n_atoms, repeats, n_path in ((33, (2, 2, 1), 40 if flagship else 6), (65, (2, 2, 2), 60 if flagship else 4)):
        kind = f"interstitial-{n_atoms}"
        for _ in range(n_path):
            on_path = knock_off(formula, float(rng.uniform(0, 0.5)), repeats, float(rng.uniform(0.98, 1.03)))
            yield kind, rattled(on_path, rng.uniform(0.02, 0.15), rng)
        directions = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
        for _ in range(5 if flagship else 1):
            for direction in directions:
                yield kind, rattled(dumbbell(formula, direction, repeats), rng.uniform(0.02, 0.12), rng)
