"""A panel: one small plot, drawn by matplotlib and made fit to stand inside a page as SVG.

Text stays text and takes the font of the page; ink, grid and paper are CSS variables of the page, so a panel follows
its colour scheme. Colours are those of Okabe and Ito (2008), which all common kinds of colour vision tell apart.
"""

import io
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from curator.quantities import power_of_ten

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
YELLOW = "#f0e442"
INK, MUTED, RULE, PAPER = "#1f2328", "#6b7280", "#d9dde3", "#fefefd"
N_VECTOR_POINTS = 1500
"""Scatters with more points than this are drawn as pixels inside the SVG, which keeps a page small."""

_VARIABLES = {BLUE: "var(--blue)", INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "curator",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.5,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.1,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "savefig.dpi": 200,
}
_P = ParamSpec("_P")


def panel(
    width_in: float = 4.5, height_in: float = 3.1
) -> Callable[[Callable[Concatenate[Axes, _P], None]], Callable[_P, str]]:
    """Turn a function that draws on axes into one that returns the panel as inline SVG."""

    def wrapped(draw: Callable[Concatenate[Axes, _P], None]) -> Callable[_P, str]:
        @wraps(draw)
        def render(*args: _P.args, **kwargs: _P.kwargs) -> str:
            with rc_context(STYLE):
                figure = Figure(figsize=(width_in, height_in), layout="constrained")
                draw(figure.add_subplot(), *args, **kwargs)
                buffer = io.StringIO()
                figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            return _inline(buffer.getvalue(), prefix=draw.__name__)

        return render

    return wrapped


def _inline(svg: str, prefix: str) -> str:
    """Make an SVG document fit to stand inside a page: no header, no fixed size, ids of its own, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r' (xmlns(:xlink)?|version)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg.strip()


# -- small parts ------------------------------------------------------------------------------------------------------


def times_power(value: float, _position: int = 0) -> str:
    """Label of a logarithmic axis, ``10⁻⁴`` or ``5·10⁻⁵``."""
    if value <= 0:
        return ""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    mantissa = round(value / 10.0**exponent)
    return power_of_ten(exponent) if mantissa == 1 else f"{mantissa}·{power_of_ten(exponent)}"


def _log_label(value: float, _position: int = 0) -> str:
    return f"{value:g}" if 0.99e-3 <= value < 0.99e4 else times_power(value)


def log_axis(axes: Axes, which: str) -> None:
    """Logarithmic axis with labels at 1, 2, 5 below two decades, at 1, 2, 3, 5, 7 below one, else at the decades."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    subs = (1.0, 2.0, 3.0, 5.0, 7.0) if high / low < 10 else (1.0, 2.0, 5.0) if high / low < 150 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(_log_label))
    axis.set_minor_formatter(NullFormatter())


def legend_above(axes: Axes, n_columns: int) -> None:
    """Legend above the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside upper left", ncols=n_columns, columnspacing=1.4)


def scatter(axes: Axes, x: ArrayLike, y: ArrayLike, **style: Any) -> None:
    """Points without edges; many of them as pixels."""
    axes.scatter(x, y, **{"linewidths": 0, "rasterized": np.size(x) > N_VECTOR_POINTS, **style})
