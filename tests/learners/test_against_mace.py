"""Against mace's own trainer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from bench_training import STRATEGIES, Numbers, compare
from mace.calculators import MACECalculator
from scipy.stats import ttest_ind

from curator.datasets.frame import atoms_from_frame
from curator.datasets.label import Record
from curator.learners.architecture import Architecture
from curator.learners.foundation import load_foundation
from curator.learners.mace import MaceModel, export_model, load_model
from curator.learners.metrics import force_rmse
from curator.learners.strategies import strategy
from curator.learners.train import fit

MAX_CPU_SHARE = 0.75
"""Of mace's CPU time, that a fine-tuning may take."""


@pytest.fixture(scope="module")
def runs(runs_folder: Path) -> Path:
    """Folder of fine-tuning runs of both trainers, a dozen."""
    return runs_folder / "against-mace"


@pytest.fixture(scope="module")
def compared(runs: Path) -> dict[str, dict[str, list[Numbers]]]:
    return compare(runs)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", STRATEGIES)
def test_fine_tuning_ends_at_the_same_error_in_less_time(
    name: str, compared: dict[str, dict[str, list[Numbers]]]
) -> None:
    ours, theirs = (
        {column: np.array([run[column] for run in compared[name][trainer]]) for column in ("forces", "CPU s")}
        for trainer in ("ours", "theirs")
    )
    # Seeds differ by chance: the means must agree within that, and chance be small enough to tell.
    assert ttest_ind(ours["forces"], theirs["forces"], equal_var=False).pvalue > 0.01
    assert abs(ours["forces"].mean() / theirs["forces"].mean() - 1) < 0.05
    # Other load on the machine only ever adds.
    assert ours["CPU s"].min() < MAX_CPU_SHARE * theirs["CPU s"].min()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_mace_puts_zero_for_the_energy_of_an_absent_element(
    runs: Path, compared: dict[str, dict[str, list[Numbers]]]
) -> None:
    """mace 0.3.16 pads the new head's E0s by zeros; ours keeps the foundation's."""
    foundation = load_foundation(str(runs / "foundation.model"), trust=True, device="cpu").e0s()
    theirs = load_foundation(f"{runs}/theirs-multihead_replay-1.model#Default", trust=True, device="cpu").e0s()
    ours = load_model(runs / "ours-multihead_replay-1").e0s()
    absent = set(foundation) - {3, 9}
    assert absent
    assert {theirs[z] for z in absent} == {0.0}
    assert {z: ours[z] for z in absent} == {z: foundation[z] for z in absent}
    # Of the elements that are there, both estimate the same.
    assert [ours[z] for z in (3, 9)] == pytest.approx([theirs[z] for z in (3, 9)], abs=1e-3)


def write_labelled(folder: Path, **parts: list[Record]) -> None:
    for name, part in parts.items():
        images = []
        for record in part:
            atoms = atoms_from_frame(record.frame)
            atoms.info |= {"REF_energy": record.label.energy, "REF_stress": record.label.stress}
            atoms.arrays["REF_forces"] = record.label.forces
            images.append(atoms)
        write(folder / f"{name}.extxyz", images)


def mace_run_train(folder: Path, options: dict[str, object]) -> None:
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mace.cli.run_train", "--ema", "--amsgrad"]
        + [f"--{key}={value}" for key, value in options.items()],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )


@pytest.mark.slow
def test_mace_run_train_learns_as_well(records: list[Record], tmp_path: Path) -> None:
    """Same architecture, data, loss and schedule: the two trainers end at about the same force error."""
    train, valid = records[:12], records[12:]
    architecture = Architecture((3, 9), r_max=3.5, hidden_irreps="8x0e", mlp_irreps="4x0e", radial_mlp=(8,), max_ell=1)
    plan = strategy("scratch", "paper", learning_rate=0.02, batch_size=2, max_epochs=40)
    ours, report = fit(None, train, valid, plan, seed=1, architecture=architecture)
    error = force_rmse(ours.predict([r.frame for r in valid]), valid)

    write_labelled(tmp_path, train=train, valid=valid)
    options = {
        "name": "theirs",
        "train_file": "train.extxyz",
        "valid_file": "valid.extxyz",
        "E0s": str(dict(report.e0.values)),
        "model": "MACE",
        "hidden_irreps": "8x0e",
        "MLP_irreps": "4x0e",
        "radial_MLP": "[8]",
        "r_max": 3.5,
        "max_ell": 1,
        "correlation": 2,
        "num_interactions": 2,
        "loss": "universal",
        "energy_weight": 10,
        "forces_weight": 10,
        "stress_weight": 1,
        "compute_stress": True,
        "lr": 0.02,
        "scheduler": "ExponentialLR",
        "lr_scheduler_gamma": 1.0,
        "ema_decay": 0.99,
        "clip_grad": 10,
        "weight_decay": 0,
        "batch_size": 2,
        "valid_batch_size": 4,
        "max_num_epochs": 40,
        "eval_interval": 1,
        "default_dtype": "float32",
        "device": "cpu",
        "seed": 1,
    }
    mace_run_train(tmp_path, options)
    calculator = MACECalculator(tmp_path / "theirs.model", device="cpu", default_dtype="float32")
    errors = []
    for record in valid:
        atoms = atoms_from_frame(record.frame)
        atoms.calc = calculator
        errors.append(atoms.get_forces() - record.label.forces)
    theirs = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    print(json.dumps({"ours_eV_per_A": error, "theirs_eV_per_A": theirs}))
    assert 0.7 < error / theirs < 1.4


@pytest.mark.slow
def test_export_is_a_foundation_for_mace_and_what_it_trains_comes_back(
    model: MaceModel, records: list[Record], tmp_path: Path
) -> None:
    """With a learning rate of almost nothing, an epoch of ``mace_run_train`` changes no force."""
    train, valid = records[:12], records[12:]
    export_model(model, tmp_path / "ours.model")
    write_labelled(tmp_path, train=train, valid=valid)
    options = {
        "name": "theirs",
        "foundation_model": "ours.model",
        "multiheads_finetuning": False,
        "train_file": "train.extxyz",
        "valid_file": "valid.extxyz",
        "E0s": "foundation",
        "loss": "universal",
        "lr": 1e-12,
        "ema_decay": 0.99,
        "batch_size": 2,
        "valid_batch_size": 4,
        "max_num_epochs": 1,
        "default_dtype": "float64",
        "device": "cpu",
        "seed": 1,
    }
    mace_run_train(tmp_path, options)
    back = load_foundation(str(tmp_path / "theirs.model"), trust=True, device="cpu")
    assert set(back.elements) == {3, 9}
    theirs = MACECalculator(tmp_path / "theirs.model", device="cpu", default_dtype="float64")
    for record, own, returned in zip(valid, *(m.predict([r.frame for r in valid]) for m in (model, back)), strict=True):
        atoms = atoms_from_frame(record.frame)
        atoms.calc = theirs
        np.testing.assert_allclose(returned.forces, own.forces, atol=1e-5)
        np.testing.assert_allclose(returned.forces, atoms.get_forces(), atol=1e-5)
        assert returned.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
