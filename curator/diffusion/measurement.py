"""Diffusivity from molecular dynamics, with an honest error or an honest refusal."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from curator.diffusion import refusals
from curator.diffusion.arrhenius import Arrhenius, fit_arrhenius
from curator.diffusion.coefficient import (
    N_RESIDENCES,
    MeasuredWalk,
    haven_ratio,
    ions_in_a_hop,
    ions_slow_down,
    length_for_memory,
    measure_sum,
    measure_tracer,
    moved_together,
    reaching_down,
    shared,
    upper_bound,
)
from curator.diffusion.diffusivity import Diffusivity, as_json, refused
from curator.diffusion.liquid import liquid_diffusivity_of_positions
from curator.diffusion.runs import Runs, length_of_a_hop, prepare, seen, too_short
from curator.diffusion.tensor import describe, diffusivity_tensor
from curator.diffusion.walk import Floats, fit_walk
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
            and _interval_fs(first) == _interval_fs(other)
        )
        if not same:
            raise ValueError("trajectories of one diffusivity must share atoms, cell, temperature and frame interval")
    pressures = [t.pressure_GPa for t in trajectories if t.pressure_GPa is not None]
    exploded = [t for t in trajectories if t.status == "exploded"]
    given: dict[str, Any] = {
        "positions": [t.positions for t in trajectories if t.status == "completed"] or [first.start.positions[None]],
        "numbers": first.numbers,
        "cell": first.cell,
        "frame_interval_fs": _interval_fs(first),
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
    n_mobile, interval_ps, time_ps = runs.n_mobile, runs.interval_ps, runs.time_ps
    unknown = n_carriers is None and n_mobile > 1
    assumed = (_one_carrier(n_mobile),) if unknown else ()
    n_carriers = 1 if n_carriers is None else n_carriers
    if n_carriers > n_mobile:
        raise ValueError(f"{n_carriers} carriers are more than the {n_mobile} {mobile} ions there are")
    if n_carriers < 1:
        raise ValueError(f"{n_carriers} carriers must be positive")
    kept = [in_host_frame(run, runs.is_host) for run in runs.kept]
    for reason in (
        refusals.exploded(kept, runs.numbers, interval_ps, temperature_K),
        refusals.melted(kept, runs.numbers, runs.is_mobile, runs.is_host, interval_ps),
    ):
        if reason:
            return refused(runs.nothing_known, reason)
    length_A = length_of_a_hop(runs)
    ions = [(run - run[0])[:, runs.is_mobile] for run in kept]
    each, paths = [run.reshape(len(run), -1) for run in ions], [run.sum(axis=1) for run in ions]
    walk = measure_sum(paths, each, interval_ps, length_A, n_carriers) if paths else None
    if walk is None:
        return too_short(runs)
    residence_ps = n_carriers * time_ps / max(walk.n_hops, 1.0)
    # A sum of one ion is its own tracer.
    by_ion = walk if n_mobile == 1 else measure_tracer(each, interval_ps, length_A, residence_ps)
    n_together = 1.0
    doubt: tuple[str, ...] = ()
    # A sum that motion in place may have made tells no Haven ratio.
    if by_ion and 1 < n_mobile == n_carriers and not refusals.too_few_hops(walk, time_ps):
        n_together = ions_in_a_hop(walk, by_ion, n_mobile)
    if by_ion and n_together > 1:
        walk, by_ion = moved_together(walk, by_ion, paths, each, interval_ps, length_A, n_together)
        doubt = (_together(n_together, walk.n_hops),)
    if unknown:
        walk, by_ion, doubt = _if_many_carry(walk, by_ion, each, interval_ps, length_A, n_mobile * residence_ps)
    known = seen(runs, walk, paths, length_A, n_carriers)
    not_diffusive = refusals.not_diffusive(paths, walk.plateau, interval_ps)
    if refusals.BALLISTIC in not_diffusive:
        return refused(known, not_diffusive)
    if reason := refusals.too_few_hops(walk, time_ps):
        return replace(
            known,
            status="bound",
            reasons=(reason, *(doubt if n_together > 1 else ()), *assumed),
            bound_A2_per_ps=upper_bound(walk, n_together * length_A, time_ps, 1) / n_carriers,
            tracer_bound_A2_per_ps=upper_bound(by_ion, math.sqrt(n_together) * length_A, time_ps, n_mobile)
            if by_ion and tracer
            else None,
        )
    for reason in (
        not_diffusive,
        refusals.ions_caged(paths, each, by_ion, interval_ps),
        refusals.not_stationary(paths, walk, interval_ps),
    ):
        if reason:
            return refused(known, reason)

    by_ion = by_ion if tracer else None
    collective_tensor = diffusivity_tensor(paths, interval_ps, walk, n_carriers)
    tracer_tensor = None if by_ion is None else diffusivity_tensor(each, interval_ps, by_ion)
    ratio, ratio_error = None, None
    if by_ion is not None and by_ion.coefficient.D_A2_per_ps > 0:
        ratio, ratio_error = haven_ratio(by_ion.coefficient, walk.coefficient, n_mobile)
    reasons = [
        *refusals.cautions(walk, interval_ps),
        *_correlated(walk, by_ion if n_mobile > 1 else None, runs, residence_ps, n_carriers),
        *doubt,
        *(() if hop_length_A is not None else (_guessed(length_A),)),
        *assumed,
    ]
    plane = describe(tracer_tensor or collective_tensor)
    return replace(
        known,
        status="measured",
        reasons=(*reasons, plane) if plane else tuple(reasons),
        collective=shared(walk.coefficient, n_carriers),
        tracer=None if by_ion is None else by_ion.coefficient,
        collective_tensor=collective_tensor,
        tracer_tensor=tracer_tensor,
        haven_ratio=ratio,
        haven_ratio_error=ratio_error,
        replica_error_A2_per_ps=walk.replica_error_A2_per_ps and walk.replica_error_A2_per_ps / n_carriers,
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


def _interval_fs(trajectory: Trajectory) -> float:
    return trajectory.settings.steps_per_frame * trajectory.settings.timestep_fs


def _one_carrier(n_mobile: int) -> str:
    return (
        f"carriers not given: D is that of the sum of {n_mobile} mobile ions, counted as of one carrier; give their "
        "number, or that of the ions if all conduct"
    )


def _if_many_carry(
    walk: MeasuredWalk,
    by_ion: MeasuredWalk | None,
    each: Sequence[Floats],
    interval_ps: float,
    length_A: float,
    residence_ps: float,
) -> tuple[MeasuredWalk, MeasuredWalk | None, tuple[str, ...]]:
    """Sum and tracer with intervals that hold if all ions are carriers, as well as if one is, and what to say of it.

    Ions around a single defect hop back although their sum forgets every hop; those of many carriers are a sum that
    remembers as they do. Which of the two it is they cannot tell, so that only the lower end of an interval follows
    them down, to what is left over two residence times of an ion.
    """
    over_long = measure_tracer(each, interval_ps, length_A, residence_ps)
    if by_ion is None or over_long is None or not ions_slow_down(each, interval_ps, walk, over_long):
        return walk, by_ion, ()
    short, long = fit_walk(each, interval_ps, walk.plateau.fit.stride), over_long.coefficient
    low, (lowest, _) = by_ion.coefficient.ci95_A2_per_ps[0], long.ci95_A2_per_ps
    doubt = (
        f"hops may be correlated if more than one carrier moves: over {over_long.plateau.fit.stride * interval_ps:g} "
        f"ps an ion keeps {long.D_A2_per_ps / short.D_A2_per_ps:.0%} of its diffusivity, and the intervals reach down "
        "as far; give --carriers, or system.carriers of a campaign"
    )
    lowered = reaching_down(by_ion, lowest / low) if low > 0 else by_ion
    return reaching_down(walk, lowest / short.D_A2_per_ps), lowered, (doubt,)


def _together(n_ions: float, n_hops: float) -> str:
    return (
        f"ions move together: by the Haven ratio {n_ions:.1f} in a hop, so that {n_hops:.0f} hops are counted, not "
        f"{n_ions**2 * n_hops:.0f}; if defects carry them, give the number of these as that of the carriers"
    )


def _guessed(length_A: float) -> str:
    return f"hop length not given: taken as the distance of neighbouring mobile ions, {length_A:.2f} Å"


def _correlated(
    walk: MeasuredWalk, tracer: MeasuredWalk | None, runs: Runs, residence_ps: float, n_carriers: int
) -> tuple[str, ...]:
    """What there is to say of hops that may remember the one before."""
    seen_ps = {}
    if n_carriers > 1 and walk.remembers is not False:
        seen_ps["collective"] = walk.plateau.fit.stride * runs.interval_ps
    if tracer:
        seen_ps["tracer"] = tracer.plateau.fit.stride * runs.interval_ps
    short = [name for name, ps in seen_ps.items() if ps < N_RESIDENCES * residence_ps]
    if not short:
        return ()
    n_coordinates = 3 if "collective" in short else 3 * runs.n_mobile
    needed_ps = length_for_memory(residence_ps, runs.interval_ps, n_coordinates, len(runs.kept))
    return (
        f"hops may be correlated: the {' and the '.join(short)} diffusivity was seen over "
        f"{min(seen_ps[name] for name in short):g} ps, less than two residence times ({residence_ps:.2g} ps each), "
        f"and is too high if ions hop back; run one trajectory, or each, for about {needed_ps:.3g} ps; more replicas "
        "of this length do not help",
    )
