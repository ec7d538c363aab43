"""The softest vibrations of a configuration: what tells a minimum from a saddle point, and that from a ridge."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from curator.errors import CuratorError

Floats = NDArray[np.float64]

NEGATIVE_EV_PER_A2 = -0.02
"""A curvature below this is a negative mode; what lies above may be noise of a single-precision model."""
N_MODES_MAX = 3
"""Negative modes that are looked for; more tell no more."""
DISPLACEMENT_A = 0.02
"""Norm of the displacement in a finite difference of forces."""
SOFT_DISPLACEMENT_A = 0.2
"""The same for a soft mode, in whose curvature noise is smaller by as much as this is longer."""
MIN_OVERLAP = 0.5
"""Least cosine between the negative mode and the hop."""
STIFF_EV_PER_A2 = 50.0
"""Curvature given to directions that are left out; stiffer than any mode that is looked for."""
TOLERANCE_EV_PER_A2 = 0.02
"""Residual at which a mode counts as found."""


class UnusableForces(CuratorError):
    """Forces that are not numbers, or too noisy to tell a saddle point from a minimum."""


@dataclass(frozen=True, slots=True, eq=False)
class Softest:
    """The softest modes of a configuration.

    Attributes
    ----------
    negative
        Unit vectors of shape ``(n_atoms, 3)`` of the negative modes, from the most negative up, 3 at most.
    curvature_eV_per_A2
        Lowest curvature, negative or not.
    overlap
        Cosine (0 to 1) between the lowest mode and the direction that was asked about.
    """

    negative: tuple[Floats, ...]
    curvature_eV_per_A2: float
    overlap: float


def softest_modes(atoms: Atoms, direction: Floats) -> Softest:
    """Find the negative modes, and the overlap of the lowest mode with a direction.

    Masses are left out: the number of negative eigenvalues does not depend on them (Sylvester's law of inertia). A
    curvature that is negative by no more than noise counts if the mode is that of the direction, and its curvature over
    ten times the displacement exceeds the noise that is left there.

    Parameters
    ----------
    atoms
        At a stationary point, with a calculator.
    direction
        Displacement of every atom, shape ``(n_atoms, 3)``; its length does not matter.

    Raises
    ------
    UnusableForces
        If the forces are too noisy.
    """
    lowest, softest = lowest_mode(atoms, [])
    overlap = float(abs(np.vdot(softest, direction)) / np.linalg.norm(direction))
    if NEGATIVE_EV_PER_A2 <= lowest < 0 and overlap >= MIN_OVERLAP:
        over_more = _curvature_along(atoms, softest, SOFT_DISPLACEMENT_A)
        noise = NEGATIVE_EV_PER_A2 * DISPLACEMENT_A / SOFT_DISPLACEMENT_A
        return Softest((softest,) if over_more < noise else (), lowest, overlap)
    negative: list[Floats] = []
    curvature, mode = lowest, softest
    while curvature < NEGATIVE_EV_PER_A2:
        negative.append(mode)
        if len(negative) == N_MODES_MAX:
            break
        curvature, mode = lowest_mode(atoms, negative)
    return Softest(tuple(negative), lowest, overlap)


def _curvature_along(atoms: Atoms, mode: Floats, displacement_A: float) -> float:
    """Curvature in eV/Å² along a unit vector, from the forces at either side."""
    work = atoms.copy()
    work.calc = atoms.calc
    slopes = []
    for step_A in (-displacement_A, displacement_A):
        work.positions = atoms.positions + step_A * mode
        slopes.append(-float(np.vdot(work.get_forces(), mode)))
    return (slopes[1] - slopes[0]) / (2 * displacement_A)


def lowest_mode(atoms: Atoms, known: list[Floats]) -> tuple[float, Floats]:
    """Find the lowest curvature in eV/Å² and its direction, shape ``(n_atoms, 3)``, beyond what is known.

    Translations count as known. Lanczos iterations on finite differences of forces take about a quarter of the calls
    of the full Hessian at 65 atoms. Modes are found one by one, each orthogonal to those before, since Lanczos alone
    sees one of a degenerate pair.
    """
    n = 3 * len(atoms)
    translations = np.tile(np.eye(3), (len(atoms), 1)) / np.sqrt(len(atoms))
    outside = np.column_stack([translations, *(mode.ravel() for mode in known)])
    work = atoms.copy()
    work.calc = atoms.calc
    origin = atoms.positions.copy()

    def apply(vector: Floats) -> Floats:
        inside = vector.ravel() - outside @ (outside.T @ vector.ravel())
        length = np.linalg.norm(inside)
        if length < 1e-12:
            return np.zeros(n)
        step = DISPLACEMENT_A * (inside / length).reshape(-1, 3)
        work.positions = origin + step
        forward = work.get_forces()
        work.positions = origin - step
        backward = work.get_forces()
        product = (backward - forward).ravel() * length / (2 * DISPLACEMENT_A)
        # Shifted down as a whole, so that what is left out, at zero, is at the top of the spectrum.
        return np.asarray(product - outside @ (outside.T @ product) - STIFF_EV_PER_A2 * inside)

    operator = LinearOperator((n, n), matvec=apply, dtype=np.float64)
    # A start without symmetry: the hop's own direction would never meet a mode of another symmetry.
    start = np.random.default_rng(0).standard_normal(n)
    try:
        values, vectors = eigsh(
            operator, k=1, which="SA", v0=start, tol=TOLERANCE_EV_PER_A2 / STIFF_EV_PER_A2, maxiter=40
        )
    except ArpackNoConvergence as error:
        raise UnusableForces("the lowest mode of the Hessian was not found: forces are too noisy") from error
    return float(values[0]) + STIFF_EV_PER_A2, vectors[:, 0].reshape(-1, 3)
