"""Trajectories without a diffusivity: a bound, a refusal, or an error that names what is wrong."""

from dataclasses import replace

import kmc
import numpy as np
import pytest
from walks import D_PER_RATE, measure, trajectory

from curator.diffusion import refusals
from curator.diffusion.measurement import as_json, diffusivity_of_positions, measure_diffusion


@pytest.mark.parametrize("gate", ["exploded", "melted", "not_diffusive", "ions_caged", "not_stationary"])
def test_what_a_gate_says_refuses(gate: str, monkeypatch: pytest.MonkeyPatch):
    run = kmc.collinear(np.random.default_rng(1), 1.0, 60, 0.1)
    assert measure([run], tracer=True).status == "measured"
    monkeypatch.setattr(refusals, gate, lambda *_: "why")
    found = measure([run], tracer=True)
    assert (found.status, found.reasons, found.main, found.tracer) == ("refused", ("why",), None, None)


def test_an_atom_that_cannot_be_followed_is_refused():
    positions = kmc.collinear(np.random.default_rng(3), 0.5, 20, 0.1)
    positions[50:, 7, 1] += 0.45 * kmc.CELL[1, 1]
    with pytest.raises(ValueError, match=r"atom 7 moves by 0.4.* from frame 49 to frame 50.*exploded"):
        measure([positions], unwrapped=False)


def test_without_a_cell_wrapped_positions_are_refused():
    positions = kmc.collinear(np.random.default_rng(3), 0.5, 100, 0.1)
    found = measure([positions % kmc.CELL[0, 0]], unwrapped=False, pbc=[False] * 3)
    assert found.status == "refused"
    assert found.reasons[0].startswith("no cell that is periodic: positions that may be wrapped cannot be followed")
    assert measure([positions], pbc=[False] * 3).status == "measured"


def test_a_replica_given_twice_is_an_error():
    runs = [kmc.collinear(np.random.default_rng(seed), 0.5, 40, 0.1) for seed in range(2)]
    with pytest.raises(ValueError, match="trajectories 1 and 2, counted from 0, are the same"):
        measure([*runs, runs[1][:200].copy()])


def test_carriers_that_are_not_given_are_told():
    runs = [kmc.collinear(np.random.default_rng(1), rate, 100, 0.1) for rate in (1.0, 1e-9)]
    for run, status in zip(runs, ("measured", "bound"), strict=True):
        found = measure([run], n_carriers=None)
        assert found.status == status
        assert found.reasons[-1].startswith("carriers not given: D is that of the sum of 33 mobile ions")
    with pytest.raises(ValueError, match="34 carriers are more than the 33 Li ions"):
        measure(runs, n_carriers=34)


def test_a_bound_of_the_tracer_holds():
    rng = np.random.default_rng(12)
    rate, n_held, n_bounds = 0.05, 0, 0
    for _ in range(30):
        found = measure([kmc.collinear(rng, rate, 60, 0.1)], tracer=True)
        n_bounds += found.status == "bound"
        if found.status == "bound":
            n_held += found.tracer_bound_A2_per_ps > kmc.TRACER_CORRELATION * rate * D_PER_RATE / 33
            assert found.tracer_bound_A2_per_ps < found.bound_A2_per_ps
    assert n_held >= 0.9 * n_bounds > 20


def test_a_flight_of_all_ions_is_no_bound():
    rng = np.random.default_rng(13)
    flight = rng.normal(scale=0.01, size=(1, 33, 3)) * np.arange(1000)[:, None, None]
    positions = kmc.collinear(rng, 1e-9, 99.9, 0.1)
    positions[:, kmc.NUMBERS == 3] += flight
    found = measure([positions])
    assert found.reasons[0].startswith("not diffusive yet: ballistic")


def test_no_hop_is_a_bound():
    runs = [kmc.collinear(np.random.default_rng(seed), 1e-9, 50, 0.1) for seed in range(2)]
    found = measure(runs)
    assert found.status == "bound"
    assert found.D_A2_per_ps is None
    assert found.n_hops < 1
    # Poisson: 3.7 hops at most.
    assert 3.68 <= found.bound_A2_per_ps / (kmc.HOP_LENGTH_A**2 / (6 * 100)) < 6.5
    assert "fewer than 10" in found.reasons[0]
    assert measure(runs, n_carriers=2).bound_A2_per_ps == pytest.approx(found.bound_A2_per_ps / 2)


def test_a_bound_holds():
    rng = np.random.default_rng(5)
    found = [measure([kmc.collinear(rng, 0.05, 60, 0.1)]) for _ in range(60)]
    bounds = [d.bound_A2_per_ps for d in found if d.status == "bound"]
    assert len(bounds) > 50
    assert np.mean(np.array(bounds) > 0.05 * D_PER_RATE) > 0.93


def test_a_melt_is_refused_and_a_hot_crystal_is_not():
    rng = np.random.default_rng(9)
    positions = kmc.collinear(rng, 1.0, 60, 0.1, vibration_A=0.4)
    assert measure([positions]).status == "measured"
    liquid = positions.copy()
    steps = rng.normal(scale=np.sqrt(2 * 0.05 * 0.1), size=liquid[:, 33:].shape)
    liquid[:, 33:] += np.cumsum(steps, axis=0)
    found = measure([liquid])
    assert found.status == "refused"
    assert "the host diffuses, as in a melt: D of F" in found.reasons[0]
    assert found.D_A2_per_ps is None
    assert found.tracer is None
    assert found.n_hops is None


