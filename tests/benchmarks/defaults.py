"""What each part of a campaign is worth: small campaigns with one setting changed, over several seeds.

``python tests/benchmarks/defaults.py WORK [VARIANT ...]`` runs the variants that are missing in WORK, each on one core
(ten minutes a campaign), and prints the table of everything that is there. A campaign is the shipped LiF template, cut
down: one member, 0.8 ps of exploring, no measuring dynamics. Started twice at once, two processes share the work.
"""

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console

from curator.campaign import run
from curator.config import read_campaign_file

SEEDS = (1, 2, 3)
TEMPLATE = Path(__file__).parents[2] / "curator" / "templates" / "lif.yaml"
SMALL: dict[str, dict[str, Any]] = {
    "explore": {"duration_ps": 0.8},
    "learn": {"members": 1},
    "measure": {"diffusion": None},
    "run": {"executor": "serial"},
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "no group loss": {"learn": {"difference": 0.0}},
    "no training on the anchor": {"learn": {"train_on_anchor": False}},
    "no share of the hop": {"select": {"hop_share": 0.0}},
    "half of the share to the hop": {"select": {"hop_share": 0.5}},
    "no images of the path": {"measure": {"path_images": 0}},
    "no contacts": {"select": {"contact_labels": 0}},
    "from the foundation each round": {"learn": {"warm_start": False}},
    "learning rate 0.001": {"learn": {"learning_rate": 0.001}},
    "learning rate 0.01": {"learn": {"learning_rate": 0.01}},
}


def campaign(work: Path, name: str, seed: int) -> Path:
    """Folder of one campaign, with its file."""
    folder = work / name.replace(" ", "-") / f"seed-{seed}"
    file = folder / "campaign.yaml"
    if not file.exists():
        content = yaml.safe_load(TEMPLATE.read_text())
        content["seed"] = seed
        for changes in (SMALL, VARIANTS[name]):
            for section, values in copy.deepcopy(changes).items():
                content.setdefault(section, {}).update(values)
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        read_campaign_file(file)
    return folder


def run_missing(work: Path, names: list[str]) -> None:
    """Run what is not done, seed by seed, so that every variant soon has one."""
    for seed in SEEDS:
        for name in names:
            folder = campaign(work, name, seed)
            try:
                claim = os.open(folder / "claimed", os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                continue
            os.close(claim)
            run(folder, Console(file=(folder / "output.log").open("w"), width=120))


def results(folder: Path) -> dict[str, float] | None:
    """Numbers of the last round, in meV and meV/Å; None if the campaign is not finished."""
    file = folder / "campaign.json"
    content = json.loads(file.read_text()) if file.exists() else {"state": {"finished": False}}
    if not content["state"]["finished"]:
        return None
    last = content["rounds"][-1]
    heldout = [last.get(key) for key in ("barrier_heldout_eV", "barrier_heldout_reference_eV")]
    gaps = [entry["barrier_gap_eV"] for entry in content["rounds"]]
    return {
        "labels": content["n_labels_total"],
        "force error": 1000 * last["force_rmse_eV_per_A"]["model"],
        "gap, round 0": _absolute(gaps[0]),
        "gap, last round": _absolute(gaps[-1]),
        "gap, held-out hop": _absolute(None if None in heldout else heldout[0] - heldout[1]),
        "probe error": 1000 * last["probe_force_rmse_eV_per_A"]["model"],
    }


def _absolute(gap_eV: float | None) -> float:
    return np.nan if gap_eV is None else 1000 * abs(gap_eV)


def table(work: Path) -> str:
    """Mean and standard error over the seeds of every variant that has results."""
    lines = []
    for name in VARIANTS:
        found = [results(work / name.replace(" ", "-") / f"seed-{seed}") for seed in SEEDS]
        done = [each for each in found if each is not None]
        if not done:
            continue
        if not lines:
            lines = ["| | seeds | " + " | ".join(done[0]) + " |", "| --- |" + " ---: |" * (1 + len(done[0]))]
        columns = np.array([list(each.values()) for each in done])
        error = columns.std(axis=0, ddof=1) / np.sqrt(len(done)) if len(done) > 1 else np.full(columns.shape[1], np.nan)
        cells = [f"{m:.0f} ± {e:.0f}" for m, e in zip(columns.mean(axis=0), error, strict=True)]
        lines.append(f"| {name} | {len(done)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    work = Path(sys.argv[1])
    run_missing(work, sys.argv[2:] or list(VARIANTS))
    print(table(work))
