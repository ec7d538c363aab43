"""Numbers with their errors, by known answers."""

import pytest

from curator.quantities import DASH, duration, factor, gap, picoseconds, scientific, significant, with_error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.14213, 0.0083, "0.142(8)"),
        (0.14213, 0.0123, "0.142(12)"),
        (0.14213, 0.0196, "0.14(2)"),
        (0.14213, 0.0096, "0.142(10)"),
        (-0.02, 0.003, "−0.020(3)"),
        (14.23, 1.32, "14.2 ± 1.3"),
        (14.23, 0.32, "14.2(3)"),
        (1423.0, 27.0, "1423 ± 27"),
        (0.142, None, "0.142"),
        (0.142, 0.0, "0.142"),
    ],
)
def test_the_error_decides_how_many_digits_are_shown(value: float, error: float | None, text: str) -> None:
    assert with_error(value, error) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (2.534e-5, 0.2e-5, "2.5(2) × 10⁻⁵"),
        (2.534e-5, None, "2.53 × 10⁻⁵"),
        (9.996e-6, None, "1.00 × 10⁻⁵"),
        (0.0, None, "0"),
    ],
)
def test_powers_of_ten(value: float, error: float | None, text: str) -> None:
    assert scientific(value, error) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.13124, "0.131"), (0.9996, "1.00"), (123.4, "123"), (-0.5, "−0.500"), (0.0, "0"), (1.2e-9, "1.20 × 10⁻⁹")],
)
def test_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.13124, "0.13"),
        (1.234e-9, "1.2 × 10⁻⁹"),
        (9.96e-9, "1.0 × 10⁻⁸"),
        (1.234e7, "1.2 × 10⁷"),
        (float("inf"), "∞"),
        (float("-inf"), "−∞"),
        (float("nan"), DASH),
    ],
)
def test_two_digits_are_two_at_any_size(value: float, text: str) -> None:
    assert significant(value, 2) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.0071, "0.0071 s"),
        (4.26, "4.3 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (4320, "1 h 12 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_comparisons_in_words() -> None:
    assert factor(0.131, 0.024) == "5.5 times smaller than"
    assert factor(0.01, 0.02) == "2.0 times larger than"
    assert factor(0.01, 0.0101) == "about the same as"
    assert gap(0.142, 0.133) == "9 meV above"
    assert gap(0.133, 0.142) == "9 meV below"
    assert gap(0.1330, 0.1333) == "equal, within 1 meV, to"
    assert picoseconds(40) == "40.0 ps"
    assert picoseconds(1500) == "1.50 ns"
