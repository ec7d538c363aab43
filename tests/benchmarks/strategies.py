"""What each fine-tuning strategy gives and costs on the same frames, over three seeds.

``python tests/benchmarks/strategies.py WORK [SEED ...]`` fine-tunes `mini-halides` on frames of its own molecular
dynamics of LiF with an interstitial, labelled by CHGNet r2SCAN, once with each row of the strategy table, and writes
the table of all that is finished in WORK into ``docs/strategies.md``. What is there already is not done again;
``EPOCHS=2`` in the environment makes it a trial, whose numbers go to the screen only.

Columns: share of the parameters that are trained; force error on frames of other trajectories; force error on the
shipped probe, frames of other halides among them, that no training ever saw (forgetting; of the target head, which is
what a user gets, and of the replay head where there is one; of all frames, and of the median frame); energy error
before training; CPU seconds; how many percent of random cells, the same for every model, fall into a hole at low and at
high pressure; and how many of the three pairs of Li and F have one (docs/probes.md).

Under the table stands by how much each strategy's probe error exceeds the foundation's, with a 95 % interval (Student's
t over the seeds), and whether it is kept: the whole interval below a quarter more than the foundation's.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from bench_uncertainty import TEST_K, TRAIN_K, explore, labelled
from scipy.stats import t

from curator.datasets.atomic import write_atomically
from curator.datasets.extxyz import read_own_records, write_records
from curator.datasets.frame import Frame
from curator.datasets.label import Record
from curator.learners.dimers import dimer_curves
from curator.learners.foundation import MINI_HALIDES, load_foundation
from curator.learners.mace import REPLAY, MaceModel
from curator.learners.metrics import force_rmse, median_frame_force_rmse
from curator.learners.replay import probe_records, replay_records
from curator.learners.strategies import REPLAY_FRAMES, STRATEGIES, strategy
from curator.learners.train import FitReport, fit
from curator.probes import MAX_STEPS
from curator.random_search import hole_rate, random_structures
from curator.state import write_json

SEEDS = (1, 2, 3)
N_CELLS = 24
PRESSURES_GPA = (0.1, 50.0)
KEPT = 0.25
"""Most by which what is kept may exceed the foundation's error, as a share of it."""
PROBES = ("probe", "probe, median frame")
OF_REPLAY = tuple(f"{name}, replay head" for name in PROBES)
DOCUMENT = Path(__file__).parents[2] / "docs" / "strategies.md"
MARK = "<!-- table of tests/benchmarks/strategies.py -->\n"
Numbers = dict[str, float]


