"""When to stop: diffusion has converged, has not yet, or the statistics cannot tell.

The rule has two parts, and all of both must hold.

The gate is cheap and free of sampling noise: enough rounds that bought labels, a barrier that holds still, agrees
with the reference and between the members, a force error that was measured on labels the model had not seen (how large
it is, is told and not judged), no explosions. If it fails, more labels are needed.

The property is the activation energy and the diffusivity from molecular dynamics, compared with earlier rounds by an
equivalence test (two one-sided tests: D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15, 657, 1987): two values agree
if the 95 % bound of their difference lies within the tolerance. Overlapping error bars prove nothing, since worse
statistics overlap more; here worse statistics can only delay the end. All comparisons must pass, so that none of them
needs a correction for their number (intersection-union test).

What no rule between rounds can see is a property that drifts slowly while the barrier is right. Hence two earlier
rounds to agree with, for one lets pass what two catch, and a barrier that is held against the reference, not against
itself; the simulated campaigns of ``tests/curator/test_convergence.py`` show what either is worth.

A value that is missing or is not a number never agrees with anything, nor does a round without new labels or a
trajectory without hops.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from curator.equivalence import Comparison, Estimate, compare

VerdictName = Literal["converged", "not_yet", "undetermined"]

FIRST_MD_PS: float = 100.0
"""Molecular dynamics to buy where there has been none to scale from."""
LONGER_HELPS = ("too short", "not diffusive yet")
"""How the reasons begin for which a diffusivity is refused that a longer trajectory would give."""
N_HOPS: float = 30.0
"""Hops to aim for where there were too few to measure."""


@dataclass(frozen=True, slots=True)
class StopRule:
    """What counts as converged.

    Attributes
    ----------
    tolerance_eV
        Within this the activation energy is to be known. Barrier, its gap to the reference, and its spread over the
        committee must hold within half of it.
    window
        Rounds with new labels over which the barrier must hold still.
    n_compare
        Earlier rounds with which activation energy and diffusivities must agree.
    diffusivity_factor
        Factor within which diffusivities must agree at each temperature: an activation energy can hold still while
        all diffusivities shift.
    min_new_labels
        Labels below which a round counts as having bought none; an anchor alone is two.
    barrier, diffusion
        Whether the campaign follows a hop, and measures diffusion.
    """

    tolerance_eV: float = 0.05
    window: int = 3
    n_compare: int = 2
    diffusivity_factor: float = 2.0
    min_new_labels: int = 4
    barrier: bool = True
    diffusion: bool = True

    def __post_init__(self) -> None:
        if not self.tolerance_eV > 0 or not self.diffusivity_factor > 1 or self.window < 2 or self.n_compare < 1:
            raise ValueError(
                f"tolerance_eV={self.tolerance_eV} must be positive, diffusivity_factor={self.diffusivity_factor} "
                f"above 1, window={self.window} at least 2 and n_compare={self.n_compare} at least 1"
            )


@dataclass(frozen=True, slots=True)
class NextPurchase:
    """What would help most: ``labels``, ``md`` (picoseconds, all temperatures together) or ``none``."""

    kind: Literal["labels", "md", "none"]
    amount: float
    unit: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether diffusion has converged, why, and what to buy next.

    ``converged``; ``not_yet``: the model still changes, buy labels; ``undetermined``: the model may be good, the
    statistics cannot tell, buy molecular dynamics.
    """

    verdict: VerdictName
    reasons: tuple[str, ...]
    next_purchase: NextPurchase


