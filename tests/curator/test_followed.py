"""Which hop of a crystal is followed, where the Fumi-Tosi potential, whose barriers are known, is the foundation."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write
from rich.console import Console

from curator.backends.base import LabellerSpec
from curator.backends.executor import SerialExecutor
from curator.backends.labellers import make_labeller
from curator.barriers.barrier import Barrier
from curator.build import build_plan
from curator.config import CampaignFile
from curator.context import Context
from curator.datasets.fence import acquire
from curator.datasets.frame import Frame
from curator.datasets.journal import Journal
from curator.datasets.sources import Hop
from curator.followed import followed_hops, rank_hops
from curator.lattice import hops_of
from curator.progress import Display
from curator.state import CampaignFolder, read_json

LATTICE_A = 4.0314


class Taught(Context):
    """A campaign whose foundation is its teacher."""

    @property
    def foundation(self) -> LabellerSpec:  # type: ignore[override]
        return self.plan.labeller


class NoExecutor(SerialExecutor):
    def outcomes(self, tasks, tick):
        raise AssertionError("this was calculated before")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    write(tmp_path / "lif.cif", bulk("LiF", "rocksalt", a=LATTICE_A, cubic=True))
    content = {
        "system": {"structure": "lif.cif", "mobile": "Li", "hop": {"mechanism": "interstitialcy"}},
        "label": {"kind": "classical", "model": "lif-fumi-tosi"},
    }
    plan = build_plan(CampaignFile.model_validate(content), tmp_path)
    folder = CampaignFolder(tmp_path / "campaign", Path())
    folder.setup.mkdir(parents=True)
    with acquire(folder.journal) as fence:
        yield Taught(
            plan,
            folder,
            make_labeller(plan.labeller).theory,
            Journal(folder.journal, fence),
            SerialExecutor(),
            Display(folder, Console(file=io.StringIO())),
        )


def test_the_easiest_hop_is_followed_and_the_next_held_out(context: Context):
    unit = context.plan.system.structure
    assert isinstance(unit, Frame)
    rank_hops(context, unit)
    chosen = followed_hops(context.folder)
    rows = read_json(context.folder.setup / "hops.json")["hops"]
    assert [row["name"] for row in rows] == ["interstitialcy-1", "interstitialcy-2", "interstitialcy-3"]
    assert [row["barrier_eV"] for row in rows[:2]] == pytest.approx([0.110, 0.309], abs=0.003)
    # The sharpest turn has no saddle point of its own: refused, with the reason, and last.
    assert rows[2]["barrier_eV"] is None
    assert rows[2]["reasons"]
    assert context.plan.system.hop is not None
    assert chosen.hop.initial == context.plan.system.hop.initial
    assert chosen.heldout is not None
    assert len(chosen.hop.initial) == len(chosen.heldout.final) == 65

    rank_hops(replace(context, executor=NoExecutor()), unit)
    again = followed_hops(context.folder)
    assert again.heldout is not None
    pairs = [(again.hop, chosen.hop), (again.heldout, chosen.heldout)]
    assert all((a.initial, a.final, a.saddle) == (b.initial, b.final, b.saddle) for a, b in pairs)


def test_the_order_is_that_of_barriers_not_of_lengths(context: Context, monkeypatch: pytest.MonkeyPatch):
    """With made-up barriers: the longest hop is the easiest, and the shortest has no saddle point."""
    unit = context.plan.system.structure
    assert isinstance(unit, Frame)
    made_up = dict(zip((each.hop.final.hash for each in hops_of(context.plan, unit)), (None, 0.3, 0.2), strict=True))

    def barrier_of(_: LabellerSpec, hop: Hop) -> Barrier:
        value = made_up[hop.final.hash]
        return Barrier(value, value, hop.initial, None, (), (), None, "ci-neb", None, None, True, (), 0, 0.0)

    monkeypatch.setattr("curator.followed.barrier_of", barrier_of)
    rank_hops(context, unit)
    chosen = followed_hops(context.folder)
    rows = read_json(context.folder.setup / "hops.json")["hops"]
    assert [row["name"] for row in rows] == ["interstitialcy-3", "interstitialcy-2", "interstitialcy-1"]
    assert made_up[chosen.hop.final.hash] == 0.2
    assert chosen.heldout is not None
    assert made_up[chosen.heldout.final.hash] == 0.3
