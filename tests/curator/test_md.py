"""Molecular dynamics against statistical mechanics, and against being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes

from curator.backends.classical import FumiTosiLiF
from curator.datasets.frame import Frame
from curator.datasets.sources import rocksalt
from curator.diffusion.walk import fit_walk
from curator.md import min_distance_ratio, run_md
from curator.trajectory import Gates, MDSettings, Trajectory, frames, read_trajectory


class Einstein(Calculator):
    """Independent springs to the sites; no spring is an ideal gas, a negative one a saddle."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, sites: np.ndarray, spring: float) -> None:
        super().__init__()
        self.sites, self.spring = sites, spring

    def calculate(self, atoms: Atoms, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        displacement = atoms.positions - self.sites
        self.results = {
            "energy": 0.5 * self.spring * float((displacement**2).sum()),
            "forces": -self.spring * displacement,
        }


def copper(n: int) -> Frame:
    """Return n³ copper atoms on a simple cubic lattice of 4 Å."""
    sites = 4.0 * np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return Frame(np.full(n**3, 29), sites, np.eye(3) * 4 * n, np.ones(3, dtype=bool))


def same(a: Trajectory, b: Trajectory) -> bool:
    names = ("times_ps", "positions", "energies_eV", "temperatures_K", "max_forces_eV_per_A", "pressures_GPa")
    return (
        all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in names)
        and a.last_frames == b.last_frames
        and (a.status, a.reason, a.n_steps) == (b.status, b.reason, b.n_steps)
    )


def test_energy_is_conserved_without_friction_and_better_at_a_shorter_step():
    start = rocksalt("LiF", 4.1)
    rng = np.random.default_rng(0)
    start = Frame(start.numbers, start.positions + rng.normal(scale=0.05, size=(8, 3)), start.cell, start.pbc)
    drift = []
    for timestep_fs in (2.0, 1.0):
        settings = MDSettings(500, 0.5, timestep_fs=timestep_fs, friction_per_ps=0, frame_interval_fs=4, chunk_ps=1)
        run = run_md(start, FumiTosiLiF(), settings, seed=3)
        total = run.energies_eV + 1.5 * 8 * units.kB * run.temperatures_K
        drift.append(total.std())
    # Velocity Verlet: the error of the energy is of second order in the time step, 4 in all.
    assert drift[0] < 2e-3 * 8
    assert 3 < drift[0] / drift[1] < 5


def test_thermostat_samples_the_canonical_distribution_of_a_harmonic_crystal():
    start = copper(5)
    settings = MDSettings(600, 10.0, timestep_fs=5, friction_per_ps=10, frame_interval_fs=50, chunk_ps=12)
    run = run_md(start, Einstein(start.positions, 3.0), settings, seed=1)
    kept = slice(20, None)
    expected = 1.5 * len(start) * units.kB * 600
    # Energies decorrelate in 1 / friction = 0.1 ps: some 50 independent frames of 375 modes, 1 % in all.
    assert run.energies_eV[kept].mean() == pytest.approx(expected, rel=0.04)
    assert run.temperatures_K[kept].mean() == pytest.approx(600, rel=0.04)
    # Fluctuation of the kinetic energy of 3N modes: sqrt(2 / 3N).
    assert run.temperatures_K[kept].std() == pytest.approx(600 * np.sqrt(2 / 375), rel=0.25)


def test_a_relaxed_start_is_at_the_temperature_within_a_vibration():
    start = copper(6)
    settings = MDSettings(600, 2.0, timestep_fs=4, friction_per_ps=0.2, frame_interval_fs=20, chunk_ps=2)
    run = run_md(start, Einstein(start.positions, 3.0), settings, seed=2)
    assert run.temperatures_K[0] == pytest.approx(1200, rel=0.25)
    assert run.temperatures_K[10:].mean() == pytest.approx(600, rel=0.1)


