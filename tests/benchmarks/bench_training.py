"""Our trainer against that of mace (``mace_run_train``), on the same frames and from the same foundation.

``python tests/benchmarks/bench_training.py [WORK]`` runs both as commands, one after the other, over three seeds, and
prints force and energy errors on test frames and the CPU time of each whole command, start-up included (a quarter of
an hour of one core). Ours leaves out its probes, of which mace has none. What is in WORK already is not done again.

`mini-halides` is fine-tuned on 44 frames of its own molecular dynamics of LiF with an interstitial, labelled by CHGNet
r2SCAN, with the settings of the paper (arXiv:2606.12704, table 7) for 8 epochs. 44 and 64 replayed frames make whole
batches of four, because mace leaves out what does not fill one. mace is run without its plots.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import ase.io
import numpy as np
from bench_uncertainty import explore, labelled

from curator.datasets.extxyz import read_own_records, write_records
from curator.learners.foundation import MINI_HALIDES, load_foundation
from curator.learners.mace import export_model
from curator.learners.metrics import energy_rmse_per_atom, force_rmse
from curator.learners.replay import replay_records
from curator.learners.strategies import strategy
from curator.state import write_json

STRATEGIES = ("naive", "multihead_replay")
SEEDS = (1, 2, 3)
TEMPERATURES_K = (600.0, 900.0, 1200.0)
N_EPOCHS, N_TRAIN, N_VALID, N_REPLAY = 8, 44, 6, 64
Numbers = dict[str, float]


def prepare(work: Path) -> None:
    """Write foundation, training, validation, test and replay frames to ``work``, where they are missing."""
    work.mkdir(parents=True, exist_ok=True)
    foundation = load_foundation(MINI_HALIDES, device="cpu")
    if not (work / "test.extxyz").exists():
        write_records(work / "train.extxyz", labelled(explore(foundation, TEMPERATURES_K, seed=1)[:N_TRAIN]))
        others = labelled(explore(foundation, TEMPERATURES_K, seed=2))
        idx_valid = range(0, len(others), len(others) // N_VALID)[:N_VALID]
        write_records(work / "valid.extxyz", [others[i] for i in idx_valid])
        write_records(work / "test.extxyz", [record for i, record in enumerate(others) if i not in idx_valid])
    if not (work / "foundation.model").exists():
        train, valid = replay_records(MINI_HALIDES, foundation.elements, N_REPLAY, np.random.default_rng(0))
        write_records(work / "replay.extxyz", [*train, *valid])
        row = strategy("multihead_replay", "paper")
        for name, part in (("train", train), ("valid", valid)):
            write_records(work / f"mace-replay-{name}.extxyz", part)
            images = ase.io.read(work / f"mace-replay-{name}.extxyz", index=":")
            for atoms in images:
                # mace multiplies errors by it, in which the loss is quadratic.
                atoms.info["config_energy_weight"] = np.sqrt(row.replay_weights.energy / row.target.energy)
            ase.io.write(work / f"mace-replay-{name}.extxyz", images)
        export_model(foundation, work / "foundation.model")


def ours(work: Path, name: str, seed: int) -> tuple[list[str], str]:
    """Command of our trainer, and the model that it will write."""
    out = f"ours-{name}-{seed}"
    options = {
        "model": "foundation.model",
        "valid": "valid.extxyz",
        "strategy": name,
        "defaults": "paper",
        "epochs": N_EPOCHS,
        "seed": seed,
        "out": out,
    }
    if name == "multihead_replay":
        options |= {"replay": "replay.extxyz", "replay-frames": N_REPLAY}
    command = [sys.executable, "-m", "curator", "finetune", "train.extxyz", "--trust", "--no-probes"]
    return [*command, *(f"--{key}={value}" for key, value in options.items())], f"{out}/model.model"


def theirs(work: Path, name: str, seed: int) -> tuple[list[str], str]:
    """Command of mace's trainer with the same settings, and the model that it will write."""
    row = strategy(name, "paper")
    out = f"theirs-{name}-{seed}"
    options = {
        "name": out,
        "foundation_model": "foundation.model",
        # With the foundation's elements, mace puts its E0s back over the estimated ones.
        "foundation_model_elements": row.replay != "none",
        "multiheads_finetuning": row.replay != "none",
        "force_mh_ft_lr": True,
        "train_file": "train.extxyz",
        "valid_file": "valid.extxyz",
        "E0s": "estimated",
        "loss": "universal",
        "energy_weight": row.target.energy,
        "forces_weight": row.target.forces,
        "stress_weight": row.target.stress,
        "compute_stress": True,
        "huber_delta": row.huber_delta,
        "lr": row.learning_rate,
        "scheduler": "ExponentialLR",
        "lr_scheduler_gamma": 1.0,
        "ema_decay": row.ema_decay,
        "clip_grad": row.clip_norm,
        "weight_decay": row.weight_decay,
        "batch_size": row.batch_size,
        "valid_batch_size": 8,
        "max_num_epochs": N_EPOCHS,
        "eval_interval": 1,
        "default_dtype": "float32",
        "device": "cpu",
        "plot": False,
        "seed": seed,
    }
    if row.replay != "none":
        options |= {"pt_train_file": "mace-replay-train.extxyz", "pt_valid_file": "mace-replay-valid.extxyz"}
    command = [sys.executable, "-W", "ignore", "-m", "mace.cli.run_train", "--ema", "--amsgrad"]
    return [*command, *(f"--{key}={value}" for key, value in options.items())], f"{out}.model#Default"


