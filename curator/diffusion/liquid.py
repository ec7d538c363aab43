"""Liquids: their self-diffusivity, and what a periodic cell does to it."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curator.datasets.units import KB_J_PER_K
from curator.diffusion import refusals
from curator.diffusion.coefficient import Coefficient, measure_walk, upper_bound
from curator.diffusion.diffusivity import Diffusivity, refused
from curator.diffusion.runs import guess, length_of_a_hop, prepare, seen, too_short
from curator.diffusion.tensor import diffusivity_tensor, raised
from curator.diffusion.walk import Floats
from curator.positions import in_mass_frame

XI_CUBIC = 2.837297
"""Of a cubic lattice of point forces; Yeh and Hummer, eq. 11."""
A2_PER_PS_PER_M2_PER_S = 1e8


def liquid_diffusivity_of_positions(
    positions: Floats | Sequence[Floats],
    numbers: ArrayLike,
    cell: ArrayLike,
    frame_interval_fs: float,
    *,
    mobile: str,
    pbc: ArrayLike = (True, True, True),
    unwrapped: bool = False,
    temperature_K: float | None = None,
    hop_length_A: float | None = None,
    guessed_hop_length_A: float | None = None,
    equilibration_ps: float = 2.0,
    viscosity_mPa_s: float | None = None,
) -> Diffusivity:
    """Self-diffusivity in a liquid, where nothing stays: the centre of mass is the frame of reference.

    Parameters
    ----------
    viscosity_mPa_s
        Shear viscosity of the model's liquid, by which the size of the cell is corrected for.

    The others are those of `curator.diffusion.measurement.diffusivity_of_positions`, and so are the errors.
    """
    runs = prepare(
        positions,
        numbers,
        cell,
        frame_interval_fs,
        mobile=mobile,
        host=[],
        pbc=pbc,
        unwrapped=unwrapped,
        temperature_K=temperature_K,
        hop_length_A=hop_length_A,
        guessed_hop_length_A=guessed_hop_length_A,
        equilibration_ps=equilibration_ps,
    )
    if isinstance(runs, Diffusivity):
        return runs
    kept = [in_mass_frame(run, runs.numbers) for run in runs.kept]
    if reason := refusals.exploded(kept, runs.places, runs.numbers, runs.interval_ps, temperature_K):
        return refused(runs.nothing_known, reason)
    length_A = length_of_a_hop(runs)
    paths = [(run - run[0])[:, runs.is_mobile].reshape(len(run), -1) for run in kept]
    walk = measure_walk(paths, runs.interval_ps, length_A) if paths else None
    if walk is None:
        return too_short(runs)
    known = seen(runs, walk, paths, length_A)
    not_diffusive = refusals.not_diffusive(paths, walk.plateau, runs.interval_ps)
    if refusals.BALLISTIC in not_diffusive:
        return refused(known, not_diffusive)
    if reason := refusals.too_few_hops(walk, runs.time_ps):
        bound = upper_bound(walk, length_A, runs.time_ps, runs.n_mobile)
        return replace(known, status="bound", reasons=(reason, *guess(runs, length_A)), bound_A2_per_ps=bound)
    if reason := not_diffusive or refusals.not_stationary(paths, walk, runs.interval_ps):
        return refused(known, reason)
    tracer, added, uncorrected = correct_for_finite_size(
        walk.coefficient, runs.cell, runs.pbc, temperature_K, viscosity_mPa_s
    )
    reasons = (*refusals.cautions(walk, runs.interval_ps), *guess(runs, length_A))
    return replace(
        known,
        status="measured",
        reasons=(*reasons, uncorrected) if uncorrected else reasons,
        tracer=tracer,
        tracer_tensor=raised(diffusivity_tensor(paths, runs.interval_ps, walk), added or 0.0),
        finite_size_A2_per_ps=added,
        replica_error_A2_per_ps=walk.replica_error_A2_per_ps,
    )


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
    coefficient: Coefficient,
    cell: Floats,
    pbc: NDArray[np.bool_],
    temperature_K: float | None,
    viscosity_mPa_s: float | None,
) -> tuple[Coefficient, float | None, str]:
    """Self-diffusivity of an infinite system, by how much it differs, and why it could not be had if that is None."""
    if not pbc.all():
        return coefficient, None, "finite size: not corrected, for the cell is not periodic in all directions"
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
