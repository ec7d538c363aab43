"""Activation energies of data made from one."""

import json
from dataclasses import replace

import numpy as np
import pytest

from curator.datasets.units import KB_EV_PER_K
from curator.diffusion.arrhenius import extrapolate, extrapolated_as_json, fit_arrhenius
from curator.diffusion.coefficient import Coefficient
from curator.diffusion.measurement import Diffusivity, as_json

TEMPERATURES_K = (600.0, 900.0, 1400.0)
WINDOW_K = (500.0, 600.0, 700.0, 800.0, 900.0, 1000.0)
EA_EV, LN_D0 = 0.24, 4.0


def measured(temperature_K: float, D: float, relative_error: float) -> Diffusivity:
    collective = Coefficient(D, D * relative_error, (D - 2 * relative_error * D, D + 2 * relative_error * D))
    return Diffusivity("Li", temperature_K, "measured", (), collective, n_hops=50.0, time_ps=100.0, n_trajectories=4)


def exact(temperature_K: float) -> float:
    return float(np.exp(LN_D0 - EA_EV / (KB_EV_PER_K * temperature_K)))


def test_a_straight_line_is_found():
    points = [measured(T, exact(T), error) for T, error in zip(TEMPERATURES_K, (0.3, 0.1, 0.05), strict=True)]
    fit = fit_arrhenius(points)
    assert fit is not None
    assert fit.Ea_eV == pytest.approx(EA_EV)
    assert fit.ln_D0 == pytest.approx(LN_D0)
    assert fit.chi2 == pytest.approx(0, abs=1e-12)
    assert (fit.dof, fit.n_temperatures, fit.temperatures_K) == (1, 3, (600.0, 1400.0))
    assert (fit.n_trajectories, fit.n_hops, fit.time_ps) == (12, 150.0, 300.0)
    assert fit.reasons == ()
    assert fit.p_value == pytest.approx(1)
    assert fit.D0_A2_per_ps == pytest.approx(np.exp(LN_D0))
    assert fit.error_D0_A2_per_ps == pytest.approx(fit.error_ln_D0 * np.exp(LN_D0))


def test_two_temperatures_have_the_error_of_a_slope():
    fit = fit_arrhenius([measured(500, exact(500), 0.2), measured(1000, exact(1000), 0.1)])
    assert fit is not None
    lever = 1 / (KB_EV_PER_K * 500) - 1 / (KB_EV_PER_K * 1000)
    assert fit.error_eV == pytest.approx(np.hypot(0.2, 0.1) / lever)
    assert (fit.dof, fit.p_value) == (0, None)
    (reason,) = fit.reasons
    assert reason.startswith("two temperatures: ")


@pytest.mark.parametrize(("n_hops", "is_told"), [((12.0, 50.0, 50.0), True), ((30.0, 12.0, 50.0), False)])
def test_few_hops_at_the_lowest_temperature_are_told(n_hops: tuple[float, ...], is_told: bool):
    points = [replace(measured(T, exact(T), 0.1), n_hops=n) for T, n in zip(TEMPERATURES_K, n_hops, strict=True)]
    told = [reason for reason in fit_arrhenius(points).reasons if reason.startswith("few hops: about 12 at 600 K")]
    assert bool(told) is is_told
    bound = Diffusivity("Li", 500.0, "bound", ("too few hops",), bound_A2_per_ps=1.0, n_hops=2.0)
    assert fit_arrhenius([bound, *points]).reasons == fit_arrhenius(points).reasons


def test_the_gate_for_hops_lowers_an_activation_energy_of_few():
    """Of a Poisson number of hops at 500 K, twelve in the mean, those fewer than ten are bounds and in no fit."""
    rng = np.random.default_rng(4)
    expected = np.array([12.0, 60.0, 300.0])
    off = []
    for _ in range(400):
        hops = rng.poisson(expected)
        if hops[0] >= 10:
            points = [
                measured(T, exact(T) * n / mean, n**-0.5)
                for T, n, mean in zip((500.0, 700.0, 1000.0), hops, expected, strict=True)
            ]
            off.append(fit_arrhenius(points).Ea_eV - EA_EV)
    assert len(off) < 350
    assert -0.016 < np.mean(off) < -0.004


