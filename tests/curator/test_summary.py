import json

import pytest
from histories import RULE, Campaign

from curator.state import plain_json
from curator.summary import verdict_json
from curator.verdict.convergence import judge


def test_a_plan_is_json_and_its_durations_are_what_the_campaign_file_takes():
    rounds = Campaign(bias_eV=0.0, error_ln_D=0.4, n_rounds=5).history()
    verdict = judge([*rounds[:-1], rounds[-1] | {"md_cpu_s_per_ps": 36.0}], RULE)
    content = verdict_json(verdict)
    assert json.loads(json.dumps(content)) == plain_json(content)
    plan = content["md_plan"]
    # Two trajectories at each of three temperatures, of which the middle one needs less.
    assert len(plan["duration_ps"]) == 3
    for duration_ps, row in zip(plan["duration_ps"], plan["temperatures"], strict=True):
        assert duration_ps == pytest.approx(row["needed_ps"] / 2, abs=1)
        assert row["cpu_hours"] == pytest.approx((row["needed_ps"] - row["time_ps"]) / 100)
    assert plan["more_ps"] <= content["next_purchase"]["amount"] < plan["more_ps"] + 1


def test_without_a_measurement_there_is_no_plan():
    assert verdict_json(judge([Campaign().round(0)], RULE))["md_plan"] is None
