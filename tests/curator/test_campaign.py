"""How a campaign begins."""

from pathlib import Path

import pytest
import yaml
from rich.console import Console

from curator import campaign
from curator.backends.labellers import make_labeller
from curator.build import read_plan
from curator.datasets.fence import Fence, acquire
from curator.errors import BadInput
from curator.state import campaign_folder


def test_a_campaign_that_another_driver_began_meanwhile_is_not_mixed_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "campaign.yaml").write_text(
        "system: {structure: lif-vacancy}\nlabel: {kind: classical, model: lif-fumi-tosi}\nseed: 1\n"
    )
    folder = campaign_folder(tmp_path)
    plan = read_plan(folder)
    theory = make_labeller(plan.labeller).theory

    def another_was_faster(journal: Path) -> Fence:
        content = {"campaign": plan.file.model_dump(mode="json") | {"seed": 2}, "theory": {"key": theory.key}}
        folder.resolved.write_text(yaml.safe_dump(content | {"structures": []}))
        return acquire(journal)

    monkeypatch.setattr(campaign, "gather_inputs", lambda _: object())
    monkeypatch.setattr(campaign, "acquire", another_was_faster)
    with pytest.raises(BadInput, match="seed has changed since this campaign began"):
        campaign.run(tmp_path, Console(quiet=True))
