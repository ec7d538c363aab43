"""Diffusivities against kinetic Monte Carlo."""

import json
import re

import kmc
import numpy as np
import pytest
from ase.data import atomic_masses
from ase.geometry import cellpar_to_cell
from walks import D_PER_RATE, measure, measure_ions

from curator.datasets.sources import build_seed
from curator.diffusion.measurement import (
    Diffusivity,
    as_json,
    coldest_first,
    diffusivity_of_positions,
    hop_length,
    liquid_diffusivity_of_positions,
)
from curator.diffusion.walk import fit_walk
from curator.positions import unwrap


@pytest.mark.parametrize(
    ("rate", "time_ps", "replicas", "back_jumps"), [(0.2, 100, 1, 0.0), (1.0, 25, 4, 0.0), (0.3, 60, 2, 0.3)]
)
def test_bias_and_coverage_of_the_interstitialcy(rate: float, time_ps: float, replicas: int, back_jumps: float):
    rng = np.random.default_rng(0)
    n_repeats = 40
    ratio, covered = [], 0
    for _ in range(n_repeats):
        runs = [kmc.collinear(rng, rate, time_ps, 0.1, back_jumps=back_jumps) for _ in range(replicas)]
        found = measure(runs)
        if found.status == "measured":
            ratio.append(found.D_A2_per_ps / (rate * D_PER_RATE))
            low, high = found.collective.ci95_A2_per_ps
            covered += low < rate * D_PER_RATE < high
        elif found.status == "bound":
            covered += rate * D_PER_RATE < found.bound_A2_per_ps
    assert len(ratio) >= 0.9 * n_repeats
    assert np.mean(ratio) == pytest.approx(1, abs=0.03 + 3 * np.std(ratio) / np.sqrt(n_repeats))
    # Binomial: 95 % of 40 is 38 within 1.4.
    assert covered >= 38 - 3 * 1.4


def test_hops_are_counted():
    found = measure([kmc.collinear(np.random.default_rng(1), 0.5, 400, 0.1, vibration_A=0.05)])
    assert found.stride_ps == 1
    # Relative errors: of a count of 200, and of a level fitted to 400 modes of three coordinates together with a
    # parabola, for which it has 1 / (1 - (1/3)² / (1/5)) = 9/4 times the variance.
    known = np.hypot(200**-0.5, 1.5 * np.sqrt(2 / (3 * 400)))
    assert found.error_A2_per_ps / found.D_A2_per_ps == pytest.approx(known, rel=0.1)
    assert found.n_hops == pytest.approx(200, abs=3 * known * 200)
    assert found.time_ps == pytest.approx(400)
    assert found.reasons == ()


def test_tracer_and_haven_ratio_of_the_interstitialcy():
    runs = [kmc.collinear(np.random.default_rng(seed), 4.0, 60, 0.1) for seed in range(4)]
    found = measure(runs, tracer=True)
    assert found.tracer is not None
    # Tracers of the collinear mechanism in this cell of 65 atoms: 0.354.
    assert found.haven_ratio == pytest.approx(0.354, abs=3 * found.haven_ratio_error)
    assert found.haven_ratio_error < 0.06
    assert measure(runs).haven_ratio_error is None


def test_the_haven_ratio_of_independent_ions_is_one_within_its_error():
    rng = np.random.default_rng(0)
    ratios, errors = [], []
    for _ in range(40):
        found = measure_ions(kmc.hoppers(rng, 4, 0.5, 100, 0.1), n_carriers=4)
        ratios.append(found.haven_ratio)
        errors.append(found.haven_ratio_error)
    # The mean of 40; a standard deviation of 40 is known to 11 %, and the error is a tenth too large.
    assert np.mean(ratios) == pytest.approx(1, abs=3 * np.std(ratios) / np.sqrt(40) + 0.02)
    assert 0.8 < np.mean(errors) / np.std(ratios) < 1.6


def test_the_tracer_draws_no_global_random_numbers():
    runs = [kmc.collinear(np.random.default_rng(1), 1.0, 20, 0.1)]
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    first = measure(runs, tracer=True)
    assert np.random.random() == expected  # noqa: NPY002
    assert measure(runs, tracer=True).tracer == first.tracer


