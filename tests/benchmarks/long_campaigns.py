"""Long campaigns: how near the barrier comes with two hundred labels, and whether predicted force errors come true.

``python tests/benchmarks/long_campaigns.py WORK`` runs the shipped LiF template over three seeds with up to 200 labels
(half an hour of one core each; no measuring dynamics) where they are missing in WORK, and prints the gap of the barrier
in each round, the held-out hop, force errors on the test frames and on the probe, and predicted against true force
error of the pooled random shares. Started twice at once, two processes share the work.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from defaults import SEEDS, run_missing

from curator.learners.strategies import REPLAY_FRAMES
from curator.uncertainty import FreshErrors, pool_fresh_errors, reliability

LONG: dict[str, dict[str, Any]] = {
    "select": {"labels_per_round": 26, "hop_share": 0.0},
    "learn": {"replay_frames": REPLAY_FRAMES},
    "stop": {"max_rounds": 6, "max_labels": 200},
}
NAME = "long"
FORCES = ("force_rmse_eV_per_A", "probe_force_rmse_eV_per_A", "probe_median_frame_force_rmse_eV_per_A")


def fresh_errors(folder: Path) -> FreshErrors:
    """Predicted and true errors of the random shares of a campaign."""
    evidence = {}
    for file in sorted(folder.glob("rounds/*/evidence.npz")):
        with np.load(file) as stored:
            evidence[int(file.parent.name)] = dict(stored)
    return pool_fresh_errors(evidence)


def show(work: Path) -> None:
    """Print what is finished."""
    pooled = []
    print(
        "| seed | labels | gap of the barrier by round, meV | held-out hop | test forces by round, meV/Å "
        "| probe: foundation, by round | median frame |"
    )
    print("| --- | ---: | --- | ---: | --- | --- | --- |")
    for seed in SEEDS:
        folder = work / NAME / f"seed-{seed}"
        content = json.loads((folder / "campaign.json").read_text()) if (folder / "campaign.json").exists() else {}
        rounds = content.get("rounds", [])
        if not content.get("state", {}).get("finished"):
            continue
        gaps = [_meV(row["barrier_gap_eV"]) for row in rounds]
        heldout = [rounds[-1].get(key) for key in ("barrier_heldout_eV", "barrier_heldout_reference_eV")]
        gap = None if None in heldout else heldout[0] - heldout[1]
        cells = [str(content["n_labels_total"]), ", ".join(gaps), _meV(gap), *(_forces(rounds, key) for key in FORCES)]
        print(f"| {seed} | " + " | ".join(cells) + " |")
        pooled.append(fresh_errors(folder))
    if not pooled:
        return
    print("\n| seeds | frames | predicted / true force error by decile, meV/Å | within 68 % | within 95 % | worst |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    for name, some in [*((str(seed), [one]) for seed, one in zip(SEEDS, pooled, strict=False)), ("all", pooled)]:
        found = reliability(
            np.concatenate([one.predicted_eV_per_A for one in some]),
            np.concatenate([one.error_eV_per_A for one in some]),
            sum(one.n_frames for one in some),
        )
        if found is None:
            continue
        pairs = list(zip(found.predicted_eV_per_A, found.true_eV_per_A, strict=True))
        deciles = ", ".join(f"{1000 * predicted:.0f}/{1000 * true:.0f}" for predicted, true in pairs)
        worst = max(abs(predicted / true - 1) for predicted, true in pairs)
        coverage = f"{found.coverage68:.2f} | {found.coverage95:.2f}"
        print(f"| {name} | {found.n_frames} | {deciles} | {coverage} | {worst:.0%} |")


def _forces(rounds: Sequence[Mapping[str, Any]], key: str) -> str:
    """Errors in meV/Å by round; before them, on the probe, that of the foundation."""
    before = [rounds[0][key]["foundation"]] if key != FORCES[0] else []
    return ", ".join(f"{1000 * error:.0f}" for error in [*before, *(row[key]["model"] for row in rounds)])


def _meV(gap_eV: float | None) -> str:
    return "none" if gap_eV is None else f"{1000 * gap_eV:+.1f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_missing(Path(sys.argv[1]), {NAME: LONG})
    show(Path(sys.argv[1]))