def test_a_diffusivity_that_falls_as_it_gets_hotter_is_told():
    fit = fit_arrhenius([measured(t, exact(1500 - t), 0.1) for t in (600, 750, 900)])
    assert fit.Ea_eV < 0
    assert fit.reasons[-1].startswith("negative: D falls as the temperature rises, Ea is -0.")
    assert fit.ci95_eV[1] - fit.ci95_eV[0] == pytest.approx(2 * 1.96 * fit.error_eV)


def test_bias_coverage_and_covariance():
    rng = np.random.default_rng(0)
    errors = (0.25, 0.12, 0.06)
    fits = []
    for _ in range(600):
        points = [
            measured(T, exact(T) * np.exp(rng.normal(scale=error)), error)
            for T, error in zip(TEMPERATURES_K, errors, strict=True)
        ]
        fits.append(fit_arrhenius(points))
    values = np.array([(fit.ln_D0, fit.Ea_eV) for fit in fits])
    assert values[:, 1].mean() == pytest.approx(EA_EV, abs=4 * values[:, 1].std() / np.sqrt(600))
    covered = np.mean([fit.ci95_eV[0] < EA_EV < fit.ci95_eV[1] for fit in fits])
    # Scaling with chi² makes it a little more than 95 %.
    assert 0.94 < covered < 0.995
    plain = np.array([fit.covariance for fit in fits if fit.chi2 <= 1])[0]
    assert np.cov(values.T) == pytest.approx(plain, rel=0.2)


def test_extrapolation_by_hand():
    """Two points fix the line: its error elsewhere is that of a lever, and none at a point but its own."""
    fit = fit_arrhenius([measured(500, exact(500), 0.2), measured(1000, exact(1000), 0.1)])
    assert fit is not None
    # 1/T of 250 K is twice that of 500 K: ln D = 3 ln D(500) - 2 ln D(1000) with the errors in the same proportion.
    found = extrapolate(fit, 250)
    assert found.D_A2_per_ps == pytest.approx(exact(250))
    error = np.hypot(3 * 0.2, 2 * 0.1)
    assert found.error_A2_per_ps == pytest.approx(error * exact(250))
    low, high = found.ci95_A2_per_ps
    assert (low, high) == pytest.approx((exact(250) * np.exp(-1.96 * error), exact(250) * np.exp(1.96 * error)))
    assert found.reasons == ("extrapolated by 250 K below the lowest",)
    assert extrapolate(fit, 1000).error_A2_per_ps == pytest.approx(0.1 * exact(1000))
    assert extrapolate(fit, 1000).reasons == extrapolate(fit, 700).reasons == ()
    assert extrapolate(fit, 1200).reasons == ("extrapolated by 200 K above the highest",)
    content = json.loads(json.dumps(extrapolated_as_json(found)))
    assert content["ci95_A2_per_ps"] == [low, high]
    assert content["D_cm2_per_s"] == pytest.approx(1e-4 * exact(250))
    with pytest.raises(ValueError, match="temperature -3 K must be positive"):
        extrapolate(fit, -3)


@pytest.mark.parametrize("temperatures_K", [(600.0, 900.0), TEMPERATURES_K, WINDOW_K])
def test_coverage_of_what_is_extrapolated(temperatures_K: tuple[float, ...]):
    rng = np.random.default_rng(3)
    errors = np.linspace(0.25, 0.06, len(temperatures_K))
    n_covered = 0
    for _ in range(1000):
        points = [
            measured(T, exact(T) * np.exp(rng.normal(scale=error)), error)
            for T, error in zip(temperatures_K, errors, strict=True)
        ]
        low, high = extrapolate(fit_arrhenius(points), 300).ci95_A2_per_ps
        n_covered += low < exact(300) < high
    # Binomial: 950 within 7, and a little more where the covariance is scaled with chi².
    assert 950 - 3 * 7 < n_covered < 990


