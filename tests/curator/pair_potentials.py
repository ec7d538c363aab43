"""Pair potentials whose holes are known: none in Lennard-Jones, famous ones in that of BKS for silica."""

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.units import Bohr, Hartree
from matscipy.neighbours import neighbour_list
from scipy.special import erfc

from curator.backends.calculator import WholeCalculator

ARGON = LennardJones(epsilon=0.0104, sigma=3.40, rc=8.5, smooth=True)
COULOMB_EV_A = Hartree * Bohr
CHARGE = {14: 2.4, 8: -1.2}
# eV, 1/Å, eV Å^6
BUCKINGHAM = {(8, 8): (1388.773, 2.76, 175.0), (8, 14): (18003.7572, 4.87318, 133.5381), (14, 14): (0.0, 1.0, 0.0)}


class SilicaBKS(WholeCalculator):
    """B. W. H. van Beest, G. J. Kramer, R. A. van Santen, Phys. Rev. Lett. 64, 1955 (1990), in eV and Å.

    Its Buckingham terms fall to minus infinity: the energy of Si-O turns over at 1.19 Å, that of O-O at 1.44 Å.
    The Coulomb interaction is damped by ``erfc(alpha r)`` and shifted to zero at the cutoff in value and slope; with
    an ``alpha`` of zero and a large cutoff it is the plain one.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, alpha_per_A: float = 0.25, cutoff_A: float = 8.0) -> None:
        super().__init__()
        self.alpha, self.cutoff = alpha_per_A, cutoff_A

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        cell = atoms.cell.array if atoms.pbc.any() else np.diag(np.ptp(atoms.positions, axis=0) + 1.0)
        i, j, r, vector = neighbour_list(
            "ijdD", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=self.cutoff
        )
        z = np.sort(atoms.numbers[np.stack([i, j])], axis=0)
        a, b, c = np.array([BUCKINGHAM[int(low), int(high)] for low, high in z.T]).reshape(-1, 3).T
        charge2 = COULOMB_EV_A * np.array([CHARGE[int(low)] * CHARGE[int(high)] for low, high in z.T])
        v, slope = self._coulomb(r)
        v_cut, slope_cut = self._coulomb(np.array(self.cutoff))
        energy = a * np.exp(-b * r) - c / r**6 + charge2 * (v - v_cut - (r - self.cutoff) * slope_cut)
        slope = -a * b * np.exp(-b * r) + 6 * c / r**7 + charge2 * (slope - slope_cut)
        pull = (slope / r)[:, None] * vector
        forces = np.stack([np.bincount(i, pull[:, x], len(atoms)) for x in range(3)], axis=1)
        results: dict[str, Any] = {"energy": energy.sum() / 2, "free_energy": energy.sum() / 2, "forces": forces}
        if atoms.pbc.all():
            stress = (vector.T @ pull) / (2 * atoms.get_volume())
            results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        return results

    def _coulomb(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v = erfc(self.alpha * r) / r
        return v, -(v + 2 * self.alpha / np.sqrt(np.pi) * np.exp(-((self.alpha * r) ** 2))) / r
