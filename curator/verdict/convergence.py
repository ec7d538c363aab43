"""When to stop: diffusion has converged, has not yet, or the statistics cannot tell.

The rule has two parts, and all of both must hold. The gate (:mod:`curator.verdict.gate`) is cheap and free of the
noise of sampling; if it fails, more labels are needed.

The property is the activation energy and the diffusivity from molecular dynamics, compared with earlier rounds by
equivalence tests: two values agree if the 95 % bound of their difference lies within the tolerance, and a trend over
the rounds must not carry them out of it. Overlapping error bars prove nothing, since worse statistics overlap more;
here worse statistics can only delay the end. A round that is too uncertain to agree with may still differ, and one that
melted or exploded holds the end up until it lies far enough behind. All comparisons must pass, so that none of them
needs a correction for their number (intersection-union test). The error of an activation energy holds what training
leaves to chance, as the barriers of the committee show it.

What no rule between rounds can see is a property that drifts slowly while the barrier is right. Hence a trend over
several rounds, which sees what pairs of them do not, and a barrier that is held against the reference, not against
itself; ``docs/convergence.md`` has simulated campaigns that show what each is worth.

A value that is missing or is not a number never agrees with anything, nor does a round without new labels, a
trajectory without hops, or a measurement so uncertain that it could not agree with its like.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from curator.diffusion.arrhenius import NO_LINE
from curator.verdict.equivalence import Z95, Comparison, Estimate, compare, drift
from curator.verdict.gate import gate, settled
from curator.verdict.history import FinishedRound, counted, read_round, seed_error_eV
from curator.verdict.planning import MDPlan, plan_md, twice_the_time
from curator.verdict.rule import StopRule

VerdictName = Literal["converged", "not_yet", "undetermined"]

FIRST_MD_PS: float = 100.0
"""Molecular dynamics to buy where there has been none to scale from."""
LONGER_HELPS = ("too short", "not diffusive yet", "not stationary")
"""How the reasons begin for which a diffusivity is refused that a longer trajectory would give."""
OTHER_TEMPERATURES = "more of the same will not help: change measure.diffusion.temperatures_K"


@dataclass(frozen=True, slots=True)
class NextPurchase:
    """What would help most: ``labels``, ``md`` (picoseconds, all temperatures together) or ``none``.

    Rounds that it takes after dynamics, each with labels and dynamics of its own, are in ``rounds``.
    """

    kind: Literal["labels", "md", "none"]
    amount: float
    unit: str
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether diffusion has converged, why, and what to buy next.

    Attributes
    ----------
    verdict
        ``converged``; ``not_yet``: the model still changes, buy labels; ``undetermined``: the model may be good, the
        statistics cannot tell, buy molecular dynamics.
    reasons
        What speaks against convergence or, if there is nothing, for it.
    next_purchase
        What would help most.
    md_plan
        What it takes to know the activation energy, until it is known; None where there is nothing to plan from.
    """

    verdict: VerdictName
    reasons: tuple[str, ...]
    next_purchase: NextPurchase
    md_plan: MDPlan | None = None


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
    history = [read_round(content) for content in rounds]
    n_labels = max(round(history[-1].n_new_labels), rule.min_new_labels)
    found = gate(history, rule)
    if found.faults:
        plan = plan_md(history[-1], rule, seed_error_eV(history, rule)) if rule.diffusion else None
        return replace(_not_yet(found.faults, n_labels), md_plan=plan)
    if not rule.diffusion:
        if not rule.barrier:
            return _not_yet(["nothing is measured that could converge: switch on measure.barrier or .diffusion"], 0)
        told = (*found.facts, "this is the barrier's convergence: measure.diffusion is off")
        return Verdict("converged", told, NextPurchase("none", 0, ""))
    return _judge_property(history, rule, found.facts, n_labels)


def earliest_convergence(rule: StopRule, *, every_round: bool) -> int:
    """Rounds it takes at the least to converge, with MD in every round or only once the barrier has settled."""
    # The force error is compared with that of a model which this campaign has trained: rounds 1 and 2.
    least = rule.window if rule.force_error_eV_per_A is None else max(rule.window, 3)
    if not rule.diffusion:
        return least
    return max(least, rule.n_compare + 1) if every_round else least + rule.n_compare


def has_settled(rounds: Sequence[Mapping[str, Any]], rule: StopRule) -> bool:
    """Whether barrier and force error allow buying molecular dynamics; always, for a campaign that follows no hop."""
    history = [read_round(content) for content in rounds]
    return bool(history) and (not rule.barrier or not settled(history, rule).faults)


