"""Variations of a structure to be labelled: rattled, strained, with atoms missing. Pure geometry, no energies."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from curator.datasets.frame import Frame


@dataclass(frozen=True, slots=True)
class Structure:
    """A configuration to be labelled.

    Attributes
    ----------
    frame
        The atoms.
    kind
        Family it belongs to, by which errors are reported: ``rocksalt``, ``interstitial-65``, ...
    group
        Configurations of one group are correlated and share a split.
    """

    frame: Frame
    kind: str
    group: str


def rattled(atoms: Atoms, sigma_A: float, rng: np.random.Generator) -> Atoms:
    """Copy with normally distributed displacements of standard deviation ``sigma_A`` along each axis."""
    copy = atoms.copy()
    copy.positions += rng.normal(scale=sigma_A, size=copy.positions.shape)
    return copy


def strained(atoms: Atoms, largest: float, shear: float, rng: np.random.Generator) -> Atoms:
    """Copy under a random isotropic strain of at most ``largest`` and a random symmetric strain of scale ``shear``."""
    noise = rng.normal(scale=shear, size=(3, 3))
    strain = np.eye(3) * (1 + rng.uniform(-largest, largest)) + (noise + noise.T) / 2
    copy = atoms.copy()
    copy.set_cell(copy.cell.array @ strain, scale_atoms=True)
    return copy


def without(atoms: Atoms, missing: str, rng: np.random.Generator) -> Atoms:
    """Copy without one atom, drawn at random, of each element in ``missing`` (a formula: ``Li``, ``LiF``)."""
    copy = atoms.copy()
    for symbol in Atoms(missing).get_chemical_symbols():
        del copy[int(rng.choice(np.flatnonzero(copy.symbols == symbol)))]
    return copy
