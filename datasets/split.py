"""Which trajectory groups are trained on, validated with and tested on."""

from collections.abc import Iterable, Mapping
from typing import get_args

import numpy as np

from curator.datasets.label import Split


def assign_splits(
    groups: Iterable[str],
    fractions: Mapping[Split, float],
    rng: np.random.Generator,
    fixed: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """Assign whole trajectory groups to splits.

    Frames of one trajectory are correlated: a frame in training whose neighbour in time is tested makes any model
    look better than it is. Groups, not frames, are therefore drawn. A group that has a split keeps it for ever.

    Parameters
    ----------
    groups
        Groups to assign, with repetitions if convenient; their order does not matter.
    fractions
        Share of the groups that each split is to have, summing to one.
    rng
        Source of randomness; the outcome depends on nothing else.
    fixed
        Splits that are settled already, such as `Store.splits`.

    Returns
    -------
    dict
        Split of every group in ``groups``. The shares of old and new groups together come as close to ``fractions``
        as whole groups allow, and a split that is asked for is not left empty while there are groups enough.

    Raises
    ------
    ValueError
        If the fractions are negative, name an unknown split or do not sum to one.
    """
    known = get_args(Split)
    if not set(fractions) <= set(known) or min(fractions.values(), default=-1.0) < 0:
        raise ValueError(f"fractions {dict(fractions)} must be shares of {', '.join(known)}, none negative")
    if not abs(sum(fractions.values()) - 1) <= 1e-9:
        raise ValueError(f"fractions {dict(fractions)} sum to {sum(fractions.values()):g}; they must sum to 1")
    settled = dict(fixed or {})
    wanted = sorted(set(groups))
    new = [group for group in wanted if group not in settled]
    n_total = len(settled) + len(new)
    n_groups = {split: sum(1 for held in settled.values() if held == split) for split in known}
    for idx in rng.permutation(len(new)):
        # The split that lags furthest behind its share; first those that are still empty.
        asked = [split for split in known if fractions.get(split, 0.0) > 0]
        split = max(asked, key=lambda s: (n_groups[s] == 0, fractions[s] * n_total - n_groups[s]))
        settled[new[idx]] = split
        n_groups[split] += 1
    return {group: settled[group] for group in wanted}
