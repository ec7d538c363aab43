"""Random walks: the diffusivity of a walk seen through vibrations, and its mean squared displacement.

Everything rests on the sine spectrum of the increments, of which only the slow modes are used. Vibrations and immediate
back jumps, whatever their own spectrum, add a parabola at low frequency; the walk adds a constant.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dst
from scipy.optimize import minimize_scalar

Floats = NDArray[np.float64]

STRIDES = (1, 2, 3, 5, 7, *(m * 10**e for e in range(1, 5) for m in (1, 2, 3, 5, 7)))
"""Resolutions that are tried, in frames."""
MIN_MODES = 16
"""Fewest modes, over all paths, that a diffusivity is fitted to; of walks of more than three coordinates fewer do."""
MIN_PERIODS = 8
"""Fewest strides in the longest path: with fewer modes a constant cannot be told from a parabola."""
SHORTEST_PS = 0.95
"""Shortest stride of a diffusivity in ps: some ten vibrations. Below 1, so that ten frames of 99 fs, which time steps
of 3 fs make of 100, are enough."""
N_ERRORS = 3.5
"""Standard errors by which strides may differ. Up to twenty are compared: at two errors, chance alone would move one
walk in six to a worse stride, and the interval would miss too often."""
MAX_FALL = 4.0
"""Most by which a spectrum may fall from frequency zero to that of the stride."""
MEMORY_STRIDES = 0.5
"""Longest memory of a hop that a stride may hide, in strides: a residence time, of which strides are to hold two."""


@dataclass(frozen=True, slots=True)
class WalkFit:
    """Maximum-likelihood estimate of a diffusivity.

    Attributes
    ----------
    D_A2_per_ps
        Diffusivity in Å²/ps.
    error_A2_per_ps
        Its standard error for Gaussian increments, from the Fisher information and the `dispersion` of the modes.
    noise_A2
        Variance of the localisation noise (vibrations) along one axis in Å²; negative if the steps of the walk go on
        for longer than a frame, or in the same direction.
    stride
        Frames of the shortest motion that was looked at: half a period of the fastest mode.
    """

    D_A2_per_ps: float
    error_A2_per_ps: float
    noise_A2: float
    stride: int


@dataclass(frozen=True, slots=True)
class Plateau:
    """Where the diffusivity stops to depend on the stride.

    Attributes
    ----------
    fit
        At the stride that was chosen.
    shortest
        At the shortest stride that was tried.
    n_agree
        Longer strides that were there to agree with it. With none, and a shorter stride to disagree, the
        walk is not diffusive on the times that were seen.
    remembering_A2_per_ps
        Diffusivity at the same stride if hops are not undone at once but after half a stride, see `remembering`.
    """

    fit: WalkFit
    shortest: WalkFit
    n_agree: int
    remembering_A2_per_ps: float


@dataclass(frozen=True, slots=True, eq=False)
class MSDCurve:
    """Mean squared displacement over lag time, averaged over all origins.

    Attributes
    ----------
    lag_ps, msd_A2, error_A2
        Lag in ps, mean squared displacement in Å² and its standard error, each of shape ``(n_lags,)``.
    """

    lag_ps: Floats
    msd_A2: Floats
    error_A2: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Sine spectrum of the increments of one or several paths, slow modes and fast ones.

    Attributes
    ----------
    power
        Squared amplitude of each mode, averaged over the coordinates, Å², shape ``(n_modes,)``.
    curve
        ``2 - 2 cos(k pi / (n + 1))`` of each mode, shape ``(n_modes,)``.
    half_period
        Frames in half a period of each mode, shape ``(n_modes,)``.
    n_coordinates
        Coordinates behind each power.
    """

    power: Floats
    curve: Floats
    half_period: Floats
    n_coordinates: int


def least_times_ps(interval_ps: float) -> tuple[float, float]:
    """What the longest path, and all paths together, must last in ps for a fit to frames ``interval_ps`` apart."""
    stride_ps = first_stride_ps(interval_ps, SHORTEST_PS)
    return MIN_PERIODS * stride_ps, MIN_MODES * stride_ps


def first_stride_ps(interval_ps: float, shortest_ps: float) -> float:
    """Length in ps of the first stride that is not shorter, of frames ``interval_ps`` apart."""
    strides_ps = (stride * interval_ps for stride in STRIDES)
    return next((each for each in strides_ps if each > shortest_ps - 1e-9), shortest_ps)


def shortest_run_ps(n_runs: int) -> float:
    """What each of several trajectories must last in ps for a diffusivity, where a number of frames makes 1 ps."""
    longest_ps, all_ps = least_times_ps(1.0)
    return max(longest_ps, all_ps / n_runs)


