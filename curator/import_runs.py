"""Which run an imported file is of or goes on with, and to which split it goes."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from curator.datasets.label import Split
from curator.datasets.split import assign_splits


def trajectory_of(group: str) -> str:
    """Group of a whole run, of which frames that were marked as a group of their own are a part."""
    return re.sub(r"(?<=@[0-9a-f]{8})#.*$", "", group, flags=re.DOTALL)


def name_of(path: Path) -> str:
    """Name of a file in the provenance of its frames."""
    return f"import/{path.resolve().parent.name}/{path.name}"


def new_groups(path: Path, runs: Iterable[str]) -> dict[str, str]:
    """Trajectory group of each run of a file; two ``vasprun.xml`` are two, by their content.

    Parameters
    ----------
    path
        A file, or a folder that is read as one.
    runs
        What the file calls them; empty of the one run of a file that tells of none.
    """
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file()):
        digest.update(file.read_bytes())
    return {run: f"{name_of(path)}{run and '/'}{run}@{digest.hexdigest()[:8]}" for run in runs}


def continued_group(contents: Sequence[str], groups: Mapping[str, str]) -> str | None:
    """Trajectory group that a run goes on with: its first frame is the last of that one, or it shares several with it.

    One frame that is shared otherwise says nothing: runs at several temperatures begin with one structure.

    Parameters
    ----------
    contents
        Frames of the run, in order.
    groups
        Group of each frame that is known, in order of arrival.
    """
    shared = Counter(groups[content] for content in contents if content in groups)
    for group, n_shared in shared.most_common(1):
        *_, last = (content for content, other in groups.items() if other == group)
        if n_shared > 1 or contents[0] == last:
            return group
    return None


def splits_of(
    wanted: Mapping[str, Sequence[Split | None]],
    settled: Mapping[str, Split],
    fractions: Mapping[Split, float],
    rng: np.random.Generator,
) -> dict[str, Split]:
    """Split of each group: that of its run, or the one that is asked for, or else drawn.

    Parameters
    ----------
    wanted
        For each group what is asked for of its frames; None where it may be drawn.
    settled
        Splits of groups that are there.
    fractions
        Shares of the splits but ``train``, among the runs.
    rng
        Source of randomness.

    Raises
    ------
    ValueError
        If a run is there in another split than is asked for, or several are asked for of one.
    """
    fixed = {trajectory_of(group): split for group, split in settled.items()}
    for group, splits in wanted.items():
        for split in splits:
            run = trajectory_of(group)
            if split is not None and fixed.setdefault(run, split) != split:
                raise ValueError(
                    f"{run}: some of its frames are of {fixed[run]}, so others cannot be of {split}; "
                    f"leave --split out, say --split {fixed[run]}, or import into another folder"
                )
    shares: dict[Split, float] = {**fractions, "train": 1.0 - sum(fractions.values())}
    drawn = assign_splits((trajectory_of(group) for group in wanted), shares, rng, fixed)
    return {group: drawn[trajectory_of(group)] for group in wanted}
