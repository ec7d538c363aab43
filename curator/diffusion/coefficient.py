"""A diffusion coefficient and its error: that of the fit, that of counting hops, and that of replicas."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import digamma
from scipy.stats import chi2, norm, t

from curator.diffusion.walk import (
    MIN_MODES,
    MIN_PERIODS,
    SHORTEST_PS,
    STRIDES,
    Floats,
    Plateau,
    fall,
    first_stride_ps,
    fit_walk,
    plateau,
    spectrum,
)
from curator.quantities import Z975

MIN_REPLICAS = 4
"""Fewest trajectories whose scatter is believed as an error."""
N_RESIDENCES = 2.0
"""Residence times of a carrier over which hops that remember each other must be seen."""
N_ERRORS_OF_MEMORY = float(norm.ppf(0.95))
"""Standard errors by which self-diffusion must fall over a longer time for hops to count as correlated."""
DISAGREE = 0.99
"""Replicas disagree if their scatter exceeds what the error leaves to chance with this probability."""


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A diffusion coefficient in Å²/ps, its standard error, and its 95 % interval."""

    D_A2_per_ps: float
    error_A2_per_ps: float
    ci95_A2_per_ps: tuple[float, float]


@dataclass(frozen=True, slots=True)
class MeasuredWalk:
    """Diffusion coefficient of a walk made of hops.

    Attributes
    ----------
    coefficient
        With its error.
    plateau
        The fit behind it.
    n_hops
        Hops worth of displacement, ``6 D t / l²``.
    replica_error_A2_per_ps
        Standard error from the scatter of four or more paths alone, or None.
    replicas_disagree
        Whether that is so much larger than the error of fit and counting that it was taken instead.
    widened
        By how much that made the error larger; 1 where it was not taken.
    remembers
        Whether the ions of a sum were seen to remember their hops; None where that is not known.
    """

    coefficient: Coefficient
    plateau: Plateau
    n_hops: float
    replica_error_A2_per_ps: float | None
    replicas_disagree: bool
    widened: float = 1.0
    remembers: bool | None = None


def measure_walk(
    paths: Sequence[Floats], interval_ps: float, hop_length_A: float, shortest_ps: float = SHORTEST_PS
) -> MeasuredWalk | None:
    """Diffusion coefficient of one or several walks that move by hops.

    The fit takes increments for Gaussian. Those of a walk of independent hops have a fourth cumulant on top, which adds
    ``D² / n_hops`` to the variance of any quadratic estimate: ``SE² = SE_fit² + D² / n_hops``. For a walk of fixed hop
    length without noise this is exact, since the squared displacement by Poisson many hops of length l, m in the mean,
    has the variance ``(2 m² / 3 + m) l⁴``. The estimate is a sum of squares, so its interval is that of a chi-squared
    variable with ``2 D² / SE²`` degrees of freedom (F. E. Satterthwaite, Biometrics Bull. 2, 110 (1946)): for many
    hops the normal one, for few one that begins and ends higher.

    If hops are undone some time later, D is too high by more than its error knows. It lies between its values for hops
    that are undone at once and after half a stride (`remembering` in ``walk.py``); the interval goes from the lower end
    for the one to the upper end for the other and so holds each of them as often as it should, or more often (G. W.
    Imbens and C. F. Manski, Econometrica 72, 1845 (2004), on parameters that are known up to a range).

    The scatter of four or more paths needs no model, but is itself uncertain by a third and more. It replaces the error
    where it exceeds it beyond chance, with Student's t for its degrees of freedom; taken whenever it is the larger
    one, it would widen every other interval for nothing.

    Parameters
    ----------
    paths
        Coordinates in Å, each of shape ``(n_frames, 3 n_walks)``; hops of different walks are independent.
    interval_ps
        Time between frames in ps.
    hop_length_A
        Length of a hop in Å.
    shortest_ps
        Shortest motion to look at.

    Returns
    -------
    MeasuredWalk
        Or None if the paths are too short.
    """
    found = plateau(paths, interval_ps, shortest_ps)
    return None if found is None else _of_hops(found, paths, interval_ps, hop_length_A)


def _of_hops(found: Plateau, paths: Sequence[Floats], interval_ps: float, hop_length_A: float) -> MeasuredWalk:
    """The walk behind a fit, if it moves by hops of a length."""
    D, error = found.fit.D_A2_per_ps, found.fit.error_A2_per_ps
    time_ps = sum(len(path) - 1 for path in paths) * interval_ps
    n_hops = 2 * D * time_ps * paths[0].shape[1] / hop_length_A**2
    if n_hops > 0:
        error = float(np.hypot(error, D / np.sqrt(n_hops)))
    modelled = error
    scatter, n = _scatter(paths, interval_ps, found.fit.stride)
    disagree = bool(scatter is not None and error > 0 and (n - 1) * (scatter / error) ** 2 > chi2.ppf(DISAGREE, n - 1))
    if scatter is not None and disagree:
        error = scatter * float(t.ppf(0.975, n - 1) / norm.ppf(0.975))
    widened = error / modelled if modelled > 0 else 1.0
    coefficient = chi2_coefficient(D, error)
    low, high = coefficient.ci95_A2_per_ps
    coefficient = replace(coefficient, ci95_A2_per_ps=(low * _remembered_share(found), high))
    return MeasuredWalk(coefficient, found, n_hops, scatter, disagree, widened)


