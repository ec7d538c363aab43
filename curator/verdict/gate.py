"""The cheap gate of the stopping rule: what every round tells without molecular dynamics that measures.

It is free of the noise of sampling diffusion, hence it decides when that is worth its price: enough rounds that bought
labels; a barrier that holds still, agrees with the reference and between the members; a force error, taken on labels
the model had not seen, that is within its target and no longer falls from model to model; no explosions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from curator.verdict.history import FinishedRound, counted
from curator.verdict.rule import StopRule

WITHOUT_RANDOM_FRAMES = "give select.random_share, or stop.force_error_eV_per_A null to do without"
"""What to do where no random frame tells the force error."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What speaks against convergence, and what speaks for it."""

    faults: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(self.faults + other.faults, self.facts + other.facts)


def gate(history: Sequence[FinishedRound], rule: StopRule) -> Findings:
    """All of the gate for the last round."""
    return settled(history, rule) + _md_gate(history[-1])


def settled(history: Sequence[FinishedRound], rule: StopRule) -> Findings:
    """The part of the gate that must have passed before molecular dynamics is bought."""
    return _label_gate(history, rule) + _barrier_gate(history, rule) + _force_gate(history[-1], rule)


def _barrier_gate(history: Sequence[FinishedRound], rule: StopRule) -> Findings:
    """Whether the barrier holds still and is right; nothing where no hop is followed."""
    if not rule.barrier:
        return Findings()
    now, limit = history[-1], rule.tolerance_eV / 2
    faults: list[str] = []
    facts: list[str] = []
    window = counted(history, rule)[-rule.window :]
    values = [r.barrier_eV for r in window]
    known = [value for value in values if value is not None]
    if now.barrier_eV is None:
        faults.append(": ".join(filter(None, [f"round {now.round} has no barrier", "; ".join(now.barrier_reasons)])))
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
    return Findings(tuple(faults), tuple(facts))


def _label_gate(history: Sequence[FinishedRound], rule: StopRule) -> Findings:
    now, bought = history[-1], counted(history, rule)
    faults: list[str] = []
    if now not in bought:
        faults.append(
            f"round {now.round} bought {now.n_new_labels:g} labels; a round with fewer than {rule.min_new_labels} "
            "tests nothing"
        )
    if len(bought) < rule.window:
        faults.append(f"rounds that bought labels: {len(bought)}; it takes {rule.window} to see whether anything moves")
    return Findings(tuple(faults))


def _force_gate(now: FinishedRound, rule: StopRule) -> Findings:
    error, target = now.fresh_eV_per_A, rule.force_error_eV_per_A
    if error is None:
        unknown = "the force error on frames not yet trained on is not known: this round labelled no random frame"
        if target is None:
            return Findings(facts=(unknown,))
        return Findings((f"{unknown}; {WITHOUT_RANDOM_FRAMES}",))
    told = f"force error on frames not yet trained on: {error:.3f} eV/Å"
    if target is None:
        return Findings(facts=(told,))
    if error >= target:
        return Findings((f"{told} (limit {target:.3f})",))
    earlier = now.fresh_of_earlier_eV_per_A[: rule.window - 1]
    if not earlier:
        return Findings((f"{told}, and of no earlier model: it is not known whether it still falls",))
    before = sum(earlier) / len(earlier)
    compared = f"{before:.3f} on the same frames with the models of the rounds before"
    if error < (1 - rule.force_error_fall) * before:
        return Findings((f"{told}, and still falling: {compared}",))
    return Findings(facts=(f"{told}; {compared}",))


def _md_gate(now: FinishedRound) -> Findings:
    if now.n_explosions is None:
        return Findings(("it is not known whether trajectories exploded",))
    if now.n_explosions > 0:
        return Findings((f"{now.n_explosions:g} trajectories exploded in round {now.round}",))
    return Findings()
