"""Lone defects that forget their hops, and some that do not."""

import kmc
import numpy as np
import pytest

from curator.diffusion.carriers import Walks, walks_of
from curator.diffusion.coefficient import measure_walk

INTERVAL_PS = 0.1


def defects(n_repeats: int, n_hops: int, time_ps: float, correlation: float) -> list[Walks]:
    """Of sums of ions that vibrate; the cosine between one hop and the next is the correlation."""
    rng = np.random.default_rng(5)
    runs = (kmc.hoppers(rng, 1, n_hops / time_ps, time_ps, INTERVAL_PS, 0.57, correlation) for _ in range(n_repeats))
    found = [walks_of([run], INTERVAL_PS, kmc.HOP_LENGTH_A, 1) for run in runs]
    assert all(found)
    return [walks for walks in found if walks is not None]


def covered(walks: list[Walks], D_A2_per_ps: float) -> float:
    intervals = np.array([each.of_sum.coefficient.ci95_A2_per_ps for each in walks])
    return float(((intervals[:, 0] < D_A2_per_ps) & (D_A2_per_ps < intervals[:, 1])).mean())


def told(walks: list[Walks]) -> float:
    return float(np.mean([bool(each.doubts) for each in walks]))


@pytest.mark.parametrize(
    ("n_hops", "time_ps", "correlation", "often"), [(100, 200.0, -0.2, 0.03), (200, 400.0, -0.4, 0.15)]
)
def test_the_interval_of_a_defect_that_hops_back_reaches_down(
    n_hops: int, time_ps: float, correlation: float, often: float
):
    """As in a trap, where it remembers its hops for a residence time: that is longer than the stride."""
    walks = defects(100, n_hops, time_ps, correlation)
    D = kmc.known_D(n_hops / time_ps, correlation)
    assert covered(walks, D) > 0.86
    plain = [measure_walk(each.paths, INTERVAL_PS, kmc.HOP_LENGTH_A) for each in walks]
    known = np.array([walk.coefficient.ci95_A2_per_ps[0] for walk in plain if walk is not None])
    assert np.mean(known < D) < 0.86
    assert told(walks) > often


def test_a_defect_that_forgets_is_left_alone():
    walks = defects(100, 200, 400.0, 0.0)
    assert covered(walks, kmc.known_D(0.5, 0.0)) > 0.9
    assert told(walks) < 0.06
    doubts = [each.doubts for each in defects(40, 200, 400.0, -0.4) if each.doubts]
    assert doubts[0][0].startswith("hops may be correlated: the diffusivity falls from ")
