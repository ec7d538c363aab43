"""What makes a diffusivity meaningless, and what to do about it.

Each gate gives a reason, which begins with its name, or nothing. Cautions refuse nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.data import atomic_masses, chemical_symbols
from numpy.typing import NDArray
from scipy.stats import chi2

from curator.datasets.units import FS, KB_EV_PER_K
from curator.diffusion.coefficient import MeasuredWalk
from curator.diffusion.walk import (
    MIN_MODES,
    MIN_PERIODS,
    SHORTEST_PS,
    Floats,
    Plateau,
    Spectrum,
    WalkFit,
    dispersion,
    fit_walk,
    plateau,
    spectrum,
)

FEW_HOPS = 10
"""Below this many hops there is a bound and no diffusivity."""
SOME_HOPS = 30
"""Below this many hops the error is large and said to be."""
MAX_RELATIVE_ERROR = 0.45
"""Nor is there one above this: too short a time to tell hops from motion in place."""
EXPLODED_T_RATIO = 3.0
"""Atoms that move at more than this many times the temperature have flown apart, or time and temperature are wrong."""
MELTED_D_RATIO = 0.1
MELTED_GROWTH = 1.3
"""A host diffuses if its diffusivity exceeds this share of that of the mobile species (solid alpha-AgI 0.025, molten
0.35) and its mean squared displacement still grows: by this factor from the second to the last quarter."""
BALLISTIC = "not diffusive yet: ballistic"
STAYING = 0.3
"""Ions stay where they are if less than this share of their diffusivity is left over the longest times. Around a defect
they remember their hops, but keep more: vacancies in fcc 0.78, in a honeycomb a third, collinear interstitials 0.7."""
CHANCE_OF_CAGES = 0.01
"""Probability below which the slow motion of a sum is more than that of ions that stay."""
MELT_FRAMES = 8
"""Frames that a run has more of if it is asked whether its host diffuses: two in each quarter."""
FEW_HOSTS = 0.25
"""A host of fewer atoms than this share of the mobile ions may be the mobile species itself."""
OUTPACED_D_RATIO = 10.0
"""Above it, the host is what was meant by the mobile species."""
CHANCE = 1e-3
"""Probability below which there is more, or less, slow motion than a walk has."""
DRIFT_ERRORS = 3.0
"""Standard errors by which the halves of a stationary run may differ."""


def exploded(
    runs: Sequence[Floats],
    places: Sequence[int],
    numbers: NDArray[np.int32],
    interval_ps: float,
    temperature_K: float | None,
) -> str:
    """Whether atoms move faster from one frame to the next than the temperature allows.

    The mean velocity between two frames is at most the thermal one, ``m <v²> = 3 kT``, so that this needs no velocities
    and raises no alarm however far apart the frames are.
    """
    if temperature_K is None:
        return ""
    masses = atomic_masses[numbers]
    limit_K = temperature_K * (EXPLODED_T_RATIO + 5 * np.sqrt(2 / (3 * len(numbers))))
    interval = 1000 * interval_ps * FS
    for idx, run in zip(places, runs, strict=True):
        squares = (np.diff(run, axis=0) ** 2).sum(axis=2)
        seen_K = (squares @ masses) / (3 * len(numbers) * KB_EV_PER_K * interval**2)
        if seen_K.max() > limit_K:
            frame = int(seen_K.argmax())
            return (
                f"exploded: between frames {frame} and {frame + 1} after equilibration of trajectory {idx} the atoms "
                f"move as at {seen_K.max():.0f} K, not {temperature_K:g} K; check the time between frames and the "
                "temperature, or discard that trajectory"
            )
    return ""


@dataclass(frozen=True, slots=True)
class MovingHost:
    """An element of the host that moves, and not in place.

    Attributes
    ----------
    number
        Atomic number.
    D_A2_per_ps, D_mobile_A2_per_ps
        Self-diffusivity of its atoms and of the mobile ions.
    middle_A2, late_A2
        Mean squared displacement in the second and in the last quarter of the time.
    """

    number: int
    D_A2_per_ps: float
    D_mobile_A2_per_ps: float
    middle_A2: float
    late_A2: float

    def __str__(self) -> str:
        return (
            f"D of {chemical_symbols[self.number]} is {self.D_A2_per_ps:.2g} Å²/ps, that of the mobile species "
            f"{self.D_mobile_A2_per_ps:.2g} Å²/ps; its mean squared displacement grew from {self.middle_A2:.2g} to "
            f"{self.late_A2:.2g} Å²"
        )


def moving_hosts(
    runs: Sequence[Floats],
    numbers: NDArray[np.int32],
    is_mobile: NDArray[np.bool_],
    is_host: NDArray[np.bool_],
    interval_ps: float,
    hop_length_A: float,
) -> list[MovingHost]:
    """Elements of the host whose mean squared displacement still grows in the runs that are long enough to tell.

    In runs too short for a diffusivity vibrations look like one, unless they lead half of a hop away. Where neither
    host nor mobile species have moved by as much as some hops, there is nothing to tell.
    """
    stride = math.ceil(SHORTEST_PS / interval_ps)
    are_long = any(len(run) > MIN_PERIODS * stride for run in runs)
    runs = [run for run in runs if len(run) > (MIN_PERIODS * stride if are_long else MELT_FRAMES)]
    if not runs:
        return []
    stride = min(stride, (max(len(run) for run in runs) - 1) // 4)
    at_least_A2 = 0.0 if are_long else (hop_length_A / 2) ** 2
    time_ps = sum(len(run) - 1 for run in runs) * interval_ps

    def self_diffusivity(atoms: NDArray[np.bool_]) -> float:
        return fit_walk([run[:, atoms].reshape(len(run), -1) for run in runs], interval_ps, stride).D_A2_per_ps

    def n_hops(D: float, atoms: NDArray[np.bool_]) -> float:
        return float(6 * D * time_ps * atoms.sum() / hop_length_A**2)

    D_mobile, found = self_diffusivity(is_mobile), []
    for number in np.unique(numbers[is_host]):
        atoms = is_host & (numbers == number)
        D = self_diffusivity(atoms)
        squares = [((run - run[0])[:, atoms] ** 2).sum(axis=2).mean(axis=1) for run in runs]
        middle = float(np.mean([square[len(square) // 4 : len(square) // 2].mean() for square in squares]))
        late = float(np.mean([square[-(len(square) // 4) :].mean() for square in squares]))
        has_hopped = max(n_hops(D_mobile, is_mobile), n_hops(D, atoms)) >= FEW_HOPS
        if has_hopped and late > max(MELTED_GROWTH * middle, at_least_A2):
            found.append(MovingHost(int(number), D, D_mobile, middle, late))
    return found


def melted(moving: Sequence[MovingHost], n_elements: int) -> str:
    """Whether a host of some elements, or one of them, diffuses."""
    found = [host for host in moving if host.D_A2_per_ps > MELTED_D_RATIO * host.D_mobile_A2_per_ps]
    if not found:
        return ""
    told = "; ".join(map(str, found))
    if any(host.D_A2_per_ps > OUTPACED_D_RATIO * host.D_mobile_A2_per_ps for host in found):
        return f"host diffuses: far faster than the mobile species: {told}; is that the right species?"
    if len(found) < n_elements:
        return f"host diffuses: {told}; name only the elements that stay as the host"
    return f"melted: the host diffuses, as in a melt: {told}; lower the temperature, or measure a liquid"


def unsteady_host(moving: Sequence[MovingHost], n_host: int, n_mobile: int, hop_length_A: float) -> tuple[str, ...]:
    """What to be careful about in a frame of reference of few atoms, or of some that go farther than a hop."""
    reasons = []
    if n_host < FEW_HOSTS * n_mobile or n_host == 1 < n_mobile:
        atoms = "one atom stays" if n_host == 1 else f"{n_host} atoms stay"
        reasons.append(f"host of few atoms: {atoms}, {n_mobile} move; is that the right species?")
    if far := [str(host) for host in moving if host.late_A2 > hop_length_A**2]:
        reasons.append(f"host moves too: {'; '.join(far)}; see whether this is the crystal that was meant")
    return tuple(reasons)


def too_few_hops(walk: MeasuredWalk, time_ps: float) -> str:
    """Whether there were so few hops, or so little time, that only a bound can be given."""
    fit, seen = walk.plateau.fit, f"about {walk.n_hops:.1f} in {time_ps:g} ps"
    if walk.n_hops < FEW_HOPS:
        return f"too few hops: {seen}, fewer than {FEW_HOPS}: only an upper bound; run longer, or hotter"
    relative = float(np.hypot(fit.error_A2_per_ps / fit.D_A2_per_ps, walk.n_hops**-0.5))
    if relative <= MAX_RELATIVE_ERROR:
        return ""
    # The error falls as the root of the time.
    needed_ps = math.ceil(time_ps * (relative / MAX_RELATIVE_ERROR) ** 2)
    return (
        f"too short to tell hops, {seen}, from motion in place: an error of {relative:.0%}: only an upper bound; run "
        f"about {needed_ps} ps in all"
    )


def not_diffusive(paths: Sequence[Floats], found: Plateau, interval_ps: float) -> str:
    """Whether the motion is caged, or ballistic, on the longest times that were seen.

    Caged is a walk whose diffusivity still falls at the longest stride, or whose slowest modes hold less power
    than a chi-squared variable about the fit allows. Ballistic is one for which they hold more: it has not yet turned
    round, or is carried along.
    """
    fit, shortest = found.fit, found.shortest
    if found.n_agree == 0 and fit.stride > shortest.stride:
        return (
            f"not diffusive yet: caged, {shortest.D_A2_per_ps:.2g} Å²/ps at {shortest.stride * interval_ps:g} ps "
            f"becomes {fit.D_A2_per_ps:.2g} Å²/ps at {fit.stride * interval_ps:g} ps; run longer"
        )
    if fit.D_A2_per_ps == fit.noise_A2 == 0:
        return ""
    whole = spectrum(paths)
    ratio, dof = _slowest_modes(whole, fit, interval_ps)
    less = chi2.cdf(ratio.mean() * dof, dof)
    if CHANCE < less < 1 - CHANCE:
        return ""
    motion, cause = (
        ("not diffusive yet: caged", "")
        if less <= CHANCE
        else (BALLISTIC, ", and see whether the frame of reference drifts")
    )
    return (
        f"{motion}, motion over {whole.half_period.max() * interval_ps / 3:.3g} ps and more is "
        f"{ratio.mean():.2g} times that of a walk with {fit.D_A2_per_ps:.2g} Å²/ps; run longer{cause}"
    )


def ions_caged(paths: Sequence[Floats], ions: Sequence[Floats], tracer: MeasuredWalk | None, interval_ps: float) -> str:
    """Whether the ions stay where they are and a sum of theirs walks no farther.

    The sum of many ions that rattle slowly has as little slow motion as each of them, but three coordinates are too few
    to tell; the ions have more. If they lose their diffusivity over the longest times, the sum is still believed where
    its slowest modes hold more power than theirs, beyond chance: ions that push each other along a channel move
    far together and not at all by themselves.
    """
    found = plateau(paths, interval_ps)
    if tracer is None or found is None or ions[0].shape[1] == paths[0].shape[1]:
        return ""
    fit, D = fit_walk(ions, interval_ps, found.fit.stride), tracer.coefficient.D_A2_per_ps
    if fit.D_A2_per_ps <= 0 or D / fit.D_A2_per_ps > STAYING:
        return ""
    ratio, dof = _slowest_modes(spectrum(paths), found.fit, interval_ps)
    of_ions, _ = _slowest_modes(spectrum(ions), fit, interval_ps)
    if chi2.sf((ratio / of_ions).mean() * dof, dof) < CHANCE_OF_CAGES:
        return ""
    return (
        f"not diffusive yet: caged, that of an ion falls from {fit.D_A2_per_ps:.2g} Å²/ps over "
        f"{fit.stride * interval_ps:g} ps to {D:.2g} Å²/ps over {tracer.plateau.fit.stride * interval_ps:g} ps, and "
        "the sum of all may fall as far; run longer"
    )


def cautions(walk: MeasuredWalk, interval_ps: float) -> tuple[str, ...]:
    """What to be careful about in a walk that is not refused."""
    reasons = []
    if walk.n_hops < SOME_HOPS:
        reasons.append(f"only about {walk.n_hops:.0f} hops: the error is large; run longer")
    if walk.plateau.n_agree < 2:
        stride_ps = walk.plateau.fit.stride * interval_ps
        reasons.append(
            f"too short to see that the diffusivity does not depend on the stride of {stride_ps:g} ps; run longer"
        )
    if walk.replicas_disagree:
        reasons.append(
            "replicas disagree: they scatter more than their hops explain, and the error is that scatter; run longer, "
            "or look for states that are rarely left"
        )
    return tuple(reasons)


def _slowest_modes(whole: Spectrum, fit: WalkFit, interval_ps: float) -> tuple[Floats, float]:
    """Power of the slowest modes over that of the fit, and its degrees of freedom: three modes of the longest path.

    Fewer than modes times coordinates where these do not all move alike, by the `dispersion` of the other modes: those
    that are tested would answer for themselves.
    """
    slowest = whole.half_period >= whole.half_period.max() / 3
    walk = 2 * fit.D_A2_per_ps * interval_ps
    others = replace(
        whole, power=whole.power[~slowest], curve=whole.curve[~slowest], half_period=whole.half_period[~slowest]
    )
    ratio = whole.power[slowest] / (walk + fit.noise_A2 * whole.curve[slowest])
    dof = int(slowest.sum()) * whole.n_coordinates / dispersion(others, fit.stride, walk, fit.noise_A2)
    return ratio, dof


def not_stationary(paths: Sequence[Floats], walk: MeasuredWalk, interval_ps: float) -> str:
    """Whether the diffusivities of the two halves of the paths differ beyond what their hops leave to chance.

    Both errors are taken at the diffusivity of the whole, so that a half without hops has one too.
    """
    halves = [[path[: len(path) // 2 + 1] for path in paths], [path[len(path) // 2 :] for path in paths]]
    fit = walk.plateau.fit
    if walk.n_hops <= 0 or sum(len(path) // fit.stride for path in halves[0]) < MIN_MODES // 2:
        return ""
    first, second = (fit_walk(half, interval_ps, fit.stride).D_A2_per_ps for half in halves)
    # Each half has half of the modes and half of the hops; the difference has twice their variance.
    error = 2 * np.hypot(fit.error_A2_per_ps, fit.D_A2_per_ps / np.sqrt(walk.n_hops))
    if abs(first - second) <= DRIFT_ERRORS * error:
        return ""
    return (
        f"not stationary: the summed displacement diffuses by {first:.2g} Å²/ps in the first half and by {second:.2g} "
        "Å²/ps in the second; leave out more as equilibration and run longer"
    )
