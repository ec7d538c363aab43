"""Molecular dynamics and diffusivities against LAMMPS, for a potential that both know: classical LiF, 65 atoms."""

import math
from collections.abc import Callable
from pathlib import Path

import bench_classical as bench
import numpy as np
import pytest

from curator.backends.classical import FumiTosiLiF
from curator.datasets.frame import atoms_from_frame
from curator.diffusion.arrhenius import fit_arrhenius
from curator.diffusion.measurement import measure_diffusion
from curator.diffusion.trajectory_files import load_positions
from curator.md import run_md
from curator.trajectory import MDSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
COMMON_K = 800.0
OURS_PS, N_OURS = 50.0, 4


@pytest.fixture(scope="module")
def cell():
    return bench.relaxed_cell(2)


@pytest.fixture(scope="module")
def lammps_folder(lammps_engine: Callable, runs_folder: Path) -> Path:
    return runs_folder / "engines" / "lammps"


@pytest.fixture(scope="module")
def by_lammps(cell, lammps_folder: Path):
    return bench.lammps_diffusivities(cell, lammps_folder)


@pytest.fixture(scope="module")
def our_trajectories(cell, runs_folder: Path):
    settings = MDSettings(COMMON_K, OURS_PS + bench.EQUILIBRATION_PS)
    return [
        run_md(cell.minimum, FumiTosiLiF(), settings, seed=[1, k], folder=runs_folder / "engines" / f"ours-r{k}")
        for k in range(N_OURS)
    ]


def test_diffusivity_is_that_of_lammps(cell, by_lammps, our_trajectories) -> None:
    (theirs,) = (d for d in by_lammps if d.temperature_K == COMMON_K)
    ours = measure_diffusion(
        our_trajectories,
        "Li",
        hop_length_A=cell.hop_length_A,
        equilibration_ps=bench.EQUILIBRATION_PS,
        tracer=False,
    )
    print(f"ours {ours.D_A2_per_ps} ± {ours.error_A2_per_ps}, theirs {theirs.D_A2_per_ps} ± {theirs.error_A2_per_ps}")
    assert min(ours.n_hops, theirs.n_hops) > 100
    apart, error = bench.difference(ours, theirs)
    # Known well enough for a difference to show.
    assert error < 0.2 * theirs.D_A2_per_ps
    assert abs(apart) < 2 * error


def test_thermal_energy_is_that_of_lammps(cell, by_lammps, lammps_folder: Path, our_trajectories) -> None:
    """The same mean potential energy above the minimum: a thermostat that is off by two per cent would show."""
    skip = round(1000 * bench.EQUILIBRATION_PS / our_trajectories[0].settings.frame_interval_fs)
    calculator = FumiTosiLiF()

    def energy_eV(positions: np.ndarray) -> float:
        atoms = atoms_from_frame(cell.minimum)
        atoms.positions = positions
        atoms.calc = calculator
        return atoms.get_potential_energy()

    lowest_eV = energy_eV(cell.minimum.positions)
    ours = [run.energies_eV[skip:].mean() - lowest_eV for run in our_trajectories]
    theirs = [
        np.mean([energy_eV(frame) for frame in load_positions(path).positions[skip::10]]) - lowest_eV
        for path in sorted(lammps_folder.glob(f"T{COMMON_K:g}-r*.lammpstrj"))
    ]
    error_eV = math.sqrt(sum(np.var(part, ddof=1) / len(part) for part in (ours, theirs)))
    print(f"ours {np.mean(ours)}, theirs {np.mean(theirs)}, error {error_eV}")
    assert error_eV < 0.01 * np.mean(theirs)
    assert abs(np.mean(ours) - np.mean(theirs)) < 2 * error_eV


def test_activation_energy_is_the_barrier(cell, by_lammps) -> None:
    fit = fit_arrhenius(by_lammps)
    assert fit is not None
    print("\n".join(bench.table(cell, by_lammps, fit)))
    assert fit.error_eV < 0.016
    assert abs(fit.Ea_eV - cell.barrier_eV) < 2 * fit.error_eV + 0.015