def test_free_particles_diffuse_as_einstein_says_and_are_not_wrapped():
    start = copper(6)
    settings = MDSettings(900, 6.0, timestep_fs=4, friction_per_ps=20, frame_interval_fs=20, chunk_ps=6)
    run = run_md(start, Einstein(start.positions, 0.0), settings, seed=4, gates=Gates(min_distance_ratio=0.0))
    fit = fit_walk([run.positions.reshape(len(run), -1)], 0.02, stride=30)
    mass = 63.546
    expected = units.kB * 900 / (mass * 20 / (1000 * units.fs)) * (1000 * units.fs)
    assert fit.D_A2_per_ps == pytest.approx(expected, abs=4 * fit.error_A2_per_ps)
    assert np.abs(run.positions - start.positions).max() > 4.0 / 2


def test_pressure_is_virial_and_kinetic():
    start = rocksalt("LiF", 4.1)
    run = run_md(start, FumiTosiLiF(), MDSettings(300, 0.02, frame_interval_fs=20), seed=5)
    atoms = Atoms(start.numbers, run.positions[-1], cell=start.cell, pbc=True, calculator=FumiTosiLiF())
    kinetic = len(start) * units.kB * run.temperatures_K[-1] / atoms.get_volume()
    virial = -atoms.get_stress()[:3].mean()
    assert run.pressures_GPa[-1] == pytest.approx((virial + kinetic) / units.GPa, rel=1e-9)
    assert run_md(copper(2), Einstein(copper(2).positions, 1.0), MDSettings(300, 0.1), seed=0).pressure_GPa is None


KILLED = """
import sys
from pathlib import Path
from curator.backends.classical import FumiTosiLiF
from curator.datasets.sources import rocksalt
from curator.md import run_md
from curator.trajectory import MDSettings
settings = MDSettings(900, 1.0, frame_interval_fs=10, chunk_ps=0.05)
run_md(rocksalt("LiF", 4.1), FumiTosiLiF(), settings, seed=[7, 0, 1, 2], folder=Path(sys.argv[1]))
"""


def test_a_killed_run_continues_bit_for_bit(tmp_path: Path):
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (folder / "chunk-0002.npz").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    n_chunks = len(list(folder.glob("chunk-*.npz")))
    assert 3 <= n_chunks < 20

    settings = MDSettings(900, 1.0, frame_interval_fs=10, chunk_ps=0.05)
    started: list[float] = []
    resumed = run_md(
        rocksalt("LiF", 4.1),
        FumiTosiLiF(),
        settings,
        seed=[7, 0, 1, 2],
        folder=folder,
        on_progress=lambda done, total: started.append(done),
    )
    assert started[0] == pytest.approx(0.05 * n_chunks + 0.01)
    undisturbed = run_md(rocksalt("LiF", 4.1), FumiTosiLiF(), settings, seed=[7, 0, 1, 2])
    assert same(resumed, undisturbed)
    assert same(resumed, read_trajectory(folder))


def test_a_run_interrupted_anywhere_continues_bit_for_bit(tmp_path: Path):
    start = copper(2)
    settings = MDSettings(500, 1.0, timestep_fs=4, frame_interval_fs=20, chunk_ps=0.2)
    undisturbed = run_md(start, Einstein(start.positions, 3.0), settings, seed=1)
    for at_ps in (0.02, 0.18, 0.2, 0.5, 1.0):

        def stop(done_ps: float, total_ps: float, at_ps: float = at_ps) -> None:
            assert total_ps == 1.0
            if done_ps >= at_ps - 1e-9:
                raise KeyboardInterrupt

        folder = tmp_path / f"{at_ps}"
        with pytest.raises(KeyboardInterrupt):
            run_md(start, Einstein(start.positions, 3.0), settings, seed=1, folder=folder, on_progress=stop)
        assert same(run_md(start, Einstein(start.positions, 3.0), settings, seed=1, folder=folder), undisturbed)


def test_a_longer_duration_continues_and_a_shorter_one_is_cut_out(tmp_path: Path):
    start = copper(2)
    whole = MDSettings(500, 1.0, timestep_fs=4, frame_interval_fs=20, chunk_ps=0.2)
    part = MDSettings(500, 0.3, timestep_fs=4, frame_interval_fs=20, chunk_ps=0.2)
    undisturbed = run_md(start, Einstein(start.positions, 3.0), whole, seed=1)
    first = run_md(start, Einstein(start.positions, 3.0), part, seed=1, folder=tmp_path)
    assert np.array_equal(first.positions, undisturbed.positions[:16])
    assert same(run_md(start, Einstein(start.positions, 3.0), whole, seed=1, folder=tmp_path), undisturbed)
    assert same(run_md(start, Einstein(start.positions, 3.0), part, seed=1, folder=tmp_path), first)