def test_a_curve_is_called_one_and_its_error_grows():
    bent = [measured(T, exact(T) * (3.0 if T == 900 else 1.0), 0.1) for T in TEMPERATURES_K]
    straight = [measured(T, exact(T), 0.1) for T in TEMPERATURES_K]
    curve, line = fit_arrhenius(bent), fit_arrhenius(straight)
    assert curve is not None
    assert line is not None
    assert curve.chi2 > 20
    assert curve.reasons[0].startswith("curved: Ea goes from")
    assert curve.p_value < 1e-4
    assert curve.error_eV == pytest.approx(line.error_eV * np.sqrt(curve.chi2), rel=1e-6)
    assert curve.covariance[1][1] == pytest.approx(curve.error_eV**2)


def scattered(rng: np.random.Generator, D: np.ndarray, error: float) -> list[Diffusivity]:
    return [measured(T, value * np.exp(rng.normal(scale=error)), error) for T, value in zip(WINDOW_K, D, strict=True)]


def test_a_change_of_phase_inside_the_window_is_named():
    """Two branches that differ in slope, as of a superionic transition: one line is far off with a small error."""
    rng = np.random.default_rng(1)
    below, above = 0.5, 0.15
    inverse = np.array([1 / (KB_EV_PER_K * T) for T in WINDOW_K])
    change = 1 / (KB_EV_PER_K * 750)
    D = np.exp(-np.where(inverse > change, below, above) * (inverse - change))
    fits = [fit_arrhenius(scattered(rng, D, 0.1)) for _ in range(200)]
    named = [fit for fit in fits if fit.reasons and fit.reasons[0].startswith(("kink: Ea is", "curved: Ea goes"))]
    assert len(named) > 195
    found = [fit.reasons[0] for fit in named]
    assert np.mean(["up to 700 K and" in reason and "from 800 K on" in reason for reason in found]) > 0.5
    assert found[0].endswith("the phase may change between them: fit each side by itself")
    # A jump without a change of slope is one too.
    jumped = np.exp(-0.3 * (inverse - change)) * np.where(inverse > change, 1.0, 3.0)
    fit = fit_arrhenius(scattered(rng, jumped, 0.1))
    assert fit.reasons[0].startswith("kink: Ea is")
    assert "from 800 K on" in fit.reasons[0]


@pytest.mark.parametrize("error", [0.05, 0.2])
def test_a_straight_line_is_seldom_called_bent(error: float):
    rng = np.random.default_rng(2)
    D = np.array([exact(T) for T in WINDOW_K])
    called = [bool(fit_arrhenius(scattered(rng, D, error)).reasons) for _ in range(1000)]
    # At most 1 % for a bend and 1 % for a poor fit.
    assert np.mean(called) < 0.02


def test_bounds_and_refusals_are_left_out():
    good = [measured(T, exact(T), 0.1) for T in TEMPERATURES_K]
    bound = Diffusivity("Li", 300.0, "bound", ("few hops",), bound_A2_per_ps=1.0)
    refused = replace(good[0], status="refused", collective=None)
    assert fit_arrhenius([*good, bound, refused]) == fit_arrhenius(good)
    assert fit_arrhenius([good[0], bound]) is None
    assert fit_arrhenius([good[0], measured(600.0, 1.0, 0.1)]) is None
    assert fit_arrhenius([]) is None


def test_a_bound_below_the_line_is_told():
    points = [measured(T, exact(T), 0.05) for T in TEMPERATURES_K]
    for bound, is_told in ((0.1 * exact(500), True), (3 * exact(500), False)):
        fit = fit_arrhenius([*points, Diffusivity("Li", 500.0, "bound", (), bound_A2_per_ps=bound)])
        assert fit is not None
        assert fit.Ea_eV == pytest.approx(EA_EV)
        assert any(reason.startswith("above a bound: the line gives") for reason in fit.reasons) == is_told


def test_json():
    fit = fit_arrhenius([measured(T, exact(T), 0.1) for T in TEMPERATURES_K])
    assert fit is not None
    content = json.loads(json.dumps(as_json(fit), allow_nan=False))
    assert content["Ea_eV"] == pytest.approx(EA_EV)
    assert content["temperatures_K"] == [600.0, 1400.0]
    assert np.shape(content["covariance"]) == (2, 2)
    assert content["hops"] == 150.0
    assert content["D0_cm2_per_s"] == pytest.approx(1e-4 * np.exp(LN_D0))
    assert content["p_value"] == pytest.approx(1)
