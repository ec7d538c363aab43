"""Gates: what must be refused is, and what is only noisy is not."""

import kmc
import numpy as np
import pytest
from ase.data import atomic_masses
from scipy.signal import lfilter

from curator.datasets.units import FS, KB_EV_PER_K
from curator.diffusion import refusals
from curator.diffusion.coefficient import Coefficient, MeasuredWalk, measure_tracer, measure_walk
from curator.diffusion.walk import Plateau, WalkFit


def melted(
    runs: list[np.ndarray], numbers: np.ndarray, is_mobile: np.ndarray, is_host: np.ndarray, length_A: float = 1.0
) -> str:
    moving = refusals.moving_hosts(runs, numbers, is_mobile, is_host, 0.1, length_A)
    return refusals.melted(moving, len(np.unique(numbers[is_host])))


def test_atoms_that_fly_apart_have_exploded_and_thermal_ones_have_not():
    rng = np.random.default_rng(0)
    numbers = np.array([3] * 32 + [9] * 32)
    # Frames so close that the mean velocity between them is the velocity: the largest that equilibrium allows.
    interval_ps = 1e-3
    thermal = np.sqrt(KB_EV_PER_K * 800 / atomic_masses[numbers])[:, None] * 1000 * interval_ps * FS
    run = np.cumsum(rng.normal(size=(2000, 64, 3)) * thermal, axis=0)
    assert refusals.exploded([run], [0], numbers, interval_ps, 800) == ""
    assert refusals.exploded([run], [0], numbers, interval_ps, None) == ""
    wild = run.copy()
    wild[100:, 5] += 1.0
    reason = refusals.exploded([run, wild], [0, 2], numbers, interval_ps, 800)
    assert reason.startswith("exploded: between frames 99 and 100 after equilibration of trajectory 2")
    # A wrong time between frames looks the same, and the reason says so.
    assert "check the time between frames" in refusals.exploded([run], [0], numbers, interval_ps / 3, 800)


def test_hops_enough_in_too_short_a_time_are_told_from_too_few():
    def reason_of(time_ps: float, error: float) -> str:
        fit = WalkFit(1.0, error, 0.0, 10)
        found = Plateau(fit, fit, 5, 1.0)
        walk = MeasuredWalk(Coefficient(1.0, error, (0.1, 3.0)), found, 25 * time_ps / 20, None, False)
        return refusals.too_few_hops(walk, time_ps)

    # Of fit and counting the root of 0.5² + 1/25, 54 %; with (54 / 45)² of the time it is 45 %: 28.6 ps.
    reason = reason_of(20, 0.5)
    assert reason.startswith("too short to tell hops, about 25.0 in 20 ps, from motion in place: an error of 54%: only")
    assert reason.endswith("only an upper bound; run about 29 ps in all")
    assert reason_of(29, 0.5 * np.sqrt(20 / 29)) == ""
    assert reason_of(28, 0.5 * np.sqrt(20 / 28)).startswith("too short to tell hops")
    assert reason_of(7, 0.1).startswith("too few hops: about 8.8 in 7 ps, fewer than 10")


def test_a_run_that_slows_down_is_not_stationary():
    rng = np.random.default_rng(1)
    n_alarms = 0
    for _ in range(100):
        paths = [kmc.hoppers(rng, 1, 0.5, 100, 0.1)[:, 0] for _ in range(2)]
        n_alarms += bool(refusals.not_stationary(paths, measure_walk(paths, 0.1, kmc.HOP_LENGTH_A), 0.1))
    assert n_alarms <= 3
    fast, slow = (kmc.hoppers(rng, 1, rate, 100, 0.1, 0.0)[:, 0] for rate in (2.0, 0.1))
    path = np.concatenate([fast, slow + fast[-1] - slow[0]])
    reason = refusals.not_stationary([path], measure_walk([path], 0.1, kmc.HOP_LENGTH_A), 0.1)
    assert reason.startswith("not stationary: the summed displacement diffuses by")
    assert reason.endswith("leave out more as equilibration and run longer")


@pytest.mark.parametrize(("n_host", "begins"), [(1, "melted: the host diffuses"), (2, "host diffuses: D of F")])
def test_a_host_of_which_a_part_diffuses_is_no_melt(n_host: int, begins: str):
    rng = np.random.default_rng(2)
    numbers = np.array([3] * 8 + [9] * 8 + [17] * 8 * (n_host - 1))
    moves = np.array([1.0] * 8 + [0.5] * 8 + [0.0] * 8 * (n_host - 1))
    run = np.cumsum(rng.normal(scale=0.2, size=(1000, len(numbers), 3)) * moves[:, None], axis=0)
    run += rng.normal(scale=0.1, size=run.shape)
    assert melted([run], numbers, numbers == 3, numbers != 3).startswith(begins)
    run[:, 8:] = rng.normal(scale=0.1, size=run[:, 8:].shape)
    assert melted([run], numbers, numbers == 3, numbers != 3) == ""


