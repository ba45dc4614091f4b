"""Progress of a run: a live line in a terminal, plain lines elsewhere (`ray job logs`, a file)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from mgc.cluster.work import Advance

LINE_EVERY_SECONDS = 10.0
"""Between plain lines: a nightly run of hours must not fill its log."""


class Meter:
    """Counts what is done and shows it with rate, failures and time left."""

    def __init__(self, console: Console, label: str, total: int) -> None:
        self._console = console
        self._label = label
        self._total = total
        self._started = time.perf_counter()
        self._last_line = self._started
        self._done = self._failed = 0
        self._audio_seconds = 0.0
        self._live: Progress | None = None

    @contextmanager
    def shown(self) -> Iterator[Meter]:
        """Show progress while the block runs."""
        if not self._console.is_terminal or not self._total:
            yield self
            return
        columns = (
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as live:
            live.add_task(self._label, total=self._total, rate="starting workers")
            self._live = live
            yield self
        self._live = None

    def advance(self, step: Advance) -> None:
        """Take in a finished chunk."""
        self._done += step.tracks
        self._failed += step.failed
        self._audio_seconds += step.audio_seconds
        if self._live:
            self._live.update(self._live.task_ids[0], completed=self._done, rate=self._rate())
        elif time.perf_counter() - self._last_line >= LINE_EVERY_SECONDS or self._done == self._total:
            self._last_line = time.perf_counter()
            self._console.print(f"{self._label}: {self._done}/{self._total} tracks, {self._rate()}{self._left()}")

    def _elapsed(self) -> float:
        return max(time.perf_counter() - self._started, 1e-9)

    def _rate(self) -> str:
        seconds = self._elapsed()
        text = f"{self._done / seconds:.1f} tracks/s, {self._audio_seconds / seconds:,.0f}× realtime"
        return f"{text}, {self._failed} failed" if self._failed else text

    def _left(self) -> str:
        if self._done in (0, self._total):
            return ""
        seconds = self._elapsed() / self._done * (self._total - self._done)
        return f", {time.strftime('%H:%M:%S', time.gmtime(seconds))} left"
