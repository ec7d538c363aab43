"""What each fine-tuning strategy gives and costs on the same frames, over three seeds.

``python tests/benchmarks/strategies.py WORK [SEED ...]`` fine-tunes `mini-halides` on frames of its own molecular
dynamics of LiF with an interstitial, labelled by CHGNet r2SCAN, once with each row of the strategy table, and writes
the table of all that is finished in WORK into ``docs/strategies.md``. What is there already is not done again;
``EPOCHS=2`` in the environment makes it a trial, whose numbers go to the screen only.

Columns: share of the parameters that are trained; force error

- ``target``: on frames of other trajectories;
- ``elsewhere``: on the structures of the shipped probe, other halides among them, labelled as the target is: what a
  user of the model gets outside of what it was fine-tuned on;
- ``probe``: on the same structures with the foundation's own labels. The target's head may be off by the difference of
  the two levels of theory, and forgets nothing by that; ``replay head``, where there is one, should not be;

of all frames, and of the median frame; energy error before training; CPU seconds; how many percent of random cells, the
same for every model, fall into a hole at low and at high pressure; and how many of the three pairs of Li and F have one
(docs/probes.md).

Under the table stands by how much the error on the probe, of the replay head where there is one, exceeds the
foundation's, and by how much that elsewhere exceeds that of ``naive``, seed by seed, with 95 % intervals (Student's t
over the seeds); and whether the foundation's knowledge is kept: the whole interval below a quarter more than its error.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
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
from curator.learners.mace import REPLAY, MaceModel, load_model
from curator.learners.metrics import force_rmse, median_frame_force_rmse
from curator.learners.replay import probe_records, replay_records
from curator.learners.strategies import REPLAY_FRAMES, STRATEGIES, strategy
from curator.learners.train import FitReport, fit
from curator.probes import MAX_STEPS
from curator.random_search import hole_rate, random_structures
from curator.state import write_json

SEEDS = (1, 2, 3)
FRAMES = ("train", "test", "elsewhere")
N_CELLS = 24
PRESSURES_GPA = (0.1, 50.0)
KEPT = 0.25
"""Most by which what is kept may exceed the foundation's error, as a share of it."""
MEDIAN = "median frame"
DOCUMENT = Path(__file__).parents[2] / "docs" / "strategies.md"
MARK = "<!-- table of tests/benchmarks/strategies.py -->\n"
Numbers = dict[str, float]


