"""The walks of the mobile ions and of their sum: of one carrier, of many, or of nobody knows how many."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from curator.diffusion import refusals
from curator.diffusion.coefficient import (
    N_ERRORS_OF_MEMORY,
    N_RESIDENCES,
    MeasuredWalk,
    haven_ratio,
    ions_slow_down,
    length_for_memory,
    measure_sum,
    measure_tracer,
    moved_together,
    upper_bound,
)
from curator.diffusion.walk import Floats, fall, fit_walk, spectrum, strides_seen

FOLLOWED = 1.0
"""Standard errors by which the diffusivity of a lone defect must fall for its interval to reach down."""
TOLD = 2.0
"""Those by which it must fall to be told: by chance it does so in 2 %."""


@dataclass(frozen=True, slots=True, eq=False)
class Walks:
    """What the displacements of the mobile ions make, before any gate.

    Attributes
    ----------
    paths
        Summed displacements in Å, one of shape ``(n_frames, 3)`` for each trajectory.
    ions
        Displacements of all ions in Å, each of shape ``(n_frames, 3 n_ions)``.
    interval_ps
        Time between frames in ps.
    time_ps
        All trajectories together.
    hop_length_A
        Length of a hop in Å.
    n_carriers
        Carriers that share the sum.
    of_sum, of_ions
        The walk of the sum and that of an ion, which is None where the trajectories are too short for it.
    residence_ps
        Time between two hops of a carrier in ps.
    n_together
        Ions that move in one hop.
    doubts
        What is to be said of carriers that were not counted, or of ions that move together.
    """

    paths: Sequence[Floats]
    ions: Sequence[Floats]
    interval_ps: float
    time_ps: float
    hop_length_A: float
    n_carriers: int
    of_sum: MeasuredWalk
    of_ions: MeasuredWalk | None
    residence_ps: float
    n_together: float = 1.0
    doubts: tuple[str, ...] = ()

    @property
    def n_ions(self) -> int:
        """Number of mobile ions."""
        return int(self.ions[0].shape[1] // 3)


def walks_of(
    displacements: Sequence[Floats], interval_ps: float, hop_length_A: float, n_carriers: int | None
) -> Walks | None:
    """Walks of the mobile ions and of their sum.

    Parameters
    ----------
    displacements
        Of the mobile ions in Å, one of shape ``(n_frames, n_ions, 3)`` for each trajectory.
    interval_ps, hop_length_A
        As for `curator.diffusion.coefficient.measure_walk`.
    n_carriers
        How many carriers share the sum, or None if nobody has said. Then they count as one, with intervals that hold
        for many.

    Returns
    -------
    Walks
        Or None if the trajectories are too short.
    """
    if not displacements:
        return None
    n_ions = displacements[0].shape[1]
    ions = [run.reshape(len(run), -1) for run in displacements]
    paths = [run.sum(axis=1) for run in displacements]
    of_sum = measure_sum(paths, ions, interval_ps, hop_length_A, n_carriers or 1)
    if of_sum is None:
        return None
    time_ps = sum(len(path) - 1 for path in paths) * interval_ps
    residence_ps = (n_carriers or 1) * time_ps / max(of_sum.n_hops, 1.0)
    # A sum of one ion is its own tracer.
    of_ions = of_sum if n_ions == 1 else measure_tracer(ions, interval_ps, hop_length_A, residence_ps)
    walks = Walks(paths, ions, interval_ps, time_ps, hop_length_A, n_carriers or 1, of_sum, of_ions, residence_ps)
    if n_ions == 1 or n_carriers == 1:
        return _if_it_remembers(walks)
    if n_carriers is None:
        return _if_many_carry(walks)
    return _if_together(walks) if n_carriers == n_ions else walks


def bounds(walks: Walks) -> tuple[float, float | None]:
    """Upper bounds in Å²/ps on the diffusivity of a carrier and on that of an ion."""
    k, length_A, time_ps = walks.n_together, walks.hop_length_A, walks.time_ps
    of_sum = upper_bound(walks.of_sum, k * length_A, time_ps, 1) / walks.n_carriers
    if walks.of_ions is None:
        return of_sum, None
    return of_sum, upper_bound(walks.of_ions, math.sqrt(k) * length_A, time_ps, walks.n_ions)


def _if_it_remembers(walks: Walks) -> Walks:
    """Where a lone defect diffuses less over two residence times, an interval that reaches down to that.

    One that finds all its sites alike forgets every hop. Traps, dumbbells and sites of two kinds do not let it.
    """
    fit, whole = walks.of_sum.plateau.fit, spectrum(walks.paths)
    strides = strides_seen(whole, walks.interval_ps, N_RESIDENCES * walks.residence_ps)
    if not strides or strides[0] <= fit.stride or refusals.too_few_hops(walks.of_sum, walks.time_ps):
        return walks
    over_long = fit_walk(whole, walks.interval_ps, strides[0])
    fallen = fall(whole, fit, over_long, walks.interval_ps)
    low = walks.of_sum.coefficient.ci95_A2_per_ps[0]
    if fallen < FOLLOWED or low <= 0:
        return walks
    lowest = max(0.0, over_long.D_A2_per_ps - 1.96 * over_long.error_A2_per_ps)
    doubt = (
        f"hops may be correlated: the diffusivity falls from {fit.D_A2_per_ps:.2g} Å²/ps over "
        f"{fit.stride * walks.interval_ps:g} ps to {over_long.D_A2_per_ps:.2g} Å²/ps over "
        f"{over_long.stride * walks.interval_ps:g} ps, two residence times, and the interval reaches down as far; a "
        "single defect forgets its hops only where all its sites are alike"
    )
    of_sum = _reaching_down(walks.of_sum, lowest / low)
    return replace(walks, of_sum=of_sum, doubts=(doubt,) if fallen > TOLD else ())


def _if_together(walks: Walks) -> Walks:
    """Where all ions conduct: those that move together as one hop."""
    # A sum that motion in place may have made tells no Haven ratio.
    if walks.of_ions is None or refusals.too_few_hops(walks.of_sum, walks.time_ps):
        return walks
    k = ions_in_a_hop(walks.of_sum, walks.of_ions, walks.n_ions)
    if k == 1:
        return walks
    of_sum, of_ions = moved_together(
        walks.of_sum, walks.of_ions, walks.paths, walks.ions, walks.interval_ps, walks.hop_length_A, k
    )
    doubt = (
        f"ions move together: by the Haven ratio {k:.1f} in a hop, so that {of_sum.n_hops:.0f} hops are counted, not "
        f"{k**2 * of_sum.n_hops:.0f}; if defects carry them, give the number of these as that of the carriers"
    )
    return replace(walks, of_sum=of_sum, of_ions=of_ions, n_together=k, doubts=(doubt,))


def ions_in_a_hop(of_sum: MeasuredWalk, of_ions: MeasuredWalk, n_ions: int) -> float:
    r"""How many ions move together, where all conduct: one over the Haven ratio, if that is below 1 beyond chance.

    Where each of the events, at the rate ν, moves k of n ions by l in one direction, the sum goes k l and has the
    diffusivity :math:`\nu k^2 l^2 / 6`, the ions together :math:`\nu k l^2 / 6`. The ratio of these is 1 / k. A ratio
    is believed that chance makes of 1 in 5 % of walks.
    """
    if not of_sum.coefficient.D_A2_per_ps > 0:
        return 1.0
    ratio, error = haven_ratio(of_ions.coefficient, of_sum.coefficient, n_ions)
    return 1 / ratio if 0 < ratio < 1 - N_ERRORS_OF_MEMORY * error else 1.0


def _if_many_carry(walks: Walks) -> Walks:
    """Walks with intervals that hold if all ions are carriers, as well as if one is.

    Ions around a single defect hop back although their sum forgets every hop; those of many carriers are a sum that
    remembers as they do. Which of the two it is they cannot tell, so that only the lower end of an interval follows
    them down, to what is left over two residence times of an ion.
    """
    ions, interval_ps, of_sum, of_ions = walks.ions, walks.interval_ps, walks.of_sum, walks.of_ions
    uncounted = (
        f"carriers not given: D is that of the sum of {walks.n_ions} mobile ions, counted as of one carrier; give "
        "their number, or that of the ions if all conduct"
    )
    walks = replace(walks, doubts=(uncounted,))
    if refusals.too_few_hops(of_sum, walks.time_ps):
        return walks  # a bound holds for both
    over_long = measure_tracer(ions, interval_ps, walks.hop_length_A, walks.n_ions * walks.residence_ps)
    if of_ions is None or over_long is None or not ions_slow_down(ions, interval_ps, of_sum, over_long):
        return walks
    short, long = fit_walk(ions, interval_ps, of_sum.plateau.fit.stride), over_long.coefficient
    low, (lowest, _) = of_ions.coefficient.ci95_A2_per_ps[0], long.ci95_A2_per_ps
    correlated = (
        f"hops may be correlated if more than one carrier moves: over {over_long.plateau.fit.stride * interval_ps:g} "
        f"ps an ion keeps {long.D_A2_per_ps / short.D_A2_per_ps:.0%} of its diffusivity, and the intervals reach down "
        "as far; give --carriers, or system.carriers when a campaign is set up"
    )
    return replace(
        walks,
        of_sum=_reaching_down(of_sum, lowest / short.D_A2_per_ps),
        of_ions=_reaching_down(of_ions, lowest / low) if low > 0 else of_ions,
        doubts=(correlated, uncounted),
    )


def _reaching_down(walk: MeasuredWalk, share: float) -> MeasuredWalk:
    """The same walk, of which perhaps only a share lasts: the interval begins at that share of its lower end."""
    low, high = walk.coefficient.ci95_A2_per_ps
    return replace(walk, coefficient=replace(walk.coefficient, ci95_A2_per_ps=(low * min(1.0, share), high)))


def may_be_correlated(walks: Walks, *, tracer: bool) -> tuple[str, ...]:
    """What there is to say of hops that may remember the one before, those of a tracer where it is asked for."""
    seen_ps = {}
    if walks.n_carriers > 1 and walks.of_sum.remembers is not False:
        seen_ps["collective"] = walks.of_sum.plateau.fit.stride * walks.interval_ps
    if tracer and walks.of_ions and walks.n_ions > 1:
        seen_ps["tracer"] = walks.of_ions.plateau.fit.stride * walks.interval_ps
    short = [name for name, ps in seen_ps.items() if ps < N_RESIDENCES * walks.residence_ps]
    if not short:
        return ()
    n_coordinates = 3 if "collective" in short else 3 * walks.n_ions
    needed_ps = length_for_memory(walks.residence_ps, walks.interval_ps, n_coordinates, len(walks.paths))
    return (
        f"hops may be correlated: the {' and the '.join(short)} diffusivity was seen over "
        f"{min(seen_ps[name] for name in short):g} ps, less than two residence times ({walks.residence_ps:.2g} ps "
        f"each), and is too high if ions hop back; run one trajectory, or each, for about {needed_ps:.3g} ps; more "
        "replicas of this length do not help",
    )