def test_the_frame_is_that_of_the_host_and_not_of_the_centre_of_mass():
    positions = kmc.collinear(np.random.default_rng(2), 1.0, 100, 0.1, vibration_A=0.0)
    masses = atomic_masses[kmc.NUMBERS]
    centre = np.einsum("a,tad->td", masses, positions) / masses.sum()
    at_rest = positions - (centre - centre[0])[:, None, :]
    lithium = kmc.NUMBERS == 3
    # What the centre of mass costs: (1 - m)², in LiF 0.53.
    lost = (1 - masses[lithium].sum() / masses.sum()) ** 2
    assert lost == pytest.approx(0.528, abs=0.001)
    sums = [run[:, lithium].sum(axis=1) for run in (positions, at_rest)]
    host, mass = (fit_walk([path - path[0]], 0.1, 10).D_A2_per_ps for path in sums)
    assert mass / host == pytest.approx(lost, rel=1e-6)
    # It makes no difference to us, and neither does a drift of everything.
    drift = np.linspace(0, 30, len(positions))[:, None, None] * np.array([1.0, 0.5, -0.2])
    expected = measure([positions]).D_A2_per_ps
    assert measure([at_rest]).D_A2_per_ps == pytest.approx(expected, rel=1e-6)
    assert measure([positions + drift]).D_A2_per_ps == pytest.approx(expected, rel=1e-6)


def test_wrapped_positions_give_the_same():
    positions = kmc.collinear(np.random.default_rng(3), 0.5, 100, 0.1)
    length = kmc.CELL[0, 0]
    expected = measure([positions])
    assert np.abs(positions - positions[0]).max() > length / 2
    for given in (positions, positions % length):
        found = measure([given], unwrapped=False)
        assert found.D_A2_per_ps == pytest.approx(expected.D_A2_per_ps, rel=1e-6)
        assert found.n_hops == pytest.approx(expected.n_hops, rel=1e-6)


def test_wrapped_positions_in_a_skew_cell():
    rng = np.random.default_rng(4)
    cell = np.array([[8.0, 0, 0], [4.0, 7.0, 0], [1.0, 2.0, 9.0]])
    walk = np.cumsum(rng.normal(scale=0.3, size=(500, 4, 3)), axis=0)
    fractional = walk @ np.linalg.inv(cell)
    wrapped = (fractional - np.floor(fractional)) @ cell
    numbers = [3, 3, 9, 9]
    options = {"mobile": "Li", "hop_length_A": 1.0}
    expected = liquid_diffusivity_of_positions(walk, numbers, cell, 100.0, unwrapped=True, **options)
    found = liquid_diffusivity_of_positions(wrapped, numbers, cell, 100.0, **options)
    assert found.msd.msd_A2 == pytest.approx(expected.msd.msd_A2, rel=1e-6)


def test_hops_by_a_third_of_a_skew_cell_are_followed():
    """Lithium in a rhombohedral layered oxide, three by three by three primitive cells: sharp corners, oblique hops."""
    rng = np.random.default_rng(11)
    cell = 3 * cellpar_to_cell([4.96, 4.96, 4.96, 32.98, 32.98, 32.98])
    hop = (cell[0] - cell[1]) / 3
    hops = rng.choice([-1, 0, 1], p=[0.04, 0.92, 0.04], size=(1001, 4, 1)) * hop
    walk = np.cumsum(hops, axis=0) + rng.normal(scale=0.07, size=(1001, 4, 3))
    positions = np.concatenate([walk, np.zeros((1001, 4, 3))], axis=1)
    fractional = positions @ np.linalg.inv(cell)
    folded = (fractional - np.floor(fractional)) @ cell
    for given in (positions, folded):
        assert np.diff(unwrap(given, cell, np.ones(3, dtype=bool)), axis=0) == pytest.approx(np.diff(positions, axis=0))


def test_few_hops_are_said_to_be_few():
    found = measure([kmc.collinear(np.random.default_rng(8), 0.2, 100, 0.1)])
    assert found.status == "measured"
    assert 10 <= found.n_hops < 30
    assert "the error is large" in found.reasons[0]
    low, high = found.collective.ci95_A2_per_ps
    assert high - found.D_A2_per_ps > found.D_A2_per_ps - low > 0