def main(work: Path, seeds: Sequence[int]) -> None:
    """Do what is missing in ``work``, seed by seed, and write the table."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    foundation = load_foundation(MINI_HALIDES, device="cpu")
    frames = {name: labelled_frames(work / f"{name}.extxyz", foundation, name) for name in FRAMES}
    epochs = int(os.environ["EPOCHS"]) if "EPOCHS" in os.environ else None
    runs = [(name, seed) for seed in seeds for name in STRATEGIES["small_data"]]
    once(work / "foundation" / "errors.json", lambda: errors(foundation, frames))
    for name, seed in runs:
        folder = work / f"{name}-{seed}"

        def fitted(name: str = name, seed: int = seed, folder: Path = folder) -> Numbers:
            model, report = tuned(foundation, frames["train"], name, seed, epochs)
            model.save(folder / "model")
            return {
                "trainable, %": 100 * report.n_trainable / report.n_parameters,
                **errors(model, frames),
                "energy at the start": 1000 * report.start_energy_rmse["target"],
                "CPU s": report.cpu_s,
            }

        once(folder / "errors.json", fitted)
    structure = frames["test"][0].frame
    once(work / "foundation" / "holes.json", lambda: _holes(foundation, structure))
    for name, seed in runs:
        folder = work / f"{name}-{seed}"
        once(folder / "holes.json", lambda folder=folder: _holes(load_model(folder / "model"), structure))
    table = f"{markdown(work)}\n\n{forgotten(work)}"
    print(table)
    if epochs is None:
        before, mark, rest = DOCUMENT.read_text().partition(MARK)
        after = rest.partition(MARK)[2]
        write_atomically(DOCUMENT, f"{before}{mark}\n{table}\n\n{MARK}{after}")


def once(path: Path, measure: Callable[[], Numbers]) -> None:
    """Write what is measured to a file, unless it is there."""
    if not path.exists():
        numbers = measure()
        write_json(path, numbers)
        print(f"{path.parent.name}/{path.stem}: {numbers}", flush=True)


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


def errors(model: MaceModel, frames: Mapping[str, Sequence[Record]]) -> Numbers:
    """Errors of forces in meV/Å."""
    probe = probe_records()
    asked = [("target", model, frames["test"]), ("elsewhere", model, frames["elsewhere"]), ("probe", model, probe)]
    if REPLAY in model.heads:
        asked.append(("replay head", model.with_head(REPLAY), probe))
    found = {}
    for name, of, records in asked:
        predictions = of.predict([record.frame for record in records])
        found[name] = 1000 * force_rmse(predictions, records)
        found[f"{name}, {MEDIAN}"] = 1000 * median_frame_force_rmse(predictions, records)
    return found


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
        if name == "elsewhere":
            frames = [record.frame for record in probe_records()]
        else:
            temperatures_K, seed = {"train": (TRAIN_K, 1), "test": (TEST_K, 2)}[name]
            frames = explore(foundation, temperatures_K, seed=seed)
        write_records(path, labelled(frames))
    return read_own_records(path)


def finished(work: Path) -> dict[str, list[Numbers]]:
    """Numbers of the runs that are there, by strategy."""
    names = {name: sorted(work.glob(f"{name}-[0-9]*")) for name in STRATEGIES["small_data"]}
    found = {
        name: [_read(folder) for folder in folders if (folder / "errors.json").exists()]
        for name, folders in names.items()
    }
    return {name: runs for name, runs in found.items() if runs}


def _read(folder: Path) -> Numbers:
    parts = [folder / "errors.json", folder / "holes.json"]
    return {key: value for part in parts if part.exists() for key, value in read_numbers(part).items()}


def read_numbers(path: Path) -> Numbers:
    """What `once` has written."""
    found: Numbers = json.loads(path.read_text())
    return found


def markdown(work: Path) -> str:
    """Means over the finished seeds, with standard errors."""
    done, foundation = finished(work), _read(work / "foundation")
    columns = list(max((run for runs in done.values() for run in runs), key=len))
    lines = ["| strategy | seeds | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (1 + len(columns))]
    lines.append("| (foundation) | | " + " | ".join(cell([foundation.get(column)]) for column in columns) + " |")
    for name, runs in done.items():
        cells = [cell([run.get(column) for run in runs]) for column in columns]
        lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def forgotten(work: Path) -> str:
    """By how much errors exceed the foundation's on the probe and those of ``naive`` elsewhere, in percent."""
    done, foundation = finished(work), _read(work / "foundation")
    columns = [f"{name}{part}" for name in ("probe", "elsewhere") for part in ("", f", {MEDIAN}")]
    heads = [f"{column}: over {'the foundation' if 'probe' in column else 'naive'}, %" for column in columns]
    lines = ["| strategy | " + " | ".join(heads) + " | kept |", "| --- |" + " ---: |" * len(columns) + " --- |"]
    for name, runs in done.items():
        cells, kept = [], True
        for column in columns:
            others = [foundation] * len(runs) if "probe" in column else done["naive"]
            of = column.replace("probe", "replay head") if "replay head" in runs[0] else column
            more, half = excess([run[of] for run in runs], [other[column] for other in others])
            cells.append(interval(more, half))
            kept &= "probe" not in column or bool(more + half < 100 * KEPT)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {'yes' if kept else 'no'} |")
    return "\n".join(lines)


def excess(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Mean of how much values exceed others, pair by pair, in percent, and half of its 95 % interval."""
    more = np.array([100 * (value / other - 1) for value, other in zip(values, others, strict=False)])
    n = len(more)
    return more.mean(), t.ppf(0.975, n - 1) * more.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan


def interval(mean: float, half: float) -> str:
    """A number and its interval, if it has one."""
    return f"{mean:+.0f}" + ("" if np.isnan(half) else f" ({mean - half:+.0f} to {mean + half:+.0f})")


def cell(values: Sequence[float | None]) -> str:
    """Mean and standard error."""
    numbers = np.array([value for value in values if value is not None])
    if not len(numbers):
        return ""
    digits = 0 if numbers.mean() > 20 else 1
    if len(numbers) == 1 or not numbers.std():
        return f"{numbers.mean():.{digits}f}"
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1) / np.sqrt(len(numbers)):.{digits}f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]] or SEEDS)
