"""The timeline of a campaign, from logs whose shape is known."""

import re
from typing import Any

from curator.report.timeline import Span, spans_of, stage_name, timeline


def event(kind: str, minute: int, seconds: float | None, **about: Any) -> dict[str, Any]:
    time = f"2026-03-02T{9 + minute // 60:02d}:{minute % 60:02d}:00+00:00"
    return {"time": time, "event": kind, "round": 0, "role": "md", "stage": "explore", "seconds": seconds} | about


def test_tasks_begin_their_seconds_before_they_end_and_are_sorted() -> None:
    log = [
        event("stage_started", 0, None),
        event("task_finished", 9, 60.0, stage="train 2 members on 34 frames", role="train"),
        event("task_finished", 5, 300.0),
        event("task_failed", 6, None, error="killed"),
        event("task_finished", 7, 30.0, time="yesterday"),
    ]
    spans = spans_of(log)
    assert [span.stage for span in spans] == ["explore", "explore", "train"]
    assert [span.failed for span in spans] == [False, True, False]
    assert spans[1].seconds == 0.0
    assert [round(span.start - spans[0].start) for span in spans] == [0, 360, 480]


def test_the_kind_of_a_stage_is_its_first_word() -> None:
    assert stage_name("select: uncertainty and descriptors") == "select"
    assert stage_name("train 2 members on 34 frames") == "train"
    assert stage_name(None) == "other"


def test_a_night_without_work_does_not_stretch_the_time_axis() -> None:
    hour = 3600.0
    before = [Span(hour * idx, hour, "md", "explore", 0, False) for idx in range(3)]
    after = [Span(hour * (idx + 17), hour, "md", "measure", 1, False) for idx in range(2)]
    svg = timeline([*before, *after])
    hours = [float(text) for text in re.findall(r">([\d.]+)</text>", svg)]
    assert 4 <= max(hours) <= 6
    assert "working time (h)" in svg


def test_tasks_at_the_same_time_take_lanes_and_one_after_the_other_share_one() -> None:
    def n_bars_high(spans: list[Span]) -> float:
        boxes = re.findall(r'<path d="M ([\d.]+) ([\d.]+)\s+L [\d.]+ [\d.]+\s+L [\d.]+ ([\d.]+)', timeline(spans))
        return len({round(float(top), 1) for _, top, bottom in boxes if top != bottom})

    one_after_other = [Span(60.0 * idx, 60.0, "md", "explore", 0, False) for idx in range(4)]
    at_once = [Span(0.0, 60.0 + idx, "md", "explore", 0, False) for idx in range(4)]
    assert n_bars_high(at_once) - n_bars_high(one_after_other) == 3


def test_a_log_of_tasks_that_took_no_time_is_drawn() -> None:
    assert "<svg" in timeline([Span(5.0, 0.0, "md", "explore", None, True)])