def measure_tracer(
    paths: Sequence[Floats], interval_ps: float, hop_length_A: float, residence_ps: float
) -> MeasuredWalk | None:
    """Self-diffusion coefficient of ions whose hops remember the one before.

    An ion that has hopped is likely to hop back: to the vacancy it left, or when the interstitial that pushed it comes
    again. Only motion over two residence times of a carrier has seen that: with a mean cosine of -0.3 from one hop to
    the next, D is 4 % too high there and 45 % at a fifth of it. As a memory of a residence time is to be expected, D is
    taken half-way between its values for hops that are undone at once and after that time, which leaves 1 %. The tracer
    of a single defect is that of many ions, which move a few at a time: hops of all of them are counted, ``2 D t``
    summed over the coordinates, over ``l²``, and how few they are is in the error (`dispersion` in ``walk.py``).

    Parameters
    ----------
    paths, interval_ps, hop_length_A
        As for `measure_walk`.
    residence_ps
        Time between two hops of a carrier in ps. Where the paths are too short, the longest stride is taken that they
        allow.

    Returns
    -------
    MeasuredWalk
        Or None if the paths are too short.
    """
    wanted_ps = max(SHORTEST_PS, N_RESIDENCES * residence_ps)
    n_frames = max((len(path) - 1 for path in paths), default=0)
    strides = [stride for stride in STRIDES if MIN_PERIODS * stride <= n_frames]
    allowed_ps = [stride * interval_ps for stride in strides if SHORTEST_PS <= stride * interval_ps < wanted_ps]
    for shortest_ps in (wanted_ps, *reversed(allowed_ps), SHORTEST_PS):
        if found := measure_walk(paths, interval_ps, hop_length_A, shortest_ps):
            return _half_way(found)
    return None


def _half_way(walk: MeasuredWalk) -> MeasuredWalk:
    """The walk with a diffusivity between those for hops that are undone at once and after half a stride."""
    D = walk.coefficient.D_A2_per_ps * (1 + _remembered_share(walk.plateau)) / 2
    return replace(walk, coefficient=replace(walk.coefficient, D_A2_per_ps=D))


def length_for_memory(residence_ps: float, interval_ps: float, n_coordinates: int, n_paths: int) -> float:
    """Length in ps that each of some paths needs for a diffusivity over two residence times.

    A stride that long must fit `MIN_PERIODS` times into a path, and modes of that and slower motion be there, times
    coordinates, three times `MIN_MODES`: more paths give more modes, and no longer ones.

    Parameters
    ----------
    residence_ps, interval_ps
        Time between two hops of a carrier, and between frames, in ps.
    n_coordinates, n_paths
        Coordinates of a path, and paths.
    """
    wanted_ps = max(SHORTEST_PS, N_RESIDENCES * residence_ps)
    stride_ps = first_stride_ps(interval_ps, wanted_ps)
    return max(MIN_PERIODS, math.ceil(3 * MIN_MODES / (n_coordinates * n_paths))) * stride_ps


def measure_sum(
    paths: Sequence[Floats], ions: Sequence[Floats], interval_ps: float, hop_length_A: float, n_carriers: int
) -> MeasuredWalk | None:
    """Diffusion coefficient of the summed displacement of ions.

    A single defect forgets every hop. Several carriers may not, and the three coordinates of a sum are too few to
    tell; but each ion is a witness. Where the self-diffusion coefficient over two residence times is lower than that
    over a shorter time, beyond what chance does in 5 % of walks, the sum is looked at over two residence times as well.

    Parameters
    ----------
    paths
        Summed displacements in Å, each of shape ``(n_frames, 3)``.
    ions
        Displacements of all ions, each of shape ``(n_frames, 3 n_ions)``.
    interval_ps, hop_length_A
        As for `measure_walk`.
    n_carriers
        Carriers that hop.

    Returns
    -------
    MeasuredWalk
        Or None if the paths are too short.
    """
    walk = measure_walk(paths, interval_ps, hop_length_A)
    if walk is None or n_carriers == 1 or walk.n_hops <= 0:
        return walk
    residence_ps = n_carriers * sum(len(path) - 1 for path in paths) * interval_ps / walk.n_hops
    over_long = measure_tracer(ions, interval_ps, hop_length_A, residence_ps)
    if over_long is None or over_long.plateau.fit.stride <= walk.plateau.fit.stride:
        return walk
    if not ions_slow_down(ions, interval_ps, walk, over_long):
        seen = over_long.plateau.fit.stride * interval_ps >= N_RESIDENCES * residence_ps
        return replace(walk, remembers=False if seen else None)
    longer = measure_tracer(paths, interval_ps, hop_length_A, residence_ps)
    return None if longer is None else replace(longer, remembers=True)