TRAINERS: Mapping[str, Callable[[Path, str, int], tuple[list[str], str]]] = {"ours": ours, "theirs": theirs}


def run(work: Path, trainer: str, name: str, seed: int) -> Numbers:
    """Train once: errors on the test frames in meV/Å and meV/atom, and CPU seconds of the command."""
    record = work / f"{trainer}-{name}-{seed}.json"
    if not record.exists():
        command, written = TRAINERS[trainer](work, name, seed)
        before = getrusage(RUSAGE_CHILDREN)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        after = getrusage(RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(f"{trainer}, {name}, seed {seed}: {done.stderr[-2000:]}")
        model = load_foundation(str(work / written), trust=True, device="cpu")
        test = read_own_records(work / "test.extxyz")
        predictions = model.predict([frame.frame for frame in test])
        numbers = {
            "forces": 1000 * force_rmse(predictions, test),
            "energy": 1000 * energy_rmse_per_atom(predictions, test),
            "CPU s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        }
        write_json(record, numbers)
    found: Numbers = json.loads(record.read_text())
    return found


def compare(work: Path, seeds: Sequence[int] = SEEDS) -> dict[str, dict[str, list[Numbers]]]:
    """Numbers by strategy, trainer and seed; the two trainers take turns."""
    prepare(work)
    found: dict[str, dict[str, list[Numbers]]] = {}
    for name in STRATEGIES:
        found[name] = {trainer: [] for trainer in TRAINERS}
        for seed in seeds:
            for trainer in TRAINERS:
                found[name][trainer].append(run(work, trainer, name, seed))
    return found


def mean(runs: Sequence[Numbers], column: str) -> tuple[float, float]:
    """Mean over the seeds and its standard error."""
    values = np.array([numbers[column] for numbers in runs])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def markdown(found: Mapping[str, Mapping[str, Sequence[Numbers]]]) -> str:
    """Table of the comparison."""
    lines = [
        "| strategy | | forces, meV/Å | energy, meV/atom | CPU s | CPU of ours / theirs |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, by_trainer in found.items():
        ratio = mean(by_trainer["ours"], "CPU s")[0] / mean(by_trainer["theirs"], "CPU s")[0]
        for trainer, label in (("ours", "curator finetune"), ("theirs", "mace_run_train")):
            cells = [
                "{:.{n}f} ± {:.{n}f}".format(*mean(by_trainer[trainer], column), n=n)
                for column, n in (("forces", 2), ("energy", 2), ("CPU s", 1))
            ]
            last = f"{ratio:.2f}" if trainer == "ours" else ""
            lines.append(f"| {name} | `{label}` | " + " | ".join([*cells, last]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(markdown(compare(Path(sys.argv[1] if len(sys.argv) > 1 else temporary).resolve())))