def main(work: Path, seeds: Sequence[int]) -> None:
    """Do what is missing in ``work``, seed by seed, and write the table."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    foundation = load_foundation(MINI_HALIDES, device="cpu")
    frames = {name: labelled_frames(work / f"{name}.extxyz", foundation, name) for name in ("train", "test")}
    epochs = os.environ.get("EPOCHS")
    base = work / "foundation.json"
    if not base.exists():
        write_json(base, errors(foundation, frames["test"]) | _holes(foundation, frames["test"][0].frame))
    for seed in seeds:
        for name in STRATEGIES["small_data"]:
            out = work / f"{name}-{seed}.json"
            if out.exists():
                continue
            numbers = examine(foundation, frames, name, seed, None if epochs is None else int(epochs))
            write_json(out, numbers)
            print(f"{name}, seed {seed}: {numbers}", flush=True)
    table = f"{markdown(work)}\n\n{forgotten(work)}"
    print(table)
    if epochs is None:
        before, mark, rest = DOCUMENT.read_text().partition(MARK)
        after = rest.partition(MARK)[2]
        write_atomically(DOCUMENT, f"{before}{mark}\n{table}\n\n{MARK}{after}")


def examine(
    foundation: MaceModel, frames: Mapping[str, Sequence[Record]], name: str, seed: int, epochs: int | None
) -> Numbers:
    """One training run: errors in meV/Å and meV/atom."""
    model, report = tuned(foundation, frames["train"], name, seed, epochs)
    return {
        "trainable, %": 100 * report.n_trainable / report.n_parameters,
        **errors(model, frames["test"]),
        "energy at the start": 1000 * report.start_energy_rmse["target"],
        "CPU s": report.cpu_s,
        **_holes(model, frames["test"][0].frame),
    }


def tuned(
    foundation: MaceModel, frames: Sequence[Record], name: str, seed: int, epochs: int | None
) -> tuple[MaceModel, FitReport]:
    """A model fine-tuned by a row of the table."""
    row = strategy(name, **({} if epochs is None else {"max_epochs": epochs}))
    replay: tuple[list[Record], list[Record]] = ([], [])
    if row.replay != "none":
        rng = np.random.default_rng(seed)
        pseudolabels = row.replay == "pseudolabels"
        replay = replay_records(
            MINI_HALIDES, foundation.elements, REPLAY_FRAMES, rng, model=foundation, pseudolabels=pseudolabels
        )
    return fit(
        foundation if row.from_foundation else None,
        frames[::2],
        frames[1::6],
        row,
        seed=seed,
        replay_train=replay[0],
        replay_valid=replay[1],
        architecture=None if row.from_foundation else foundation.architecture,
    )


def errors(model: MaceModel, test: Sequence[Record]) -> Numbers:
    probe = probe_records()

    def on_probe(of: MaceModel) -> tuple[float, float]:
        found = of.predict([record.frame for record in probe])
        return 1000 * force_rmse(found, probe), 1000 * median_frame_force_rmse(found, probe)

    replaying = on_probe(model.with_head(REPLAY)) if REPLAY in model.heads else (np.nan, np.nan)
    return {
        "target": 1000 * force_rmse(model.predict([record.frame for record in test]), test),
        **dict(zip(PROBES, on_probe(model), strict=True)),
        **dict(zip(OF_REPLAY, replaying, strict=True)),
    }


def _holes(model: MaceModel, structure: Frame) -> Numbers:
    """Hole rates in percent, and dimers with a hole; the random cells depend on the structure alone."""
    starts = random_structures(structure, N_CELLS, np.random.default_rng(0))
    rates = [
        hole_rate(model.calculator(), starts, pressure_GPa, like=structure, max_steps=MAX_STEPS)
        for pressure_GPa in PRESSURES_GPA
    ]
    dimers = dimer_curves(model.calculator(), structure.numbers.tolist())
    return {f"holes at {found.pressure_GPa:g} GPa, %": 100 * found.n_holes / found.n_runs for found in rates} | {
        "dimer holes": float(sum(dimer.turnover_A is not None for dimer in dimers))
    }


def labelled_frames(path: Path, foundation: MaceModel, name: str) -> list[Record]:
    """Labelled frames, from a file if they were made before."""
    if not path.exists():
        temperatures, seed = {"train": (TRAIN_K, 1), "test": (TEST_K, 2)}[name]
        write_records(path, labelled(explore(foundation, temperatures, seed=seed)))
    return read_own_records(path)


def finished(work: Path) -> dict[str, list[Numbers]]:
    """Numbers of the runs that are there, by strategy."""
    runs = {
        name: [json.loads(path.read_text()) for path in sorted(work.glob(f"{name}-[0-9]*.json"))]
        for name in STRATEGIES["small_data"]
    }
    return {name: found for name, found in runs.items() if found}


def markdown(work: Path) -> str:
    """Means over the finished seeds, with standard errors."""
    done = finished(work)
    columns = list(next(iter(done.values()))[0])
    lines = ["| strategy | seeds | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (1 + len(columns))]
    found = json.loads((work / "foundation.json").read_text())
    lines.append("| (foundation) | | " + " | ".join(_cell([found.get(column)]) for column in columns) + " |")
    for name, runs in done.items():
        cells = [_cell([run[column] for run in runs]) for column in columns]
        lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def forgotten(work: Path) -> str:
    """By how much the probe's error exceeds the foundation's; of the replay head where there is one."""
    foundation = json.loads((work / "foundation.json").read_text())
    lines = ["| strategy | " + " | ".join(f"{name}: more than the foundation, %" for name in PROBES) + " | kept |"]
    lines.append("| --- |" + " ---: |" * len(PROBES) + " --- |")
    for name, runs in finished(work).items():
        replays = runs[0][OF_REPLAY[0]] is not None
        cells, kept = [], True
        for column, of_replay in zip(PROBES, OF_REPLAY, strict=True):
            more = 100 * (np.array([run[of_replay if replays else column] for run in runs]) / foundation[column] - 1)
            half = t.ppf(0.975, len(more) - 1) * more.std(ddof=1) / np.sqrt(len(more)) if len(more) > 1 else np.nan
            cells.append(f"{more.mean():+.0f} ({more.mean() - half:+.0f} to {more.mean() + half:+.0f})")
            kept &= bool(more.mean() + half < 100 * KEPT)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {'yes' if kept else 'no'} |")
    return "\n".join(lines)


def _cell(values: Sequence[float | None]) -> str:
    numbers = np.array([value for value in values if value is not None])
    if not len(numbers):
        return ""
    digits = 0 if numbers.mean() > 20 else 1
    if len(numbers) == 1 or not numbers.std():
        return f"{numbers.mean():.{digits}f}"
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1) / np.sqrt(len(numbers)):.{digits}f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]] or SEEDS)
