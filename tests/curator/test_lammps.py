"""The input for LAMMPS, run by LAMMPS with the classical potential in place of the model."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.sources import build_seed
from curator.diffusion.trajectory_files import load_positions
from curator.lammps import write_lammps_input
from curator.trajectory import MDSettings

POTENTIAL = Path(__file__).parents[1] / "lif-fumi-tosi.lammps"
RUNS = [MDSettings(temperature_K, 0.4, timestep_fs=1.0) for temperature_K in (600.0, 900.0)]


@pytest.fixture
def run_input(lammps_engine: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run the input in the folder of the test."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Path:
        engine = lammps_engine("-var", "potential", str(POTENTIAL), *arguments)
        engine.file("in.diffusion")
        engine.close()
        return tmp_path

    return run


@pytest.fixture
def interstitial() -> Frame:
    return build_seed("lif-interstitial", 4.0314).frame


def test_every_temperature_and_replica_is_run(interstitial: Frame, tmp_path: Path, run_input: Callable) -> None:
    write_lammps_input(tmp_path, interstitial, RUNS, mobile="Li", replicas=2)
    run_input()
    names = [f"T{temperature_K}-r{replica}.lammpstrj" for temperature_K in (600, 900) for replica in (1, 2)]
    assert sorted(path.name for path in tmp_path.glob("*.lammpstrj")) == names
    runs = [load_positions(tmp_path / name) for name in names]
    for run in runs:
        assert run.positions.shape == (5, 65, 3)
        np.testing.assert_array_equal(run.numbers, interstitial.numbers)
        np.testing.assert_allclose(run.cell, interstitial.cell, atol=1e-6)
        np.testing.assert_allclose(run.positions[0], interstitial.positions, atol=1e-5)
    # Each has its own velocities.
    ends = np.array([run.positions[-1] for run in runs])
    assert all(np.abs(ends[i] - ends[j]).max() > 0.1 for i in range(4) for j in range(i))


def test_one_run_in_a_repeated_cell(interstitial: Frame, tmp_path: Path, run_input: Callable) -> None:
    write_lammps_input(tmp_path, interstitial, RUNS, mobile="Li", replicas=2)
    run_input(*shlex.split("-var temperature_K 900 -var replica 1 -var nx 2 -var duration_ps 0.2"))
    (path,) = tmp_path.glob("*.lammpstrj")
    run = load_positions(path)
    assert (path.name, run.positions.shape) == ("T900-r1.lammpstrj", (3, 130, 3))
    np.testing.assert_allclose(run.cell, np.diag([2, 1, 1]) @ interstitial.cell, atol=1e-6)
    assert np.sum(run.numbers == 3) == 66


def test_positions_are_unwrapped_in_any_cell(tmp_path: Path, run_input: Callable) -> None:
    """An oblique cell, which LAMMPS turns, and ions that lie outside of it."""
    atoms = bulk("LiF", "rocksalt", a=4.03).repeat(3)
    atoms.positions += [7.0, -5.0, 20.0]
    write_lammps_input(tmp_path, frame_from_atoms(atoms), RUNS[:1], mobile="Li")
    run_input()
    run = load_positions(tmp_path / "T600-r1.lammpstrj")
    turned = atoms_from_frame(Frame(run.numbers, run.positions[0], run.cell, run.pbc))
    np.testing.assert_allclose(turned.cell.cellpar(), atoms.cell.cellpar(), atol=1e-5)
    np.testing.assert_allclose(turned.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-5)
    assert np.abs(np.diff(run.positions, axis=0)).max() < 1.0


def test_carriers_that_nobody_has_counted_are_not_in_the_command(interstitial: Frame, tmp_path: Path) -> None:
    for n_carriers, named in ((2, True), (None, False)):
        write_lammps_input(tmp_path, interstitial, RUNS, mobile="Li", n_carriers=n_carriers)
        assert ("--carriers 2" in (tmp_path / "in.diffusion").read_text()) is named


def test_the_thermostat_is_damped_by_the_time_of_the_friction(interstitial: Frame, tmp_path: Path) -> None:
    write_lammps_input(tmp_path, interstitial, [replace(RUNS[0], friction_per_ps=0.25)], mobile="Li")
    text = (tmp_path / "in.diffusion").read_text()
    assert re.search(r"langevin \$\{temperature_K\} \$\{temperature_K\} 4 ", text)


def test_the_command_that_it_names_measures_the_diffusivity(
    interstitial: Frame, tmp_path: Path, run_input: Callable
) -> None:
    runs = [MDSettings(1000.0, 22.0)]
    write_lammps_input(tmp_path, interstitial, runs, mobile="Li", replicas=2, hop_length_A=3.4913)
    run_input()
    lines = (tmp_path / "in.diffusion").read_text().splitlines()
    command = next(line.removeprefix("#") for line in lines if line.startswith("#   curator "))
    command = command.replace("curator", f"{shlex.quote(sys.executable)} -m curator", 1)
    done = subprocess.run(f"{command} --json", shell=True, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["temperature_K"], told["n_trajectories"], told["time_ps"]) == (1000.0, 2, pytest.approx(40.0))
    assert (told["status"], told["hop_length_A"], told["n_carriers"]) == ("measured", 3.4913, 1)
    # 5.7 Å²/ps in long trajectories.
    low, high = told["ci95_A2_per_ps"]
    assert low / 1.3 < 5.7 < 1.3 * high


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([], "one run per temperature"),
        ([RUNS[0], replace(RUNS[1], duration_ps=1.0)], "one run per temperature"),
        ([replace(RUNS[0], friction_per_ps=0.0)], "friction_per_ps positive"),
        ([replace(RUNS[0], held=(3,))], "none held"),
    ],
)
def test_what_lammps_would_not_repeat_is_refused(
    runs: list[MDSettings], reason: str, interstitial: Frame, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        write_lammps_input(tmp_path, interstitial, runs, mobile="Li")