def judge(rounds: Sequence[Mapping[str, Any]], rule: StopRule) -> Verdict:
    """Judge a campaign by the JSON of its rounds, oldest first.

    Parameters
    ----------
    rounds
        As in ``round.json``; keys that are absent count as null.
    rule
        What counts as converged.

    Returns
    -------
    Verdict
        On the last round.
    """
    if not rounds:
        return _not_yet(["no round is finished"], rule.min_new_labels)
    history = [_read(content) for content in rounds]
    now = history[-1]
    n_labels = max(round(now.n_new_labels), rule.min_new_labels)
    gate = _gate(history, rule)
    if gate.faults:
        return _not_yet(gate.faults, n_labels)
    if not rule.diffusion:
        if not rule.barrier:
            return _not_yet(["nothing is measured that could converge: switch on measure.barrier or .diffusion"], 0)
        told = (*gate.facts, "this is the barrier's convergence: measure.diffusion is off")
        return Verdict("converged", told, NextPurchase("none", 0, ""))
    return _judge_property(history, rule, gate.facts, n_labels)


def earliest_convergence(rule: StopRule, *, every_round: bool) -> int:
    """Rounds it takes at the least to converge, with MD in every round or only once the barrier has settled."""
    if not rule.diffusion:
        return rule.window
    return max(rule.window, rule.n_compare + 1) if every_round else rule.window + rule.n_compare


def barrier_has_settled(rounds: Sequence[Mapping[str, Any]], rule: StopRule) -> bool:
    """Whether the barrier allows buying molecular dynamics; always, for a campaign that follows no hop."""
    history = [_read(content) for content in rounds]
    return bool(history) and not _barrier_gate(history, rule).faults


@dataclass(frozen=True, slots=True)
class _Temperature:
    temperature_K: float | None
    status: str
    ln_D: Estimate | None
    hops: float
    time_ps: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Round:
    """What the rule needs to know of a round; None for whatever is missing or not a finite number."""

    round: int
    n_new_labels: float
    barrier_eV: float | None
    gap_eV: float | None
    members_eV: tuple[float | None, ...]
    barrier_reasons: tuple[str, ...]
    fresh_eV_per_A: float | None
    n_explosions: float | None
    temperatures: tuple[_Temperature, ...]
    Ea: Estimate | None

    @property
    def time_ps(self) -> float:
        return sum(t.time_ps for t in self.temperatures)

    @property
    def is_measured(self) -> bool:
        return bool(self.temperatures) and all(_is_measured(t) for t in self.temperatures) and self.Ea is not None


@dataclass(frozen=True, slots=True)
class _Findings:
    """What speaks against convergence, and what speaks for it."""

    faults: tuple[str, ...]
    facts: tuple[str, ...]


def _gate(history: Sequence[_Round], rule: StopRule) -> _Findings:
    now = history[-1]
    faults: list[str] = []
    facts: list[str] = []
    counted = _counted(history, rule)
    if now not in counted:
        faults.append(
            f"round {now.round} bought {now.n_new_labels:g} labels; a round with fewer than {rule.min_new_labels} "
            "tests nothing"
        )
    if len(counted) < rule.window:
        faults.append(
            f"rounds that bought labels: {len(counted)}; it takes {rule.window} to see whether anything moves"
        )
    barrier = _barrier_gate(history, rule)
    faults += barrier.faults
    facts += barrier.facts
    if now.fresh_eV_per_A is None:
        faults.append("the force error on frames not yet trained on is not known: this round labelled no random frame")
    else:
        facts.append(f"force error on frames not yet trained on: {now.fresh_eV_per_A:.3f} eV/Å")
    if now.n_explosions is None:
        faults.append("it is not known whether trajectories exploded")
    elif now.n_explosions > 0:
        faults.append(f"{now.n_explosions:g} trajectories exploded in round {now.round}")
    return _Findings(tuple(faults), tuple(facts))


