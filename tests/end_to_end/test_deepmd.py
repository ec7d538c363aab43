"""A DeePMD model, whose packages cannot live beside ours, labels, explores and is measured like any other."""

import json
import os
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import yaml

from curator.backends.base import LabellerSpec, check_labeller
from curator.backends.labellers import labeller_calculator, make_labeller
from curator.datasets.extxyz import write_records
from curator.datasets.frame import atoms_from_frame
from curator.datasets.label import Label, Provenance, Record
from curator.datasets.sources import build_seed
from curator.labelling import labeller_of, read_label_file
from curator.md import run_md
from curator.trajectory import MDSettings, frames

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TEACHER = LabellerSpec("classical", "lif-fumi-tosi")
N_STEPS = 3000
TRAINING = {
    "model": {
        "type_map": ["Li", "F"],
        "descriptor": {
            "type": "se_e2_a",
            "rcut": 5.5,
            "rcut_smth": 1.0,
            "sel": [64, 64],
            "neuron": [8, 16, 32],
            "axis_neuron": 4,
            "seed": 1,
        },
        "fitting_net": {"neuron": [48, 48, 48], "seed": 1},
    },
    "learning_rate": {"type": "exp", "start_lr": 3e-3, "stop_lr": 3e-6, "decay_steps": N_STEPS // 60},
    "loss": {
        "type": "ener",
        "start_pref_e": 0.02,
        "limit_pref_e": 1,
        "start_pref_f": 1000,
        "limit_pref_f": 1,
        "start_pref_v": 0.02,
        "limit_pref_v": 0.1,
    },
    "training": {
        "training_data": {"systems": ["data"], "batch_size": 1},
        "numb_steps": N_STEPS,
        "seed": 1,
        "disp_freq": 500,
        "save_freq": N_STEPS,
    },
}


@pytest.fixture(scope="module")
def deepmd(runs_folder: Path) -> Path:
    """Interpreter of an environment with DeePMD-kit: ``CURATOR_TEST_DEEPMD``, or one that is made."""
    if named := os.environ.get("CURATOR_TEST_DEEPMD"):
        return Path(named)
    folder = runs_folder / "deepmd-environment"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "dp").exists():
        venv.create(folder, with_pip=True, symlinks=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "deepmd-kit[cpu]", "ase"], check=True, timeout=1200)
    return python


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Frames of LiF with an interstitial at three temperatures, labelled by the teacher."""
    start = build_seed("lif-interstitial").frame
    labeller, found = make_labeller(TEACHER), []
    for temperature_K in (300, 700, 1100):
        settings = MDSettings(temperature_K, 3.0, frame_interval_fs=50.0)
        trajectory = run_md(start, labeller_calculator(TEACHER), settings, seed=temperature_K)
        for i, frame in enumerate(frames(trajectory)):
            label = labeller.label(atoms_from_frame(frame))
            assert isinstance(label, Label)
            name = f"T{temperature_K}"
            found.append(Record(frame, label, Provenance(-1, name, name, "test" if i % 6 == 5 else "train", "import")))
    return found


def _write_data(folder: Path, records: list[Record]) -> None:
    """DeePMD's own format: one array of each kind, and the virial, which is minus the stress times the volume."""
    (folder / "set.000").mkdir(parents=True)
    numbers = records[0].frame.numbers
    (folder / "type.raw").write_text("\n".join(str(["Li", "F"].index({3: "Li", 9: "F"}[int(n)])) for n in numbers))
    (folder / "type_map.raw").write_text("Li\nF\n")
    arrays: dict[str, list[object]] = {name: [] for name in ("coord", "box", "energy", "force", "virial")}
    for record in records:
        stress = record.label.stress
        assert stress is not None
        full = stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]]
        arrays["coord"].append(record.frame.positions.ravel())
        arrays["box"].append(record.frame.cell.ravel())
        arrays["energy"].append([record.label.energy])
        arrays["force"].append(record.label.forces.ravel())
        arrays["virial"].append(-full * abs(np.linalg.det(record.frame.cell)))
    for name, values in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", np.array(values))


