"""Do two estimates agree within a tolerance? Yes, no, or the errors are too large to say.

Two one-sided tests (D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15, 657, 1987), each at 5 %.
"""

import math
from dataclasses import dataclass
from typing import Literal

Z95: float = 1.645
"""One-sided 95 % point of the normal distribution."""
MARGIN_OVER_ERROR: float = 4.2
"""Tolerance over the standard error of each of two equal estimates that pass four times in five: √2 (1.645 + 1.3)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its standard error, both finite, the error positive."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Outcome of an equivalence test.

    Attributes
    ----------
    outcome
        ``agrees`` if the difference is below the tolerance even at its 95 % bound, ``differs`` if it is above the
        tolerance even at the lower bound, else ``unclear``.
    text
        The same in words, with the numbers.
    error_over_wanted
        Standard error of the first estimate over the one with which two equal values would usually pass.
    """

    outcome: Literal["agrees", "differs", "unclear"]
    text: str
    error_over_wanted: float


def compare(name: str, a: Estimate, b: Estimate, tolerance: float) -> Comparison:
    """Test whether two independent, normally distributed estimates agree within a tolerance.

    Parameters
    ----------
    name
        What is compared, and its unit; begins the text.
    a, b
        The estimates; ``a`` is the one that can still be improved.
    tolerance
        Largest difference that does not matter.
    """
    difference = abs(a.value - b.value)
    half_width = Z95 * math.hypot(a.error, b.error)
    wanted = tolerance / MARGIN_OVER_ERROR
    most, least = difference + half_width, difference - half_width
    outcome: Literal["agrees", "differs", "unclear"]
    if most < tolerance:
        outcome, told = "agrees", f"the same within {most:.3f}, tolerance {tolerance:.3f}"
    elif least > tolerance:
        outcome, told = "differs", f"differs by {least:.3f} or more, tolerance {tolerance:.3f}"
    else:
        outcome = "unclear"
        told = f"may differ by {most:.3f}, tolerance {tolerance:.3f}; a standard error of {wanted:.3f} would tell"
    return Comparison(outcome, f"{name}: {a} and {b}: {told}", a.error / wanted)