def test_an_explosion_is_refused():
    runs = [trajectory(kmc.collinear(np.random.default_rng(s), 1.0, 40, 0.1), kmc.NUMBERS, kmc.CELL) for s in range(3)]
    good = measure_diffusion(runs, "Li", hop_length_A=kmc.HOP_LENGTH_A, tracer=False)
    assert good.status == "measured"
    assert good.pressure_GPa == pytest.approx(1.5)
    assert good.time_ps == pytest.approx(3 * 38)
    bad = [
        *runs[:2],
        replace(runs[2], status="exploded", reason="largest force 99 eV/Å", positions=runs[2].positions[:9]),
    ]
    found = measure_diffusion(bad, "Li")
    assert found.status == "refused"
    assert found.reasons[0].startswith("exploded: 1 of 3 trajectories, largest force 99 eV/Å;")
    assert (found.D_A2_per_ps, found.bound_A2_per_ps, found.tracer) == (None, None, None)
    only = measure_diffusion(bad[2:], "Li")
    assert only.status == "refused"
    assert only.reasons[0].startswith("exploded: 1 of 1 trajectories")


def test_too_short_is_refused():
    found = measure([kmc.collinear(np.random.default_rng(1), 1.0, 10, 0.1)], equilibration_ps=2.0)
    assert found.status == "refused"
    assert found.reasons[0].startswith("too short: the longest trajectory has 8 ps")
    content = as_json(found)
    assert "hops" in content
    assert content["hops"] is None


@pytest.mark.parametrize("equilibration_ps", [-15.0, np.nan, np.inf])
def test_equilibration_is_a_time(equilibration_ps: float):
    run = kmc.collinear(np.random.default_rng(1), 1.0, 20, 0.1)
    with pytest.raises(ValueError, match=r"equilibration of .* ps must be zero or more and finite"):
        measure([run], equilibration_ps=equilibration_ps)


def test_where_nothing_moves_there_is_a_bound():
    """A walk on a lattice that never hopped: no vibration, and no warning of a division by nothing."""
    still = np.repeat(kmc.collinear(np.random.default_rng(1), 0.5, 1, 0.1)[:1], 300, axis=0)
    found = measure([still], tracer=True)
    assert found.status == "bound"
    assert found.reasons[0].startswith("too few hops: about 0.0 in 29.9 ps")
    assert 0 < found.bound_A2_per_ps < 0.5


def test_a_position_that_is_absurd_is_refused():
    positions = kmc.collinear(np.random.default_rng(1), 0.5, 20, 0.1)
    positions[50, 3, 0] = 1e300
    with pytest.raises(
        ValueError, match=r"an atom moves by .* lattice vectors from one frame to the next; is it broken"
    ):
        measure([positions], unwrapped=False)


def test_a_cell_that_is_not_periodic_is_told_from_none():
    positions = kmc.collinear(np.random.default_rng(1), 0.5, 20, 0.1)
    for cell, begins in ((kmc.CELL, "no cell that is periodic: "), (np.zeros((3, 3)), "no cell: ")):
        found = diffusivity_of_positions(positions, kmc.NUMBERS, cell, 100.0, mobile="Li", pbc=[False] * 3)
        assert found.status == "refused"
        assert found.reasons[0].startswith(begins)


def test_a_hop_has_a_length():
    with pytest.raises(ValueError, match="hop length 0 Å must be positive"):
        measure([kmc.collinear(np.random.default_rng(1), 1.0, 20, 0.1)], hop_length_A=0.0)


def test_a_run_within_its_equilibration_counts_for_nothing_and_keeps_its_number():
    rng = np.random.default_rng(1)
    run, short = (kmc.collinear(rng, 1.0, time_ps, 0.1) for time_ps in (40, 1.5))
    found = measure([short, run], equilibration_ps=2.0)
    assert (found.status, found.n_trajectories) == ("measured", 1)
    run[200:] += np.linspace(0, 50, run.shape[1])[:, None]
    reason = measure([short, run], equilibration_ps=2.0).reasons[0]
    assert reason.startswith("exploded: between frames 179 and 180 after equilibration of trajectory 1")


@pytest.mark.parametrize("interval_fs", [0.0, np.nan, np.inf])
def test_a_frame_interval_is_a_time(interval_fs: float):
    positions = kmc.collinear(np.random.default_rng(1), 1.0, 20, 0.1)
    with pytest.raises(ValueError, match=r"frame interval .* fs must be positive and finite"):
        diffusivity_of_positions(positions, kmc.NUMBERS, kmc.CELL, interval_fs, mobile="Li")


def test_trajectories_must_belong_together():
    positions = kmc.collinear(np.random.default_rng(1), 1.0, 10, 0.1)
    one, hot = (trajectory(positions, kmc.NUMBERS, kmc.CELL, temperature_K) for temperature_K in (800, 900))
    with pytest.raises(ValueError, match="must share"):
        measure_diffusion([one, hot], "Li")
    with pytest.raises(ValueError, match="no trajectory"):
        measure_diffusion([], "Li")
    with pytest.raises(ValueError, match="no Na among the atoms"):
        measure_diffusion([one], "Na")
    with pytest.raises(ValueError, match="'Xx' is not the symbol"):
        measure_diffusion([one], "Xx")
    with pytest.raises(ValueError, match="no host atom"):
        measure_diffusion([one], "Li", host=["Li"])
    with pytest.raises(ValueError, match="host: name an element that stays"):
        measure_diffusion([one], "Li", host=[])
    broken = positions.copy()
    broken[3:, 5] = np.nan
    with pytest.raises(ValueError, match="trajectory 1, frame 3, atom 5: positions must be finite"):
        measure([positions, broken])