def _judge_property(
    history: Sequence[FinishedRound], rule: StopRule, facts: tuple[str, ...], n_labels: float
) -> Verdict:
    now, seed_eV = history[-1], seed_error_eV(history, rule)
    alike = [r for r in counted(history, rule)[:-1] if r.temperatures_K == now.temperatures_K]
    comparable = [r for r in alike if _is_comparable(r, rule, seed_eV)]
    earlier = comparable[-rule.n_compare :]
    # Good or bad: what counts for nothing may still count against.
    recent = alike[-max(rule.window, rule.n_compare) :]
    plan = plan_md(now, rule, seed_eV, earlier)

    if not now.points:
        longest_ps = max(r.time_ps for r in history)
        said = "no molecular dynamics was run in this round"
        return _undetermined([said], longest_ps or FIRST_MD_PS, None, rule.n_compare - len(earlier))
    if unclear := _unmeasured(now, plan, n_labels, rule.n_compare - len(earlier)):
        return unclear
    assert now.Ea is not None
    if bent := [reason for reason in now.fit_reasons if reason.startswith(NO_LINE)]:
        return Verdict("undetermined", (*bent, OTHER_TEMPERATURES), NextPurchase("none", 0, ""), plan)
    if broken := [text for r in recent for text in _broken(r)]:
        n = max(rule.window, rule.n_compare)
        reason = f"nothing of the kind may be in the last {n} rounds before this one that were measured as it was"
        return replace(_not_yet([*broken, reason], n_labels), md_plan=plan)
    Ea = now.Ea.with_error_of(seed_eV)
    if not _is_comparable(now, rule, seed_eV):
        reason = f"Ea, {Ea} eV, is too uncertain to agree with anything within {rule.tolerance_eV:.3f} eV"
        return _buy_certainty([reason], plan, now, n_labels, rule.n_compare - len(earlier))
    if len(earlier) < rule.n_compare:
        done = f"in {len(earlier)} earlier round{'s' * (len(earlier) > 1)}" if earlier else "in no earlier round"
        reason = (
            f"Ea, {Ea} eV in this round, was measured well enough at these temperatures {done}; it takes agreement "
            f"with {rule.n_compare}"
        )
        return replace(_not_yet([reason], n_labels), md_plan=plan)

    pairs = [comparison for r in earlier for comparison in _compare(now, r, rule, seed_eV)]
    others = [comparison for r in recent if r not in earlier for comparison in _compare(now, r, rule, seed_eV)]
    trends = _trends([*comparable[-rule.window :], now], rule, seed_eV)
    drifts = [c.text for c in (*pairs, *others, *trends) if c.outcome == "differs"]
    if drifts:
        return replace(_not_yet(drifts, n_labels), md_plan=plan)
    open_pairs = [c.text for c in pairs if c.outcome == "unclear"]
    open_trends = [c.text for c in trends if c.outcome == "unclear"]
    if open_trends and not open_pairs and len(comparable) < rule.window:
        reasons = [*open_trends, "the pairs of rounds agree; one more round will show the trend better"]
        return replace(_not_yet(reasons, n_labels), md_plan=plan)
    if open_pairs or open_trends:
        return _buy_certainty([*open_pairs, *open_trends], plan, now, n_labels, 0)
    hops = sum(point.hops for point in now.points)
    told = (
        *facts,
        *(c.text for c in (*pairs, *trends)),
        *now.fit_reasons,
        *_besides_the_barrier(Ea, now, rule),
        *_hotter_than_explored(now, rule),
        f"measured at {len(now.points)} temperatures over {now.time_ps:.0f} ps and {hops:.0f} hops",
    )
    return Verdict("converged", told, NextPurchase("none", 0, ""))


def _besides_the_barrier(Ea: Estimate, now: FinishedRound, rule: StopRule) -> list[str]:
    """What to be careful about where the activation energy is not that of the hop that is followed."""
    if now.barrier_eV is None or abs(Ea.value - now.barrier_eV) < rule.tolerance_eV + 2 * Ea.error:
        return []
    return [
        f"Ea is {Ea} eV, the barrier that is followed {now.barrier_eV:.3f} eV: other hops may carry the diffusion; "
        "compare them with curator barrier --mechanism"
    ]


def _hotter_than_explored(now: FinishedRound, rule: StopRule) -> list[str]:
    """What to be careful about where no random frame is as hot as the measuring dynamics."""
    hottest_K = now.temperatures_K[-1]
    if rule.hottest_explored_K is None or hottest_K <= rule.hottest_explored_K:
        return []
    return [
        f"measured up to {hottest_K:g} K, but explored up to {rule.hottest_explored_K:g} K only: the force error above "
        "that is not known; raise explore.temperatures_K"
    ]


def _unmeasured(now: FinishedRound, plan: MDPlan | None, n_labels: float, n_to_come: int) -> Verdict | None:
    """Verdict on a round in which not every temperature was measured, or None."""
    missing = [point for point in now.points if not point.is_measured]
    texts = [f"{p.temperature_K:.0f} K is not measured: {'; '.join(p.reasons) or 'no hop'}" for p in missing]
    refused = [reason for p in missing if p.status == "refused" for reason in p.reasons or ("",)]
    if any(reason.startswith("exploded") for reason in refused):
        return _not_yet([*texts, "label frames from there: raise explore.temperatures_K, or buy more labels"], n_labels)
    if any(not reason.startswith(LONGER_HELPS) for reason in refused):
        return Verdict("undetermined", (*texts, OTHER_TEMPERATURES), NextPurchase("none", 0, ""))
    if missing:
        return _buy_md(texts, plan, now, n_to_come)
    if now.Ea is None:
        reason = "there is no Arrhenius fit, though every temperature is measured: give more temperatures"
        return Verdict("undetermined", (reason,), NextPurchase("none", 0, ""))
    return None