def spectrum(paths: Sequence[Floats]) -> Spectrum:
    """Sine spectrum of paths of shape ``(n_frames, n_coordinates)`` in Å, whose lengths may differ."""
    powers, phases, half_periods = [], [], []
    for path in paths:
        increments = np.diff(path, axis=0)
        n = len(increments)
        if n == 0:
            continue
        mode = np.arange(1, n + 1)
        powers.append((dst(increments, type=1, axis=0, norm="ortho") ** 2).mean(axis=1))
        phases.append(mode * np.pi / (n + 1))
        half_periods.append((n + 1) / mode)
    if not powers:
        return Spectrum(np.empty(0), np.empty(0), np.empty(0), 0)
    return Spectrum(
        np.concatenate(powers), 2 - 2 * np.cos(np.concatenate(phases)), np.concatenate(half_periods), paths[0].shape[1]
    )


def fit_walk(paths: Sequence[Floats] | Spectrum, interval_ps: float, stride: int = 1) -> WalkFit:
    r"""Diffusivity of random walks observed with localisation noise, by maximum likelihood on their slow modes.

    The increments of a walk seen with white noise are an MA(1) process, which the type-I discrete sine transform makes
    diagonal, with eigenvalues :math:`2 D \tau + \sigma^2 (2 - 2 \cos \frac{k \pi}{n + 1})`, k = 1..n (Vestergaard,
    Blainey and Flyvbjerg, Phys. Rev. E 89, 022726 (2014); Bullerjahn, von Bülow and Hummer, J. Chem. Phys. 153, 024116
    (2020)). Of these the modes are used that are slower than the stride. There the increments of any bounded motion,
    white or not, have the same parabola, for their spectrum is that factor times the spectrum of the motion; to take
    every ``stride``-th position instead would fold all of the noise into the modes that remain. The modes being
    independent, each counts once and the error is right at every stride, which that of overlapping displacements is
    not. The noise is free to be negative: held at zero it would lower D by a third of its error.

    Parameters
    ----------
    paths
        Coordinates in Å, each of shape ``(n_frames, n_coordinates)``; frames of different paths are independent.
        Lengths may differ. Or their spectrum.
    interval_ps
        Time between frames in ps.
    stride
        Frames of the shortest motion to look at.

    Raises
    ------
    ValueError
        If there are fewer than two modes.
    """
    whole = paths if isinstance(paths, Spectrum) else spectrum(paths)
    slow = whole.half_period >= stride
    power, n_modes = whole.power[slow], int(slow.sum())
    if n_modes < 2:
        raise ValueError("a diffusivity needs at least two modes; the trajectory is too short for this stride")
    if not power.any():
        return WalkFit(0.0, 0.0, 0.0, stride)
    curve = whole.curve[slow]
    steepest = float(curve.max())
    curve = curve / steepest

    def scale(u: float) -> float:
        """Best level of the spectrum at a share u of noise at its fast end."""
        return float((power / (1 - u + u * curve)).mean())

    def cost(u: float) -> float:
        return float(np.log(scale(u)) + np.log(1 - u + u * curve).mean())

    u = float(minimize_scalar(cost, bounds=(1 - MAX_FALL, 1.0), method="bounded", options={"xatol": 1e-9}).x)
    walk, noise = scale(u) * (1 - u), scale(u) * u / steepest
    tau_ps = 2 * interval_ps
    error = _fisher_error(whole, stride, walk, noise) * math.sqrt(dispersion(whole, stride, walk, noise))
    return WalkFit(walk / tau_ps, error / tau_ps, noise, stride)


def _fisher_error(whole: Spectrum, stride: int, walk: float, noise: float) -> float:
    """Standard error of the level of a walk, fitted together with the noise, where both are as given."""
    curve = whole.curve[whole.half_period >= stride]
    weight = whole.n_coordinates / (2 * (walk + noise * curve) ** 2)
    aa, ab, bb = ((weight * curve**power).sum() for power in (0, 1, 2))
    determinant = aa * bb - ab**2
    return float(np.sqrt(bb / determinant if determinant > 0 else 1 / aa))


def dispersion(whole: Spectrum, stride: int, walk: float, noise: float) -> float:
    r"""How much more the modes slower than a stride vary than those of independent coordinates that move alike.

    The mean power of n coordinates with the spectral matrix S has the variance :math:`2 \sum_{ij} S_{ij}^2 / n^2`, that
    of only :math:`(\sum_i S_{ii})^2 / \sum_{ij} S_{ij}^2` independent ones (Bretherton et al., J. Climate 12, 1990
    (1999)). They are fewer than n where some ions move while others stay, where one pushes another, and where there is
    diffusion along one axis only. Neighbouring modes have nearly the same mean, so that half their mean squared
    difference is that variance (J. von Neumann, Ann. Math. Stat. 12, 367 (1941)). It leaves out what all modes of a
    path have in common, more or fewer hops than expected, which `curator.diffusion.coefficient.measure_walk` counts.
    """
    slow = whole.half_period >= stride
    ratio = whole.power[slow] / (walk + noise * whole.curve[slow])
    steps = np.diff(ratio)[np.diff(whole.half_period[slow]) < 0]
    return max(1.0, float((steps**2).mean()) / 2 * whole.n_coordinates / 2) if len(steps) else 1.0


