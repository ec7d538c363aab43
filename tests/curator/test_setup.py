"""What a campaign takes in before its first round."""

from pathlib import Path

from curator.build import build_plan
from curator.config import CampaignFile
from curator.context import FOUNDATION
from curator.datasets.extxyz import read_own_records
from curator.learners.mace import load_model
from curator.learners.replay import check_pseudolabels
from curator.setup import gather_inputs, keep_inputs
from curator.state import CampaignFolder


def test_kept_pseudolabels_are_those_of_the_kept_foundation(tmp_path: Path) -> None:
    content = {
        "system": {"structure": "lif-interstitial"},
        "learn": {"strategy": "pseudolabel_replay", "replay_frames": 3},
    }
    plan = build_plan(CampaignFile.model_validate(content), tmp_path)
    folder = CampaignFolder(tmp_path, tmp_path / "campaign.yaml")
    keep_inputs(gather_inputs(plan), folder)
    foundation = load_model(folder.setup / FOUNDATION)
    for name, n_frames in (("train", 3), ("valid", 1)):
        records = read_own_records(folder.setup / f"replay-{name}.extxyz")
        assert len(records) == n_frames
        check_pseudolabels(records, foundation.hash, required=True)
