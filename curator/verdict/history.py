"""What the stopping rule needs to know of a campaign's rounds, read from their JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curator.datasets.units import KB_EV_PER_K
from curator.verdict.equivalence import Estimate
from curator.verdict.rule import StopRule


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """A diffusivity at one temperature, or the attempt at one.

    Attributes
    ----------
    temperature_K, status, reasons
        As in ``round.json``.
    ln_D
        Logarithm of the diffusivity in Å²/ps, or None.
    hops
        Hops that were seen.
    time_ps, n_trajectories
        Molecular dynamics that went in, all trajectories together.
    """

    temperature_K: float
    status: str
    ln_D: Estimate | None
    hops: float
    time_ps: float
    n_trajectories: float
    reasons: tuple[str, ...]

    @property
    def kT_eV(self) -> float:
        """Thermal energy; an error of the barrier over this is one of ln D."""
        return KB_EV_PER_K * self.temperature_K

    @property
    def is_measured(self) -> bool:
        """Whether there is a diffusivity with hops behind it."""
        return self.status == "measured" and self.ln_D is not None and self.hops > 0


@dataclass(frozen=True, slots=True)
class FinishedRound:
    """A round; None for whatever is missing or not a finite number.

    Attributes
    ----------
    round, n_new_labels
        Its number, and the labels it bought.
    barrier_eV, gap_eV, members_eV, barrier_reasons
        Barrier, barrier minus reference, barrier of each member, and what there is to say about them.
    fresh_eV_per_A
        Force error on this round's random frames before they were trained on.
    fresh_of_earlier_eV_per_A
        That of the models of earlier rounds on the same frames, the newest first.
    n_explosions
        Trajectories that exploded.
    points
        Diffusivities, one a temperature, coldest first; empty if none was to be measured.
    Ea
        Activation energy in eV with its statistical error, which the fit inflates where chi² asks for it.
    fit_reasons
        What to be careful about in the fit.
    md_cpu_s_per_ps
        CPU seconds that a picosecond of one measuring trajectory took.
    """

    round: int
    n_new_labels: float
    barrier_eV: float | None
    gap_eV: float | None
    members_eV: tuple[float | None, ...]
    barrier_reasons: tuple[str, ...]
    fresh_eV_per_A: float | None
    fresh_of_earlier_eV_per_A: tuple[float, ...]
    n_explosions: float | None
    points: tuple[MeasuredPoint, ...]
    Ea: Estimate | None
    fit_reasons: tuple[str, ...]
    md_cpu_s_per_ps: float | None

    @property
    def time_ps(self) -> float:
        """Molecular dynamics of all temperatures."""
        return sum(point.time_ps for point in self.points)

    @property
    def temperatures_K(self) -> tuple[float, ...]:
        """Temperatures at which a diffusivity was to be measured."""
        return tuple(point.temperature_K for point in self.points)

    @property
    def is_measured(self) -> bool:
        """Whether every temperature has a diffusivity, and they an activation energy."""
        return bool(self.points) and all(point.is_measured for point in self.points) and self.Ea is not None


def read_round(content: Mapping[str, Any]) -> FinishedRound:
    """What a round's JSON tells; keys that are absent count as null."""
    barrier = _number(content.get("barrier_eV"))
    reference = _number(content.get("barrier_reference_eV"))
    gap = _number(content.get("barrier_gap_eV"))
    if gap is None and barrier is not None and reference is not None:
        gap = barrier - reference
    fit = content.get("arrhenius") or {}
    points = [_read_point(entry) for entry in content.get("diffusion") or ()]
    of_earlier = content.get("fresh_force_rmse_of_earlier_eV_per_A") or ()
    return FinishedRound(
        round=int(content.get("round", 0)),
        n_new_labels=_number(content.get("n_new_labels")) or 0.0,
        barrier_eV=barrier,
        gap_eV=gap,
        members_eV=tuple(_number(value) for value in content.get("barrier_members_eV") or ()),
        barrier_reasons=tuple(content.get("barrier_reasons") or ()),
        fresh_eV_per_A=_number(content.get("fresh_force_rmse_eV_per_A")),
        fresh_of_earlier_eV_per_A=tuple(filter(None, map(_number, of_earlier))),
        n_explosions=_number(content.get("n_explosions")),
        points=tuple(sorted(points, key=lambda point: point.temperature_K)),
        Ea=_estimate(_number(fit.get("Ea_eV")), _number(fit.get("error_eV"))),
        fit_reasons=tuple(fit.get("reasons") or ()),
        md_cpu_s_per_ps=_number(content.get("md_cpu_s_per_ps")),
    )


def counted(history: Sequence[FinishedRound], rule: StopRule) -> list[FinishedRound]:
    """Rounds that bought labels: only a model trained on something new can agree with an earlier one."""
    return [r for r in history if r.n_new_labels >= rule.min_new_labels]


def seed_error_eV(history: Sequence[FinishedRound], rule: StopRule) -> float:
    """Standard deviation of the barrier over models that differ in seed and sample only, in eV.

    Pooled over the members of the last ``window`` rounds that bought labels, since two members of one round tell
    little; what training leaves to chance in the barrier it leaves to chance in the activation energy. Zero where a
    campaign trains one model or follows no hop.
    """
    squares, dof = 0.0, 0
    for r in counted(history, rule)[-rule.window :]:
        members = [value for value in r.members_eV if value is not None]
        if len(members) > 1:
            mean = sum(members) / len(members)
            squares += sum((value - mean) ** 2 for value in members)
            dof += len(members) - 1
    return math.sqrt(squares / dof) if dof else 0.0


def _read_point(content: Mapping[str, Any]) -> MeasuredPoint:
    D, error = _number(content.get("D_A2_per_ps")), _number(content.get("error_A2_per_ps"))
    ln_D = _estimate(math.log(D), error / D) if D is not None and error is not None and D > 0 else None
    return MeasuredPoint(
        temperature_K=_number(content.get("temperature_K")) or 0.0,
        status=str(content.get("status")),
        ln_D=ln_D,
        hops=_number(content.get("hops")) or 0.0,
        time_ps=_number(content.get("time_ps")) or 0.0,
        n_trajectories=_number(content.get("n_trajectories")) or 1.0,
        reasons=tuple(content.get("reasons") or ()),
    )


def _estimate(value: float | None, error: float | None) -> Estimate | None:
    return Estimate(value, error) if value is not None and error is not None and error > 0 else None


def _number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