def moved_together(
    walk: MeasuredWalk,
    tracer: MeasuredWalk,
    paths: Sequence[Floats],
    ions: Sequence[Floats],
    interval_ps: float,
    hop_length_A: float,
    n_together: float,
) -> tuple[MeasuredWalk, MeasuredWalk]:
    """Sum and tracer, as `measure_sum` and `measure_tracer` give them, with k ions that move together as one hop.

    Of the sum that has the length k l, squared k² l²; of the ions it is worth k l².
    """
    of_sum = _of_hops(walk.plateau, paths, interval_ps, n_together * hop_length_A)
    of_ions = _of_hops(tracer.plateau, ions, interval_ps, math.sqrt(n_together) * hop_length_A)
    of_sum = replace(of_sum, remembers=walk.remembers)
    return _half_way(of_sum) if walk.remembers else of_sum, _half_way(of_ions)


def ions_slow_down(ions: Sequence[Floats], interval_ps: float, walk: MeasuredWalk, over_long: MeasuredWalk) -> bool:
    """Whether self-diffusion is slower over a longer stride than over that of a sum, beyond chance in 5 % of walks."""
    short, long = fit_walk(ions, interval_ps, walk.plateau.fit.stride), over_long.plateau.fit
    return long.stride > short.stride and fall(spectrum(ions), short, long, interval_ps) > N_ERRORS_OF_MEMORY


def upper_bound(walk: MeasuredWalk, hop_length_A: float, time_ps: float, n_walks: int) -> float:
    """Upper bound at 97.5 %: that of a Poisson count of hops, or of the fit if that is higher."""
    # At most this many hops are compatible with those seen; 3.7 if there was none.
    most = float(chi2.ppf(0.975, 2 * (walk.n_hops + 1)) / 2)
    return max(most * hop_length_A**2 / (6 * time_ps * n_walks), walk.coefficient.ci95_A2_per_ps[1])


def chi2_coefficient(D: float, error: float) -> Coefficient:
    """Coefficient whose estimate, a scaled chi-squared variable, came out as ``D`` with the standard error ``error``.

    Its value is moved up by ``ln(dof / 2) - digamma(dof / 2)``, by 1 % where the error is 14 % and by 6 % where it is
    a third, so that ln D is unbiased: an activation energy is a slope of ln D, and the coldest point has fewest hops.
    """
    if not error > 0 or error > D:
        return Coefficient(D, error, (0.0, D + Z975 * error))
    half = (D / error) ** 2
    high, low = chi2.ppf((0.975, 0.025), 2 * half) / (2 * half)
    raised = half / float(np.exp(digamma(half)))
    return Coefficient(D * raised, error * raised, (float(D / high), float(D / low)))


def shared(coefficient: Coefficient, n: int) -> Coefficient:
    """A coefficient of a sum as that of each of its ``n`` parts."""
    low, high = coefficient.ci95_A2_per_ps
    return Coefficient(coefficient.D_A2_per_ps / n, coefficient.error_A2_per_ps / n, (low / n, high / n))


def haven_ratio(tracer: Coefficient, of_sum: Coefficient, n_ions: int) -> tuple[float, float]:
    """Self-diffusivity of ``n_ions`` over the diffusivity of their sum, and its standard error.

    ``(dH / H)² = (dD_t / D_t)² + (dD_s / D_s)²``, which neglects that both come from the same hops, more or fewer than
    expected, and so move together: the error is too large, by some 15 % for independent ions and up to 75 %
    around a single defect. A lone ion is its own sum, and the ratio 1 without an error.
    """
    ratio = tracer.D_A2_per_ps * n_ions / of_sum.D_A2_per_ps
    if n_ions == 1:
        return ratio, 0.0
    relative = np.hypot(tracer.error_A2_per_ps / tracer.D_A2_per_ps, of_sum.error_A2_per_ps / of_sum.D_A2_per_ps)
    return ratio, float(ratio * relative)


def _remembered_share(found: Plateau) -> float:
    """What is left of a diffusivity if hops are undone as late as its stride may hide; at most all of it."""
    D = found.fit.D_A2_per_ps
    return min(1.0, found.remembering_A2_per_ps / D) if D > 0 else 1.0


def _scatter(paths: Sequence[Floats], interval_ps: float, stride: int) -> tuple[float | None, int]:
    """Standard error of the mean of the paths' own diffusivities, weighted by length, and how many they are."""
    # Two modes: a path has one less than frames, and half a period of the second is half of its frames.
    long_enough = [path for path in paths if len(path) >= max(3, 2 * stride)]
    n = len(long_enough)
    if n < MIN_REPLICAS:
        return None, n
    weight = np.array([len(path) - 1 for path in long_enough], dtype=float)
    weight /= weight.sum()
    single = np.array([fit_walk([path], interval_ps, stride).D_A2_per_ps for path in long_enough])
    return float(np.sqrt(n / (n - 1) * (weight**2 @ (single - weight @ single) ** 2))), n
