"""Figures from numbers whose picture is known."""

import re

import numpy as np

from curator.report import figures
from curator.report.panel import N_VECTOR_POINTS, times_power


def words_of(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


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