def test_the_scatter_of_replicas_counts_if_it_is_larger():
    # Two replicas move four times as fast as the others: no Poisson process.
    rates = (0.5, 0.5, 2.0, 2.0)
    runs = [kmc.collinear(np.random.default_rng(seed), rate, 60, 0.1) for seed, rate in enumerate(rates)]
    found, three = measure(runs), measure(runs[:3])
    assert found.error_A2_per_ps > 2.5 * found.D_A2_per_ps / np.sqrt(found.n_hops)
    assert three.error_A2_per_ps < 2 * three.D_A2_per_ps / np.sqrt(three.n_hops)


def test_a_replica_too_short_for_the_stride_does_not_matter():
    runs = [kmc.collinear(np.random.default_rng(n), 1.0, time_ps, 0.1) for n, time_ps in enumerate((100.0, 0.6))]
    found = measure(runs, tracer=True)
    assert found.status == "measured"
    assert np.trace(found.collective_tensor.D_A2_per_ps) / 3 == pytest.approx(found.D_A2_per_ps)


def test_carriers_that_forget_their_hops_raise_no_caution():
    found = measure_ions(kmc.hoppers(np.random.default_rng(3), 4, 0.5, 600.0, 0.1), n_carriers=4, tracer=False)
    assert found.status == "measured"
    assert not any("correlated" in reason for reason in found.reasons)
    # Of a carrier, like D: at a lag of 10 ps sixty times four independent stretches know it to some ten per cent.
    lag = int(np.searchsorted(found.msd.lag_ps, 10.0))
    assert found.msd.msd_A2[lag] / (6 * found.msd.lag_ps[lag]) == pytest.approx(found.D_A2_per_ps, rel=0.3)


def test_json_has_units_and_no_nan():
    found = measure([kmc.collinear(np.random.default_rng(1), 1.0, 60, 0.1)], tracer=True, hop_length_A=None)
    content = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert content["D_cm2_per_s"] == pytest.approx(1e-4 * content["D_A2_per_ps"])
    for walk in (content["tracer"], content["collective"]):
        assert walk.keys() == {"D_A2_per_ps", "D_cm2_per_s", "error_A2_per_ps", "ci95", "tensor"}
        assert np.trace(walk["tensor"]["D_A2_per_ps"]) / 3 == pytest.approx(walk["D_A2_per_ps"], rel=1e-4)
        assert walk["tensor"]["n_dimensions"] == 3
        assert walk["ci95"][0] < walk["D_A2_per_ps"] < walk["ci95"][1]
    assert content["collective"]["ci95"] == content["ci95_A2_per_ps"]
    assert content["ci95_A2_per_ps"][0] < content["D_A2_per_ps"] < content["ci95_A2_per_ps"][1]
    # Neighbouring cations, a / sqrt(2), but for the vibrations.
    assert "neighbouring mobile ions, 2." in content["reasons"][-1]
    assert content["replica_error_A2_per_ps"] is None
    assert content["stride_ps"] == found.stride_ps >= 1
    four = measure([kmc.collinear(np.random.default_rng(seed), 1.0, 30, 0.1) for seed in range(4)])
    assert as_json(four)["replica_error_A2_per_ps"] == four.replica_error_A2_per_ps > 0
    bound = as_json(measure([kmc.collinear(np.random.default_rng(1), 1e-9, 60, 0.1)]))
    assert json.loads(json.dumps(bound, allow_nan=False))["D_A2_per_ps"] is None
    assert bound.keys() == content.keys()


def test_hop_length_of_the_seeds():
    interstitial = build_seed("lif-interstitial", 4.0).hop
    vacancy = build_seed("nacl-vacancy", 5.6).hop
    assert interstitial is not None
    assert vacancy is not None
    assert hop_length(interstitial.initial, interstitial.final, "Li") == pytest.approx(np.sqrt(3) / 2 * 4.0)
    assert hop_length(vacancy.initial, vacancy.final, "Na") == pytest.approx(5.6 / np.sqrt(2))


