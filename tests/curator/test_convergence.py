"""The stopping rule on histories whose truth is known."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from curator.convergence import StopRule, barrier_has_settled, judge
from curator.datasets.units import KB_EV_PER_K
from curator.equivalence import Estimate, compare

TEMPERATURES_K = np.array([500.0, 700.0, 1000.0])
BARRIER_EV = 0.11
EA_EV = 0.12
RULE = StopRule(tolerance_eV=0.05)


@dataclass(frozen=True)
class Campaign:
    """A campaign that approaches the truth: errors of barrier and Ea decay over rounds; MD adds noise."""

    bias_eV: float = 0.1
    decay: float = 1.5
    hidden_bias_eV: float = 0.0
    hidden_decay: float = 1.5
    error_ln_D: float = 0.08
    n_rounds: int = 12

    def true_Ea(self, k: int) -> float:
        hidden = self.hidden_bias_eV * math.exp(-k / self.hidden_decay)
        return EA_EV + self.bias_eV * math.exp(-k / self.decay) + hidden

    def round(self, k: int, rng: np.random.Generator, with_md: bool = True) -> dict:
        barrier = BARRIER_EV + self.bias_eV * math.exp(-k / self.decay) + rng.normal(0, 0.002)
        content = {
            "round": k,
            "n_new_labels": 18,
            "barrier_eV": barrier,
            "barrier_reference_eV": BARRIER_EV,
            "barrier_gap_eV": barrier - BARRIER_EV,
            "barrier_reasons": [],
            "fresh_force_rmse_eV_per_A": 0.05 if k else None,
            "n_explosions": 0,
            "diffusion": [],
            "arrhenius": None,
        }
        return content | (self.md(k, rng) if with_md else {})

    def md(self, k: int, rng: np.random.Generator) -> dict:
        x = 1 / (KB_EV_PER_K * TEMPERATURES_K)
        ln_D = 3.0 - self.true_Ea(k) * x + rng.normal(0, self.error_ln_D, len(x))
        slope = np.polyfit(x, ln_D, 1)[0]
        error = self.error_ln_D / np.sqrt(np.sum((x - x.mean()) ** 2))
        entries = [
            {
                "temperature_K": T,
                "D_A2_per_ps": math.exp(value),
                "error_A2_per_ps": self.error_ln_D * math.exp(value),
                "hops": 1 / self.error_ln_D**2,
                "time_ps": 100.0,
                "status": "measured",
                "reasons": [],
            }
            for T, value in zip(TEMPERATURES_K, ln_D, strict=True)
        ]
        return {"diffusion": entries, "arrhenius": {"Ea_eV": -slope, "error_eV": error}}

    def history(self, seed: int = 0) -> list[dict]:
        rng = np.random.default_rng(seed)
        return [self.round(k, rng) for k in range(self.n_rounds)]

    def stops_at(self, seed: int, rule: StopRule = RULE) -> int | None:
        """Round in which the campaign stops as converged, if MD is bought when the barrier has settled."""
        rng = np.random.default_rng(seed)
        rounds: list[dict] = []
        for k in range(self.n_rounds):
            content = self.round(k, rng, with_md=False)
            if barrier_has_settled([*rounds, content], rule):
                content |= self.md(k, rng)
            rounds.append(content)
            if judge(rounds, rule).verdict == "converged":
                return k
        return None

    def outcomes(self, rule: StopRule = RULE, n: int = 100) -> tuple[float, float]:
        """Share of campaigns that stop, and share that stop while Ea is off by more than the tolerance."""
        stops = [self.stops_at(seed, rule) for seed in range(n)]
        false = [k is not None and abs(self.true_Ea(k) - EA_EV) > rule.tolerance_eV for k in stops]
        return float(np.mean([k is not None for k in stops])), float(np.mean(false))


def settled(**changes) -> list[dict]:
    """Four rounds that have converged, with changes to the last."""
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.05, n_rounds=4).history()
    rounds[-1] |= changes
    return rounds


def test_settled_rounds_have_converged():
    verdict = judge(settled(), RULE)
    assert verdict.verdict == "converged"
    assert verdict.next_purchase.kind == "none"
    assert any("Ea against round 1" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("campaign", [Campaign(0.1, 1.5), Campaign(0.2, 1.0), Campaign(0.0, 1.0)])
def test_a_campaign_that_converges_is_stopped_and_rightly(campaign):
    stopped, false = campaign.outcomes()
    assert stopped > 0.9
    assert false == 0


@pytest.mark.parametrize(
    "campaign",
    [
        Campaign(bias_eV=0.1, decay=4),
        Campaign(bias_eV=0.1, decay=20),
        Campaign(bias_eV=-0.1, decay=50),
        Campaign(bias_eV=0.3, decay=1000),
    ],
)
def test_slow_drift_is_caught_by_the_reference(campaign):
    """Rounds that agree with each other and not with the reference: no between-round rule can see it."""
    assert campaign.outcomes()[1] == 0


def test_a_bias_the_barrier_does_not_see_is_mostly_caught_by_the_property():
    campaign = Campaign(bias_eV=0.0, hidden_bias_eV=0.3, hidden_decay=2.0, error_ln_D=0.06)
    assert campaign.outcomes()[1] <= 0.05


def test_two_earlier_rounds_catch_what_one_lets_pass():
    campaign = Campaign(bias_eV=0.0, hidden_bias_eV=0.3, hidden_decay=4.0)
    assert campaign.outcomes(n=60)[1] == 0
    assert campaign.outcomes(StopRule(n_compare=1), n=60)[1] > 0.8


def test_noise_delays_the_end_and_never_brings_it_forward():
    """Where error bars overlap the sooner the worse they are, this rule stops less often."""
    shares = [Campaign(bias_eV=0.0, error_ln_D=error).outcomes(n=60)[0] for error in (0.05, 0.1, 0.2, 0.4)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.95
    assert shares[-1] == 0


def test_noise_alone_is_undetermined_and_buys_time():
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.3, n_rounds=5).history()
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "undetermined"
    assert (verdict.next_purchase.kind, verdict.next_purchase.unit) == ("md", "ps")
    # SE ~ t^-1/2: the time bought brings the worst standard error to where equal values pass.
    total_ps = 300 + verdict.next_purchase.amount
    worst = max(
        rounds[-1]["arrhenius"]["error_eV"] / 0.05,
        0.3 / math.log(2),
    )
    assert worst * 4.2 * math.sqrt(300 / total_ps) == pytest.approx(1, abs=0.01)


def test_a_known_drift_of_the_property_buys_labels():
    rounds = settled()
    later = Campaign(bias_eV=0.0, hidden_bias_eV=0.3, hidden_decay=1e9, error_ln_D=0.02).md(3, np.random.default_rng(1))
    verdict = judge([*rounds[:-1], rounds[-1] | later], RULE)
    assert verdict.verdict == "not_yet"
    assert verdict.next_purchase.kind == "labels"
    assert "differs by" in verdict.reasons[0]


def test_diffusivities_that_shift_together_are_not_converged_though_Ea_holds():
    rounds = settled()
    for entry in rounds[-1]["diffusion"]:
        entry["D_A2_per_ps"] *= 4
        entry["error_A2_per_ps"] *= 4
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "not_yet"
    assert all("ln D" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"barrier_eV": None, "barrier_gap_eV": None, "barrier_reasons": ["2 negative modes"]}, "2 negative modes"),
        ({"barrier_eV": math.nan}, "no barrier"),
        ({"barrier_gap_eV": None, "barrier_reference_eV": None}, "not checked against the reference"),
        ({"barrier_gap_eV": -0.03}, "-0.030 eV off the reference"),
        ({"barrier_eV": 0.14}, "still moves"),
        ({"barrier_members_eV": [0.11, 0.15]}, "members of the committee differ"),
        ({"barrier_members_eV": [0.11, None]}, "not every member"),
        ({"fresh_force_rmse_eV_per_A": None}, "force error"),
        ({"fresh_force_rmse_eV_per_A": math.nan}, "force error"),
        ({"n_explosions": 2}, "2 trajectories exploded"),
        ({"n_explosions": None}, "not known whether"),
        ({"n_new_labels": 0}, "bought 0 labels"),
        ({"n_new_labels": 2}, "bought 2 labels"),
    ],
)
def test_the_gate_names_what_fails_and_buys_labels(changes, message):
    verdict = judge(settled(**changes), RULE)
    assert verdict.verdict == "not_yet"
    assert any(message in reason for reason in verdict.reasons)
    assert verdict.next_purchase.kind == "labels"
    assert verdict.next_purchase.amount >= 4


def test_rounds_without_labels_do_not_make_a_history():
    """Repeating the same model proves nothing, however often its numbers agree."""
    first = settled()[0] | {"fresh_force_rmse_eV_per_A": 0.05}
    verdict = judge([first, *({**first, "round": k, "n_new_labels": 0} for k in range(1, 8))], RULE)
    assert verdict.verdict == "not_yet"


def empty_md(**changes):
    entry = {"D_A2_per_ps": None, "error_A2_per_ps": None, "hops": 0, "time_ps": 50.0, "status": "bound"}
    return [{**entry, "temperature_K": T, "reasons": ["no hop in 50 ps"], **changes} for T in TEMPERATURES_K]


@pytest.mark.parametrize(
    ("diffusion", "arrhenius", "kind", "message"),
    [
        ([], None, "md", "no molecular dynamics"),
        (empty_md(), None, "md", "no hop in 50 ps"),
        (empty_md(), {"Ea_eV": 0.0, "error_eV": 0.0}, "md", "500 K"),
        (empty_md(status="measured", D_A2_per_ps=0.0, error_A2_per_ps=0.0), None, "md", "500 K"),
        (empty_md(status="measured", D_A2_per_ps=math.nan, error_A2_per_ps=math.nan), None, "md", "500 K"),
        (empty_md(status="measured", D_A2_per_ps=1.0, error_A2_per_ps=0.1), None, "md", "500 K"),
        (empty_md(status="measured", D_A2_per_ps=1.0, error_A2_per_ps=0.1, hops=90), None, "none", "Arrhenius"),
        (empty_md(status="refused", reasons=["the host melted"]), None, "none", "the host melted"),
    ],
)
def test_equal_and_empty_rounds_never_agree(diffusion, arrhenius, kind, message):
    rounds = [r | {"diffusion": diffusion, "arrhenius": arrhenius} for r in settled()]
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "undetermined"
    assert verdict.next_purchase.kind == kind
    assert message in verdict.reasons[0]


def test_an_earlier_round_without_hops_does_not_count_as_agreement():
    rounds = settled()
    rounds[1] |= {"diffusion": empty_md(), "arrhenius": {"Ea_eV": None, "error_eV": None}}
    rounds[0] |= {"diffusion": [], "arrhenius": None}
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "not_yet"
    assert "1 earlier round" in verdict.reasons[0]


def test_other_temperatures_are_no_comparison():
    rounds = settled()
    for r in rounds[:-1]:
        for entry in r["diffusion"]:
            entry["temperature_K"] += 50
    assert judge(rounds, RULE).verdict == "not_yet"


def test_the_first_rounds_are_never_enough():
    rounds = settled()
    assert judge([], RULE).verdict == "not_yet"
    for k in range(1, 3):
        assert judge(rounds[:k], RULE).verdict == "not_yet"
        assert not barrier_has_settled(rounds[:k], RULE)
    assert barrier_has_settled(rounds, RULE)


def test_what_is_switched_off_is_not_asked_for():
    no_md = [r | {"diffusion": [], "arrhenius": None} for r in settled()]
    assert judge(no_md, StopRule(diffusion=False)).verdict == "converged"
    no_barrier = [r | {"barrier_eV": None, "barrier_gap_eV": None} for r in settled()]
    assert judge(no_barrier, StopRule(barrier=False)).verdict == "converged"
    assert barrier_has_settled(no_barrier, StopRule(barrier=False))
    assert judge(no_md, StopRule(barrier=False, diffusion=False)).verdict == "not_yet"


def test_a_rule_out_of_range_is_refused():
    with pytest.raises(ValueError, match="tolerance_eV=0"):
        StopRule(tolerance_eV=0)


@pytest.mark.parametrize(
    ("difference", "error", "outcome"),
    [(0.0, 0.01, "agrees"), (0.04, 0.01, "unclear"), (0.0, 0.03, "unclear"), (0.2, 0.01, "differs")],
)
def test_equivalence(difference, error, outcome):
    assert compare("Ea", Estimate(0.1, error), Estimate(0.1 + difference, error), 0.05).outcome == outcome


def test_equivalence_errs_at_its_nominal_rate():
    """At a true difference just at the tolerance, either claim is made in 5 % of the cases."""
    rng = np.random.default_rng(0)
    error = 0.008
    outcomes = [
        compare("x", Estimate(rng.normal(0, error), error), Estimate(rng.normal(0.05, error), error), 0.05).outcome
        for _ in range(4000)
    ]
    for claim in ("agrees", "differs"):
        assert outcomes.count(claim) / 4000 == pytest.approx(0.05, abs=0.01)
    equal = [
        compare("x", Estimate(rng.normal(0, s), s), Estimate(rng.normal(0, s), s), 0.05).outcome
        for s in [0.05 / 4.2] * 4000
    ]
    assert equal.count("agrees") / 4000 == pytest.approx(0.8, abs=0.03)
