"""Figures about diffusion, from numbers whose picture is known."""

import re

import numpy as np
import pytest

from curator.datasets.units import KB_EV_PER_K
from curator.report.figures_diffusion import Line, Point, arrhenius, ln_D_of


def words_of(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def test_the_band_of_the_fit_is_the_scatter_of_lines_drawn_from_its_covariance() -> None:
    covariance = np.array([[0.141**2, 0.95 * 0.141 * 0.0083], [0.95 * 0.141 * 0.0083, 0.0083**2]])
    line = Line(0.142, 3.9, 0.0083, 0.141, covariance[0, 1], "")
    temperature_K = np.array([400.0, 700.0, 1200.0])
    middle, error = ln_D_of(line, temperature_K)
    ln_D0, Ea_eV = np.random.default_rng(1).multivariate_normal([3.9, 0.142], covariance, size=40_000).T
    drawn = ln_D0[:, None] - Ea_eV[:, None] / (KB_EV_PER_K * temperature_K)
    assert middle == pytest.approx(drawn.mean(axis=0), abs=0.002)
    assert error == pytest.approx(drawn.std(axis=0), rel=0.02)


def test_arrhenius_names_both_units_the_temperatures_and_the_fit() -> None:
    points = [Point(T, 3e-3 * T, 0.1, None, fitted=True) for T in (500.0, 1000.0)]
    points.append(Point(400.0, None, None, 0.9, fitted=False))
    words = words_of(arrhenius(points, Line(0.06, 2.0, 0.01, 0.1, 0.0, "Ea = 0.060(10) eV")))
    assert {"D (Å²/ps)", "D (cm²/s)", "T (K)", "1000 / T (1/K)", "500", "1000", "400"} <= set(words)
    assert {"Ea = 0.060(10) eV", "measured", "bound"} <= set(words)


def test_arrhenius_draws_a_single_bound() -> None:
    assert "bound" in words_of(arrhenius([Point(400.0, None, None, 0.9, fitted=False)], None))
