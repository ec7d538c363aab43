"""Diffusivity from molecular dynamics, with an honest error or an honest refusal."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from curator.arrhenius import Arrhenius, arrhenius_as_json, fit_arrhenius
from curator.datasets.units import CM2_PER_S_PER_A2_PER_PS
from curator.positions import (
    Positions,
    hop_length,
    in_host_frame,
    load_positions,
    neighbour_distance,
    species_masks,
    unwrap,
)
from curator.tracer import Tracer, tracer_diffusivity
from curator.trajectory import Trajectory
from curator.walk import Floats, MSDCurve, WalkFit, fit_walk, msd_curve, plateau

__all__ = [
    "Arrhenius",
    "Diffusivity",
    "Positions",
    "as_json",
    "diffusivity_of_positions",
    "fit_arrhenius",
    "hop_length",
    "load_positions",
    "measure_diffusion",
]

FEW_HOPS = 10
"""Below this many hops there is a bound and no diffusivity."""
SOME_HOPS = 30
"""Below this many hops the error is large and said to be."""
MELTED_D_RATIO = 0.1
MELTED_GROWTH = 1.3
"""A host diffuses if its diffusivity exceeds this share of that of the mobile species (solid alpha-AgI 0.025, molten
0.35) and its mean squared displacement still grows: by this factor from the second to the last quarter."""
MIN_REPLICAS = 4
"""Fewest trajectories whose scatter is believed as an error."""


@dataclass(frozen=True, slots=True, eq=False)
class Diffusivity:
    """Diffusivity at one temperature.

    Attributes
    ----------
    mobile
        Symbol of the mobile species.
    temperature_K
        Temperature in K, or None if it was not given.
    status
        ``measured``; ``bound`` if there were too few hops; ``refused`` if no number would mean anything.
    reasons
        Why not ``measured``; or, if it is, what to be careful about.
    D_A2_per_ps
        Diffusivity of the summed displacement of the mobile species, per carrier, in the frame of the host, Å²/ps: for
        a single defect that of the defect. None unless measured.
    error_A2_per_ps, ci95_A2_per_ps
        Its standard error, and its 95 % interval on the logarithmic scale.
    bound_A2_per_ps
        Upper bound at 97.5 % if the status is ``bound``.
    tracer
        Self-diffusivity of a mobile ion, by kinisi, or None.
    haven_ratio
        Self-diffusivity summed over the mobile ions over the collective one.
    n_hops
        Hops worth of collective displacement, ``6 D t / l²``.
    hop_length_A
        Length l of a hop of the summed displacement in Å.
    stride_ps
        Time between the positions that were used.
    time_ps, n_trajectories
        Time after equilibration, and trajectories, that went in.
    pressure_GPa
        Mean pressure, or None.
    msd
        Mean squared displacement of the summed mobile species in the frame of the host, or None.
    """

    mobile: str
    temperature_K: float | None
    status: Literal["measured", "bound", "refused"]
    reasons: tuple[str, ...]
    D_A2_per_ps: float | None = None
    error_A2_per_ps: float | None = None
    ci95_A2_per_ps: tuple[float, float] | None = None
    bound_A2_per_ps: float | None = None
    tracer: Tracer | None = None
    haven_ratio: float | None = None
    n_hops: float = 0.0
    hop_length_A: float | None = None
    stride_ps: float | None = None
    time_ps: float = 0.0
    n_trajectories: int = 0
    pressure_GPa: float | None = None
    msd: MSDCurve | None = None


def measure_diffusion(
    trajectories: Sequence[Trajectory],
    mobile: str,
    *,
    host: Sequence[str] | None = None,
    hop_length_A: float | None = None,
    n_carriers: int = 1,
    equilibration_ps: float = 2.0,
    tracer: bool = True,
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
        of them conduct.
    equilibration_ps
        Time left out at the beginning of each trajectory.
    tracer
        Whether to measure the self-diffusivity too.

    Raises
    ------
    ValueError
        If there is no trajectory, they do not belong together, or there is no mobile or no host atom.
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
    )
    measured = replace(measured, pressure_GPa=float(np.mean(pressures)) if pressures else None)
    if exploded:
        reason = f"{len(exploded)} of {len(trajectories)} trajectories exploded: {exploded[0].reason}"
        return _refused(measured, reason)
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
    n_carriers: int = 1,
    equilibration_ps: float = 2.0,
    tracer: bool = True,
) -> Diffusivity:
    """Diffusivity from the positions of one or several trajectories, wrapped or not.

    The error joins that of the fit with that of counting hops, ``SE² = SE_fit² + D²/n_hops``, since hops are rare
    events and the fit takes increments for Gaussian; with four or more trajectories it is at least their scatter.

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
    mobile, temperature_K, host, hop_length_A, n_carriers, equilibration_ps, tracer
        As for `measure_diffusion`.

    Raises
    ------
    ValueError
        If there is no mobile or no host atom, a number is not finite, or an atom moves too far between two frames to
        be followed.
    """
    runs = [positions] if isinstance(positions, np.ndarray) and positions.ndim == 3 else list(positions)
    numbers, cell, pbc = np.asarray(numbers), np.asarray(cell, dtype=np.float64), np.asarray(pbc, dtype=bool)
    interval_ps = frame_interval_fs / 1000
    is_mobile, is_host = species_masks(numbers, mobile, host)
    for run in runs:
        if run.ndim != 3 or run.shape[1:] != (len(numbers), 3):
            raise ValueError(f"positions of shape {run.shape} do not go with {len(numbers)} atoms")
        if not np.isfinite(run).all():
            raise ValueError("positions must be finite numbers")
    if not interval_ps > 0 or n_carriers < 1:
        raise ValueError(f"frame interval {frame_interval_fs} fs and {n_carriers} carriers must be positive")

    skip = round(equilibration_ps / interval_ps)
    whole = runs if unwrapped else [unwrap(run, cell, pbc) for run in runs]
    kept = [in_host_frame(run[skip:], is_host) for run in whole if len(run) > skip + 1]
    time_ps = sum(len(run) - 1 for run in kept) * interval_ps
    empty = Diffusivity(mobile, temperature_K, "refused", (), time_ps=time_ps, n_trajectories=len(runs))
    sums = [(run - run[0])[:, is_mobile].sum(axis=1) for run in kept]
    found = plateau(sums, interval_ps) if sums else None
    if found is None:
        return _refused(empty, f"too short: {time_ps:g} ps are left after {equilibration_ps:g} ps of equilibration")
    fit = found.fit

    length_A = hop_length_A if hop_length_A is not None else neighbour_distance(runs[0][0], is_mobile, cell, pbc)
    n_hops = float(6 * fit.D_A2_per_ps * time_ps / length_A**2)
    error = _error(fit, n_hops, sums, interval_ps)
    known = replace(
        empty,
        n_hops=n_hops,
        hop_length_A=length_A,
        stride_ps=fit.stride * interval_ps,
        msd=msd_curve(sums, interval_ps),
    )
    melted = _melted(kept, numbers, is_mobile, is_host, interval_ps, fit.stride)
    if melted:
        return _refused(known, melted)
    if n_hops < FEW_HOPS:
        # Poisson: at most this many hops are compatible with those seen, at 97.5 %; 3.7 if there was none.
        most = float(chi2.ppf(0.975, 2 * (n_hops + 1)) / 2)
        bound = max(most * length_A**2 / (6 * time_ps), fit.D_A2_per_ps + 1.96 * error)
        reason = f"about {n_hops:.1f} hops in {time_ps:g} ps, fewer than {FEW_HOPS}: only an upper bound"
        return replace(known, status="bound", reasons=(reason,), bound_A2_per_ps=bound / n_carriers)

    if found.n_agree == 0 and fit.stride > found.shortest.stride:
        return _refused(
            known,
            f"not diffusive yet: {found.shortest.D_A2_per_ps:.2g} Å²/ps at {found.shortest.stride * interval_ps:g} ps "
            f"becomes {fit.D_A2_per_ps:.2g} Å²/ps at {known.stride_ps:g} ps; run longer",
        )

    reasons = []
    if n_hops < SOME_HOPS:
        reasons.append(f"only about {n_hops:.0f} hops: the error is large")
    if found.n_agree < 2:
        reasons.append(f"too short to see that the diffusivity does not depend on the stride of {known.stride_ps:g} ps")
    if hop_length_A is None:
        reasons.append(f"hop length not given: taken as the distance of neighbouring mobile ions, {length_A:.2f} Å")
    D = fit.D_A2_per_ps / n_carriers
    error /= n_carriers
    spread = float(np.exp(1.96 * error / D))
    self_diffusion = (
        tracer_diffusivity([run[:, is_mobile] for run in kept], interval_ps, fit.stride) if tracer else None
    )
    return replace(
        known,
        status="measured",
        reasons=tuple(reasons),
        D_A2_per_ps=D,
        error_A2_per_ps=error,
        ci95_A2_per_ps=(D / spread, D * spread),
        tracer=self_diffusion,
        haven_ratio=self_diffusion.D_A2_per_ps * int(is_mobile.sum()) / fit.D_A2_per_ps if self_diffusion else None,
    )


def as_json(result: Diffusivity | Arrhenius) -> dict[str, object]:
    """Diffusivity or Arrhenius fit as JSON values, with the unit in the name of each key."""
    if isinstance(result, Arrhenius):
        return arrhenius_as_json(result)
    d = result
    tracer = d.tracer and {"D_A2_per_ps": d.tracer.D_A2_per_ps, "error_A2_per_ps": d.tracer.error_A2_per_ps}
    return {
        "temperature_K": d.temperature_K,
        "D_A2_per_ps": d.D_A2_per_ps,
        "error_A2_per_ps": d.error_A2_per_ps,
        "ci95_A2_per_ps": None if d.ci95_A2_per_ps is None else list(d.ci95_A2_per_ps),
        "D_cm2_per_s": None if d.D_A2_per_ps is None else d.D_A2_per_ps * CM2_PER_S_PER_A2_PER_PS,
        "bound_A2_per_ps": d.bound_A2_per_ps,
        "tracer": tracer,
        "haven_ratio": d.haven_ratio,
        "hops": d.n_hops,
        "time_ps": d.time_ps,
        "n_trajectories": d.n_trajectories,
        "pressure_GPa": d.pressure_GPa,
        "status": d.status,
        "reasons": list(d.reasons),
    }


def _interval_fs(trajectory: Trajectory) -> float:
    return trajectory.settings.steps_per_frame * trajectory.settings.timestep_fs


def _refused(diffusivity: Diffusivity, reason: str) -> Diffusivity:
    return replace(
        diffusivity,
        status="refused",
        reasons=(reason,),
        D_A2_per_ps=None,
        error_A2_per_ps=None,
        ci95_A2_per_ps=None,
        bound_A2_per_ps=None,
        tracer=None,
        haven_ratio=None,
    )


def _error(fit: WalkFit, n_hops: float, sums: Sequence[Floats], interval_ps: float) -> float:
    """Join the error of the fit with that of counting hops; take the scatter of the replicas if that is larger."""
    counting = fit.D_A2_per_ps / np.sqrt(n_hops) if n_hops > 0 else 0.0
    error = float(np.hypot(fit.error_A2_per_ps, counting))
    long_enough = [path for path in sums if (len(path) - 1) // fit.stride >= 2]
    if len(long_enough) < MIN_REPLICAS:
        return error
    weight = np.array([len(path) - 1 for path in long_enough], dtype=float)
    weight /= weight.sum()
    single = np.array([fit_walk([path], interval_ps, fit.stride).D_A2_per_ps for path in long_enough])
    deviation = single - weight @ single
    n = len(single)
    return max(error, float(np.sqrt(n / (n - 1) * (weight**2 @ deviation**2))))


def _melted(
    runs: Sequence[Floats],
    numbers: NDArray[np.int32],
    is_mobile: NDArray[np.bool_],
    is_host: NDArray[np.bool_],
    interval_ps: float,
    stride: int,
) -> str:
    """Why the host counts as molten; empty if it does not."""
    shortest = min(len(run) for run in runs)
    if shortest < 8:
        return ""
    stride = min(max(stride, round(1 / interval_ps)), (shortest - 1) // 4)

    def self_diffusivity(atoms: NDArray[np.bool_]) -> float:
        return fit_walk([run[:, atoms].reshape(len(run), -1) for run in runs], interval_ps, stride).D_A2_per_ps

    D_mobile = self_diffusivity(is_mobile)
    for number in np.unique(numbers[is_host]):
        atoms = is_host & (numbers == number)
        D_host = self_diffusivity(atoms)
        squares = [((run - run[0])[:, atoms] ** 2).sum(axis=2).mean(axis=1) for run in runs]
        middle = np.mean([square[len(square) // 4 : len(square) // 2].mean() for square in squares])
        late = np.mean([square[-(len(square) // 4) :].mean() for square in squares])
        if D_host > MELTED_D_RATIO * D_mobile and late > MELTED_GROWTH * middle:
            return (
                f"the host diffuses, as in a melt: D of {chemical_symbols[number]} is {D_host:.2g} Å²/ps, that of the "
                f"mobile species {D_mobile:.2g} Å²/ps; its mean squared displacement grew from {middle:.2g} to "
                f"{late:.2g} Å²"
            )
    return ""
