"""A classical reference with a known answer: the Fumi-Tosi potential of LiF.

A potential energy surface on which every part of a campaign can be checked: one call takes milliseconds, the lattice
constant is 4.0314 Å, and a lithium interstitial migrates by collinear interstitialcy over 0.110 eV (65 atoms) or
0.099 eV (217 atoms).
"""

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray
from scipy.special import erfc

from curator.backends.calculator import WholeCalculator
from curator.datasets.label import Theory

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

COULOMB_EV_A: float = float(Hartree * Bohr)
"""e²/(4πε₀) in eV Å."""
ALPHA_PER_A: float = 0.3
"""Damping of the Coulomb interaction."""
CUTOFF_A: float = 6.5
"""Cutoff of every interaction."""
_SKIN_A = 0.6

# Rows and columns are Li, F.
_CHARGE = np.array([1.0, -1.0])
_A_EV = 0.2109636 * np.array([[2.0, 1.375], [1.375, 0.75]])
_SIGMA_A = np.array([[1.632, 1.995], [1.995, 2.358]])
_RHO_A = 0.299
_C_EV_A6 = 0.6241509 * np.array([[0.073, 0.8], [0.8, 14.5]])
_D_EV_A8 = 0.6241509 * np.array([[0.03, 0.6], [0.6, 17.0]])
# Where the force between two ions is greatest: 60.1, 7.2 and 10.8 eV/Å.
_CORE_A = np.array([[0.616, 0.958], [0.958, 1.388]])

_ONE_OVER_SQRT_PI = float(1.0 / np.sqrt(np.pi))


def _screened_coulomb(r: Floats) -> tuple[Floats, Floats]:
    """``erfc(αr)/r`` in 1/Å and minus its derivative in 1/Å²."""
    value = erfc(ALPHA_PER_A * r) / r
    slope = (value + 2.0 * ALPHA_PER_A * _ONE_OVER_SQRT_PI * np.exp(-((ALPHA_PER_A * r) ** 2))) / r
    return value, slope


def _born_mayer_huggins(r: Floats, a: Indices, b: Indices) -> tuple[Floats, Floats]:
    """Energy in eV and force ``-dV/dr`` in eV/Å of ions of kinds ``a`` and ``b`` (0 Li, 1 F) at distance ``r`` in Å."""
    repulsion = _A_EV[a, b] * np.exp((_SIGMA_A[a, b] - r) / _RHO_A)
    inverse2 = 1.0 / r**2
    inverse6 = inverse2 * inverse2 * inverse2
    dispersion6 = _C_EV_A6[a, b] * inverse6
    dispersion8 = _D_EV_A8[a, b] * inverse6 * inverse2
    return repulsion - dispersion6 - dispersion8, repulsion / _RHO_A - (6.0 * dispersion6 + 8.0 * dispersion8) / r


_KINDS = np.array([0, 1])
_CUT_BMH = _born_mayer_huggins(np.full((2, 2), CUTOFF_A), _KINDS[:, None], _KINDS[None, :])[0]
_CUT_VALUE, _CUT_SLOPE = (float(x) for x in _screened_coulomb(np.array(CUTOFF_A)))
_SELF_EV = -COULOMB_EV_A * ((_CUT_VALUE + _CUT_SLOPE * CUTOFF_A) / 2.0 + ALPHA_PER_A * _ONE_OVER_SQRT_PI)


def fumi_tosi_theory() -> Theory:
    """Level of theory of `FumiTosiLiF`."""
    return Theory(
        method="lif-fumi-tosi",
        code="curator",
        settings={"alpha_per_A": ALPHA_PER_A, "cutoff_A": CUTOFF_A, "shifted": True, "core": "constant force"},
    )


