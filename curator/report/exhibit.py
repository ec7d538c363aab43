"""A figure with its caption, as the report shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from curator.report.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Captioned:
    """A figure as the page shows it; without ``svg`` the caption explains what is missing."""

    key: str
    title: str
    caption: str
    svg: str | None = None
    wide: bool = False


Said = tuple[str, str | None]


def exhibit(
    title: str, *, wide: bool = False
) -> Callable[[Callable[[Evidence], Said]], Callable[[Evidence], Captioned]]:
    """Name a function that returns a caption and an SVG; evidence that it trips over costs one figure, not the page."""

    def named(say: Callable[[Evidence], Said]) -> Callable[[Evidence], Captioned]:
        @wraps(say)
        def shown(evidence: Evidence) -> Captioned:
            try:
                caption, svg = say(evidence)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                caption, svg = f"This figure could not be drawn from what the campaign left: {error}.", None
            return Captioned(say.__name__, title, caption, svg, wide)

        return shown

    return named