@pytest.mark.parametrize(("rate", "interval_ps", "within"), [(0.3, 0.1, 0.04), (0.01, 1.0, 0.04), (30, 0.5, 0.1)])
def test_a_hop_length_is_guessed_of_slow_ions_and_of_fast_ones(rate: float, interval_ps: float, within: float):
    """Of fast ones the mean over ten frames is between sites: it would give 2.2 Å, not 2.9."""
    run = kmc.collinear(np.random.default_rng(2), rate, 200 * interval_ps, interval_ps)
    known_A = kmc.A / np.sqrt(2)
    assert known_A * (1 - within) < measure([run], hop_length_A=None, temperature_K=None).hop_length_A < known_A


def test_one_guess_serves_all_temperatures():
    runs = {T: [kmc.collinear(np.random.default_rng(1), T / 500, 30, 0.1)] for T in (1000, 500, 700)}

    def at(T: float, guessed_A: float | None) -> Diffusivity:
        return measure(runs[T], temperature_K=T, hop_length_A=None, guessed_hop_length_A=guessed_A)

    found = coldest_first([1000, 500, 700], at)
    assert [d.temperature_K for d in found] == [1000, 500, 700]
    assert {d.hop_length_A for d in found} == {at(500, None).hop_length_A}
    assert at(500, None).hop_length_A != at(1000, None).hop_length_A
    assert all(any(reason.startswith("hop length not given") for reason in d.reasons) for d in found)


def test_diffusion_in_a_plane_is_called_so():
    rng = np.random.default_rng(6)
    run = np.zeros((2001, 2, 3))
    run[:, 0] = kmc.hoppers(rng, 1, 1.0, 200, 0.1)[:, 0] * np.array([1.0, 1.0, 0.0])
    run += rng.normal(scale=0.1, size=run.shape)
    found = diffusivity_of_positions(run, [3, 9], np.eye(3) * 20, 100.0, mobile="Li", unwrapped=True, hop_length_A=2.9)
    assert found.reasons[-1].startswith("two-dimensional: along [")
    assert abs(found.tracer_tensor.axes[2, 2]) == pytest.approx(1, abs=0.01)
    assert found.tracer_tensor.n_dimensions == found.collective_tensor.n_dimensions == 2
    assert found.collective_tensor.D_A2_per_ps[0, 0] == pytest.approx(1.5 * found.D_A2_per_ps, rel=0.3)


def test_many_carriers_may_have_correlated_hops():
    found = measure_ions(kmc.hoppers(np.random.default_rng(7), 16, 0.1, 100, 0.1), n_carriers=16)
    (reason,) = (reason for reason in found.reasons if reason.startswith("hops may be correlated: the collective "))
    # Two residence times of 10 ps each, sixteen times for three coordinates; the residence time is known to a fifth.
    needed_ps = re.search(
        r"run one trajectory, or each, for about (\d+) ps; more replicas of this length do not", reason
    )
    assert needed_ps
    assert needed_ps[1] in ("320", "480")
    assert found.tracer.ci95_A2_per_ps[0] < kmc.known_D(0.1) < found.tracer.ci95_A2_per_ps[1]


def of_concerted_hops(rng: np.random.Generator, n_together: int, n_events: int) -> tuple[Diffusivity, float]:
    """Diffusivity of twelve ions that all conduct, some of them together, and the known one."""
    n, time_ps = 12, 150.0
    found = measure_ions(kmc.concerted(rng, n, n_together, n_events / time_ps, time_ps, 0.1), n_carriers=n)
    return found, n_together**2 * kmc.known_D(n_events / time_ps) / n


@pytest.mark.parametrize("n_together", [1, 3])
def test_ions_that_move_together_are_one_hop(n_together: int):
    """Forty hops of three ions each go as far as 360 of one, and scatter like forty."""
    rng = np.random.default_rng(n_together)
    n_covered, n_told, n_hops, relative = 0, 0, [], []
    for _ in range(25):
        found, known = of_concerted_hops(rng, n_together, 40)
        if found.status == "measured":
            low, high = found.collective.ci95_A2_per_ps
            n_covered += low < known < high
            n_hops.append(found.n_hops)
            relative.append(found.error_A2_per_ps / found.D_A2_per_ps)
            n_told += any(reason.startswith("ions move together") for reason in found.reasons)
    assert len(n_hops) >= 22
    assert n_covered >= len(n_hops) - 4
    assert np.mean(n_hops) == pytest.approx(40, rel=0.2)
    # Of counting alone 16 %.
    assert 0.16 < np.mean(relative) < 0.28
    assert n_told == len(n_hops) if n_together > 1 else n_told <= 4


