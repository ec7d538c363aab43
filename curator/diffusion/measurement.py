"""Diffusivity from molecular dynamics, with an honest error or an honest refusal."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from curator.diffusion import refusals
from curator.diffusion.arrhenius import Arrhenius, fit_arrhenius
from curator.diffusion.coefficient import N_RESIDENCES, MeasuredWalk, measure_sum, measure_tracer, shared
from curator.diffusion.diffusivity import Diffusivity, as_json, refused
from curator.diffusion.liquid import correct_for_finite_size
from curator.diffusion.tensor import describe, diffusivity_tensor, raised
from curator.diffusion.walk import ALL_AT_LEAST_PS, LONGEST_AT_LEAST_PS, Floats, msd_curve
from curator.positions import (
    hop_length,
    in_host_frame,
    in_mass_frame,
    neighbour_distance,
    species_masks,
    unwrap,
)
from curator.trajectory import Trajectory

__all__ = [
    "Arrhenius",
    "Diffusivity",
    "as_json",
    "diffusivity_of_positions",
    "fit_arrhenius",
    "hop_length",
    "measure_diffusion",
]

N_AVERAGED = 10
"""Frames whose mean position tells the distance of sites; in a single one vibrations bring the nearest ion nearer."""
SOME_HOPS = 30
"""Below this many hops the error is large and said to be."""


def measure_diffusion(
    trajectories: Sequence[Trajectory],
    mobile: str,
    *,
    host: Sequence[str] | None = None,
    hop_length_A: float | None = None,
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
        Displacement of the summed mobile species in one hop in Å (see `hop_length`); the distance between
        neighbouring mobile ions if None.
    n_carriers
        Carriers the summed displacement is shared by: 1 for a single defect, the number of mobile ions where all
        of them conduct. If None, 1, and a reason says so.
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
    measured = diffusivity_of_positions(
        [t.positions for t in trajectories if t.status == "completed"] or [first.start.positions[None]],
        first.numbers,
        first.cell,
        _interval_fs(first),
        mobile=mobile,
        pbc=first.pbc,
        unwrapped=True,
        temperature_K=first.settings.temperature_K,
        host=host,
        hop_length_A=hop_length_A,
        n_carriers=n_carriers,
        equilibration_ps=equilibration_ps,
        tracer=tracer and not exploded,
        liquid=liquid,
        viscosity_mPa_s=viscosity_mPa_s,
    )
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
    n_carriers: int | None = None,
    equilibration_ps: float = 2.0,
    tracer: bool = True,
    liquid: bool = False,
    viscosity_mPa_s: float | None = None,
) -> Diffusivity:
    """Diffusivity from the positions of one or several trajectories, wrapped or not.

    See `curator.diffusion.walk.fit_walk` for the estimate, `curator.diffusion.coefficient.measure_walk` for its error
    and ``curator/diffusion/refusals.py`` for what leads to a bound or a refusal.

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
    mobile, temperature_K, host, hop_length_A, n_carriers, equilibration_ps, tracer, liquid, viscosity_mPa_s
        As for `measure_diffusion`.

    Raises
    ------
    ValueError
        If there is no mobile or no host atom, there are more carriers than mobile ions, a number is not finite, two
        trajectories are the same, or an atom moves too far between two frames to be followed.
    """
    runs = [positions] if isinstance(positions, np.ndarray) and positions.ndim == 3 else list(positions)
    numbers, cell, pbc = np.asarray(numbers), np.asarray(cell, dtype=np.float64), np.asarray(pbc, dtype=bool)
    interval_ps = frame_interval_fs / 1000
    is_mobile, is_host = species_masks(numbers, mobile, [] if liquid else host)
    _check(runs, len(numbers))
    n_mobile, given = int(is_mobile.sum()), n_carriers is not None
    n_carriers = 1 if liquid or n_carriers is None else n_carriers
    if n_carriers > n_mobile:
        raise ValueError(f"{n_carriers} carriers are more than the {n_mobile} {mobile} ions there are")
    if hop_length_A is not None and not hop_length_A > 0:
        raise ValueError(f"hop length {hop_length_A:g} Å must be positive")
    if not interval_ps > 0 or n_carriers < 1:
        raise ValueError(f"frame interval {frame_interval_fs} fs and {n_carriers} carriers must be positive")
    if not 0 <= equilibration_ps < np.inf:
        raise ValueError(f"equilibration of {equilibration_ps:g} ps must be zero or more and finite")

    if not unwrapped and not pbc.any():
        no_cell = (
            "no cell: positions that may be wrapped cannot be followed; give the cell, or say that they are unwrapped"
        )
        return refused(Diffusivity(mobile, temperature_K, "refused", (), n_trajectories=len(runs)), no_cell)
    skip = round(equilibration_ps / interval_ps)
    whole = runs if unwrapped else [_followed(idx, run, cell, pbc) for idx, run in enumerate(runs)]
    long_enough = [run[skip:] for run in whole if len(run) > skip + 1]
    kept = [in_mass_frame(run, numbers) if liquid else in_host_frame(run, is_host) for run in long_enough]
    time_ps = sum(len(run) - 1 for run in kept) * interval_ps
    empty = Diffusivity(mobile, temperature_K, "refused", (), time_ps=time_ps, n_trajectories=len(runs))
    if reason := refusals.exploded(kept, numbers, interval_ps, temperature_K):
        return refused(empty, reason)
    if not liquid and (reason := refusals.melted(kept, numbers, is_mobile, is_host, interval_ps)):
        return refused(empty, reason)
    if hop_length_A is None:
        length_A = neighbour_distance(whole[0][:N_AVERAGED].mean(axis=0), is_mobile, cell, pbc)
    else:
        length_A = hop_length_A
    ions = [(run - run[0])[:, is_mobile] for run in kept]
    each = [run.reshape(len(run), -1) for run in ions]
    paths = each if liquid else [run.sum(axis=1) for run in ions]
    walk = measure_sum(paths, each, interval_ps, length_A, n_carriers) if paths else None
    if walk is None:
        longest_ps = max((len(run) - 1 for run in kept), default=0) * interval_ps
        return refused(
            empty,
            f"too short: the longest trajectory has {longest_ps:g} ps after {equilibration_ps:g} ps of equilibration, "
            f"all have {time_ps:g} ps; give {LONGEST_AT_LEAST_PS:g} ps each and {ALL_AT_LEAST_PS:g} ps "
            "in all, or more",
        )
    stride = walk.plateau.fit.stride
    known = replace(
        empty,
        n_hops=walk.n_hops,
        hop_length_A=length_A,
        stride_ps=stride * interval_ps,
        msd=msd_curve([path / np.sqrt(n_carriers) for path in paths], interval_ps),
    )
    residence_ps = n_carriers * time_ps / max(walk.n_hops, 1.0)
    by_ion = None
    if not liquid:  # A sum of one ion is its own tracer.
        by_ion = walk if n_mobile == 1 else measure_tracer(each, interval_ps, length_A, residence_ps)
    assumed = () if given or liquid or n_mobile == 1 else (_one_carrier(n_mobile),)
    not_diffusive = refusals.not_diffusive(paths, walk.plateau, interval_ps)
    if refusals.BALLISTIC in not_diffusive:
        return refused(known, not_diffusive)
    if reason := refusals.too_few_hops(walk, time_ps):
        n_walks = paths[0].shape[1] // 3
        return replace(
            known,
            status="bound",
            reasons=(reason, *assumed),
            bound_A2_per_ps=_upper_bound(walk, length_A, time_ps, n_walks) / n_carriers,
            tracer_bound_A2_per_ps=None
            if by_ion is None or not tracer
            else _upper_bound(by_ion, length_A, time_ps, n_mobile),
        )
    for reason in (
        not_diffusive,
        refusals.ions_caged(paths, each, by_ion, interval_ps),
        refusals.not_stationary(paths, walk, interval_ps),
    ):
        if reason:
            return refused(known, reason)
    if liquid:
        return _measured_liquid(known, walk, paths, interval_ps, cell, viscosity_mPa_s)

    by_ion = by_ion if tracer else None
    collective_tensor = diffusivity_tensor(paths, interval_ps, walk, n_carriers)
    tracer_tensor = None if by_ion is None else diffusivity_tensor(each, interval_ps, by_ion)
    haven_ratio = None
    if by_ion is not None:
        haven_ratio = by_ion.coefficient.D_A2_per_ps * n_mobile / walk.coefficient.D_A2_per_ps
    guessed_A = length_A if hop_length_A is None else None
    reasons = (*_cautions(walk, by_ion, interval_ps, residence_ps, n_carriers, guessed_A), *assumed)
    plane = describe(tracer_tensor or collective_tensor)
    return replace(
        known,
        status="measured",
        reasons=(*reasons, plane) if plane else reasons,
        collective=shared(walk.coefficient, n_carriers),
        tracer=None if by_ion is None else by_ion.coefficient,
        collective_tensor=collective_tensor,
        tracer_tensor=tracer_tensor,
        haven_ratio=haven_ratio,
        replica_error_A2_per_ps=walk.replica_error_A2_per_ps and walk.replica_error_A2_per_ps / n_carriers,
    )


def _followed(idx: int, positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """Unwrapped positions of one of several trajectories; an error names it."""
    try:
        return unwrap(positions, cell, pbc)
    except ValueError as error:
        raise ValueError(f"trajectory {idx}, counted from 0: {error}") from None


def _interval_fs(trajectory: Trajectory) -> float:
    return trajectory.settings.steps_per_frame * trajectory.settings.timestep_fs


def _check(runs: Sequence[Floats], n_atoms: int) -> None:
    """Positions of the right shape, finite, and of trajectories that differ."""
    for idx, run in enumerate(runs):
        if run.ndim != 3 or run.shape[1:] != (n_atoms, 3):
            raise ValueError(f"positions of shape {run.shape} do not go with {n_atoms} atoms")
        if not np.isfinite(run).all():
            frame, atom, _ = np.argwhere(~np.isfinite(run))[0]
            raise ValueError(f"trajectory {idx}, frame {frame}, atom {atom}: positions must be finite numbers")
    for (i, one), (j, other) in combinations(enumerate(runs), 2):
        n = min(len(one), len(other))
        if n > 1 and np.array_equal(one[n - 1], other[n - 1]) and np.array_equal(one[:n], other[:n]):
            raise ValueError(
                f"trajectories {i} and {j}, counted from 0, are the same: its hops would count twice; give it once, or "
                "run replicas with other seeds"
            )


def _one_carrier(n_mobile: int) -> str:
    return (
        f"carriers not given: D is that of the sum of {n_mobile} mobile ions, counted as of one carrier; give their "
        "number, or that of the ions if all conduct"
    )


def _upper_bound(walk: MeasuredWalk, hop_length_A: float, time_ps: float, n_walks: int) -> float:
    """Upper bound at 97.5 %: that of a Poisson count of hops, or of the fit if that is higher."""
    # At most this many hops are compatible with those seen; 3.7 if there was none.
    most = float(chi2.ppf(0.975, 2 * (walk.n_hops + 1)) / 2)
    return max(most * hop_length_A**2 / (6 * time_ps * n_walks), walk.coefficient.ci95_A2_per_ps[1])


def _measured_liquid(
    known: Diffusivity,
    walk: MeasuredWalk,
    paths: Sequence[Floats],
    interval_ps: float,
    cell: Floats,
    viscosity_mPa_s: float | None,
) -> Diffusivity:
    tracer, added, reason = correct_for_finite_size(walk.coefficient, cell, known.temperature_K, viscosity_mPa_s)
    reasons = _cautions(walk, None, interval_ps, 0.0, 1, None)
    return replace(
        known,
        status="measured",
        reasons=(*reasons, reason) if reason else reasons,
        tracer=tracer,
        tracer_tensor=raised(diffusivity_tensor(paths, interval_ps, walk), added or 0.0),
        finite_size_A2_per_ps=added,
        replica_error_A2_per_ps=walk.replica_error_A2_per_ps,
    )


def _cautions(
    walk: MeasuredWalk,
    tracer: MeasuredWalk | None,
    interval_ps: float,
    residence_ps: float,
    n_carriers: int,
    guessed_length_A: float | None,
) -> tuple[str, ...]:
    """What to be careful about in a diffusivity that was measured."""
    reasons = []
    stride_ps = walk.plateau.fit.stride * interval_ps
    if walk.n_hops < SOME_HOPS:
        reasons.append(f"only about {walk.n_hops:.0f} hops: the error is large; run longer")
    if walk.plateau.n_agree < 2:
        reasons.append(
            f"too short to see that the diffusivity does not depend on the stride of {stride_ps:g} ps; run longer"
        )
    if walk.replicas_disagree:
        reasons.append(
            "replicas disagree: they scatter more than their hops explain, and the error is that scatter; run longer, "
            "or look for states that are rarely left"
        )
    seen_ps = {"collective": stride_ps} if n_carriers > 1 and walk.remembers is not False else {}
    if tracer:
        seen_ps["tracer"] = tracer.plateau.fit.stride * interval_ps
    short = [name for name, ps in seen_ps.items() if ps < N_RESIDENCES * residence_ps]
    if short:
        reasons.append(
            f"hops may be correlated: the {' and the '.join(short)} diffusivity was seen over "
            f"{min(seen_ps[name] for name in short):g} ps, less than two residence times ({residence_ps:.2g} ps each), "
            "and is too high if ions hop back; run longer"
        )
    if guessed_length_A is not None:
        reasons.append(
            f"hop length not given: taken as the distance of neighbouring mobile ions, {guessed_length_A:.2f} Å"
        )
    return tuple(reasons)
