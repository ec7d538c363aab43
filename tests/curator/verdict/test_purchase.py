"""More molecular dynamics for a round: when it is bought."""

from typing import Any

import pytest
from histories import RULE, TEMPERATURES_K, Campaign

from curator.config_measure import Diffusion
from curator.state import Json
from curator.summary import verdict_json
from curator.verdict.convergence import judge
from curator.verdict.purchase import (
    N_MEASUREMENTS,
    in_words,
    md_ps,
    measured_again,
    measurements,
    more_md,
    planned_md,
    purchase_in_words,
)

THERE = Diffusion(temperatures_K=tuple(TEMPERATURES_K.tolist()), duration_ps=50, replicas=2)
"""What the simulated rounds were measured with: 100 ps at each temperature."""
PLENTY_PS = 1e6


def rounds_with(error_ln_D: float = 0.2, **changes: Any) -> list[Json]:
    """Five rounds that have settled but for the statistics of their dynamics, with changes to the last."""
    rounds = Campaign(bias_eV=0.0, error_ln_D=error_ln_D, seed_eV=0.0, n_rounds=5).history()
    rounds[-1] |= changes
    about = {"measured_with": THERE.model_dump(mode="json"), "md_cpu_s_per_ps": 36.0}
    return [r | verdict_json(judge(rounds[: k + 1], RULE)) | about for k, r in enumerate(rounds)]


def test_a_campaign_buys_what_is_planned_if_the_budget_pays_for_all_of_it():
    rounds = rounds_with()
    assert rounds[-1]["verdict"] == "undetermined"
    planned = planned_md(rounds[-1])
    assert planned is not None
    assert list(planned.durations_ps) == rounds[-1]["md_plan"]["duration_ps"]
    total_ps = md_ps(rounds, planned)
    # All five rounds count: 300 ps each in four of them.
    assert total_ps == 4 * 300 + 2 * sum(planned.durations_ps)
    assert more_md(rounds, THERE, total_ps) == planned
    assert more_md(rounds, THERE, total_ps - 1) is None
    assert more_md(rounds, THERE, None) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"n_explosions": 1},
        {"barrier_gap_eV": 0.04},
        {"fresh_force_rmse_eV_per_A": 0.2},
        {"n_new_labels": 0},
    ],
)
def test_no_dynamics_is_bought_for_a_model_that_needs_labels(changes: Json):
    rounds = rounds_with(**changes)
    assert rounds[-1]["verdict"] == "not_yet"
    assert more_md(rounds, THERE, PLENTY_PS) is None
    assert more_md(rounds, THERE.model_copy(update={"duration_ps": 500}), PLENTY_PS) is None


def test_nothing_is_bought_once_the_verdict_is_in_or_where_more_of_the_same_does_not_help():
    assert more_md(rounds_with(error_ln_D=0.03), THERE, PLENTY_PS) is None
    molten = [point | {"status": "refused", "reasons": ["melted"]} for point in rounds_with()[-1]["diffusion"]]
    rounds = rounds_with(diffusion=molten, arrhenius=None)
    assert (rounds[-1]["verdict"], rounds[-1]["next_purchase"]["kind"]) == ("undetermined", "none")
    assert more_md(rounds, THERE, PLENTY_PS) is None


def last_of_three(max_rounds: int, *, ended: bool) -> tuple[Json, Json]:
    """Next purchase of a campaign whose third round is the first with dynamics, and its ``campaign.json``."""
    campaign = Campaign(bias_eV=0.0, error_ln_D=0.5, n_rounds=3)
    rounds = [*(campaign.round(k) for k in range(2)), campaign.history()[2]]
    purchase = verdict_json(judge(rounds, RULE))["next_purchase"]
    budget = {"max_rounds": max_rounds, "max_labels": 80, "max_md_ps": None}
    return purchase, {"state": {"round": 3, "finished": ended}, "budget": budget, "md_plan": None}


