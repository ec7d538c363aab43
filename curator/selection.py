"""Which candidates to label: a random share, then the uncertain and the different ones. Pure NumPy."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from curator.learners.farthest import farthest_points

Reason = Literal["random", "hop", "uncertain", "diverse"]
N_RANDOM_MIN = 4
"""Fewest frames drawn at random: fewer tell next to nothing about the error."""
SHORTLIST_FACTOR = 4
"""Length of the uncertain shortlist over the number wanted from it; 1 would ignore diversity."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Candidates to label, in the order in which they were chosen.

    Attributes
    ----------
    idx
        Indices of candidates, shape ``(k,)``.
    reasons
        Why each was chosen.
    scores
        Shape ``(k,)``. With predicted errors: the predicted force error in eV/Å. Without: the distance, in scaled
        descriptor space, to the nearest frame labelled or chosen before; with nothing labelled, that of random ones
        and of the first to the mean.
    """

    idx: NDArray[np.intp]
    reasons: tuple[Reason, ...]
    scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SelectionMap:
    """Candidates and labelled frames in the plane of their two largest principal components.

    Attributes
    ----------
    xy, labelled_xy
        Shapes ``(n, 2)`` and ``(m, 2)``.
    explained
        Share of the variance along each axis, shape ``(2,)``.
    """

    xy: NDArray[np.float64]
    labelled_xy: NDArray[np.float64]
    explained: NDArray[np.float64]


def frame_descriptor(
    node_features: ArrayLike, numbers: ArrayLike, elements: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Descriptor of a frame from the invariant features of its atoms.

    For each element and feature: mean, standard deviation and largest deviation from the mean over the atoms. The
    means alone hardly see a single defect; the largest deviations are those of its neighbours.

    Parameters
    ----------
    node_features
        Shape ``(n_atoms, n_features)``.
    numbers
        Atomic numbers, shape ``(n_atoms,)``.
    elements
        Atomic numbers that get a block, in this order; those the frame does not hold give zeros. By default those of
        the frame, ascending. Frames of different composition need it to be comparable.

    Returns
    -------
    NDArray
        Shape ``(3 * n_elements * n_features,)``: all means, all standard deviations, all largest deviations.

    Raises
    ------
    ValueError
        If the lengths differ or the frame holds an element that is not listed.
    """
    features = np.asarray(node_features, dtype=np.float64)
    z = np.asarray(numbers)
    if features.ndim != 2 or z.shape != features.shape[:1]:
        raise ValueError(f"node features {features.shape} do not go with {z.size} atomic numbers")
    present = sorted(set(z.tolist()))
    listed = present if elements is None else list(elements)
    if missing := set(present) - set(listed):
        raise ValueError(f"the frame holds elements {sorted(missing)} that are not among {listed}")
    blocks = [features[z == element] for element in listed]
    nothing = np.zeros(features.shape[1])
    means = [b.mean(axis=0) if len(b) else nothing for b in blocks]
    deviations = [b.std(axis=0) if len(b) else nothing for b in blocks]
    largest = [np.abs(b - b.mean(axis=0)).max(axis=0) if len(b) else nothing for b in blocks]
    return np.concatenate(means + deviations + largest)


