"""What each fine-tuning strategy forgets where labels and foundation are of one level of theory.

``python tests/benchmarks/forgetting.py WORK`` is `strategies` with labels by CHGNet 0.3.0, of which `mini-halides` was
made, and 20 epochs: nothing but forgetting moves the error on the probe, and the head that a user runs is asked. It
prints the error on the probe, of all frames and of the median frame, over three seeds, and by how much it exceeds the
foundation's, with 95 % intervals. Half an hour of one core; what is there already is not done again.
"""

import sys
from functools import cache
from pathlib import Path

import torch
from bench_uncertainty import TRAIN_K, explore, labelled
from strategies import MEDIAN, SEEDS, Numbers, cell, excess, interval, once, read_numbers, tuned

from curator.backends.base import LabellerSpec
from curator.datasets.label import Record
from curator.learners.foundation import MINI_HALIDES, load_foundation
from curator.learners.mace import MaceModel
from curator.learners.metrics import force_rmse, median_frame_force_rmse
from curator.learners.replay import probe_records

EPOCHS = 20
TEACHER = LabellerSpec("pseudolabel", "chgnet:0.3.0", device="cpu")
NAMES = (
    "naive",
    "freeze_interactions",
    "freeze_products",
    "lora",
    "multihead_replay",
    "pseudolabel_replay",
    "replay_lora",
)
COLUMNS = ("probe", f"probe, {MEDIAN}")


def main(work: Path) -> None:
    """Do what is missing in ``work``, seed by seed, and print the table."""
    torch.set_num_threads(1)
    foundation = load_foundation(MINI_HALIDES, device="cpu")
    once(work / "foundation.json", lambda: on_probe(foundation))
    for seed in SEEDS:
        for name in NAMES:

            def forgetful(name: str = name, seed: int = seed) -> Numbers:
                return on_probe(tuned(foundation, train_frames(foundation), name, seed, EPOCHS)[0])

            once(work / f"{name}-{seed}.json", forgetful)
    print(markdown(work))


@cache
def train_frames(foundation: MaceModel) -> list[Record]:
    """Frames of the foundation's own dynamics, labelled by its teacher."""
    return labelled(explore(foundation, TRAIN_K, seed=1), TEACHER)


def on_probe(model: MaceModel) -> Numbers:
    """Errors of forces in meV/Å, of the head that predicts."""
    probe = probe_records()
    predictions = model.predict([record.frame for record in probe])
    values = (force_rmse(predictions, probe), median_frame_force_rmse(predictions, probe))
    return {column: 1000 * value for column, value in zip(COLUMNS, values, strict=True)}


def markdown(work: Path) -> str:
    """Means over the seeds with standard errors, and what they exceed the foundation's by."""
    before = read_numbers(work / "foundation.json")
    heads = [head for column in COLUMNS for head in (column, "over the foundation, %")]
    lines = ["| strategy | seeds | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (1 + len(heads))]
    lines.append("| (foundation) | | " + " | ".join(f"{cell([before[column]])} |" for column in COLUMNS) + " |")
    for name in NAMES:
        runs = [read_numbers(path) for path in sorted(work.glob(f"{name}-[0-9]*.json"))]
        if not runs:
            continue
        cells = []
        for column in COLUMNS:
            values = [run[column] for run in runs]
            cells += [cell(values), interval(*excess(values, [before[column]] * len(values)))]
        lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