def _barrier_gate(history: Sequence[_Round], rule: StopRule) -> _Findings:
    if not rule.barrier:
        return _Findings((), ())
    now, limit = history[-1], rule.tolerance_eV / 2
    faults: list[str] = []
    facts: list[str] = []
    window = _counted(history, rule)[-rule.window :]
    values = [r.barrier_eV for r in window]
    known = [value for value in values if value is not None]
    if now.barrier_eV is None:
        why = f": {now.barrier_reasons[0]}" if now.barrier_reasons else ""
        faults.append(f"round {now.round} has no barrier{why}")
    elif len(known) < len(values):
        missing = ", ".join(str(r.round) for r in window if r.barrier_eV is None)
        faults.append(f"no barrier in round {missing}, so it is not known to hold still")
    elif len(known) < rule.window:
        faults.append(f"the barrier is known in {len(known)} rounds; it takes {rule.window} to see whether it moves")
    elif max(known) - min(known) >= limit:
        text = ", ".join(f"{value:.3f}" for value in known)
        faults.append(
            f"the barrier still moves: {text} eV in the last {len(known)} rounds, by {max(known) - min(known):.3f} eV "
            f"(limit {limit:.3f})"
        )
    else:
        facts.append(
            f"the barrier, {now.barrier_eV:.3f} eV, moved by {max(known) - min(known):.3f} eV over {len(known)} rounds"
        )
    if now.barrier_eV is not None:
        if now.gap_eV is None:
            faults.append("the barrier is not checked against the reference: its minimum or saddle has no label")
        elif abs(now.gap_eV) >= limit:
            faults.append(f"the barrier is {now.gap_eV:+.3f} eV off the reference (limit {limit:.3f})")
        else:
            facts.append(f"it is {now.gap_eV:+.3f} eV off the reference")
        members = [value for value in now.members_eV if value is not None]
        if len(members) < len(now.members_eV):
            faults.append("not every member of the committee has a barrier")
        elif members and max(members) - min(members) >= limit:
            faults.append(
                f"the members of the committee differ by {max(members) - min(members):.3f} eV in the barrier "
                f"(limit {limit:.3f})"
            )
    return _Findings(tuple(faults), tuple(facts))


def _judge_property(history: Sequence[_Round], rule: StopRule, facts: tuple[str, ...], n_labels: float) -> Verdict:
    now = history[-1]
    if not now.temperatures:
        earlier_ps = max(r.time_ps for r in history)
        return _undetermined(["no molecular dynamics was run in this round"], earlier_ps or FIRST_MD_PS)
    if unclear := _unmeasured(now):
        return unclear
    earlier = [r for r in _counted(history, rule)[:-1] if r.is_measured and _grid(r) == _grid(now)][-rule.n_compare :]
    if len(earlier) < rule.n_compare:
        done = f"in {len(earlier)} earlier round{'s' * (len(earlier) > 1)}" if earlier else "in no earlier round"
        reason = (
            f"Ea, {now.Ea} eV in this round, was measured at these temperatures {done}; it takes agreement with "
            f"{rule.n_compare}"
        )
        return _not_yet([reason], n_labels)

    comparisons = [comparison for r in earlier for comparison in _compare(now, r, rule)]
    drifts = [c.text for c in comparisons if c.outcome == "differs"]
    if drifts:
        return _not_yet(drifts, n_labels)
    open_ones = [c for c in comparisons if c.outcome == "unclear"]
    if open_ones:
        # SE ~ t^-1/2. Where the error is small enough and they still do not agree, twice the time is a fair look.
        factor = max(c.error_over_wanted**2 for c in open_ones)
        return _undetermined([c.text for c in open_ones], now.time_ps * max(factor - 1, 1))
    hops = sum(t.hops for t in now.temperatures)
    told = (
        *facts,
        *(c.text for c in comparisons),
        f"measured at {len(now.temperatures)} temperatures over {now.time_ps:.0f} ps and {hops:.0f} hops",
    )
    return Verdict("converged", told, NextPurchase("none", 0, ""))


def _unmeasured(now: _Round) -> Verdict | None:
    """Verdict on a round in which not every temperature was measured, or None."""
    missing = [t for t in now.temperatures if not _is_measured(t)]
    texts = [f"{t.temperature_K or 0:.0f} K is not measured: {'; '.join(t.reasons) or 'no hop'}" for t in missing]
    refused = [reason for t in missing if t.status == "refused" for reason in t.reasons or ("",)]
    if any(not reason.startswith(LONGER_HELPS) for reason in refused):
        remedy = "more of the same will not help: change measure.diffusion.temperatures_K"
        return Verdict("undetermined", (*texts, remedy), NextPurchase("none", 0, ""))
    if refused:
        return _undetermined([*texts, "raise measure.diffusion.duration_ps"], now.time_ps or FIRST_MD_PS)
    if missing:
        factor = max(N_HOPS / max(t.hops, 1.0) for t in missing)
        return _undetermined(texts, (now.time_ps or FIRST_MD_PS) * max(factor - 1, 1))
    if now.Ea is None:
        reason = "there is no Arrhenius fit, though every temperature is measured: give more temperatures"
        return Verdict("undetermined", (reason,), NextPurchase("none", 0, ""))
    return None


