"""The stopping rule on histories whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from histories import RULE, TEMPERATURES_K, Campaign, measured, shares

from curator.diffusion.arrhenius import arrhenius_as_json, fit_arrhenius
from curator.verdict.convergence import earliest_convergence, has_settled, judge
from curator.verdict.rule import StopRule


def outcomes(campaign: Campaign, rule: StopRule = RULE, n: int = 60) -> tuple[float, float]:
    """Share of simulated campaigns that stop, and share that stop while Ea is off by more than the tolerance."""
    return shares([campaign.run(seed, rule) for seed in range(n)], rule)


def settled(**changes) -> list[dict]:
    """Four rounds that have converged, with changes to the last."""
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.03, n_rounds=4).history()
    rounds[-1] |= changes
    return rounds


def test_settled_rounds_have_converged():
    verdict = judge(settled(), RULE)
    assert verdict.verdict == "converged"
    assert verdict.next_purchase.kind == "none"
    assert any("Ea against round 1" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("campaign", [Campaign(0.1, 1.5), Campaign(0.2, 1.0), Campaign(0.0, 1.0)])
def test_a_campaign_that_converges_is_stopped_and_rightly(campaign):
    stopped, false = outcomes(campaign)
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
    assert outcomes(campaign)[1] == 0


@pytest.mark.parametrize("decay", [1.0, 2.0, 4.0])
def test_a_bias_the_barrier_does_not_see_is_caught_by_the_property(decay):
    campaign = Campaign(bias_eV=0.0, hidden_bias_eV=0.3, hidden_decay=decay)
    assert outcomes(campaign, n=200)[1] <= 0.012


def test_diffusivities_that_drift_alike_are_caught_though_Ea_is_right():
    campaign = Campaign(bias_eV=0.0, hidden_ln_D=3.0, hidden_decay=3.0)
    stopped = [outcome for outcome in (campaign.run(seed) for seed in range(60)) if outcome.round is not None]
    assert len(stopped) > 30
    assert sum(outcome.off_ln_D > math.log(RULE.diffusivity_factor) for outcome in stopped) == 0


def test_two_earlier_rounds_and_a_trend_catch_what_one_round_lets_pass():
    """A pair of rounds one apart is blind to a drift that takes more than a round to halve."""
    campaign = Campaign(bias_eV=0.0, hidden_bias_eV=0.2, hidden_decay=4.0, n_rounds=16)
    assert outcomes(campaign)[1] == 0
    naive = [campaign.run_naively(seed)[0] for seed in range(60)]
    assert shares(naive)[1] > 0.8


def test_noise_delays_the_end_and_never_brings_it_forward():
    """Where error bars overlap the sooner the worse they are, this rule stops less often."""
    noises = (0.05, 0.1, 0.2, 0.4)
    ended = [
        shares([Campaign(bias_eV=0.0, error_ln_D=error).run(seed, n_looks=1) for seed in range(60)])[0]
        for error in noises
    ]
    assert ended == sorted(ended, reverse=True)
    assert ended[0] > 0.95
    assert ended[-1] == 0


def test_the_dynamics_it_asks_for_is_enough():
    """However short the first look, what the verdict asks for brings a campaign to its end, at a similar price."""
    results = [[Campaign(bias_eV=0.0, error_ln_D=error).run(seed) for seed in range(60)] for error in (0.1, 0.4)]
    assert all(shares(result)[0] > 0.95 for result in results)
    # Sixteen times the variance asks for sixteen times the time.
    cheap, dear = (np.median([outcome.md_ps for outcome in result]) for result in results)
    assert 8 < dear / cheap < 24


def doubtful() -> list[dict]:
    """Five rounds of large errors, of which the last may differ from those before or not."""
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.11, seed_eV=0.0, n_rounds=5).history()
    for r in rounds:
        r["arrhenius"] |= {"Ea_eV": 0.12, "error_eV": 0.0134}
    rounds[-1]["arrhenius"]["Ea_eV"] = 0.15
    return rounds


def test_noise_alone_is_undetermined_and_buys_what_the_tolerance_needs():
    rounds = doubtful()
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "undetermined"
    assert (verdict.next_purchase.kind, verdict.next_purchase.unit) == ("md", "ps")
    plan = verdict.md_plan
    assert plan is not None
    assert (verdict.next_purchase.amount, verdict.next_purchase.rounds) == (math.ceil(plan.more_ps), 0)
    # Two rounds with these errors agree, if equal, four times in five.
    assert (1.645 + 1.3) * math.hypot(plan.wanted_eV, 0.0134) == pytest.approx(RULE.tolerance_eV, rel=0.01)


def test_where_training_leaves_more_to_chance_than_sampling_labels_are_bought():
    rounds = doubtful()
    for r in rounds:
        r["barrier_members_eV"] = [0.11, 0.127]
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "not_yet"
    assert verdict.next_purchase.kind == "labels"
    assert "members of the committee scatter by 0.012" in verdict.reasons[-1]


def test_a_first_measurement_that_is_worth_nothing_buys_dynamics_first():
    """Labels for another round that could not agree with this one would be wasted."""
    campaign = Campaign(bias_eV=0.0, error_ln_D=0.5, n_rounds=3)
    rounds = [*(campaign.round(k) for k in range(2)), campaign.history()[2]]
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "undetermined"
    assert (verdict.next_purchase.kind, verdict.next_purchase.rounds) == ("md", 2)
    assert "too uncertain" in verdict.reasons[0]


def test_an_earlier_round_too_uncertain_to_agree_with_is_no_comparison():
    rounds = settled()
    for r in rounds[:-1]:
        r["arrhenius"]["error_eV"] = 0.03
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "not_yet"
    assert "in no earlier round" in verdict.reasons[0]


def test_a_known_drift_of_the_property_buys_labels():
    rounds = settled()
    later = Campaign(bias_eV=0.0, hidden_bias_eV=0.3, hidden_decay=1e9, error_ln_D=0.02).md(3)
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
        ({"barrier_eV": None, "barrier_gap_eV": None, "barrier_reasons": ["refused", "two modes"]}, "two modes"),
        ({"barrier_eV": math.nan}, "no barrier"),
        ({"barrier_gap_eV": None, "barrier_reference_eV": None}, "not checked against the reference"),
        ({"barrier_gap_eV": -0.03}, "-0.030 eV off the reference"),
        ({"barrier_eV": 0.14}, "still moves"),
        ({"barrier_members_eV": [0.11, 0.15]}, "members of the committee differ"),
        ({"barrier_members_eV": [0.11, None]}, "not every member"),
        ({"fresh_force_rmse_eV_per_A": None}, "give select.random_share"),
        ({"fresh_force_rmse_eV_per_A": math.nan}, "force error"),
        ({"fresh_force_rmse_eV_per_A": 0.11}, "limit 0.100"),
        ({"fresh_force_rmse_eV_per_A": 0.01}, "still falling"),
        ({"fresh_force_rmse_of_earlier_eV_per_A": []}, "not known whether it still falls"),
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


@pytest.mark.parametrize("harder", [0.3, 2.0])
def test_frames_that_are_easier_or_harder_in_one_round_are_no_fall_of_the_error(harder):
    """Four random frames may all be cold; models are compared on the same ones."""
    last = settled()[-1]
    names = "fresh_force_rmse_eV_per_A", "fresh_force_rmse_of_earlier_eV_per_A"
    changes = {names[0]: harder * last[names[0]], names[1]: [harder * error for error in last[names[1]]]}
    assert judge(settled(**changes), RULE).verdict == "converged"
    assert judge(settled(**{names[0]: changes[names[0]]}), RULE).verdict == ("not_yet" if harder < 1 else "converged")


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
        (empty_md(status="refused", reasons=["not stationary: 1 and 2"]), None, "md", "not stationary"),
        (empty_md(status="refused", reasons=["too short: 5 ps"], hops=None), None, "md", "too short: 5 ps"),
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


def refused_at_1000_K(r: dict, reason: str) -> dict:
    """The round with its hottest temperature refused."""
    cold, hot = r["diffusion"][:-1], r["diffusion"][-1]
    return r | {"diffusion": [*cold, hot | {"D_A2_per_ps": None, "status": "refused", "reasons": [reason]}]}


def off(r: dict, error_eV: float) -> dict:
    """The round with another activation energy, so uncertain that it could agree with nothing."""
    return r | {"arrhenius": r["arrhenius"] | {"Ea_eV": 0.45, "error_eV": error_eV}}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda r: off(r, 0.03), "Ea against round {k}, eV: 0.12"),
        (lambda r: refused_at_1000_K(r, "melted: the host diffuses"), "1000 K was refused in round {k}: melted"),
        (lambda r: refused_at_1000_K(r, "exploded: 2 of 2"), "1000 K was refused in round {k}: exploded"),
        (lambda r: r | {"n_explosions": 3}, "3 trajectories exploded in round {k}"),
    ],
)
def test_a_round_gone_wrong_holds_the_end_up_until_it_lies_behind(wrong, told):
    """It counts for nothing, so that older rounds that agree would otherwise carry the verdict past it."""
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.03, n_rounds=9).history()
    for k in (2, 3):
        rounds[k] = wrong(rounds[k])
    assert judge(rounds[:2], RULE).verdict == "not_yet"
    for k in range(4, 7):
        verdict = judge(rounds[: k + 1], RULE)
        assert (verdict.verdict, verdict.next_purchase.kind) == ("not_yet", "labels")
        assert any(reason.startswith(told.format(k=3)) for reason in verdict.reasons)
    assert judge(rounds[:8], RULE).verdict == "converged"


@pytest.mark.parametrize(
    "short",
    [
        lambda r: refused_at_1000_K(r, "not diffusive yet: caged; run longer"),
        lambda r: r | {"diffusion": empty_md(), "arrhenius": None},
        lambda r: off(r, 0.3),
    ],
)
def test_a_round_measured_too_briefly_neither_agrees_nor_differs(short):
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.03, n_rounds=5).history()
    assert judge([*rounds[:3], short(rounds[3]), rounds[4]], RULE).verdict == "converged"


def test_diffusivities_are_compared_where_an_earlier_round_has_no_activation_energy():
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.03, n_rounds=5).history()
    bound = rounds[3]["diffusion"][0] | {"D_A2_per_ps": None, "status": "bound"}
    others = [point | {"D_A2_per_ps": 10 * point["D_A2_per_ps"]} for point in rounds[3]["diffusion"][1:]]
    rounds[3] |= {"diffusion": [bound, *others], "arrhenius": None}
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "not_yet"
    assert [reason.split(":")[0] for reason in verdict.reasons] == [
        "ln D at 700 K against round 3",
        "ln D at 1000 K against round 3",
    ]


def test_other_temperatures_are_no_comparison():
    rounds = settled()
    for r in rounds[:-1]:
        for entry in r["diffusion"]:
            entry["temperature_K"] += 50
    assert judge(rounds, RULE).verdict == "not_yet"


def test_temperatures_in_another_order_are_compared():
    rounds = settled()
    for r in rounds[:-1]:
        r["diffusion"].reverse()
    assert judge(rounds, RULE) == judge(settled(), RULE)
    assert judge(rounds, RULE).verdict == "converged"


def test_the_first_rounds_are_never_enough():
    rounds = settled()
    assert judge([], RULE).verdict == "not_yet"
    for k in range(1, 3):
        assert judge(rounds[:k], RULE).verdict == "not_yet"
        assert not has_settled(rounds[:k], RULE)
    assert has_settled(rounds, RULE)


def test_what_is_switched_off_is_not_asked_for():
    no_md = [r | {"diffusion": [], "arrhenius": None} for r in settled()]
    assert judge(no_md, StopRule(diffusion=False)).verdict == "converged"
    no_barrier = [r | {"barrier_eV": None, "barrier_gap_eV": None} for r in settled()]
    assert judge(no_barrier, StopRule(barrier=False)).verdict == "converged"
    assert has_settled(no_barrier, StopRule(barrier=False))
    assert judge(no_md, StopRule(barrier=False, diffusion=False)).verdict == "not_yet"
    large_errors = [r | {"fresh_force_rmse_eV_per_A": 0.5} for r in settled()]
    assert judge(large_errors, replace(RULE, force_error_eV_per_A=None)).verdict == "converged"
    no_random_frames = [r | {"fresh_force_rmse_eV_per_A": None} for r in settled()]
    assert judge(no_random_frames, replace(RULE, force_error_eV_per_A=None)).verdict == "converged"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tolerance_eV": 0}, "tolerance_eV=0"),
        ({"window": 1}, "window=1"),
        ({"force_error_eV_per_A": -1}, "force_error_eV_per_A=-1"),
        ({"force_error_fall": 1}, "force_error_fall=1"),
    ],
)
def test_a_rule_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        StopRule(**change)


@pytest.mark.parametrize("every_round", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_compare": 4},
        {"window": 2, "n_compare": 1},
        {"window": 4},
        {"window": 2, "n_compare": 1, "force_error_eV_per_A": None},
    ],
)
def test_the_earliest_convergence_is_what_it_takes(every_round, changes):
    rule = replace(RULE, **changes)
    campaign = Campaign(bias_eV=0.0, error_ln_D=0.01, seed_eV=0.0)
    rounds: list[dict] = []
    while not rounds or judge(rounds, rule).verdict != "converged":
        k = len(rounds)
        rounds.append(campaign.round(k))
        if every_round or has_settled(rounds, rule):
            rounds[-1] |= campaign.md(k)
    assert len(rounds) == earliest_convergence(rule, every_round=every_round)


@pytest.mark.parametrize(
    "reason", ["kink: Ea is 0.45 eV up to 700 K", "curved: Ea goes", "poor fit: chi²", "negative: D"]
)
def test_no_activation_energy_converges_that_is_no_straight_line(reason: str):
    rounds = settled()
    rounds[-1]["arrhenius"] |= {"reasons": [reason]}
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "undetermined"
    assert verdict.reasons[0] == reason
    assert "change measure.diffusion.temperatures_K" in verdict.reasons[1]
    assert verdict.next_purchase.kind == "none"


def test_a_negative_activation_energy_that_may_be_noise_wants_more_dynamics():
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.6, n_rounds=4).history()
    for point, D in zip(rounds[-1]["diffusion"], (2.85, 2.93, 2.24), strict=True):
        point |= {"D_A2_per_ps": D, "error_A2_per_ps": 0.4 * D}
    fit = fit_arrhenius([measured(point) for point in rounds[-1]["diffusion"]])
    assert fit is not None
    assert -1.96 * fit.error_eV < fit.Ea_eV < 0
    verdict = judge([*rounds[:-1], rounds[-1] | {"arrhenius": arrhenius_as_json(fit)}], RULE)
    assert (verdict.verdict, verdict.next_purchase.kind) == ("undetermined", "md")


def test_two_temperatures_are_told():
    rounds = settled()
    told = "two temperatures: whether ln D is a straight line over 1/T cannot be told; measure a third"
    rounds[-1]["arrhenius"] |= {"reasons": [told]}
    verdict = judge(rounds, RULE)
    assert verdict.verdict == "converged"
    assert told in verdict.reasons


def test_an_activation_energy_that_is_not_that_of_the_hop_is_told():
    rounds = [r | {"barrier_eV": 0.3, "barrier_reference_eV": 0.3, "barrier_members_eV": [0.3]} for r in settled()]
    verdict = judge([r | {"barrier_gap_eV": 0.0} for r in rounds], RULE)
    assert verdict.verdict == "converged"
    assert any("the barrier that is followed 0.300 eV: other hops" in reason for reason in verdict.reasons)
    assert not any("other hops" in reason for reason in judge(settled(), RULE).reasons)


def test_temperatures_above_those_explored_are_told():
    told = "measured up to 1000 K, but explored up to 900 K only"
    for explored_K, is_told in ((900.0, True), (1000.0, False), (None, False)):
        verdict = judge(settled(), replace(RULE, hottest_explored_K=explored_K))
        assert verdict.verdict == "converged"
        assert any(reason.startswith(told) for reason in verdict.reasons) is is_told


def test_what_training_leaves_to_chance_is_an_error_of_ln_D_too():
    """Diffusivities that differ by a factor of 2.2 are no drift if the barriers of a committee scatter by 17 meV."""
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.02, n_rounds=4, seed_eV=0.0).history()
    for point in rounds[-1]["diffusion"]:
        point["D_A2_per_ps"] *= 2.2
    assert "ln D at 500 K against round" in judge(rounds, RULE).reasons[0]
    assert judge(rounds, RULE).verdict == "not_yet"
    scattered = [r | {"barrier_members_eV": [r["barrier_eV"] - 0.012, r["barrier_eV"] + 0.012]} for r in rounds]
    verdict = judge(scattered, replace(RULE, tolerance_eV=0.2))
    assert not any(": differs by" in reason for reason in verdict.reasons)


def test_what_it_takes_after_the_dynamics_is_told():
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.5, n_rounds=3).history()
    verdict = judge(rounds, RULE)
    assert verdict.next_purchase.kind == "md"
    assert any(reason.startswith("then 2 more rounds measured as well must agree") for reason in verdict.reasons)