def remembering(whole: Spectrum, stride: int) -> Spectrum:
    """The spectrum, to be fitted by walks whose hops are undone after half a stride, on average, and not at once.

    Where hops there and back are in balance, what undoes them is a symmetric process, whose correlations are a mixture
    of decaying exponentials. One with the rate γ adds ``x / (1 + x / γ²)`` to the spectrum, x being the parabola. They
    all rise less and less, so that a parabola meets the axis too high, and the higher the slower they are. Slower than
    half a stride, a residence time, would be too slow for the stride.
    """
    return replace(whole, curve=whole.curve / (1 + whole.curve * (MEMORY_STRIDES * stride) ** 2))


def plateau(paths: Sequence[Floats], interval_ps: float, shortest_ps: float = SHORTEST_PS) -> Plateau | None:
    """Fit at the shortest stride at which the walk is a random walk.

    That is the shortest stride whose diffusivity agrees with those of all longer ones: back jumps that are not
    immediate raise it at strides that resolve them. Since an efficient estimate is uncorrelated with its difference
    from a less efficient one of the same data, the variance of that difference is the difference of their variances
    (Hausman, Econometrica 46, 1251 (1978)). Both are taken at the shorter stride's spectrum, for the error of an
    estimate that came out low is low as well and would find a difference where there is none.

    Parameters
    ----------
    paths, interval_ps
        As for `fit_walk`.
    shortest_ps
        Strides shorter than this, some ten vibrations, are not considered.

    Returns
    -------
    Plateau
        Or None if the paths are too short for any stride.
    """
    whole = spectrum(paths)
    fits = [fit_walk(whole, interval_ps, stride) for stride in strides_seen(whole, interval_ps, shortest_ps)]
    for idx, fit in enumerate(fits):
        longer = fits[idx + 1 :]
        if all(abs(fall(whole, fit, other, interval_ps)) <= N_ERRORS for other in longer):
            remembered = fit_walk(remembering(whole, fit.stride), interval_ps, fit.stride)
            return Plateau(fit, fits[0], len(longer), remembered.D_A2_per_ps)
    return None


def strides_seen(whole: Spectrum, interval_ps: float, shortest_ps: float) -> list[int]:
    """Strides, none shorter than ``shortest_ps``, that the longest path and the modes are enough for."""
    longest = whole.half_period.max(initial=0.0) - 1
    return [
        stride
        for stride in STRIDES
        if stride * interval_ps > shortest_ps - 1e-9
        and longest >= MIN_PERIODS * stride
        and (whole.half_period >= stride).sum() * whole.n_coordinates >= 3 * MIN_MODES
    ]


def fall(whole: Spectrum, fit: WalkFit, longer: WalkFit, interval_ps: float) -> float:
    """Standard errors by which the diffusivity falls from a shorter to a longer stride of the same spectrum."""
    tau_ps = 2 * interval_ps
    walk, noise = fit.D_A2_per_ps * tau_ps, fit.noise_A2
    if walk == noise == 0:
        return 0.0
    errors = [_fisher_error(whole, f.stride, walk, noise) / tau_ps for f in (fit, longer)]
    variance = (errors[1] ** 2 - errors[0] ** 2) * dispersion(whole, fit.stride, walk, noise)
    return (fit.D_A2_per_ps - longer.D_A2_per_ps) / math.sqrt(variance) if variance > 0 else 0.0


def msd_curve(paths: Sequence[Floats], interval_ps: float, n_lags: int = 40) -> MSDCurve:
    """Mean squared displacement of walks with three coordinates each, at lags up to half of the longest path.

    The error counts displacements that do not overlap as independent.
    """
    longest = max(len(path) for path in paths) - 1
    lags = np.unique(np.geomspace(1, max(1, longest // 2), n_lags).astype(int))
    rows = []
    for lag in lags:
        squares = [
            ((path[lag:] - path[:-lag]) ** 2).reshape(len(path) - lag, -1, 3).sum(axis=2)
            for path in paths
            if len(path) > lag
        ]
        n_independent = sum(max(1, len(square) // lag) * square.shape[1] for square in squares)
        values = np.concatenate([square.ravel() for square in squares])
        rows.append((lag * interval_ps, values.mean(), values.std() / np.sqrt(n_independent)))
    lag_ps, msd_A2, error_A2 = np.array(rows, dtype=np.float64).T
    return MSDCurve(lag_ps, msd_A2, error_A2)
