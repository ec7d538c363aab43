"""When a campaign ran what: a Gantt chart of its log, with the hours cut out in which nothing ran."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from curator.report.evidence import Tree, lookup, moment, number
from curator.report.panel import BLUE, GREEN, INK, MUTED, ORANGE, PAPER, PURPLE, RULE, SKY, VERMILLION, YELLOW, panel

SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW, MUTED)
"""One for each stage of a campaign."""


@dataclass(frozen=True, slots=True)
class Span:
    """A task: when it began (seconds since 1970), how long it took in seconds, and what it was."""

    start: float
    seconds: float
    role: str
    stage: str
    round: int | None
    failed: bool


def stage_name(value: object) -> str:
    """Kind of a stage from what the log calls it: ``train`` of ``train 2 members on 34 frames``."""
    words = re.match(r"[A-Za-z-]+", str(value or ""))
    return words[0].lower() if words else "other"


def spans_of(events: Iterable[Tree]) -> list[Span]:
    """Tasks that the log says have ended, in the order in which they began."""
    spans = []
    for event in events:
        kind, end = lookup(event, "event"), moment(lookup(event, "time"))
        if end is None or kind not in ("task_finished", "task_failed"):
            continue
        seconds = max(number(event, "seconds") or 0.0, 0.0)
        stage, idx = stage_name(lookup(event, "stage")), number(event, "round")
        role = str(lookup(event, "role") or stage)
        spans.append(
            Span(end - seconds, seconds, role, stage, None if idx is None else int(idx), kind == "task_failed")
        )
    return sorted(spans, key=lambda span: span.start)


@panel(width_in=9.3, height_in=2.7)
def timeline(axes: Axes, spans: Sequence[Span]) -> None:
    """One bar a task, in rows by role, coloured by stage; the first task of each round is marked at the top."""
    clock, cuts = _working_clock(spans)
    total = float(max(clock(span.start + span.seconds) for span in spans)) or 1.0
    unit, name = (3600.0, "h") if total > 7200 else (60.0, "min") if total > 120 else (1.0, "s")
    stages = list(dict.fromkeys(span.stage for span in spans))
    colours = {stage: SERIES[idx % len(SERIES)] for idx, stage in enumerate(stages)}
    ticks, base = [], 0
    for role in dict.fromkeys(span.role for span in spans):
        free_from: list[float] = []
        for span in (span for span in spans if span.role == role):
            lane = next((idx for idx, free in enumerate(free_from) if free <= span.start + 0.05), len(free_from))
            free_from[lane : lane + 1] = [span.start + span.seconds]
            left, right = clock(span.start) / unit, clock(span.start + span.seconds) / unit
            width = max(right - left, 0.0015 * total / unit)
            colour = INK if span.failed else colours[span.stage]
            axes.barh(base + lane, width, left=left, height=0.84, color=colour, ec=PAPER, lw=0.3)
        ticks.append((base + (len(free_from) - 1) / 2, role))
        base += len(free_from) + 1
    for cut in cuts:
        axes.axvline(cut / unit, color=MUTED, lw=0.8, ls=(0, (2, 2)))
    for idx in sorted({span.round for span in spans if span.round is not None and span.round >= 0}):
        at = clock(min(span.start for span in spans if span.round == idx)) / unit
        axes.axvline(at, color=RULE, lw=0.8, zorder=0)
        axes.annotate(
            f"round {idx}",
            (at, 1),
            (2, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=7.5,
            color=MUTED,
        )
    axes.set_yticks([at for at, _ in ticks], [role for _, role in ticks])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(base - 1.4, -0.6), xlim=(0, total / unit), xlabel=f"working time ({name})")
    handles = [Patch(color=colours[stage], label=stage) for stage in stages]
    if any(span.failed for span in spans):
        handles.append(Patch(color=INK, label="failed"))
    axes.figure.legend(handles=handles, loc="outside upper left", ncols=8, handlelength=1, columnspacing=1.4)


def _working_clock(spans: Sequence[Span]) -> tuple[Callable[[float], float], list[float]]:
    """Clock that all but stands still while nothing runs for over 3 % of the working time, and where it was cut."""
    busy: list[list[float]] = []
    for span in spans:
        if busy and span.start <= busy[-1][1]:
            busy[-1][1] = max(busy[-1][1], span.start + span.seconds)
        else:
            busy.append([span.start, span.start + span.seconds])
    longest = max(30.0, 0.03 * sum(end - start for start, end in busy))
    moments: list[float] = list(busy[0])
    shown = [0.0, busy[0][1] - busy[0][0]]
    cuts = []
    for (_, end), (start, next_end) in pairwise(busy):
        gap = start - end
        if gap > longest:
            gap = 0.3 * longest
            cuts.append(shown[-1] + gap / 2)
        moments += [start, next_end]
        shown += [shown[-1] + gap, shown[-1] + gap + next_end - start]
    known: tuple[NDArray[Any], NDArray[Any]] = (np.array(moments), np.array(shown))
    return lambda moment_s: float(np.interp(moment_s, *known)), cuts
