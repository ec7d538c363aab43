"""What a campaign takes in and fixes before its first round."""

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from curator.backends.executor import SerialExecutor
from curator.backends.labellers import make_labeller
from curator.build import build_plan
from curator.config import CampaignFile
from curator.context import FOUNDATION, Context
from curator.datasets.extxyz import read_own_records
from curator.datasets.fence import acquire
from curator.datasets.frame import Frame
from curator.datasets.journal import Journal
from curator.learners.mace import load_model
from curator.learners.replay import check_pseudolabels
from curator.progress import Display
from curator.setup import fix_cell, gather_inputs, keep_inputs
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


def test_a_lattice_is_stretched_and_what_is_in_it_with_it(tmp_path: Path) -> None:
    def fixed(name: str, **system: float) -> Frame:
        content = {
            "system": {"structure": "lif-interstitial", **system},
            "label": {"kind": "classical", "model": "lif-fumi-tosi"},
        }
        plan = build_plan(CampaignFile.model_validate(content), tmp_path)
        folder = CampaignFolder(tmp_path / name, tmp_path / "campaign.yaml")
        theory, display = make_labeller(plan.labeller).theory, Display(folder, Console(file=io.StringIO()))
        folder.setup.mkdir(parents=True)
        with acquire(folder.journal) as fence:
            journal = Journal(folder.journal, fence)
            return fix_cell(Context(plan, folder, theory, journal, SerialExecutor(), display))[0]

    cold, hot = fixed("cold"), fixed("hot", expansion=0.02)
    np.testing.assert_allclose(hot.cell, 1.02 * cold.cell, rtol=1e-12)
    np.testing.assert_allclose(hot.positions, 1.02 * cold.positions, rtol=1e-9)
