"""Progress of a command: a live line in a terminal, plain lines elsewhere (`ray job logs`, a file)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from mgc.printable import printable

if TYPE_CHECKING:  # so that a terminal's table needs no Ray
    from mgc.cluster.actor_pool import ChunkProgress

LINE_EVERY_SECONDS = 10.0
"""Between plain lines: a scheduled run of hours must not fill its log."""

RATE_AFTER_SECONDS = 2.0
"""From the first update: before, a rate would be a poor estimate."""


@dataclass(frozen=True)
class _Count:
    """What is done at a time, in seconds of `time.perf_counter`."""

    at: float
    done: int
    failed: int
    audio_seconds: float


class Meter:
    """Counts what is done of a total and shows it with rate, failures and time left.

    Parameters
    ----------
    label
        What is going on: "extracting".
    unit
        What is counted, in the plural.
    """

    def __init__(self, console: Console, label: str, total: int, unit: str = "tracks") -> None:
        self._console = console
        self._label = label
        self._total = total
        self._unit = unit
        self._first: _Count | None = None  # rates are measured from it: before it Ray and its workers start
        self._count = _Count(time.perf_counter(), 0, 0, 0.0)
        self._line_at = self._count.at
        self._unprinted = ""
        self._live: Progress | None = None

    @contextmanager
    def shown(self) -> Iterator[Meter]:
        """Show progress while the block runs."""
        if not (self._console.is_terminal and self._total):
            try:
                yield self
            finally:
                self._print_line()
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
        )
        with Progress(*columns, console=self._console, transient=True) as live:
            live.add_task(self._label, total=self._total, rate="starting workers")
            self._live = live
            yield self
        self._live = None

    def advance(self, step: ChunkProgress) -> None:
        """Take in a finished chunk."""
        before = self._count
        audio_seconds = before.audio_seconds + step.audio_seconds
        self.update(before.done + step.items, before.failed + step.failed, audio_seconds)

    def update(
        self,
        done: int,
        failed: int = 0,
        audio_seconds: float = 0.0,
        *,
        seconds_left: float | tuple[float, float] | None = None,
        note: str = "",
    ) -> None:
        """Take in all that is done by now.

        Parameters
        ----------
        done
            Failed ones included.
        seconds_left
            A better forecast than the rate's; where it is not sure, at least and at most (infinite: not known).
        note
            What is at work just now.
        """
        self._count = now = _Count(time.perf_counter(), done, failed, audio_seconds)
        self._first = self._first or now
        parts = self._rate_parts(self._first, seconds_left) + [printable(note)] * bool(note)
        if self._live:
            self._live.update(self._live.task_ids[0], completed=done, rate=", ".join(parts))
            return
        self._unprinted = f"{self._label}: {', '.join([f'{done:,}/{self._total:,} {self._unit}', *parts])}"
        if now.at - self._line_at >= LINE_EVERY_SECONDS:
            self._print_line()

    def announce(self, note: str) -> None:
        """Show what is at work before anything is counted; no rate is measured from here."""
        if self._live:
            self._live.update(self._live.task_ids[0], rate=printable(note))
            return
        self._unprinted = f"{self._label}: {printable(note)}"
        if time.perf_counter() - self._line_at >= LINE_EVERY_SECONDS:
            self._print_line()

    def _print_line(self) -> None:
        if self._unprinted:
            self._console.print(self._unprinted, soft_wrap=True, markup=False, highlight=False)
        self._unprinted, self._line_at = "", time.perf_counter()

    def _rate_parts(self, first: _Count, seconds_left: float | tuple[float, float] | None) -> list[str]:
        now = self._count
        failed = [f"{now.failed:,} failed"] if now.failed else []
        seconds = now.at - first.at
        # The summary that follows the last update has the rate of the whole.
        if seconds < RATE_AFTER_SECONDS or now.done == self._total:
            return failed
        rate = (now.done - first.done) / seconds
        realtime = (now.audio_seconds - first.audio_seconds) / seconds
        if seconds_left is None and rate:
            seconds_left = (self._total - now.done) / rate
        parts = [f"{rate:.1f} {self._unit}/s" if rate >= 1 else f"{60 * rate:.1f} {self._unit}/min"] if rate else []
        parts += [f"{realtime:,.0f}× realtime"] if realtime else []
        return parts + failed + ([] if seconds_left is None else _left(seconds_left))


def _left(seconds: float | tuple[float, float]) -> list[str]:
    """Return the time left in words: one time, where both ends differ by less than a fifth."""
    least, most = seconds if isinstance(seconds, tuple) else (seconds, seconds)
    if math.isinf(most):
        return [f"at least {_clock(least)} left"] if least >= 1 else ["time left not known yet"]
    if most - least <= max(1.0, most / 5):
        return [f"{_clock(most)} left"]
    return [f"{_clock(least)} to {_clock(most)} left"]


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3_600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
