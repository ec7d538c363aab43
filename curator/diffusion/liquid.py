"""Liquids: what a periodic cell does to their diffusivity."""

import math

import numpy as np

from curator.datasets.units import KB_J_PER_K
from curator.diffusion.coefficient import Coefficient
from curator.diffusion.walk import Floats

XI_CUBIC = 2.837297
"""Of a cubic lattice of point forces; Yeh and Hummer, eq. 11."""
A2_PER_PS_PER_M2_PER_S = 1e8


def finite_size_correction(temperature_K: float, viscosity_mPa_s: float, length_A: float) -> float:
    """Diffusivity in Å²/ps that a particle lacks in a cubic periodic cell, for the drag of its own images.

    ``xi kT / (6 pi eta L)``, to be added to the self-diffusivity; I.-C. Yeh and G. Hummer, J. Phys. Chem. B 108, 15873
    (2004), eq. 12. The viscosity is that of the model, which does not depend on the size of the cell, and not that of
    the experiment.

    Parameters
    ----------
    temperature_K, viscosity_mPa_s
        Temperature in K and shear viscosity in mPa s.
    length_A
        Edge of the cell in Å.
    """
    drag = 6 * math.pi * viscosity_mPa_s * 1e-3 * length_A * 1e-10
    return XI_CUBIC * KB_J_PER_K * temperature_K / drag * A2_PER_PS_PER_M2_PER_S


def correct_for_finite_size(
    coefficient: Coefficient, cell: Floats, temperature_K: float | None, viscosity_mPa_s: float | None
) -> tuple[Coefficient, float | None, str]:
    """Self-diffusivity of an infinite system, by how much it differs, and why it could not be had if that is None."""
    lengths = np.linalg.norm(cell, axis=1)
    if not np.allclose(cell @ cell.T, lengths[0] ** 2 * np.eye(3), rtol=0, atol=1e-3 * lengths[0] ** 2):
        return coefficient, None, "finite size: not corrected, for the cell is not cubic; run a cubic one"
    if viscosity_mPa_s is None or temperature_K is None:
        return (
            coefficient,
            None,
            "finite size: not corrected, for the viscosity is not given, and D is too low by 2.84 kT / (6 pi eta L); "
            "give --viscosity-mPa-s, that of the model",
        )
    added = finite_size_correction(temperature_K, viscosity_mPa_s, float(lengths[0]))
    low, high = coefficient.ci95_A2_per_ps
    corrected = Coefficient(coefficient.D_A2_per_ps + added, coefficient.error_A2_per_ps, (low + added, high + added))
    return corrected, added, ""
