"""Progress, told by tasks through small files and shown by the driver: bars on a terminal, plain lines in a log."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from curator.backends.executor import Role
from curator.state import CampaignFolder

PLAIN_INTERVAL_S = 30.0


def tell(path: Path, done: float, total: float, text: str = "") -> None:
    """Say from inside a task how far it is. Losing this file loses nothing."""
    aside = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps({"done": done, "total": total, "text": text}), encoding="utf-8")
        aside.replace(path)


def told(paths: Sequence[Path | None], finished: Set[int]) -> tuple[float, str]:
    """Share of the work done by tasks, and what the first of those still running says.

    Parameters
    ----------
    paths
        File in which each task tells how far it is, or None.
    finished
        Indices of the tasks that have ended.
    """
    done, text = float(len(finished)), ""
    for path in (path for index, path in enumerate(paths) if index not in finished and path is not None):
        with contextlib.suppress(OSError, ValueError, KeyError, ZeroDivisionError):
            content = json.loads(path.read_text(encoding="utf-8"))
            done += min(1.0, content["done"] / content["total"])
            text = text or content["text"]
    return done / max(len(paths), 1), text


class Display:
    """Shows which round, which stage, how far and how long; also keeps ``live.json`` for ``curator status``."""

    def __init__(self, folder: CampaignFolder, console: Console) -> None:
        self._folder = folder
        self._console = console
        self._plain = not console.is_terminal
        self._progress = Progress(
            TextColumn("[bold]{task.fields[place]}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._place = ""
        self._stage = ""
        self._began = time.monotonic()
        self._stage_began = self._began
        self._last_plain = self._began
        self._last_live = 0.0

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def stage(self, place: str, stage: str) -> Iterator[None]:
        """Show one stage while it runs; afterwards a line with its time stays."""
        self._place, self._stage, self._stage_began = place, stage, time.monotonic()
        self._last_plain = self._stage_began
        if not self._plain:
            self._progress.start()
            self._task = self._progress.add_task(stage, place=place, note="", total=1.0)
        try:
            yield
            seconds = time.monotonic() - self._stage_began
            self.say(f"  {place:<10} {stage:<44} {seconds:6.0f} s")
        finally:
            if self._task is not None:
                self._progress.remove_task(self._task)
                self._task = None
                self._progress.stop()
            with contextlib.suppress(OSError):
                self._folder.live.unlink(missing_ok=True)

    def update(self, fraction: float, running: Mapping[Role, int], note: str = "") -> None:
        """Show how far the stage is and how many tasks of each role run."""
        at_work = ", ".join(f"{n} {role}" for role, n in running.items() if n)
        note = "; ".join(part for part in (note, f"running: {at_work}" if at_work else "") if part)
        now = time.monotonic()
        if self._task is not None:
            self._progress.update(self._task, completed=fraction, note=note)
        elif now - self._last_plain > PLAIN_INTERVAL_S:
            self._last_plain = now
            seconds = now - self._stage_began
            about = f" ({note})" if note else ""
            self.say(f"  {self._place:<10} {self._stage}: {100 * fraction:.0f} % after {seconds:.0f} s{about}")
        if now - self._last_live > 1.0:
            self._last_live = now
            self._write_live(fraction, running)

    def _write_live(self, fraction: float, running: Mapping[Role, int]) -> None:
        elapsed = time.monotonic() - self._stage_began
        content: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "place": self._place,
            "stage": self._stage,
            "fraction": round(fraction, 4),
            "elapsed_s": round(elapsed, 1),
            "left_s": round(elapsed * (1 - fraction) / fraction, 1) if fraction > 0.02 else None,
            "running": dict(running),
        }
        aside = self._folder.live.with_suffix(".aside")
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps(content), encoding="utf-8")
            aside.replace(self._folder.live)