def test_six_hops_of_three_ions_are_too_few():
    rng = np.random.default_rng(8)
    n_bounds, n_held = 0, 0
    for _ in range(8):
        found, known = of_concerted_hops(rng, 3, 6)
        if found.status == "bound":
            n_bounds += 1
            n_held += found.bound_A2_per_ps > known
            assert any(reason.startswith("ions move together") for reason in found.reasons)
    assert n_held >= n_bounds - 1 > 4


def test_the_intervals_of_unknown_carriers_reach_down_to_many_that_hop_back():
    """Sixteen of them, counted as one: D is too high by a third, and so is the tracer's."""
    rng = np.random.default_rng(5)
    n, rate, correlation = 16, 0.3125, -0.2
    known = kmc.known_D(rate, correlation)
    n_told, n_covered, ratio = 0, 0, []
    for _ in range(12):
        found = measure_ions([kmc.hoppers(rng, n, rate, 100, 0.1, correlation=correlation) for _ in range(2)])
        if found.status == "measured":
            n_told += any(reason.startswith("hops may be correlated if more than one") for reason in found.reasons)
            of_sum, of_ion = found.collective.ci95_A2_per_ps, found.tracer.ci95_A2_per_ps
            n_covered += of_sum[0] < n * known < of_sum[1] and of_ion[0] < known < of_ion[1]
            ratio.append(found.D_A2_per_ps / (n * known))
    assert np.mean(ratio) > 1.2
    assert n_told >= len(ratio) - 1 > 9
    assert n_covered >= len(ratio) - 1


def test_a_single_defect_loses_nothing_but_the_lower_end_of_its_intervals():
    rng = np.random.default_rng(6)
    n_told = 0
    for _ in range(4):
        run = kmc.collinear(rng, 0.5, 200, 0.1)
        one, unknown = (measure([run], n_carriers=n, tracer=True) for n in (1, None))
        told = [reason for reason in unknown.reasons if reason.startswith("hops may be correlated if more than one")]
        assert not any("more than one" in reason for reason in one.reasons)
        for counted, doubted in ((one.collective, unknown.collective), (one.tracer, unknown.tracer)):
            assert (doubted.D_A2_per_ps, doubted.error_A2_per_ps) == (counted.D_A2_per_ps, counted.error_A2_per_ps)
            assert doubted.ci95_A2_per_ps[1] == counted.ci95_A2_per_ps[1]
            assert told or doubted.ci95_A2_per_ps == counted.ci95_A2_per_ps
            assert 0 < doubted.ci95_A2_per_ps[0] <= counted.ci95_A2_per_ps[0]
        n_told += bool(told)
    assert n_told > 0


def test_a_single_ion_is_its_own_tracer():
    rng = np.random.default_rng(3)
    steps = np.zeros((1500, 3))
    at = rng.choice(np.arange(1, 1500), 300, replace=False)
    steps[at, rng.integers(0, 3, 300)] = 2.0 * rng.choice([-1.0, 1.0], 300)
    positions = rng.normal(0, 0.1, (1500, 2, 3))
    positions[:, 0] += np.cumsum(steps, axis=0)
    found = diffusivity_of_positions(
        [positions], [3, 9], 50 * np.eye(3), 1000.0, mobile="Li", temperature_K=800, hop_length_A=2.0, unwrapped=True
    )
    assert found.tracer == found.collective
    assert found.haven_ratio == pytest.approx(1.0)
    assert found.haven_ratio_error == 0
    # Whose residence time of 5 ps is more than half of the stride of 1 ps.
    assert not any("correlated" in reason for reason in found.reasons)
    low, high = found.collective.ci95_A2_per_ps
    assert low < 2.0**2 * 0.2 / 6 < high
