"""Trajectories before a diffusivity is measured in them: checked, unwrapped, without their equilibration."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curator.diffusion.coefficient import MeasuredWalk
from curator.diffusion.diffusivity import Diffusivity, refused
from curator.diffusion.walk import Floats, least_times_ps, msd_curve
from curator.positions import neighbour_distance, species_masks, unwrap

N_AVERAGED = (1, 2, 5, 10)
"""Frames whose mean position may tell the distance of sites."""
NO_CELL = (
    "no cell: positions that may be wrapped cannot be followed; write the cell into the file, or say that they are "
    "unwrapped"
)
NOT_PERIODIC = (
    "no cell that is periodic: positions that may be wrapped cannot be followed; say in the file that its cell is "
    "periodic, or that they are unwrapped"
)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Trajectories at one temperature.

    Attributes
    ----------
    mobile, temperature_K, hop_length_A, guessed_hop_length_A, equilibration_ps
        As they were given.
    whole
        Unwrapped positions in Å, each of shape ``(n_frames, n_atoms, 3)``.
    kept, places
        Those after equilibration, where two frames are left, and their places among all.
    numbers, cell, pbc
        Atomic numbers, lattice vectors as rows in Å, periodicity.
    is_mobile, is_host
        Which atoms are the mobile species, and which the host.
    interval_ps
        Time between frames in ps.
    """

    mobile: str
    temperature_K: float | None
    hop_length_A: float | None
    guessed_hop_length_A: float | None
    equilibration_ps: float
    whole: tuple[Floats, ...]
    kept: tuple[Floats, ...]
    places: tuple[int, ...]
    numbers: NDArray[np.int32]
    cell: Floats
    pbc: NDArray[np.bool_]
    is_mobile: NDArray[np.bool_]
    is_host: NDArray[np.bool_]
    interval_ps: float

    @property
    def n_mobile(self) -> int:
        """Number of mobile ions."""
        return int(self.is_mobile.sum())

    @property
    def time_ps(self) -> float:
        """Time after equilibration, all trajectories together."""
        return sum(len(run) - 1 for run in self.kept) * self.interval_ps

    @property
    def nothing_known(self) -> Diffusivity:
        """A diffusivity before anything was measured."""
        return Diffusivity(
            self.mobile,
            self.temperature_K,
            "refused",
            (),
            time_ps=self.time_ps,
            n_trajectories=len(self.kept),
            volume_A3=float(np.abs(np.linalg.det(self.cell))) if self.pbc.all() else None,
        )


def prepare(
    positions: Floats | Sequence[Floats],
    numbers: ArrayLike,
    cell: ArrayLike,
    frame_interval_fs: float,
    *,
    mobile: str,
    host: Sequence[str] | None,
    pbc: ArrayLike,
    unwrapped: bool,
    temperature_K: float | None,
    hop_length_A: float | None,
    guessed_hop_length_A: float | None,
    equilibration_ps: float,
) -> Runs | Diffusivity:
    """Trajectories as `curator.diffusion.measurement.diffusivity_of_positions` takes them; no host is an empty list.

    Returns
    -------
    Runs
        Or a refusal where they cannot be followed.

    Raises
    ------
    ValueError
        If there is no mobile or no host atom, a number is not finite or out of range, two trajectories are the same, or
        an atom moves too far between two frames to be followed.
    """
    runs = [positions] if isinstance(positions, np.ndarray) and positions.ndim == 3 else list(positions)
    numbers, cell, pbc = np.asarray(numbers), np.asarray(cell, dtype=np.float64), np.asarray(pbc, dtype=bool)
    is_mobile, is_host = species_masks(numbers, mobile, host)
    _check(runs, len(numbers))
    interval_ps = frame_interval_fs / 1000
    if hop_length_A is not None and not hop_length_A > 0:
        raise ValueError(f"hop length {hop_length_A:g} Å must be positive")
    if not 0 < interval_ps < np.inf:
        raise ValueError(f"frame interval {frame_interval_fs} fs must be positive and finite")
    if not 0 <= equilibration_ps < np.inf:
        raise ValueError(f"equilibration of {equilibration_ps:g} ps must be zero or more and finite")
    if not unwrapped and not pbc.any():
        nothing = Diffusivity(mobile, temperature_K, "refused", (), n_trajectories=len(runs))
        return refused(nothing, NOT_PERIODIC if cell.any() else NO_CELL)
    whole = runs if unwrapped else [_followed(idx, run, cell, pbc) for idx, run in enumerate(runs)]
    skip = round(equilibration_ps / interval_ps)
    places = tuple(idx for idx, run in enumerate(whole) if len(run) > skip + 1)
    return Runs(
        mobile,
        temperature_K,
        hop_length_A,
        guessed_hop_length_A,
        equilibration_ps,
        tuple(whole),
        tuple(whole[idx][skip:] for idx in places),
        places,
        numbers,
        cell,
        pbc,
        is_mobile,
        is_host,
        interval_ps,
    )


def length_of_a_hop(runs: Runs) -> float:
    """What was given or guessed, in Å, or the distance between neighbouring mobile ions.

    Vibrations bring the nearest ion nearer in the mean of few frames, and hops in that of many: the longest distance of
    several such means is the best one.
    """
    if given := runs.hop_length_A or runs.guessed_hop_length_A:
        return given
    return max(
        neighbour_distance(runs.whole[0][:n].mean(axis=0), runs.is_mobile, runs.cell, runs.pbc) for n in N_AVERAGED
    )


def guess(runs: Runs, length_A: float) -> tuple[str, ...]:
    """That the length of a hop was guessed, if it was."""
    if runs.hop_length_A is not None:
        return ()
    return (f"hop length not given: taken as the distance of neighbouring mobile ions, {length_A:.2f} Å",)


def too_short(runs: Runs) -> Diffusivity:
    """The refusal of trajectories that no walk could be fitted to."""
    longest_ps = max((len(run) - 1 for run in runs.kept), default=0) * runs.interval_ps
    one_ps, all_ps = least_times_ps(runs.interval_ps)
    return refused(
        runs.nothing_known,
        f"too short: the longest trajectory has {longest_ps:g} ps after {runs.equilibration_ps:g} ps of equilibration, "
        f"all have {runs.time_ps:g} ps; give {one_ps:g} ps each and {all_ps:g} ps in all, or more",
    )


def seen(runs: Runs, walk: MeasuredWalk, paths: Sequence[Floats], length_A: float, n_carriers: int = 1) -> Diffusivity:
    """What is known of a diffusivity whatever its gates say: hops, stride and mean squared displacement."""
    return replace(
        runs.nothing_known,
        n_hops=walk.n_hops,
        hop_length_A=length_A,
        stride_ps=walk.plateau.fit.stride * runs.interval_ps,
        msd=msd_curve([path / np.sqrt(n_carriers) for path in paths], runs.interval_ps),
    )


def _followed(idx: int, positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """Unwrapped positions of one of several trajectories; an error names it."""
    try:
        return unwrap(positions, cell, pbc)
    except ValueError as error:
        raise ValueError(f"trajectory {idx}, counted from 0: {error}") from None


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
