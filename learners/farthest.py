"""Farthest-point sampling: the greedy k-center rule (Gonzalez, Theor. Comput. Sci. 38, 293, 1985)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist


def farthest_points(points: ArrayLike, anchors: ArrayLike, n: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Each pick is the point farthest from all anchors and everything picked before.

    Ties go to the lowest index. A copy of an anchor or a picked point is never picked, so there may be fewer than
    ``n``. Without anchors the first pick is the point farthest from the mean, which counts no further.

    Parameters
    ----------
    points, anchors
        Shapes ``(n_points, d)`` and ``(m, d)``.
    n
        How many to pick.

    Returns
    -------
    idx, distance
        Picks in order, and how far each was from the rest (the first without anchors: from the mean) when picked.
    """
    x, near = np.asarray(points, dtype=np.float64), np.asarray(anchors, dtype=np.float64)
    if n < 1 or not len(x):
        return np.empty(0, dtype=np.intp), np.empty(0)
    if not len(near):
        from_mean = np.linalg.norm(x - x.mean(axis=0), axis=1)
        first = int(from_mean.argmax())
        idx, distance = farthest_points(x, x[first : first + 1], n - 1)
        return np.concatenate([[first], idx]), np.concatenate([from_mean[[first]], distance])
    distance = cdist(x, near).min(axis=1)
    picks: list[int] = []
    distances: list[float] = []
    while len(picks) < n:
        best = int(np.argmax(distance))
        if distance[best] <= 0:
            break
        picks.append(best)
        distances.append(float(distance[best]))
        distance = np.minimum(distance, cdist(x, x[best : best + 1])[:, 0])
    return np.array(picks, dtype=np.intp), np.array(distances)