@pytest.fixture(scope="module")
def model(deepmd: Path, records: list[Record], runs_folder: Path) -> Path:
    """YAML file that names a trained DeePMD model."""
    folder = runs_folder / "deepmd-lif"
    file = folder / "deepmd.yaml"
    section = {
        "kind": "pseudolabel",
        "code": "ase",
        "calculator": "deepmd.calculator:DP",
        "method": "deepmd-lif",
        "parameters": {"model": "lif.pb"},
        "python": str(deepmd),
    }
    if not file.exists():
        _write_data(folder / "data", [record for record in records if record.provenance.split == "train"])
        (folder / "input.json").write_text(json.dumps(TRAINING))
        dp = deepmd.with_name("dp")
        for command in (["train", "input.json"], ["freeze", "-o", "lif.pb"]):
            with (folder / f"{command[0]}.log").open("w") as log:
                subprocess.run([dp, *command], cwd=folder, check=True, stdout=log, stderr=log, timeout=2400)
        file.write_text(yaml.safe_dump(section))
    return file


def _force_rmse(mine: list[Label], records: list[Record]) -> float:
    errors = [label.forces - record.label.forces for label, record in zip(mine, records, strict=True)]
    return float(np.sqrt(np.mean(np.square(errors))))


def test_it_keeps_the_contract_of_a_labeller(model: Path) -> None:
    labeller = make_labeller(labeller_of(read_label_file(model), {"Li", "F"}, model.parent))
    assert set(labeller.theory.versions) == {"ase", "deepmd-kit"}
    assert set(labeller.theory.hashes) == {"model"}
    atoms = atoms_from_frame(build_seed("lif-interstitial").frame)
    atoms.rattle(0.08, seed=4)
    check_labeller(labeller, atoms)


def test_it_labels(model: Path, records: list[Record], curator_here, tmp_path: Path) -> None:
    from curator.datasets.extxyz import read_own_records

    test = [record for record in records if record.provenance.split == "test"]
    write_records(tmp_path / "test.extxyz", test)
    done = curator_here(
        "label", tmp_path / "test.extxyz", "--with", model, "--out", tmp_path / "l.extxyz", "--workers", 2
    )
    assert done.returncode == 0, done.stderr
    labels = [record.label for record in read_own_records(tmp_path / "l.extxyz")]
    error, spread = _force_rmse(labels, test), float(np.sqrt(np.mean([r.label.forces**2 for r in test])))
    print(f"force RMSE {1000 * error:.0f} meV/Å of {1000 * spread:.0f}")
    assert error < 0.15 * spread


def test_it_explores(model: Path, curator_here, tmp_path: Path) -> None:
    out = tmp_path / "pool.extxyz"
    done = curator_here(
        "explore", "lif-interstitial", "--model", model, "--duration-ps", 0.4, "--interval-ps", 0.05, "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert "ran to its end" in done.stdout


def test_its_barrier_is_near_its_teachers(model: Path, curator_here) -> None:
    barriers = []
    for name in (model, "lif-fumi-tosi"):
        done = curator_here("barrier", "lif-interstitial", "--model", name, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        barriers.append(json.loads(done.stdout)["barrier_eV"])
    print(f"barrier {barriers[0]:.3f} eV, its teacher's {barriers[1]:.3f} eV")
    assert abs(barriers[0] - barriers[1]) < 0.05


def test_its_diffusion_is_measured(model: Path, curator_here, tmp_path: Path) -> None:
    options = [
        "--mobile",
        "Li",
        "--temperature-K",
        1100,
        "--duration-ps",
        2,
        "--equilibration-ps",
        0.5,
        "--replicas",
        1,
    ]
    folder = tmp_path / "md"
    command = ["diffusion", "lif-interstitial", "--model", model, *options, "--out", folder, "--json"]
    done = curator_here(*command)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["diffusion"][0]
    assert told["temperature_K"] == 1100
    assert curator_here(*command).stdout == done.stdout  # from the chunks that are there
    assert len(list(folder.rglob("chunk-*.npz"))) >= 1
