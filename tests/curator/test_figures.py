"""Figures from numbers whose picture is known."""

import re

import numpy as np
import pytest

from curator import figures
from curator.datasets.units import KB_EV_PER_K
from curator.panel import N_VECTOR_POINTS, times_power


def words_of(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def test_the_band_of_the_fit_is_the_scatter_of_lines_drawn_from_its_covariance() -> None:
    covariance = np.array([[0.141**2, 0.95 * 0.141 * 0.0083], [0.95 * 0.141 * 0.0083, 0.0083**2]])
    line = figures.Line(0.142, 3.9, 0.0083, 0.141, covariance[0, 1], "")
    temperature_K = np.array([400.0, 700.0, 1200.0])
    middle, error = figures.ln_D_of(line, temperature_K)
    ln_D0, Ea_eV = np.random.default_rng(1).multivariate_normal([3.9, 0.142], covariance, size=40_000).T
    drawn = ln_D0[:, None] - Ea_eV[:, None] / (KB_EV_PER_K * temperature_K)
    assert middle == pytest.approx(drawn.mean(axis=0), abs=0.002)
    assert error == pytest.approx(drawn.std(axis=0), rel=0.02)


def test_arrhenius_names_both_units_the_temperatures_and_the_fit() -> None:
    points = [figures.Point(T, 3e-3 * T, 0.1, None, fitted=True) for T in (500.0, 1000.0)]
    points.append(figures.Point(400.0, None, None, 0.9, fitted=False))
    words = words_of(figures.arrhenius(points, figures.Line(0.06, 2.0, 0.01, 0.1, 0.0, "Ea = 0.060(10) eV")))
    assert {"D (Å²/ps)", "D (cm²/s)", "T (K)", "1000 / T (1/K)", "500", "1000", "400"} <= set(words)
    assert {"Ea = 0.060(10) eV", "measured", "bound"} <= set(words)


def test_arrhenius_draws_a_single_bound() -> None:
    assert "bound" in words_of(figures.arrhenius([figures.Point(400.0, None, None, 0.9, fitted=False)], None))


def test_small_numbers_on_a_logarithmic_axis_keep_their_mantissa() -> None:
    words = words_of(figures.force_error([10, 20], [5e-4, 1.2e-4], None))
    assert {"5·10⁻⁴", "2·10⁻⁴"} <= set(words)
    assert times_power(1e-5) == "10⁻⁵"
    assert times_power(0.0) == ""


def test_bars_add_up() -> None:
    words = words_of(figures.labels_by_reason([0, 1], {"random": [4, 4], "uncertain": [0, 9], "test": [16, 0]}))
    assert {"20", "13", "random", "uncertain", "test"} <= set(words)


def test_many_points_become_pixels_and_few_stay_paths() -> None:
    rng = np.random.default_rng(0)
    few, many = (rng.normal(size=(n, 3)) for n in (20, N_VECTOR_POINTS))
    assert "<image" not in figures.force_parity(few, {"model": few})
    assert "data:image/png;base64" in figures.force_parity(many, {"model": many})


def test_drawing_twice_gives_the_same_picture() -> None:
    numbers = ([20, 40], [0.1, 0.05], 0.2)
    assert figures.force_error(*numbers) == figures.force_error(*numbers)


def test_text_is_never_mathematics() -> None:
    assert "$x_1$" in words_of(figures.labels_by_reason([0], {"$x_1$": [3]}))