def select(
    descriptors: ArrayLike,
    labelled: ArrayLike,
    predicted_error: ArrayLike | None,
    *,
    n_select: int,
    random_share: float,
    rng: np.random.Generator,
    outside: ArrayLike | None = None,
    near_hop: ArrayLike | None = None,
    hop_share: float = 0.0,
    n_random_min: int = N_RANDOM_MIN,
    groups: Sequence[str] | None = None,
) -> Selection:
    """Choose candidates to label.

    1. A random share, drawn uniformly from all candidates but those of the hop and copies of what is labelled, before
       anything else: the control arm. Its errors are an unbiased sample of the candidates', and it calibrates the
       predicted errors.
    2. A share from around the hop that the campaign follows, different from what is labelled and from each other
       ("hop"): the frames on which the property depends most. No other share takes from them.
    3. With predicted errors: four times as many candidates as are still wanted, those that are predicted worst, thinned
       by farthest-point sampling against the labelled frames and the random share ("uncertain"). Those ``outside`` come
       first: where a model extrapolates, its predicted error is worth little.
    4. Whatever is still wanted: farthest-point sampling among the rest ("diverse"). In the first round, without
       predicted errors, that is everything but the random share.

    Parameters
    ----------
    descriptors
        Candidates after the sanity filter, shape ``(n, d)``, unscaled.
    labelled
        Frames labelled already, shape ``(m, d)``; ``m`` may be 0.
    predicted_error
        Calibrated force error of each candidate in eV/Å, shape ``(n,)``, or None.
    n_select
        How many to choose; fewer come back if the candidates run out or repeat what is labelled.
    random_share, n_random_min
        Share drawn at random, and the fewest that are; a share of 0 draws none.
    rng
        Used for the random share only.
    outside
        Which candidates lie beyond what the model was trained on, shape ``(n,)``; none by default.
    near_hop, hop_share
        Which candidates were drawn from around the hop, shape ``(n,)`` (none by default), and the share they get.
    groups
        Trajectory of each candidate. None fills more than twice its even share of the shortlist, so that one wild
        trajectory does not take all.

    Returns
    -------
    Selection

    Raises
    ------
    ValueError
        If shapes disagree or an input is not finite or out of range.
    """
    x = _matrix(descriptors, "descriptors")
    known = _matrix(labelled, "labelled", n_columns=x.shape[1])
    n = len(x)
    error = None if predicted_error is None else np.asarray(predicted_error, dtype=np.float64)
    if error is not None and (error.shape != (n,) or not np.isfinite(error).all()):
        raise ValueError(f"predicted errors must be {n} finite numbers, one per candidate; got shape {error.shape}")
    if n_select < 0 or not 0 <= random_share <= 1:
        raise ValueError(f"n_select={n_select} must not be negative and random_share={random_share} lie in [0, 1]")
    if groups is not None and len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} candidates")

    special = np.zeros(n, dtype=bool) if near_hop is None else np.asarray(near_hop, dtype=bool)
    strange = np.zeros(n, dtype=bool) if outside is None else np.asarray(outside, dtype=bool)
    if strange.shape != (n,):
        raise ValueError(f"outside must say yes or no of each of {n} candidates; got shape {strange.shape}")
    scaled = _scaled(np.concatenate([x, known]))
    x, known = scaled[:n], scaled[n:]
    from_known = cdist(x, known).min(axis=1) if len(known) else np.linalg.norm(x, axis=1)
    is_new = from_known > 0 if len(known) else np.ones(n, dtype=bool)
    ordinary = np.flatnonzero(~special & is_new)
    n_select = min(n_select, n)
    n_random = min(n_select, len(ordinary), max(n_random_min, round(random_share * n_select))) if random_share else 0
    idx = rng.choice(ordinary, size=n_random, replace=False).astype(np.intp)
    reasons: list[Reason] = ["random"] * n_random
    distance = list(from_known[idx])
    for reason in ("hop", "uncertain", "diverse"):
        n_wanted = n_select - len(idx)
        rest = np.setdiff1d(np.flatnonzero(special) if reason == "hop" else ordinary, idx)
        if reason == "hop":
            n_wanted = min(n_wanted, round(hop_share * n_select))
        elif reason == "uncertain":
            if error is None:
                continue
            rest = _shortlist(error, strange, rest, SHORTLIST_FACTOR * n_wanted, groups)
        picks, far = farthest_points(x[rest], np.concatenate([known, x[idx]]), n_wanted)
        idx = np.concatenate([idx, rest[picks]])
        reasons += [reason] * len(picks)
        distance += list(far)
    scores = np.array(distance) if error is None else error[idx]
    return Selection(idx, tuple(reasons), scores)


def pca_map(descriptors: ArrayLike, labelled: ArrayLike) -> SelectionMap:
    """Plane of the two largest principal components of candidates and labelled frames, for drawing.

    Scaled as `select` scales them, so that what looks far apart was far apart for the selection.

    Parameters
    ----------
    descriptors, labelled
        Shapes ``(n, d)`` and ``(m, d)``.
    """
    x = _matrix(descriptors, "descriptors")
    known = _matrix(labelled, "labelled", n_columns=x.shape[1])
    scaled = _scaled(np.concatenate([x, known]))
    n_components = min(2, *scaled.shape)
    xy, explained = np.zeros((len(scaled), 2)), np.zeros(2)
    # One frame, or copies of one, span no plane: PCA would divide by a variance of zero.
    if np.ptp(scaled, axis=0).any():
        pca = PCA(n_components=n_components, svd_solver="full")
        xy[:, :n_components] = pca.fit_transform(scaled)
        explained[:n_components] = pca.explained_variance_ratio_
    return SelectionMap(xy[: len(x)], xy[len(x) :], explained)


def _shortlist(
    error: NDArray[np.float64],
    outside: NDArray[np.bool_],
    rest: NDArray[np.intp],
    n: int,
    groups: Sequence[str] | None,
) -> NDArray[np.intp]:
    worst_first = rest[np.lexsort((-error[rest], ~outside[rest]))]
    if groups is None:
        return np.sort(worst_first[:n])
    n_per_group = math.ceil(2 * n / len({groups[i] for i in rest})) if len(rest) else 0
    taken: Counter[str] = Counter()
    short: list[int] = []
    for i in worst_first.tolist():
        if len(short) < n and taken[groups[i]] < n_per_group:
            short.append(i)
            taken[groups[i]] += 1
    return np.array(sorted(short), dtype=np.intp)


def _scaled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(StandardScaler().fit_transform(rows)) if len(rows) else rows


def _matrix(values: ArrayLike, name: str, n_columns: int | None = None) -> NDArray[np.float64]:
    rows = np.asarray(values, dtype=np.float64)
    if rows.size == 0:
        rows = rows.reshape(0, n_columns if n_columns is not None else (rows.shape[-1] if rows.ndim == 2 else 1))
    if rows.ndim != 2 or (n_columns is not None and rows.shape[1] != n_columns):
        raise ValueError(f"{name} must have shape (n, {n_columns or 'd'}); got {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} must be finite; row {int(np.argwhere(~np.isfinite(rows))[0, 0])} is not")
    return rows
