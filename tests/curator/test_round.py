"""From which models a round starts to train."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curator.build import build_plan
from curator.config import CampaignFile
from curator.context import Context
from curator.round import warm_bases
from curator.state import CampaignFolder, write_json


def context(folder: Path, **learn: Any) -> Context:
    """A campaign that is about to train; no work can be done with it."""
    file = CampaignFile.model_validate({"system": {"structure": "lif-interstitial"}, "learn": learn})
    nothing: Any = None
    campaign = CampaignFolder(folder, folder / "campaign.yaml")
    return Context(build_plan(file, folder), campaign, nothing, nothing, nothing, nothing)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Folder of a campaign whose round 0 has trained two members with estimated E0s."""
    learn = context(tmp_path).plan.file.learn.model_dump(mode="json")
    write_json(tmp_path / "rounds" / "000" / "settings.json", {"learn": learn})
    write_json(context(tmp_path).training_file(0), {"members": [{}, {}]})
    return tmp_path


def test_training_goes_on_from_the_last_rounds_members(trained: Path) -> None:
    here = context(trained)
    assert warm_bases(here, 0) == [here.foundation]
    assert warm_bases(here, 1) == here.members(0)
    assert len(warm_bases(here, 1)) == 2


@pytest.mark.parametrize("learn", [{"warm_start": False}, {"strategy": "naive"}, {"e0": "foundation"}])
def test_training_starts_anew_where_the_last_models_would_not_do(trained: Path, learn: dict[str, Any]) -> None:
    """The foundation's E0s are the foundation's: models that were given others have fitted their weights to them."""
    here = context(trained, **learn)
    assert warm_bases(here, 1) == [here.foundation]


def test_models_that_keep_the_foundations_atomic_energies_are_gone_on_from(trained: Path) -> None:
    here = context(trained, e0="foundation")
    write_json(here.folder.round(0) / "settings.json", {"learn": here.plan.file.learn.model_dump(mode="json")})
    assert warm_bases(here, 1) == here.members(0)
    other = replace(here, plan=context(trained, e0="average").plan)
    assert warm_bases(other, 1) == here.members(0)
