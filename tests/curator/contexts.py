"""Contexts of campaigns, as a driver opens them."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console

from curator.backends.executor import SerialExecutor
from curator.backends.labellers import make_labeller
from curator.build import build_plan
from curator.config import CampaignFile
from curator.context import Context
from curator.datasets.fence import acquire
from curator.datasets.journal import Journal, open_store
from curator.progress import Display
from curator.state import CampaignFolder


@contextmanager
def opened(content: Mapping[str, Any] | CampaignFile, folder: Path, base: Path | None = None) -> Iterator[Context]:
    """Context of a campaign in a folder, whose tasks run one after the other in this process.

    Paths in the campaign file are relative to ``base``, by default what the folder is in.
    """
    plan = build_plan(CampaignFile.model_validate(content), base or folder.parent)
    campaign = CampaignFolder(folder, Path())
    with acquire(campaign.journal) as fence:
        journal = Journal(campaign.journal, fence)
        open_store(campaign.store, journal).close()
        display = Display(campaign, Console(file=io.StringIO()))
        yield Context(plan, campaign, make_labeller(plan.labeller).theory, journal, SerialExecutor(), display)


def with_model(context: Context, model: Any, **changes: Any) -> Context:
    """The context of a campaign whose rounds have all trained one model, and with other changes."""

    class Trained(Context):
        def members(self, round_: int) -> list[Any]:
            return [model]

    return Trained(**{field.name: getattr(context, field.name) for field in fields(context)} | changes)
