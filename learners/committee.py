"""Committees: several models of the same data, whose disagreement tells where data is missing."""

from collections.abc import Sequence

import numpy as np

from curator.datasets.label import Record
from curator.learners.e0 import is_isolated_atom


def bootstrap(train: Sequence[Record], seed: int) -> list[Record]:
    """Draw as many records as there are, with replacement.

    Anchors and isolated atoms are all kept, once: every member has to know the hop and the zero of energy.
    """
    kept = [i for i, record in enumerate(train) if record.provenance.reason == "anchor" or is_isolated_atom(record)]
    drawn_from = sorted(set(range(len(train))) - set(kept))
    # Not [seed, epoch], which orders the frames of an epoch; zeros at the end do not count.
    rng = np.random.default_rng([seed, 0, 1])
    drawn = rng.choice(drawn_from, size=len(drawn_from)).tolist() if drawn_from else []
    return [train[i] for i in sorted(kept + drawn)]