@pytest.mark.parametrize("n_frames", [7, 90])
def test_a_short_replica_hides_no_melt_and_makes_none(n_frames: int):
    rng = np.random.default_rng(8)
    numbers = np.array([3] * 8 + [9] * 8)
    melt = np.cumsum(rng.normal(scale=0.2, size=(600, 16, 3)), axis=0)
    reason = melted([melt, melt[:n_frames]], numbers, numbers == 3, numbers != 3)
    assert reason.startswith("melted: the host diffuses")
    assert melted([melt[:60]], numbers, numbers == 3, numbers != 3).startswith("melted: the host diffuses")
    assert melted([melt[:8]], numbers, numbers == 3, numbers != 3) == ""
    # Vibrations that nine picoseconds alone might take for diffusion.
    solid = lfilter([0.1], [1, -0.8], rng.normal(size=(600, 16, 3)), axis=0)
    solid[:, 0] += np.cumsum(rng.normal(scale=0.2, size=(600, 3)), axis=0)
    assert melted([solid, solid[:n_frames]], numbers, numbers == 3, numbers != 3) == ""


@pytest.mark.parametrize("memory_ps", [0.15, 0.3])
def test_vibrations_of_short_runs_are_no_melt(memory_ps: float):
    rng = np.random.default_rng(10)
    numbers = np.array([3] * 16 + [9] * 16)
    left = np.exp(-0.1 / memory_ps)
    for n_frames in (9, 19, 39, 69, 81):
        for _ in range(10):
            solid = lfilter([0.15 * np.sqrt(1 - left**2)], [1, -left], rng.normal(size=(200, 32, 3)), axis=0)
            assert melted([solid[-n_frames:]], numbers, numbers == 3, numbers != 3, 2.8) == ""


@pytest.mark.parametrize(("n_turned", "diffuses"), [(3, False), (16, True)])
def test_a_few_atoms_that_turn_are_no_host_that_diffuses(n_turned: int, diffuses: bool):
    """While no mobile ion hops, some of sixteen host atoms go to another place once; three are less than ten hops."""
    rng = np.random.default_rng(11)
    numbers = np.array([3] * 16 + [9] * 16)
    runs = [rng.normal(scale=0.1, size=(200, 32, 3)) for _ in range(2)]
    turned = 2.4 / np.sqrt(3) * rng.choice([-1, 1], size=(n_turned, 3))
    runs[0][120:, 16 : 16 + n_turned] += turned
    reason = melted(runs, numbers, numbers == 3, numbers != 3, 2.8)
    assert reason.startswith("host diffuses: far faster") if diffuses else not reason


def test_a_host_that_leaves_the_mobile_species_behind_is_the_mobile_species():
    rng = np.random.default_rng(6)
    numbers = np.array([3] * 32 + [9] * 32)
    run = rng.normal(scale=0.1, size=(1000, 64, 3))
    run[:, :32] += np.cumsum(rng.normal(scale=0.2, size=(1000, 32, 3)), axis=0)
    reason = melted([run], numbers, numbers == 9, numbers == 3)
    assert reason.startswith("host diffuses: far faster than the mobile species: D of Li is ")
    assert melted([run], numbers, numbers == 3, numbers == 9) == ""


def test_a_host_that_is_slow_beside_fast_ions_is_told():
    """It diffuses by a thirtieth of what the ions do, and no atom stays within reach of its place."""
    rng = np.random.default_rng(12)
    numbers = np.array([3] * 4 + [9] * 27)
    steps = np.where(numbers == 3, np.sqrt(2 * 1.2 * 0.1), np.sqrt(2 * 0.04 * 0.1))
    run = np.cumsum(rng.normal(size=(2000, 31, 3)) * steps[:, None], axis=0)
    moving = refusals.moving_hosts([run], numbers, numbers == 3, numbers == 9, 0.1, 2.8)
    assert refusals.melted(moving, 1) == ""
    (reason,) = refusals.unsteady_host(moving, 27, 4, 2.8)
    assert reason.startswith("host moves too: D of F is 0.04 Å²/ps, that of the mobile species 1.2 Å²/ps")
    run[:, 4:] = rng.normal(scale=0.1, size=(2000, 27, 3))
    assert (
        refusals.unsteady_host(refusals.moving_hosts([run], numbers, numbers == 3, numbers == 9, 0.1, 2.8), 27, 4, 2.8)
        == ()
    )


