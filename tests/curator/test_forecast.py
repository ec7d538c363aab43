import time
from pathlib import Path
from typing import Any

import pytest

from curator.build import build_plan
from curator.config import CampaignFile
from curator.forecast import Forecast, _add_up, _seconds


def added_up(folder: Path, **sections: Any) -> Forecast:
    file = CampaignFile.model_validate({"system": {"structure": "lif-interstitial"}, **sections})
    return _add_up(build_plan(file, folder), "theory", 65, 1.0, 0.01, 0.01)


@pytest.mark.parametrize(
    ("barrier", "every_round", "times"), [(True, False, 1), (True, True, 4), (False, False, 4), (False, True, 4)]
)
def test_md_that_measures_is_counted_in_every_round_that_runs_it(
    tmp_path: Path, barrier: bool, every_round: bool, times: int
):
    diffusion = {
        "temperatures_K": [700, 1000],
        "replicas": 3,
        "duration_ps": 20,
        "equilibration_ps": 1,
        "every_round": every_round,
    }
    told = added_up(tmp_path, measure={"barrier": barrier, "diffusion": diffusion}, stop={"max_rounds": 4})
    assert told.numbers["n_rounds"] == 4
    assert told.numbers["measure_ps"] == times * 2 * 3 * 21
    assert ("bought once" in "\n".join(told.lines)) is (times == 1)


def test_waiting_for_a_core_costs_nothing(tmp_path: Path):
    assert _seconds(lambda: time.sleep(0.3)) < 0.1
    lines = added_up(tmp_path).lines
    assert [line.split()[0] for line in lines if "CPU" in line] == ["labels", "exploring", "together"]
