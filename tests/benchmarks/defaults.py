"""What each part of a campaign is worth: small campaigns with one setting changed, over several seeds.

``python tests/benchmarks/defaults.py WORK [VARIANT ...]`` runs the variants that are missing in WORK, each on one core
(a quarter of an hour a campaign), adds them to the record beside this file, and prints the table of the record. A
campaign is the shipped LiF template, cut down: one member, 0.8 ps of exploring, no measuring dynamics, the same 64
frames replayed in every epoch, and a weight of 10 for the group loss, as when the record was begun; and with a quarter
of each round's labels around the hop, whose worth is one of the questions. Started twice at once, two processes share
the work.
"""

import copy
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console

from curator.campaign import run
from curator.config import read_campaign_file
from curator.learners.strategies import REPLAY_FRAMES
from curator.state import write_json

SEEDS = (1, 2, 3)
RECORD = Path(__file__).with_suffix(".json")
TEMPLATE = Path(__file__).parents[2] / "curator" / "templates" / "lif.yaml"
SMALL: dict[str, dict[str, Any]] = {
    "explore": {"duration_ps": 0.8},
    "select": {"hop_share": 0.25},
    "learn": {"members": 1, "replay_frames": 64, "difference": 10.0},
    "measure": {"diffusion": None},
    "run": {"executor": "serial"},
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "all parts": {},
    "no group loss": {"learn": {"difference": 0.0}},
    "group loss 100": {"learn": {"difference": 100.0}},
    "no training on the anchor": {"learn": {"train_on_anchor": False}},
    "no share of the hop": {"select": {"hop_share": 0.0}},
    "half of the share to the hop": {"select": {"hop_share": 0.5}},
    "no images of the path": {"measure": {"path_images": 0}},
    "no contacts": {"select": {"contact_labels": 0}},
    "replay drawn anew": {"learn": {"replay_frames": REPLAY_FRAMES}},
    "from the foundation each round": {"learn": {"warm_start": False}},
    "6 labels a round, 6 rounds": {"select": {"labels_per_round": 6}, "stop": {"max_rounds": 6}},
    "36 labels in one round": {"select": {"labels_per_round": 36}, "stop": {"max_rounds": 1}},
    "learning rate 0.001": {"learn": {"learning_rate": 0.001}},
    "learning rate 0.01": {"learn": {"learning_rate": 0.01}},
}


def campaign(work: Path, name: str, seed: int, variant: Mapping[str, dict[str, Any]]) -> Path:
    """Folder of one campaign, with its file."""
    folder = work / name.replace(" ", "-").replace(",", "") / f"seed-{seed}"
    file = folder / "campaign.yaml"
    if not file.exists():
        content = yaml.safe_load(TEMPLATE.read_text())
        content["seed"] = seed
        for changes in (SMALL, variant):
            for section, values in copy.deepcopy(changes).items():
                content.setdefault(section, {}).update(values)
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        read_campaign_file(file)
    return folder


def run_missing(work: Path, variants: Mapping[str, dict[str, dict[str, Any]]]) -> None:
    """Run what is not done, seed by seed, so that every variant soon has one."""
    for seed in SEEDS:
        for name, variant in variants.items():
            folder = campaign(work, name, seed, variant)
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


def markdown(found: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    """Means over the seeds with standard errors; and what each variant changes, compared seed by seed.

    Parameters
    ----------
    found
        Numbers by variant, seed and column; the first variant is what the others are compared with.
    """
    done = {name: by_seed for name, by_seed in found.items() if by_seed}
    if not done:
        return "nothing is finished yet"
    columns = list(next(iter(next(iter(done.values())).values())))

    def row(name: str, by_seed: Mapping[int, Mapping[str, float]], minus: Mapping[int, Mapping[str, float]]) -> str:
        seeds = [seed for seed in by_seed if not minus or seed in minus]
        cells = []
        for column in columns:
            values = np.array([by_seed[seed][column] - (minus[seed][column] if minus else 0.0) for seed in seeds])
            values = values[np.isfinite(values)]
            mean = values.mean() if len(values) else np.nan
            error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.2g}" if len(values) > 1 else ""
            missing = f" ({len(seeds) - len(values)} have none)" if len(values) < len(seeds) else ""
            cells.append(f"{mean:{'+' if minus else ''}.3g}{error}{missing}")
        return f"| {name} | {len(seeds)} | " + " | ".join(cells) + " |"

    head = ["| | seeds | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (1 + len(columns))]
    means = [row(name, by_seed, {}) for name, by_seed in done.items()]
    first, *others = done
    changes = [row(name, done[name], done[first]) for name in others]
    return "\n".join([*head, *means, "", f"Less those of “{first}”, seed by seed:", "", *head, *changes])


def recorded(work: Path) -> dict[str, dict[int, dict[str, float]]]:
    """The record, with what is finished in WORK added to it."""
    record: dict[str, dict[str, dict[str, float]]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in VARIANTS:
        for seed in SEEDS:
            numbers = results(work / name.replace(" ", "-").replace(",", "") / f"seed-{seed}")
            if numbers is not None:
                record.setdefault(name, {})[str(seed)] = {key: round(value, 2) for key, value in numbers.items()}
    write_json(RECORD, record)
    found = json.loads(RECORD.read_text())
    return {
        name: {
            int(seed): {key: np.nan if value is None else value for key, value in numbers.items()}
            for seed, numbers in sorted(found.get(name, {}).items())
        }
        for name in VARIANTS
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    work = Path(sys.argv[1])
    run_missing(work, {name: VARIANTS[name] for name in sys.argv[2:] or VARIANTS})
    print(markdown(recorded(work)))