@pytest.mark.parametrize(("n_host", "told"), [(1, "one atom stays, 27 move"), (5, "5 atoms stay, 27 move"), (7, "")])
def test_a_host_of_few_atoms_is_told(n_host: int, told: str):
    reasons = refusals.unsteady_host([], n_host, 27, 2.8)
    assert reasons == ((f"host of few atoms: {told}; is that the right species?",) if told else ())


def test_a_flight_is_ballistic():
    rng = np.random.default_rng(3)
    noise = rng.normal(scale=0.2, size=(1001, 3))
    flight = np.linspace(0, 60, 1001)[:, None] * np.array([1.0, 0.5, 0.2]) + noise
    never_turned = np.cumsum(np.cumsum(rng.normal(scale=0.01, size=(1001, 3)), axis=0), axis=0)
    for path in (flight, never_turned):
        found = measure_walk([path], 0.1, 1.0).plateau
        assert refusals.not_diffusive([path], found, 0.1).startswith(
            "not diffusive yet: ballistic, motion over 33.4 ps"
        )
    n_alarms = 0
    for _ in range(200):
        path = kmc.hoppers(rng, 1, 0.3, 100, 0.1)[:, 0]
        n_alarms += bool(refusals.not_diffusive([path], measure_walk([path], 0.1, kmc.HOP_LENGTH_A).plateau, 0.1))
    assert n_alarms <= 2


def test_a_walk_along_one_axis_is_neither_caged_nor_ballistic():
    """Of nine degrees of freedom of the slowest modes three walk; counted as nine, one walk in ten would be refused."""
    rng = np.random.default_rng(5)
    n_alarms = 0
    for _ in range(150):
        path = kmc.hoppers(rng, 1, 0.3, 200, 0.2)[:, 0]
        path[:, 1:] = rng.normal(scale=0.1, size=path[:, 1:].shape)
        n_alarms += bool(refusals.not_diffusive([path], measure_walk([path], 0.2, kmc.HOP_LENGTH_A).plateau, 0.2))
    assert n_alarms <= 3


def test_a_cage_is_caged():
    """Where one ion is all there is: three coordinates and three modes tell six cages in seven."""
    rng = np.random.default_rng(4)
    n_refused = 0
    for _ in range(60):
        cage = lfilter([0.3], [1, -0.97], rng.normal(size=(1001, 3)), axis=0)
        walk = measure_walk([cage], 0.1, 1.0)
        caged = refusals.not_diffusive([cage], walk.plateau, 0.1).startswith("not diffusive yet: caged, ")
        n_refused += bool(caged or refusals.too_few_hops(walk, 100))
    assert n_refused >= 45


def sum_and_ions(ions: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    from_start = ions - ions[0]
    return [from_start.sum(axis=1)], [from_start.reshape(len(ions), -1)]


def refused_as_caged(ions: np.ndarray, interval_ps: float) -> bool:
    """Whether the sum is refused as caged, where three coordinates of it found nothing amiss and enough hops."""
    paths, each = sum_and_ions(ions)
    walk = measure_walk(paths, interval_ps, 2.9)
    time_ps = (len(ions) - 1) * interval_ps
    if refusals.too_few_hops(walk, time_ps) or refusals.not_diffusive(paths, walk.plateau, interval_ps):
        return True
    tracer = measure_tracer(each, interval_ps, 2.9, time_ps / walk.n_hops)
    return bool(refusals.ions_caged(paths, each, tracer, interval_ps))


def test_a_sum_of_caged_ions_is_caged_and_that_of_a_defect_is_not():
    """Cages in which ions remember their place for 10 of 100 ps, and an interstitial that moves 33 ions a little."""
    rng = np.random.default_rng(7)
    n_caged = n_alarms = 0
    for _ in range(40):
        slow = lfilter([np.sqrt(1 - np.exp(-0.04))], [1, -np.exp(-0.02)], rng.normal(size=(1001, 31, 3)), axis=0)
        n_caged += refused_as_caged(0.3 * slow[500:], 0.2)
        ions = kmc.collinear(rng, 0.5, 200, 0.2)[:, kmc.NUMBERS == 3]
        n_alarms += refused_as_caged(ions, 0.2)
    assert n_caged >= 36
    assert n_alarms <= 1
