"""Progress of a run: a live line in a terminal, plain lines elsewhere (`ray job logs`, a file)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
)

if TYPE_CHECKING:  # so that a terminal's table needs no Ray
    from mgc.cluster.actor_pool import ChunkProgress

LINE_EVERY_SECONDS = 10.0
"""Between plain lines: a nightly run of hours must not fill its log."""

SPEED_AFTER_SECONDS = 2.0
"""From the first chunk: before, a speed would be a poor estimate."""


@dataclass(frozen=True)
class _First:
    """The first chunk's arrival, from which speed is measured: before it Ray and the actors start."""

    at: float
    items: int
    audio_seconds: float


class Meter:
    """Counts what is done and shows it with rate, failures and time left."""

    def __init__(self, console: Console, label: str, total: int, unit: str = "tracks") -> None:
        self._unit = unit
        self._console = console
        self._label = label
        self._total = total
        self._last_line = time.perf_counter()
        self._done = self._failed = 0
        self._audio_seconds = 0.0
        self._first: _First | None = None
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
        )
        with Progress(*columns, console=self._console, transient=True) as live:
            live.add_task(self._label, total=self._total, rate="starting workers")
            self._live = live
            yield self
        self._live = None

    def advance(self, step: ChunkProgress) -> None:
        """Take in a finished chunk."""
        self._done += step.items
        self._failed += step.failed
        self._audio_seconds += step.audio_seconds
        self._first = self._first or _First(time.perf_counter(), self._done, self._audio_seconds)
        if self._live:
            self._live.update(self._live.task_ids[0], completed=self._done, rate=", ".join(self._rate_parts()))
        elif time.perf_counter() - self._last_line >= LINE_EVERY_SECONDS or self._done == self._total:
            self._last_line = time.perf_counter()
            counts = f"{self._done:,}/{self._total:,} {self._unit}"
            self._console.print(f"{self._label}: {', '.join([counts, *self._rate_parts()])}", soft_wrap=True)

    def _rate_parts(self) -> list[str]:
        parts = [f"{self._failed:,} failed"] if self._failed else []
        first = self._first
        seconds = time.perf_counter() - first.at if first else 0.0
        # The summary that follows the last chunk has the speed of the whole.
        if first is None or seconds < SPEED_AFTER_SECONDS or self._done == self._total:
            return parts
        items_a_second = (self._done - first.items) / seconds
        realtime = (self._audio_seconds - first.audio_seconds) / seconds
        hours, rest = divmod(round((self._total - self._done) / max(items_a_second, 1e-3)), 3_600)
        left = f"{hours}:{rest // 60:02d}:{rest % 60:02d} left"
        return [f"{items_a_second:.1f} {self._unit}/s", f"{realtime:,.0f}× realtime", *parts, left]
