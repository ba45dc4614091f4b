"""Progress of an experiment: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from mgc.cli.tables import counted
from mgc.cluster.study import Step

LINE_EVERY_SECONDS = 20.0


class CellMeter:
    """Shows cells done, cells a minute, the likely time left, and how far those at work are."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Progress | None = None
        self._started = self._last_line = time.perf_counter()
        self._ended = 0

    @contextmanager
    def shown(self) -> Iterator[CellMeter]:
        """Show progress while the block runs."""
        try:
            yield self
        finally:
            if self._live:
                self._live.stop()
                self._live = None

    def planned(self, total: int, finished: int, todo: int) -> None:
        """Take in how many cells there are, and how many are to be run."""
        done = f", {finished:,} of them finished before" if finished else ""
        self._console.print(f"[bold]experiment[/] {counted(total, 'cell')}{done}", soft_wrap=True)
        self._started = self._last_line = time.perf_counter()
        if not todo or not self._console.is_terminal:
            return
        columns = (SpinnerColumn(), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._live = Progress(*columns, console=self._console, transient=True)
        self._live.add_task("starting", total=todo)
        self._live.start()

    def step(self, step: Step) -> None:
        """Take in how far the run is."""
        ended = step.finished + step.failed
        if self._live:
            self._live.update(
                self._live.task_ids[0], completed=ended, description=escape(", ".join(self._words(step)))
            )
            return
        due = time.perf_counter() - self._last_line >= LINE_EVERY_SECONDS
        if due or (ended == step.total and ended != self._ended):
            self._last_line = time.perf_counter()
            self._console.print(
                escape(f"cells: {ended:,}/{step.total:,}, {', '.join(self._words(step))}"), soft_wrap=True
            )
        self._ended = ended

    def _words(self, step: Step) -> list[str]:
        words = [f"{step.failed:,} failed"] if step.failed else []
        ended, minutes = step.finished + step.failed, (time.perf_counter() - self._started) / 60
        if ended:
            words.append(f"{ended / minutes:.1f} cells/min")
        if step.seconds_left is not None and step.running:
            hours, rest = divmod(round(step.seconds_left), 3_600)
            words.append(f"about {hours}:{rest // 60:02d}:{rest % 60:02d} left")
        words += [label + (f" (epoch {done}/{total})" if total else "") for label, done, total in step.running[:2]]
        return words or ["done"]