@pytest.mark.parametrize(
    ("max_rounds", "ended", "ending"),
    [
        (
            3,
            True,
            "; 2 more rounds must agree with it: raise stop.max_rounds to 5, and stop.max_labels by their labels",
        ),
        (8, True, "; 2 more rounds must agree with it: raise stop.max_labels by their labels"),
        (
            4,
            False,
            "; 2 more rounds must agree with it: raise stop.max_rounds to 5, and stop.max_labels by their labels",
        ),
        (5, False, " together"),
    ],
)
def test_dynamics_that_cannot_be_enough_is_told_with_the_rounds_it_takes(max_rounds: int, ended: bool, ending: str):
    purchase, content = last_of_three(max_rounds, ended=ended)
    assert (purchase["kind"], purchase["rounds"]) == ("md", 2)
    assert purchase_in_words(purchase, content).endswith(ending)


def test_what_the_user_asks_for_comes_first_and_is_no_matter_of_the_budget():
    rounds = rounds_with()
    asked = THERE.model_copy(update={"duration_ps": (300.0, 20.0, 80.0)})
    for max_md_ps in (None, 1.0, PLENTY_PS):
        found = more_md(rounds, asked, max_md_ps)
        assert found is not None
        # What there is is never cut.
        assert found.durations_ps == (300.0, 50.0, 80.0)
    more = more_md(rounds, THERE.model_copy(update={"replicas": 4, "duration_ps": 10}), None)
    assert more is not None
    assert (more.replicas, more.durations_ps) == (4, (50.0, 50.0, 50.0))


def test_what_is_continued_keeps_its_time_step():
    asked = THERE.model_copy(update={"duration_ps": 300.0, "timestep_fs": 1.0})
    wanted = more_md(rounds_with(), asked, None)
    assert wanted is not None
    assert (wanted.durations_ps[0], wanted.timestep_fs) == (300.0, THERE.timestep_fs)


@pytest.mark.parametrize("change", [{"duration_ps": 20}, {"replicas": 1}, {"tolerance_eV": 0.01}, {"timestep_fs": 1}])
def test_what_trajectories_do_not_gain_by_is_not_measured_again(change: Json):
    assert more_md(rounds_with(), THERE.model_copy(update=change), None) is None


def test_temperatures_in_another_order_are_the_same_measurement():
    given = THERE.model_dump(mode="json")
    hot_first = given | {"temperatures_K": given["temperatures_K"][::-1]}
    rounds = rounds_with()
    assert more_md(rounds, Diffusion.model_validate(hot_first), None) is None
    # As campaigns wrote them that had been given so.
    plan = rounds[-1]["md_plan"]
    assert isinstance(plan["duration_ps"], list)
    reverse = {"temperatures": plan["temperatures"][::-1], "duration_ps": plan["duration_ps"][::-1]}
    there = rounds[-1] | {"measured_with": hot_first, "md_plan": plan | reverse}
    assert planned_md(there) == planned_md(rounds[-1])


def test_a_round_that_became_due_is_measured_as_the_file_says():
    rounds = rounds_with(diffusion=[], arrhenius=None)
    assert rounds[-1]["verdict"] == "undetermined"
    assert more_md(rounds, THERE, None) == THERE
    assert more_md(rounds, None, None) is None


def test_dynamics_that_is_bought_stays_bought():
    """Neither the file, which asks for less, nor the plan, which it has followed, measures the round again."""
    rounds = rounds_with()
    planned = planned_md(rounds[-1])
    assert planned is not None
    again = measured_again(rounds[-1], {"measured_with": planned.model_dump(mode="json")})
    assert more_md([*rounds[:-1], again], THERE, PLENTY_PS) is None
    assert [each["measured_with"] for each in measurements(again)] == [
        settings.model_dump(mode="json") for settings in (THERE, planned)
    ]


def test_no_plan_is_followed_after_the_third_measurement():
    rounds = rounds_with()
    last = rounds[-1]
    for n_measured in (1, 2, 3):
        assert len(measurements(last)) == n_measured
        assert (more_md([*rounds[:-1], last], THERE, PLENTY_PS) is None) is (n_measured == N_MEASUREMENTS)
        last = measured_again(last, {})
    # The user may still ask for it.
    assert more_md([*rounds[:-1], last], THERE.model_copy(update={"duration_ps": 90}), None) is not None


def test_a_measurement_is_told_with_its_error():
    rounds = rounds_with()
    fit = rounds[-1]["arrhenius"]
    assert in_words(rounds[-1]) == f"300 ps, Ea {fit['Ea_eV']:.3f} ± {fit['error_eV']:.3f} eV"
    assert in_words(rounds[-1] | {"arrhenius": None}) == "300 ps, no Ea"
