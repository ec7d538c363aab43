"""What each setting of the training is worth: one campaign's labels, trained on again and again.

``python tests/benchmarks/learning.py CAMPAIGN WORK [VARIANT ...]`` takes the training frames of the last round of a
finished LiF campaign, fine-tunes its foundation on them with one setting changed, over three seeds, and prints the
table of everything that is in WORK (two to four minutes a line and core). Each line is also compared with the defaults,
seed by seed: the difference and its standard error. Started twice at once, two processes share the work.

The followed hop's minimum and saddle are the new model's own, but anchors of earlier rounds were trained on; nothing
near the held-out hop was.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from defaults import SEEDS, markdown

from curator.backends.labellers import make_labeller
from curator.barriers.barrier import find_barrier
from curator.build import Plan, build_plan
from curator.config import read_campaign_file
from curator.datasets.extxyz import read_own_records
from curator.datasets.frame import atoms_from_frame
from curator.datasets.journal import Journal
from curator.datasets.label import Label, Record
from curator.datasets.sources import Hop
from curator.learners.foundation import MINI_HALIDES, load_foundation
from curator.learners.mace import REPLAY, MaceModel, load_model
from curator.learners.metrics import force_rmse, median_frame_force_rmse
from curator.learners.replay import probe_records, replay_records
from curator.learners.strategies import REPLAY_FRAMES, LossWeights, strategy
from curator.learners.train import fit
from curator.setup import structure_in_cell
from curator.state import CampaignFolder, campaign_folder, write_json

BEFORE = {"max_epochs": 30, "difference": 10.0}
"""Settings of the rows that all others are compared with: as when the table was begun."""
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "learning rate 0.001": {"learning_rate": 1e-3},
    "learning rate 0.01": {"learning_rate": 1e-2},
    "energy weight 1": {"target": LossWeights(1.0, 10.0, 1.0)},
    "energy weight 100": {"target": LossWeights(100.0, 10.0, 1.0)},
    "difference weight 0": {"difference": 0.0},
    "difference weight 1": {"difference": 1.0},
    "difference weight 100": {"difference": 100.0},
    "15 epochs": {"max_epochs": 15},
    "60 epochs": {"max_epochs": 60},
    "32 replayed an epoch": {"replay_per_epoch": 32},
    "128 replayed an epoch": {"replay_per_epoch": 128},
    "the same 64 replayed": {"n_replay": 64},
    "the same 128 replayed": {"n_replay": 128, "replay_per_epoch": 128},
    "the same 64 replayed, farthest points": {"n_replay": 64, "choose": "farthest"},
    "the same 128 replayed, farthest points": {"n_replay": 128, "replay_per_epoch": 128, "choose": "farthest"},
    "pseudolabels replayed": {"strategy": "pseudolabel_replay"},
    "the same 64 pseudolabels replayed, farthest points": {
        "strategy": "pseudolabel_replay",
        "n_replay": 64,
        "choose": "farthest",
    },
    "no replay (naive)": {"strategy": "naive"},
    "from the round before": {"warm": True},
    "from the round before, 15 epochs": {"warm": True, "max_epochs": 15},
}


def train(folder: CampaignFolder, changes: dict[str, Any], seed: int) -> tuple[MaceModel, float]:
    """A model fine-tuned on the last round's frames, and the CPU seconds of the training.

    ``warm`` begins with the first member of the round before, which has learnt all but the last round's frames.
    """
    n_done = folder.n_rounds_done()
    last = folder.round(n_done - 1) / "model"
    foundation = load_foundation(MINI_HALIDES, device="cpu")
    changed = dict(changes)
    name = changed.pop("strategy", "multihead_replay")
    warm = changed.pop("warm", False)
    base = load_model(folder.round(n_done - 2) / "model" / "member-0") if warm else foundation
    n_replay, choose = changed.pop("n_replay", REPLAY_FRAMES), changed.pop("choose", "random")
    row = strategy(name, **(BEFORE | changed))
    rng = np.random.default_rng(seed)
    replay: tuple[list[Record], list[Record]] = ([], [])
    if row.replay != "none":
        replay = replay_records(
            MINI_HALIDES,
            foundation.elements,
            n_replay,
            rng,
            choose=choose,
            model=foundation,
            pseudolabels=row.replay == "pseudolabels",
        )
    model, report = fit(
        base,
        read_own_records(last / "train.extxyz"),
        read_own_records(last / "valid.extxyz"),
        row,
        seed=seed,
        replay_train=replay[0],
        replay_valid=replay[1],
    )
    return model, report.cpu_s


def gap_meV(model: MaceModel, plan: Plan, hop: Hop | None) -> float:
    """How far a hop's barrier is from the labeller's energies at the model's own minimum and saddle; NaN for none."""
    if hop is None:
        return np.nan
    found = find_barrier(hop, model.calculator())
    if found.barrier_eV is None or found.saddle is None:
        return np.nan
    labels = [make_labeller(plan.labeller).label(atoms_from_frame(frame)) for frame in (found.minimum, found.saddle)]
    low, high = (label.energy if isinstance(label, Label) else np.nan for label in labels)
    return 1000 * (found.barrier_eV - (high - low))


def examine(folder: CampaignFolder, changes: dict[str, Any], seed: int) -> dict[str, float]:
    """What one training run gives, in meV and meV/Å."""
    plan = build_plan(read_campaign_file(folder.campaign_file), folder.path)
    _, hop, heldout = structure_in_cell(plan, folder)
    model, cpu_s = train(folder, changes, seed)
    published = [record for record in Journal(folder.journal).read() if isinstance(record, Record)]
    test = [record for record in published if record.provenance.reason == "test"]
    probe = probe_records()
    remembering = model.with_head(REPLAY) if REPLAY in model.heads else model

    on_test = model.predict([record.frame for record in test])
    on_probe = remembering.predict([record.frame for record in probe])
    each = [force_rmse([prediction], [record]) for prediction, record in zip(on_probe, probe, strict=True)]
    return {
        "force error": 1000 * force_rmse(on_test, test),
        "gap": abs(gap_meV(model, plan, hop)),
        "gap, held-out hop": abs(gap_meV(model, plan, heldout)),
        "probe": 1000 * force_rmse(on_probe, probe),
        "probe, median frame": 1000 * median_frame_force_rmse(on_probe, probe),
        "probe, worst frame": 1000 * max(each),
        "CPU s": cpu_s,
    }


def main(target: Path, work: Path, names: Sequence[str]) -> None:
    """Run what is missing, seed by seed, and print the table."""
    folder = campaign_folder(target)
    for seed in SEEDS:
        for name in names:
            place = work / name.replace(" ", "-").replace(",", "") / f"seed-{seed}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.close(os.open(place.with_suffix(".claimed"), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            began = time.process_time()
            write_json(place, examine(folder, VARIANTS[name], seed))
            print(f"{name}, seed {seed}: {time.process_time() - began:.0f} CPU s", flush=True)
    print(markdown({name: _found(work, name) for name in VARIANTS}))


def _found(work: Path, name: str) -> dict[int, dict[str, float]]:
    files = {seed: work / name.replace(" ", "-").replace(",", "") / f"seed-{seed}.json" for seed in SEEDS}
    return {seed: json.loads(file.read_text()) for seed, file in files.items() if file.exists()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(VARIANTS))