def _broken(r: FinishedRound) -> list[str]:
    """What went wrong in an earlier round that longer trajectories would not have mended."""
    exploded = [f"{r.n_explosions:g} trajectories exploded in round {r.round}"] if r.n_explosions else []
    refused = [
        f"{p.temperature_K:.0f} K was refused in round {r.round}: {reason}"
        for p in r.points
        if p.status == "refused"
        for reason in p.reasons or ("no reason is given",)
        if not reason.startswith(LONGER_HELPS)
    ]
    return exploded + refused


def _is_comparable(r: FinishedRound, rule: StopRule, seed_eV: float) -> bool:
    """Whether a round is measured so well that it would agree with an equal one that gave the same value."""
    if not r.is_measured or r.Ea is None:
        return False
    return Z95 * math.sqrt(2) * r.Ea.with_error_of(seed_eV).error < rule.tolerance_eV


@dataclass(frozen=True, slots=True)
class _Quantity:
    """What must agree between rounds."""

    name: str
    unit: str
    estimate: Estimate
    tolerance: float


def _quantities(r: FinishedRound, rule: StopRule, seed_eV: float) -> list[_Quantity]:
    """Whatever was measured in a round, however imprecisely."""
    tolerance = math.log(rule.diffusivity_factor)
    return [
        *([] if r.Ea is None else [_Quantity("Ea", ", eV", r.Ea.with_error_of(seed_eV), rule.tolerance_eV)]),
        *(
            _Quantity(f"ln D at {p.temperature_K:g} K", "", p.ln_D.with_error_of(seed_eV / p.kT_eV), tolerance)
            for p in r.points
            if p.is_measured and p.ln_D is not None
        ),
    ]


def _compare(now: FinishedRound, earlier: FinishedRound, rule: StopRule, seed_eV: float) -> list[Comparison]:
    """Activation energy and diffusivities of two rounds with the same temperatures, as far as both have them."""
    before = {quantity.name: quantity.estimate for quantity in _quantities(earlier, rule, seed_eV)}
    return [
        compare(f"{q.name} against round {earlier.round}{q.unit}", q.estimate, before[q.name], q.tolerance)
        for q in _quantities(now, rule, seed_eV)
        if q.name in before
    ]


def _trends(measured: Sequence[FinishedRound], rule: StopRule, seed_eV: float) -> list[Comparison]:
    """Trends of activation energy and diffusivities over rounds that were measured at the same temperatures."""
    rounds = [r.round for r in measured]
    return [
        drift(f"{of[0].name}{of[0].unit}", rounds, [q.estimate for q in of], rule.window, of[0].tolerance)
        for of in zip(*(_quantities(r, rule, seed_eV) for r in measured), strict=True)
    ]


def _buy_certainty(
    reasons: Sequence[str], plan: MDPlan | None, now: FinishedRound, n_labels: float, n_to_come: int
) -> Verdict:
    """Molecular dynamics for an uncertain comparison; labels, where training leaves more to chance than sampling."""
    if plan is not None and plan.buy == "labels":
        reason = (
            f"the members of the committee scatter by {plan.seed_eV:.3f} eV in the barrier: more molecular dynamics "
            "would not tell"
        )
        return replace(_not_yet([*reasons, reason], n_labels), md_plan=plan)
    wanted = () if plan is None else (f"a statistical error of Ea of {plan.wanted_eV:.3f} eV would usually tell",)
    return _buy_md([*reasons, *wanted], plan, now, n_to_come)


def _buy_md(reasons: Sequence[str], plan: MDPlan | None, now: FinishedRound, n_to_come: int) -> Verdict:
    """What the plan says; as much again as there is where the errors are small enough already, or there is no plan.

    Parameters
    ----------
    n_to_come
        Rounds measured as well that it takes after this one, where too few came before it.
    """
    if n_to_come > 0:
        rounds = f"{n_to_come} more round{'s' * (n_to_come > 1)}"
        reasons = [*reasons, f"then {rounds} measured as well must agree: each takes labels, and MD as long"]
    if plan is not None and not plan.more_ps:
        plan = twice_the_time(plan)
    return _undetermined(reasons, (now.time_ps or FIRST_MD_PS) if plan is None else plan.more_ps, plan, n_to_come)


def _not_yet(reasons: Sequence[str], n_labels: float) -> Verdict:
    return Verdict("not_yet", tuple(reasons), NextPurchase("labels", n_labels, "labels"))


def _undetermined(reasons: Sequence[str], time_ps: float, plan: MDPlan | None, n_to_come: int) -> Verdict:
    purchase = NextPurchase("md", float(math.ceil(time_ps)), "ps", max(n_to_come, 0))
    return Verdict("undetermined", tuple(reasons), purchase, plan)
