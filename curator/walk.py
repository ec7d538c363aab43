"""Random walks: the diffusivity of a walk seen through vibrations, and its mean squared displacement."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dst
from scipy.optimize import minimize_scalar

Floats = NDArray[np.float64]

STRIDES = (1, 2, 3, 5, 7, *(m * 10**e for e in range(1, 5) for m in (1, 2, 3, 5, 7)))
"""Frames between the positions of a walk that are tried."""
MIN_INCREMENTS = 16
"""Fewest increments, over all paths, that a diffusivity is fitted to."""


@dataclass(frozen=True, slots=True)
class WalkFit:
    """Maximum-likelihood estimate of a diffusivity.

    Attributes
    ----------
    D_A2_per_ps
        Diffusivity in Å²/ps.
    error_A2_per_ps
        Its standard error for Gaussian increments, from the Fisher information.
    noise_A2
        Variance of the localisation noise (vibrations) along one axis in Å².
    stride
        Frames between the positions it was fitted to.
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
        Longer strides, of two, that were there to agree with it. With none, and a shorter stride to disagree, the
        walk is not diffusive on the times that were seen.
    """

    fit: WalkFit
    shortest: WalkFit
    n_agree: int


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


def fit_walk(paths: Sequence[Floats], interval_ps: float, stride: int = 1) -> WalkFit:
    r"""Diffusivity of random walks observed with white localisation noise, by maximum likelihood.

    Increments of such a walk have the covariance :math:`(2 D \tau + 2 \sigma^2) \delta_{ij} - \sigma^2
    \delta_{|i-j|,1}`: an MA(1) process, which the type-I discrete sine transform makes diagonal, with eigenvalues
    :math:`2 D \tau + 2 \sigma^2 (1 - \cos \frac{k \pi}{n + 1})`, k = 1..n (Vestergaard, Blainey and Flyvbjerg, Phys.
    Rev. E 89, 022726 (2014); Bullerjahn, von Bülow and Hummer, J. Chem. Phys. 153, 024116 (2020)). All ``stride``
    interleaved walks are used; the error counts them as one.

    Parameters
    ----------
    paths
        Coordinates in Å, each of shape ``(n_frames, n_coordinates)``; frames of different paths, and coordinates,
        are independent. Lengths may differ.
    interval_ps
        Time between frames in ps.
    stride
        Frames between the positions that are used.

    Raises
    ------
    ValueError
        If there are fewer than two increments.
    """
    powers, curves, weights = [], [], []
    for path in paths:
        for offset in range(stride):
            increments = np.diff(path[offset::stride], axis=0)
            n = len(increments)
            if n == 0:
                continue
            powers.append((dst(increments, type=1, axis=0, norm="ortho") ** 2).mean(axis=1))
            curves.append(2 - 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1)))
            weights.append(np.full(n, path.shape[1] / stride))
    if sum(len(power) for power in powers) < 2:
        raise ValueError("a diffusivity needs at least two increments; the trajectory is too short for this stride")
    power, curve, weight = np.concatenate(powers), np.concatenate(curves), np.concatenate(weights)
    total = weight.sum()
    if not power.any():
        return WalkFit(0.0, 0.0, 0.0, stride)

    def scale(u: float) -> float:
        """Best (1 - u) 2Dτ + u σ² at a share u of noise."""
        return float((weight * power / (1 - u + u * curve)).sum() / total)

    def cost(u: float) -> float:
        return float(np.log(scale(u)) + (weight * np.log(1 - u + u * curve)).sum() / total)

    u = float(minimize_scalar(cost, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-9}).x)
    walk, noise = scale(u) * (1 - u), scale(u) * u
    spectrum = walk + noise * curve
    aa, ab, bb = ((weight / (2 * spectrum**2) * curve**power_).sum() for power_ in (0, 1, 2))
    determinant = aa * bb - ab**2
    variance = bb / determinant if determinant > 0 else 1 / aa
    tau = 2 * interval_ps * stride
    return WalkFit(walk / tau, float(np.sqrt(variance)) / tau, noise, stride)


def plateau(paths: Sequence[Floats], interval_ps: float, shortest_ps: float = 1.0) -> Plateau | None:
    """Fit at the shortest stride at which the walk is a random walk.

    That is the shortest stride whose diffusivity agrees, within two standard errors, with those of the next two:
    vibrations and immediate back jumps, which are not white noise, raise it at strides that resolve them. Since an
    efficient estimate is uncorrelated with its difference from a less efficient one of the same data, the variance of
    that difference is the difference of their variances (Hausman, Econometrica 46, 1251 (1978)).

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
    longest = max(len(path) for path in paths) - 1
    fits: list[WalkFit] = []
    for stride in STRIDES:
        n_increments = sum((len(path) - 1) // stride for path in paths)
        if n_increments < MIN_INCREMENTS or longest // stride < 2:
            break
        if stride * interval_ps > shortest_ps - 1e-9:
            fits.append(fit_walk(paths, interval_ps, stride))
    for idx, fit in enumerate(fits):
        longer = fits[idx + 1 : idx + 3]
        if all(_agree(fit, other) for other in longer):
            return Plateau(fit, shortest=fits[0], n_agree=len(longer))
    return None


def _agree(fit: WalkFit, longer: WalkFit) -> bool:
    variance = max(longer.error_A2_per_ps**2 - fit.error_A2_per_ps**2, 0.0)
    return bool(abs(fit.D_A2_per_ps - longer.D_A2_per_ps) <= 2 * np.sqrt(variance))


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