def _compare(now: _Round, earlier: _Round, rule: StopRule) -> list[Comparison]:
    """Activation energy and diffusivities of two rounds, both measured at the same temperatures."""
    results = []
    if now.Ea is not None and earlier.Ea is not None:
        name = f"Ea against round {earlier.round}, eV"
        results.append(compare(name, now.Ea, earlier.Ea, rule.tolerance_eV))
    for a, b in zip(now.temperatures, earlier.temperatures, strict=True):
        if a.ln_D is not None and b.ln_D is not None:
            name = f"ln D at {a.temperature_K or 0:.0f} K against round {earlier.round}"
            results.append(compare(name, a.ln_D, b.ln_D, math.log(rule.diffusivity_factor)))
    return results


def _counted(history: Sequence[_Round], rule: StopRule) -> list[_Round]:
    """Rounds that bought labels: only a model trained on something new can agree with an earlier one."""
    return [r for r in history if r.n_new_labels >= rule.min_new_labels]


def _grid(round_: _Round) -> tuple[float | None, ...]:
    return tuple(t.temperature_K for t in round_.temperatures)


def _is_measured(t: _Temperature) -> bool:
    return t.status == "measured" and t.ln_D is not None and t.hops > 0


def _not_yet(reasons: Sequence[str], n_labels: float) -> Verdict:
    return Verdict("not_yet", tuple(reasons), NextPurchase("labels", n_labels, "labels"))


def _undetermined(reasons: Sequence[str], time_ps: float) -> Verdict:
    return Verdict("undetermined", tuple(reasons), NextPurchase("md", float(math.ceil(time_ps)), "ps"))


def _read(content: Mapping[str, Any]) -> _Round:
    barrier = _number(content.get("barrier_eV"))
    reference = _number(content.get("barrier_reference_eV"))
    gap = _number(content.get("barrier_gap_eV"))
    if gap is None and barrier is not None and reference is not None:
        gap = barrier - reference
    fit = content.get("arrhenius") or {}
    return _Round(
        round=int(content.get("round", 0)),
        n_new_labels=_number(content.get("n_new_labels")) or 0.0,
        barrier_eV=barrier,
        gap_eV=gap,
        members_eV=tuple(_number(value) for value in content.get("barrier_members_eV") or ()),
        barrier_reasons=tuple(content.get("barrier_reasons") or ()),
        fresh_eV_per_A=_number(content.get("fresh_force_rmse_eV_per_A")),
        n_explosions=_number(content.get("n_explosions")),
        temperatures=tuple(_read_temperature(entry) for entry in content.get("diffusion") or ()),
        Ea=_estimate(_number(fit.get("Ea_eV")), _number(fit.get("error_eV"))),
    )


def _read_temperature(content: Mapping[str, Any]) -> _Temperature:
    D, error = _number(content.get("D_A2_per_ps")), _number(content.get("error_A2_per_ps"))
    ln_D = _estimate(math.log(D), error / D) if D is not None and error is not None and D > 0 else None
    return _Temperature(
        temperature_K=_number(content.get("temperature_K")),
        status=str(content.get("status")),
        ln_D=ln_D,
        hops=_number(content.get("hops")) or 0.0,
        time_ps=_number(content.get("time_ps")) or 0.0,
        reasons=tuple(content.get("reasons") or ()),
    )


def _estimate(value: float | None, error: float | None) -> Estimate | None:
    return Estimate(value, error) if value is not None and error is not None and error > 0 else None


def _number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
