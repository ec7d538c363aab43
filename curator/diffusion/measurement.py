"""Diffusivity from molecular dynamics, with an honest error or an honest refusal."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from curator.diffusion import refusals
from curator.diffusion.arrhenius import Arrhenius, fit_arrhenius
from curator.diffusion.carriers import Walks, bounds, may_be_correlated, walks_of
from curator.diffusion.coefficient import haven_ratio, shared
from curator.diffusion.diffusivity import Diffusivity, as_json, refused
from curator.diffusion.liquid import liquid_diffusivity_of_positions
from curator.diffusion.runs import Runs, guess, length_of_a_hop, prepare, seen, too_short
from curator.diffusion.tensor import describe, diffusivity_tensor
from curator.diffusion.walk import Floats
from curator.positions import hop_length, in_host_frame
from curator.trajectory import Trajectory

__all__ = [
    "Arrhenius",
    "Diffusivity",
    "as_json",
    "coldest_first",
    "diffusivity_of_positions",
    "fit_arrhenius",
    "hop_length",
    "liquid_diffusivity_of_positions",
    "measure_diffusion",
]


def measure_diffusion(
    trajectories: Sequence[Trajectory],
    mobile: str,
    *,
    host: Sequence[str] | None = None,
    hop_length_A: float | None = None,
    guessed_hop_length_A: float | None = None,
    n_carriers: int | None = None,
    equilibration_ps: float = 2.0,
    tracer: bool = True,
    liquid: bool = False,
    viscosity_mPa_s: float | None = None,
) -> Diffusivity:
    """Diffusivity from independent trajectories at one temperature.

    Parameters
    ----------
    trajectories
        Replicas: same atoms, cell, temperature and frame interval.
    mobile
        Symbol of the mobile species.
    host
        Symbols of the host, whose mean displacement is the frame of reference; everything else if None.
    hop_length_A
        Displacement of the summed mobile species in one hop in Å (see `hop_length`); if None, what is guessed.
    guessed_hop_length_A
        The guess: if None, the distance between neighbouring mobile ions in the first trajectory.
    n_carriers
        Carriers the summed displacement is shared by: 1 for a single defect, the number of mobile ions where all
        of them conduct. If None, 1, and a reason says so; the intervals hold for more where the ions' hops are
        correlated.
    equilibration_ps
        Time left out at the beginning of each trajectory.
    tracer
        Whether to measure the self-diffusivity too.
    liquid
        Whether nothing stays: the centre of mass is the frame of reference, nothing is refused as molten, and the
        self-diffusivity is what is measured.
    viscosity_mPa_s
        Shear viscosity of the model's liquid, by which the size of the cell is corrected for.

    Raises
    ------
    ValueError
        If there is no trajectory, they do not belong together, two of them are the same, there is no mobile or no host
        atom, or there are more carriers than mobile ions.
    """
    if not trajectories:
        raise ValueError("no trajectory to measure a diffusivity from")
    first = trajectories[0]
    for other in trajectories[1:]:
        same = (
            np.array_equal(first.numbers, other.numbers)
            and np.allclose(first.cell, other.cell)
            and first.settings.temperature_K == other.settings.temperature_K
            and first.settings.stored_interval_fs == other.settings.stored_interval_fs
        )
        if not same:
            raise ValueError("trajectories of one diffusivity must share atoms, cell, temperature and frame interval")
    pressures = [t.pressure_GPa for t in trajectories if t.pressure_GPa is not None]
    exploded = [t for t in trajectories if t.status == "exploded"]
    given: dict[str, Any] = {
        "positions": [t.positions for t in trajectories if t.status == "completed"] or [first.start.positions[None]],
        "numbers": first.numbers,
        "cell": first.cell,
        "frame_interval_fs": first.settings.stored_interval_fs,
        "mobile": mobile,
        "pbc": first.pbc,
        "unwrapped": True,
        "temperature_K": first.settings.temperature_K,
        "hop_length_A": hop_length_A,
        "guessed_hop_length_A": guessed_hop_length_A,
        "equilibration_ps": equilibration_ps,
    }
    if liquid:
        measured = liquid_diffusivity_of_positions(**given, viscosity_mPa_s=viscosity_mPa_s)
    else:
        measured = diffusivity_of_positions(**given, host=host, n_carriers=n_carriers, tracer=tracer and not exploded)
    measured = replace(measured, pressure_GPa=float(np.mean(pressures)) if pressures else None)
    if exploded:
        reason = (
            f"exploded: {len(exploded)} of {len(trajectories)} trajectories, {exploded[0].reason}; label frames from "
            "there and train on, or lower the temperature"
        )
        return refused(measured, reason)
    return measured


def diffusivity_of_positions(
    positions: Floats | Sequence[Floats],
    numbers: ArrayLike,
    cell: ArrayLike,
    frame_interval_fs: float,
    *,
    mobile: str,
    pbc: ArrayLike = (True, True, True),
    unwrapped: bool = False,
    temperature_K: float | None = None,
    host: Sequence[str] | None = None,
    hop_length_A: float | None = None,
    guessed_hop_length_A: float | None = None,
    n_carriers: int | None = None,
    equilibration_ps: float = 2.0,
    tracer: bool = True,
) -> Diffusivity:
    """Diffusivity in a solid from the positions of one or several trajectories, wrapped or not.

    That in a liquid is `liquid_diffusivity_of_positions`. See `curator.diffusion.walk.fit_walk` for the estimate,
    `curator.diffusion.coefficient.measure_walk` for its error and ``curator/diffusion/refusals.py`` for what leads to a
    bound or a refusal.

    Parameters
    ----------
    positions
        Å, shape ``(n_frames, n_atoms, 3)``, or several of them.
    numbers
        Atomic numbers, shape ``(n_atoms,)``.
    cell, pbc
        Lattice vectors as rows in Å, shape ``(3, 3)``, and periodicity, shape ``(3,)``.
    frame_interval_fs
        Time between frames in fs.
    unwrapped
        Whether the positions are known to be unwrapped; if not, they are followed across the boundaries, which asks
        for frames close enough in time.
    mobile, temperature_K, host, hop_length_A, guessed_hop_length_A, n_carriers, equilibration_ps, tracer
        As for `measure_diffusion`.

    Raises
    ------
    ValueError
        If there is no mobile or no host atom, there are more carriers than mobile ions, a number is not finite, two
        trajectories are the same, or an atom moves too far between two frames to be followed.
    """
    if host is not None and not list(host):
        raise ValueError("host: name an element that stays, or give None for all but the mobile one")
    runs = prepare(
        positions,
        numbers,
        cell,
        frame_interval_fs,
        mobile=mobile,
        host=host,
        pbc=pbc,
        unwrapped=unwrapped,
        temperature_K=temperature_K,
        hop_length_A=hop_length_A,
        guessed_hop_length_A=guessed_hop_length_A,
        equilibration_ps=equilibration_ps,
    )
    if isinstance(runs, Diffusivity):
        return runs
    if n_carriers is not None and not 1 <= n_carriers <= runs.n_mobile:
        limit = f"more than the {runs.n_mobile} {mobile} ions there are" if n_carriers > 1 else "too few"
        raise ValueError(f"{n_carriers} carriers are {limit}")
    kept = [in_host_frame(run, runs.is_host) for run in runs.kept]
    if reason := refusals.exploded(kept, runs.places, runs.numbers, runs.interval_ps, temperature_K):
        return refused(runs.nothing_known, reason)
    length_A = length_of_a_hop(runs)
    moving = refusals.moving_hosts(
        kept, runs.numbers, runs.is_mobile, runs.is_host, runs.interval_ps, hop_length_A=length_A
    )
    if reason := refusals.melted(moving, len(np.unique(runs.numbers[runs.is_host]))):
        return refused(runs.nothing_known, reason)
    displacements = [(run - run[0])[:, runs.is_mobile] for run in kept]
    walks = walks_of(displacements, runs.interval_ps, length_A, n_carriers)
    if walks is None:
        return too_short(runs)
    judged = _judged(runs, walks, tracer)
    if judged.status == "refused":
        return judged
    doubts = refusals.unsteady_host(moving, int(runs.is_host.sum()), runs.n_mobile, length_A)
    return replace(judged, reasons=(*judged.reasons, *doubts))


def _judged(runs: Runs, walks: Walks, tracer: bool) -> Diffusivity:
    """What the gates let through: a refusal, a bound, or what was measured."""
    of_sum, interval_ps = walks.of_sum, walks.interval_ps
    known = seen(runs, of_sum, walks.paths, walks.hop_length_A, walks.n_carriers)
    not_diffusive = refusals.not_diffusive(walks.paths, of_sum.plateau, interval_ps)
    if refusals.BALLISTIC in not_diffusive:
        return refused(known, not_diffusive)
    if reason := refusals.too_few_hops(of_sum, walks.time_ps):
        of_carrier, of_ion = bounds(walks)
        return replace(
            known,
            status="bound",
            reasons=(reason, *walks.doubts, *guess(runs, walks.hop_length_A)),
            bound_A2_per_ps=of_carrier,
            tracer_bound_A2_per_ps=of_ion if tracer else None,
        )
    for reason in (
        not_diffusive,
        refusals.ions_caged(walks.paths, walks.ions, walks.of_ions, interval_ps),
        refusals.not_stationary(walks.paths, of_sum, interval_ps),
    ):
        if reason:
            return refused(known, reason)
    return _measured(known, runs, walks, tracer)


def _measured(known: Diffusivity, runs: Runs, walks: Walks, tracer: bool) -> Diffusivity:
    of_sum, of_ions, n_carriers = walks.of_sum, walks.of_ions if tracer else None, walks.n_carriers
    collective_tensor = diffusivity_tensor(walks.paths, walks.interval_ps, of_sum, n_carriers)
    tracer_tensor = None if of_ions is None else diffusivity_tensor(walks.ions, walks.interval_ps, of_ions)
    ratio, ratio_error = None, None
    if of_ions is not None and of_ions.coefficient.D_A2_per_ps > 0:
        ratio, ratio_error = haven_ratio(of_ions.coefficient, of_sum.coefficient, walks.n_ions)
    plane = describe(tracer_tensor or collective_tensor)
    reasons = (
        *refusals.cautions(of_sum, walks.interval_ps),
        *may_be_correlated(walks, tracer=tracer),
        *walks.doubts,
        *guess(runs, walks.hop_length_A),
        *((plane,) if plane else ()),
    )
    return replace(
        known,
        status="measured",
        reasons=reasons,
        collective=shared(of_sum.coefficient, n_carriers),
        tracer=None if of_ions is None else of_ions.coefficient,
        collective_tensor=collective_tensor,
        tracer_tensor=tracer_tensor,
        haven_ratio=ratio,
        haven_ratio_error=ratio_error,
        replica_error_A2_per_ps=of_sum.replica_error_A2_per_ps and of_sum.replica_error_A2_per_ps / n_carriers,
    )


def coldest_first(
    temperatures_K: Sequence[float], measure: Callable[[float, float | None], Diffusivity]
) -> list[Diffusivity]:
    """Diffusivities at several temperatures, in their order, with one guess of the hop length for all.

    Parameters
    ----------
    temperatures_K
        Each of them once.
    measure
        From a temperature, and what the length of a hop was guessed to be at a lower one, or None.
    """
    found: dict[float, Diffusivity] = {}
    guessed_A = None
    for temperature_K in sorted(temperatures_K):
        found[temperature_K] = measure(temperature_K, guessed_A)
        guessed_A = guessed_A or found[temperature_K].hop_length_A
    return [found[temperature_K] for temperature_K in temperatures_K]