class FumiTosiLiF(WholeCalculator):
    r"""Fumi-Tosi potential of LiF with damped, shifted Coulomb forces.

    .. math:: V_{ij}(r) = A_{ij} e^{(\sigma_{ij} - r)/\rho} - C_{ij}/r^6 - D_{ij}/r^8 + q_i q_j \, v_\mathrm{DSF}(r)

    for charges of one electron, all of it cut at 6.5 Å with the energy shifted to zero there. It is the potential of
    LAMMPS' ``pair_style born/coul/dsf 0.3 6.5`` with ``pair_modify shift yes`` and the coefficients below (LAMMPS
    counts ``D`` with the opposite sign), down to the core.

    A Born-Mayer-Huggins potential falls to minus infinity at short distance. Below the distance of greatest repulsion
    (Li-Li 0.616, Li-F 0.958, F-F 1.388 Å), which no trajectory reaches at less than several thousand kelvin, the force
    here stays at its greatest value instead, so that energy and force are continuous and ions cannot fuse.

    Properties are energy, forces and, for a cell with three periodic directions, stress.

    Raises
    ------
    ValueError
        At a calculation, if there are elements other than Li and F.

    References
    ----------
    F. G. Fumi, M. P. Tosi, J. Phys. Chem. Solids 25, 31 and 45 (1964): sigma, rho, b.
    J. E. Mayer, J. Chem. Phys. 1, 270 (1933): C, D.
    C. J. Fennell, J. D. Gezelter, J. Chem. Phys. 124, 234104 (2006), Eq. 19: damped, shifted Coulomb force.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._listed: Atoms | None = None
        self._pairs: tuple[Indices, Indices, Floats] = (np.empty(0, int), np.empty(0, int), np.empty((0, 3)))

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy, forces and stress of ``atoms``."""
        foreign = sorted(set(atoms.symbols) - {"Li", "F"})
        if foreign:
            raise ValueError(
                f"the Fumi-Tosi potential of LiF knows Li and F only, not {', '.join(foreign)}; choose another labeller"
            )
        kind = (atoms.numbers == 9).astype(np.intp)
        i, j, offset = self._neighbours(atoms)
        vector = atoms.positions[j] - atoms.positions[i] + offset @ atoms.cell.array
        r2 = np.einsum("ij,ij->i", vector, vector)
        near = r2 < CUTOFF_A**2
        i, j, vector, r = i[near], j[near], vector[near], np.sqrt(r2[near])
        energies, force = _pair(r, kind[i], kind[j])

        # Two ions at the same place push each other in no direction.
        along = np.where(r > 0.0, force / np.where(r > 0.0, r, 1.0), 0.0)[:, None] * vector
        n_atoms = len(atoms)
        forces = np.stack(
            [np.bincount(j, along[:, x], n_atoms) - np.bincount(i, along[:, x], n_atoms) for x in range(3)], axis=1
        )
        energy = float(energies.sum()) + n_atoms * _SELF_EV
        results = {"energy": energy, "free_energy": energy, "forces": forces}
        if atoms.pbc.all():
            results["stress"] = full_3x3_to_voigt_6_stress(-vector.T @ along / atoms.get_volume())
        return results

    def _neighbours(self, atoms: Atoms) -> tuple[Indices, Indices, Floats]:
        """Each pair once, with a skin, kept until an atom has moved half of it (a Verlet list)."""
        listed = self._listed
        if (
            listed is None
            or len(listed) != len(atoms)
            or not np.array_equal(listed.cell.array, atoms.cell.array)
            or not np.array_equal(listed.pbc, atoms.pbc)
            or np.max(np.sum((listed.positions - atoms.positions) ** 2, axis=1)) > (_SKIN_A / 2) ** 2
        ):
            cell = complete_cell(atoms.cell)
            i, j, offset = neighbour_list(
                "ijS", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=CUTOFF_A + _SKIN_A
            )
            # An atom and its own image appear with an offset and its negative: keep the one that is positive.
            positive = (offset @ np.array([1_000_000, 1_000, 1])) > 0
            once = (i < j) | ((i == j) & positive)
            self._pairs = (i[once], j[once], offset[once].astype(float))
            self._listed = Atoms(positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        return self._pairs


def _pair(r: Floats, a: Indices, b: Indices) -> tuple[Floats, Floats]:
    """Energy in eV and force in eV/Å of pairs within the cutoff, core and shifts included."""
    core = _CORE_A[a, b]
    at = np.maximum(r, core)
    energy, force = _born_mayer_huggins(at, a, b)
    value, slope = _screened_coulomb(at)
    charge2 = COULOMB_EV_A * _CHARGE[a] * _CHARGE[b]
    energy += charge2 * (value - _CUT_VALUE + _CUT_SLOPE * (at - CUTOFF_A)) - _CUT_BMH[a, b]
    force += charge2 * (slope - _CUT_SLOPE)
    return energy + force * (at - r), force
