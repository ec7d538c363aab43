"""What a campaign began with, and what of it may change."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from curator.backends.labellers import make_labeller
from curator.build import build_plan
from curator.config import CampaignFile
from curator.errors import BadInput
from curator.resolved import check_same_campaign, write_resolved
from curator.state import CampaignFolder, write_json

BEGUN = {"system": {"structure": "lif-interstitial"}, "label": {"kind": "classical", "model": "lif-fumi-tosi"}}


@pytest.fixture
def folder(tmp_path: Path) -> CampaignFolder:
    """Of a campaign that has begun."""
    folder = CampaignFolder(tmp_path, tmp_path / "campaign.yaml")
    write_json(folder.setup / "inputs.json", {"foundation": "none"})
    plan = build_plan(CampaignFile.model_validate(BEGUN), tmp_path)
    write_resolved(folder, plan, make_labeller(plan.labeller).theory)
    return folder


def changed(folder: CampaignFolder, **sections: Any) -> list[str]:
    plan = build_plan(CampaignFile.model_validate(BEGUN | sections), folder.path)
    return check_same_campaign(folder, plan, make_labeller(plan.labeller).theory)


def forget(folder: CampaignFolder, section: str, key: str, **instead: Any) -> None:
    """Make the campaign one of a version of curator that did not know a key."""
    content = yaml.safe_load(folder.resolved.read_text())
    del content["campaign"][section][key]
    content["campaign"][section] |= instead
    folder.resolved.write_text(yaml.safe_dump(content))


def test_what_may_change_is_told_and_what_may_not_is_refused(folder: CampaignFolder):
    assert changed(folder) == []
    assert changed(folder, stop={"max_rounds": 3}) == ["stop"]
    with pytest.raises(BadInput, match=r"system has changed since this campaign began.*curator export"):
        changed(folder, system=BEGUN["system"] | {"expansion": 0.02})


def test_a_campaign_of_an_older_version_had_the_defaults_of_what_is_new(folder: CampaignFolder):
    forget(folder, "system", "expansion")
    assert changed(folder) == []
    with pytest.raises(BadInput, match="system has changed"):
        changed(folder, system=BEGUN["system"] | {"expansion": 0.02})


def test_a_campaign_of_an_older_version_may_hold_what_is_refused_today(folder: CampaignFolder):
    forget(folder, "select", "hop_share", no_such_key=1)
    assert changed(folder) == ["select"]
