"""Simulated campaigns whose truth is known, for the stopping rule and for naive rules beside it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curator.datasets.units import KB_EV_PER_K
from curator.diffusion.arrhenius import arrhenius_as_json, fit_arrhenius
from curator.diffusion.coefficient import Coefficient
from curator.diffusion.diffusivity import Diffusivity
from curator.verdict.convergence import StopRule, has_settled, judge
from curator.verdict.purchase import N_MEASUREMENTS

TEMPERATURES_K = np.array([500.0, 700.0, 1000.0])
BARRIER_EV = 0.11
EA_EV = 0.12
LN_D0 = 3.0
RULE = StopRule(tolerance_eV=0.05)


def measured(entry: dict) -> Diffusivity:
    """Diffusivity of the JSON of a simulated one."""
    value = Coefficient(entry["D_A2_per_ps"], entry["error_A2_per_ps"], (math.nan, math.nan))
    return Diffusivity("Li", entry["temperature_K"], "measured", (), value, n_hops=entry["hops"])


@dataclass(frozen=True)
class Outcome:
    """How a campaign ended: round in which it stopped or None, MD it took, and how far off it was by then."""

    round: int | None
    md_ps: float
    off_eV: float
    off_ln_D: float


@dataclass(frozen=True)
class Campaign:
    """A campaign that approaches the truth: errors decay over rounds as ``exp(-k / decay)``; MD adds noise.

    ``bias_eV`` is in the barrier and in Ea; ``hidden_bias_eV`` in Ea alone, ``hidden_ln_D`` in all diffusivities
    alike, so that neither barrier nor reference can see them. ``seed_eV`` is what training leaves to chance in both.
    ``error_ln_D`` is the standard error of ln D after 100 ps at a temperature; it falls with the root of the time. The
    first look at a round, ``first_ps``, is shared by all temperatures alike.
    """

    bias_eV: float = 0.1
    decay: float = 1.5
    hidden_bias_eV: float = 0.0
    hidden_decay: float = 1.5
    hidden_ln_D: float = 0.0
    error_ln_D: float = 0.08
    seed_eV: float = 0.002
    n_rounds: int = 12
    temperatures_K: tuple[float, ...] = tuple(TEMPERATURES_K.tolist())
    first_ps: float = 300.0

    @property
    def x(self) -> NDArray[np.float64]:
        """Inverse temperatures, 1/eV."""
        return 1 / (KB_EV_PER_K * np.array(self.temperatures_K))

    def true_Ea(self, k: int) -> float:
        """Activation energy of round k but for the chance of its training."""
        hidden = self.hidden_bias_eV * math.exp(-k / self.hidden_decay)
        return EA_EV + self.bias_eV * math.exp(-k / self.decay) + hidden

    def true_shift(self, k: int) -> float:
        """How far ln D of round k is from the truth at all temperatures, besides what Ea does to it."""
        return self.hidden_ln_D * math.exp(-k / self.hidden_decay)

    def chance_eV(self, k: int, seed: int) -> NDArray[np.float64]:
        """What training leaves to chance in the two members of round k."""
        return np.random.default_rng([seed, k, 0]).normal(0, self.seed_eV, 2)

    def force_error(self, k: int) -> float:
        """Force error of the model of round k in eV/Å."""
        return 0.04 + 0.03 * math.exp(-k / self.decay)

    def round(self, k: int, seed: int = 0) -> dict:
        """Round k before any MD."""
        members = BARRIER_EV + self.bias_eV * math.exp(-k / self.decay) + self.chance_eV(k, seed)
        # Frames of one round are harder than those of another.
        frames = math.exp(np.random.default_rng([seed, k, 1]).normal(0, 0.08))
        return {
            "round": k,
            "n_new_labels": 18,
            "barrier_eV": members[0],
            "barrier_reference_eV": BARRIER_EV,
            "barrier_gap_eV": members[0] - BARRIER_EV,
            "barrier_members_eV": members.tolist(),
            "barrier_reasons": [],
            "fresh_force_rmse_eV_per_A": frames * self.force_error(k - 1),
            "fresh_force_rmse_of_earlier_eV_per_A": [frames * self.force_error(j) for j in (k - 2, k - 3) if j >= 0],
            "n_explosions": 0,
            "diffusion": [],
            "arrhenius": None,
        }

    def md(self, k: int, seed: int = 0, looks: tuple[NDArray[np.float64], ...] = ()) -> dict:
        """MD of round k: a first look, and more in each further one, which continues the same walk."""
        rng = np.random.default_rng([seed, k, 2])
        n = len(self.temperatures_K)
        time_ps, summed = np.zeros(n), np.zeros(n)
        for more_ps in (np.full(n, self.first_ps / n), *looks):
            summed += rng.normal(0, 1, n) * np.sqrt(more_ps)
            time_ps = time_ps + more_ps
        error = self.error_ln_D * np.sqrt(100 / time_ps)
        noise = self.error_ln_D * 10 * summed / time_ps
        ln_D = LN_D0 + self.true_shift(k) - (self.true_Ea(k) + self.chance_eV(k, seed)[0]) * self.x + noise
        entries = [
            {
                "temperature_K": T,
                "D_A2_per_ps": math.exp(value),
                "error_A2_per_ps": e * math.exp(value),
                "hops": 1 / e**2,
                "time_ps": t,
                "n_trajectories": 2,
                "status": "measured",
                "reasons": [],
            }
            for T, value, e, t in zip(self.temperatures_K, ln_D.tolist(), error.tolist(), time_ps.tolist(), strict=True)
        ]
        fit = fit_arrhenius([measured(entry) for entry in entries])
        assert fit is not None
        return {"diffusion": entries, "arrhenius": arrhenius_as_json(fit)}

    def history(self, seed: int = 0) -> list[dict]:
        """All rounds, each with the first look."""
        return [self.round(k, seed) | self.md(k, seed) for k in range(self.n_rounds)]

    def run(self, seed: int, rule: StopRule = RULE, n_looks: int = N_MEASUREMENTS) -> Outcome:
        """The campaign under the rule: MD when the barrier has settled, and what it asks for, so many times a round."""
        rounds: list[dict] = []
        md_ps = 0.0
        for k in range(self.n_rounds):
            rounds.append(self.round(k, seed))
            if not has_settled(rounds, rule):
                continue
            looks: tuple[NDArray[np.float64], ...] = ()
            while True:
                rounds[-1] |= self.md(k, seed, looks)
                verdict = judge(rounds, rule)
                plan = verdict.md_plan
                if verdict.next_purchase.kind != "md" or plan is None or len(looks) == n_looks - 1:
                    break
                looks += (np.array([t.needed_ps - t.time_ps for t in plan.temperatures]),)
            md_ps += sum(point["time_ps"] for point in rounds[-1]["diffusion"])
            if verdict.verdict == "converged":
                return self._outcome(k, seed, md_ps)
        return Outcome(None, md_ps, 0.0, 0.0)

    def run_naively(self, seed: int, tolerance_eV: float = RULE.tolerance_eV) -> tuple[Outcome, Outcome]:
        """The same campaign under two rules of thumb, with the first look in every round.

        They stop when twice in a row Ea changed by less than the tolerance, or the 95 % intervals of Ea overlapped.
        """
        fits = [self.md(k, seed)["arrhenius"] for k in range(self.n_rounds)]
        changes = np.abs(np.diff([fit["Ea_eV"] for fit in fits]))
        errors = np.array([fit["error_eV"] for fit in fits])
        outcomes = []
        for limit in (np.full(len(changes), tolerance_eV), 1.96 * (errors[1:] + errors[:-1])):
            passed = changes < limit
            stops = np.flatnonzero(passed[1:] & passed[:-1])
            k = int(stops[0]) + 2 if len(stops) else None
            n_md = self.n_rounds if k is None else k + 1
            md_ps = n_md * self.first_ps
            outcomes.append(Outcome(None, md_ps, 0.0, 0.0) if k is None else self._outcome(k, seed, md_ps))
        return outcomes[0], outcomes[1]

    def _outcome(self, k: int, seed: int, md_ps: float) -> Outcome:
        off_eV = self.true_Ea(k) + self.chance_eV(k, seed)[0] - EA_EV
        off_ln_D = np.abs(self.true_shift(k) - off_eV * self.x).max()
        return Outcome(k, md_ps, abs(off_eV), float(off_ln_D))


def shares(outcomes: list[Outcome], rule: StopRule = RULE) -> tuple[float, float]:
    """Share of campaigns that stop, and share that stop while Ea is off by more than the tolerance."""
    stopped = [outcome for outcome in outcomes if outcome.round is not None]
    n_false = sum(outcome.off_eV > rule.tolerance_eV for outcome in stopped)
    return len(stopped) / len(outcomes), n_false / len(outcomes)