def test_what_is_cut_out_cost_no_more_than_its_own_chunks(tmp_path: Path):
    start = copper(2)
    whole, part = (MDSettings(500, t, timestep_fs=4, frame_interval_fs=20, chunk_ps=0.2) for t in (1.0, 0.4))
    run_md(start, Einstein(start.positions, 3.0), whole, seed=1, folder=tmp_path)
    for path in sorted(tmp_path.glob("chunk-*.npz")):
        with np.load(path) as stored:
            arrays = dict(stored)
        np.savez(path, **arrays | {"cpu_s": np.array(3.0)})
    for settings, n_chunks in ((whole, 5), (part, 2)):
        run = run_md(start, Einstein(start.positions, 3.0), settings, seed=1, folder=tmp_path)
        assert run.cpu_s == 3.0 * n_chunks


def test_a_run_that_is_made_longer_twice_is_that_of_one_go(tmp_path: Path):
    """Neighbour lists of the potential remember where a chunk began, so a chunk that was cut short is run again."""
    lengths_ps = (0.05, 0.31, 0.7)
    whole, *shorter = (MDSettings(900, t, frame_interval_fs=10, chunk_ps=0.2) for t in reversed(lengths_ps))
    start = rocksalt("LiF", 4.1)
    undisturbed = run_md(start, FumiTosiLiF(), whole, seed=1)
    for settings in reversed(shorter):
        part = run_md(start, FumiTosiLiF(), settings, seed=1, folder=tmp_path)
        assert np.array_equal(part.positions, undisturbed.positions[: len(part)])
    assert same(run_md(start, FumiTosiLiF(), whole, seed=1, folder=tmp_path), undisturbed)


