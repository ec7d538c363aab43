"""Do estimates agree within a tolerance? Yes, no, or the errors are too large to say.

Two one-sided tests (D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15, 657, 1987), each at 5 % where the errors are
known. One that is estimated from few values is too small by chance: where the scatter of two members in three rounds is
all there is, two values at the edge of the tolerance agree in 10 % of cases.
"""

import math
from collections.abc import Sequence
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

    def with_error_of(self, other: float) -> "Estimate":
        """The same value with an independent error added in quadrature."""
        return Estimate(self.value, math.hypot(self.error, other))


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
    """

    outcome: Literal["agrees", "differs", "unclear"]
    text: str


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
    return _tested(f"{name}: {a} and {b}", abs(a.value - b.value), math.hypot(a.error, b.error), tolerance)


def drift(name: str, rounds: Sequence[int], values: Sequence[Estimate], span: int, tolerance: float) -> Comparison:
    """Test whether a trend carries a value by less than a tolerance over some rounds.

    The trend is the slope b of a straight line weighted by w = 1/error², whose variance is 1 / Σ w (k - k̄)² (P. R.
    Bevington, Data Reduction and Error Analysis for the Physical Sciences, chapter 6); the drift is ``b × span``. It
    sees what pairs of rounds do not: a slow drift in one direction, each step of which is within the tolerance.

    Parameters
    ----------
    name
        What is followed, and its unit; begins the text.
    rounds
        Numbers of the rounds, two or more.
    values
        Independent estimates, one a round.
    span
        Rounds over which the drift must not matter.
    tolerance
        Largest drift that does not matter.
    """
    weights = [1 / value.error**2 for value in values]
    total = sum(weights)
    centre = sum(w * k for w, k in zip(weights, rounds, strict=True)) / total
    spread = sum(w * (k - centre) ** 2 for w, k in zip(weights, rounds, strict=True))
    slope = sum(w * (k - centre) * v.value for w, k, v in zip(weights, rounds, values, strict=True)) / spread
    moved = Estimate(slope * span, span / math.sqrt(spread))
    text = f"{name}: the trend of rounds {', '.join(map(str, rounds))} is {moved} in {span} rounds"
    return _tested(text, abs(moved.value), moved.error, tolerance)


def _tested(name: str, difference: float, error: float, tolerance: float) -> Comparison:
    most, least = difference + Z95 * error, difference - Z95 * error
    if most < tolerance:
        return Comparison("agrees", f"{name}: the same within {most:.3f}, tolerance {tolerance:.3f}")
    if least > tolerance:
        return Comparison("differs", f"{name}: differs by {least:.3f} or more, tolerance {tolerance:.3f}")
    return Comparison("unclear", f"{name}: may differ by {most:.3f}, tolerance {tolerance:.3f}")
