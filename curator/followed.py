"""Which of a crystal's hops a campaign follows, where the user names a mechanism only.

All are calculated in the foundation, once, in the final cell. The one with the lowest barrier is followed, the next
one is held out to examine the model at the end. A hop without a proved saddle point comes after those that have one,
a shorter before a longer one.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from curator.backends.executor import Task
from curator.barriers.barrier import Barrier
from curator.context import Context, run_tasks, values_of
from curator.datasets.frame import Frame
from curator.datasets.sources import Hop
from curator.lattice import hops_of
from curator.state import CampaignFolder, Json, read_json, write_json
from curator.tasks import barrier_of


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """The hop that is followed, and the one that is held out, or None if the crystal has no other."""

    hop: Hop
    heldout: Hop | None


def rank_hops(context: Context, unit: Frame) -> None:
    """Rank the hops of a crystal by their barriers in the foundation; ``hops.json`` of the set-up tells all of it.

    Parameters
    ----------
    unit
        Cell of the perfect crystal, with its final lattice.
    """
    out = context.folder.setup / "hops.json"
    if out.exists():
        return
    hops = hops_of(context.plan, unit)
    tasks = [Task(barrier_of, (context.foundation, each.hop), each.name) for each in hops]
    outcomes = run_tasks(context, "md", tasks, round_=-1, stage="barriers of all hops in the foundation")
    barriers = cast(list[Barrier], values_of(outcomes, "search for barriers"))
    ranked = sorted(
        zip(hops, barriers, strict=True), key=lambda row: np.inf if row[1].barrier_eV is None else row[1].barrier_eV
    )
    content: Json = {
        "hops": [
            {
                "name": each.name,
                "sites": each.sites,
                "length_A": each.length_A,
                "multiplicity": each.multiplicity,
                "reverse_multiplicity": each.reverse_multiplicity,
                "barrier_eV": found.barrier_eV,
                "reverse_eV": found.reverse_eV,
                "method": found.method,
                "negative_modes": found.negative_modes,
                "mode_overlap": found.mode_overlap,
                "reasons": found.reasons,
            }
            for each, found in ranked
        ],
        "frames": [_as_json(each.hop) for each, _ in ranked[:2]],
    }
    write_json(out, content)


def followed_hops(folder: CampaignFolder) -> Followed:
    """The hops that were found to be followed and held out."""
    hop, *others = (_from_json(content) for content in read_json(folder.setup / "hops.json")["frames"])
    return Followed(hop, others[0] if others else None)


def _as_json(hop: Hop) -> Json:
    like = hop.initial
    return {
        "numbers": like.numbers,
        "cell_A": like.cell,
        "pbc": like.pbc,
        "charge": like.charge,
        "multiplicity": like.multiplicity,
        "initial_A": hop.initial.positions,
        "final_A": hop.final.positions,
        "saddle_A": None if hop.saddle is None else hop.saddle.positions,
    }


def _from_json(content: Any) -> Hop:
    initial, final, saddle = (
        None
        if content[name] is None
        else Frame(
            content["numbers"],
            content[name],
            content["cell_A"],
            content["pbc"],
            content["charge"],
            content["multiplicity"],
        )
        for name in ("initial_A", "final_A", "saddle_A")
    )
    assert initial is not None
    assert final is not None
    return Hop(initial, final, saddle)