def test_a_run_killed_while_it_is_made_longer_keeps_what_it_had(tmp_path: Path):
    part, whole = (MDSettings(900, t, frame_interval_fs=10, chunk_ps=0.2) for t in (0.3, 0.7))
    start = rocksalt("LiF", 4.1)

    def stop(done_ps: float, _: float) -> None:
        if done_ps > 0.35:
            raise KeyboardInterrupt

    first = run_md(start, FumiTosiLiF(), part, seed=1, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_md(start, FumiTosiLiF(), whole, seed=1, folder=tmp_path, on_progress=stop)
    assert same(run_md(start, FumiTosiLiF(), part, seed=1, folder=tmp_path), first)
    resumed = run_md(start, FumiTosiLiF(), whole, seed=1, folder=tmp_path)
    assert same(resumed, run_md(start, FumiTosiLiF(), whole, seed=1))


def test_seeds_and_models_are_not_mixed(tmp_path: Path):
    start = copper(2)
    settings = MDSettings(500, 0.2, timestep_fs=4, frame_interval_fs=20, chunk_ps=0.1)
    springs = Einstein(start.positions, 3.0)
    first = run_md(start, springs, settings, seed=1, folder=tmp_path, model="a")
    assert not np.array_equal(run_md(start, springs, settings, seed=2).positions, first.positions)
    with pytest.raises(ValueError, match="another seed"):
        run_md(start, springs, settings, seed=2, folder=tmp_path, model="a")
    with pytest.raises(ValueError, match="another model"):
        run_md(start, springs, settings, seed=1, folder=tmp_path, model="b")
    with pytest.raises(ValueError, match=r"another temperature_K \(500 there, 600 here\)"):
        run_md(start, springs, MDSettings(600, 0.2, timestep_fs=4, frame_interval_fs=20), seed=1, folder=tmp_path)
    with pytest.raises(ValueError, match="another start"):
        run_md(copper(3), Einstein(copper(3).positions, 3.0), settings, seed=1, folder=tmp_path, model="a")
    # The same name, other forces.
    with pytest.raises(ValueError, match="forces differ"):
        run_md(start, Einstein(start.positions, 3.1), settings, seed=1, folder=tmp_path, model="a")


class Breaking(Einstein):
    """Springs that give way after some calls, to a force or to an exception."""

    def __init__(self, sites: np.ndarray, n_good: int, force: float | Exception) -> None:
        super().__init__(sites, 3.0)
        self.n_good, self.force = n_good, force

    def __deepcopy__(self, memo: object) -> "Breaking":
        raise TypeError("holds a connection")

    def calculate(self, atoms: Atoms, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.n_good -= 1
        if self.n_good < 0:
            if isinstance(self.force, Exception):
                raise self.force
            self.results["forces"] = np.full_like(atoms.positions, self.force)


@pytest.mark.parametrize(("force", "reason"), [(float("nan"), "not finite"), (50.0, "largest force 86.6 eV/Å")])
def test_a_bad_force_ends_the_trajectory_before_it(tmp_path: Path, force: float, reason: str):
    start = copper(2)
    settings = MDSettings(300, 1.0, timestep_fs=4, frame_interval_fs=20, chunk_ps=0.4)
    run = run_md(start, Breaking(start.positions, 137, force), settings, seed=1, folder=tmp_path)
    assert run.status == "exploded"
    assert reason in run.reason
    assert 0.4 < run.times_ps[-1] < 0.56
    assert np.isfinite(run.positions).all()
    assert run.max_forces_eV_per_A.max() < 30
    assert 1 <= len(run.last_frames) <= 5
    assert all(min_distance_ratio(frame) > 0.5 for frame in run.last_frames)
    assert same(read_trajectory(tmp_path), run)
    # It is over: what is there is given back.
    assert same(run_md(start, Einstein(start.positions, 3.0), settings, seed=1, folder=tmp_path), run)


def test_a_runaway_is_caught_by_its_temperature():
    start = copper(3)
    rng = np.random.default_rng(0)
    start = Frame(start.numbers, start.positions + rng.normal(scale=0.01, size=(27, 3)), start.cell, start.pbc)
    gates = Gates(max_force_eV_per_A=1e6, min_distance_ratio=0.0)
    run = run_md(start, Einstein(copper(3).positions, -2.0), MDSettings(300, 5.0), seed=1, gates=gates)
    assert run.status == "exploded"
    assert "temperature" in run.reason
    assert run.temperatures_K.max() < 300 * (3 + 5 * np.sqrt(2 / 81))


def test_atoms_that_fuse_are_caught_by_their_distance():
    pair = Frame([29, 29], [[0, 0, 0], [0, 0, 2.5]], np.eye(3) * 10, [True] * 3)
    # Springs to one common site, and no repulsion.
    hot = Gates(max_temperature_ratio=100)
    run = run_md(pair, Einstein(np.full((2, 3), [0, 0, 1.25]), 1.0), MDSettings(300, 5.0), seed=1, gates=hot)
    assert run.status == "exploded"
    assert "pair distance" in run.reason
    assert all(min_distance_ratio(frame, 0.5) == 0.5 for frame in [*frames(run), *run.last_frames])


def test_a_calculator_that_raises_on_sane_positions_is_an_error():
    start = copper(2)
    with pytest.raises(ZeroDivisionError):
        run_md(start, Breaking(start.positions, 50, ZeroDivisionError()), MDSettings(300, 1.0), seed=1)


def test_distances_count_across_the_boundary_and_by_element():
    pair = Frame([3, 9], [[0, 0, 0.2], [0, 0, 9.2]], np.eye(3) * 10, [True] * 3)
    assert min_distance_ratio(pair) == pytest.approx(1.0 / (1.28 + 0.57))
    assert min_distance_ratio(Frame(pair.numbers, pair.positions, pair.cell, [False] * 3)) == 1.0


def test_settings_are_checked_and_stored(tmp_path: Path):
    with pytest.raises(ValueError, match="timestep_fs must be positive; got 0"):
        MDSettings(300, 1.0, timestep_fs=0)
    with pytest.raises(ValueError, match="no finished chunk"):
        read_trajectory(tmp_path)
    start = copper(2)
    run = run_md(start, Einstein(start.positions, 3.0), MDSettings(300, 0.2), seed=3, folder=tmp_path, model="x")
    assert json.loads((tmp_path / "header.json").read_text())["model"] == "x"
    assert len(run) == 3
    assert run.cpu_s > 0
    assert frames(run)[0] == start
