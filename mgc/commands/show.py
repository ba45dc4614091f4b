"""What a run over a catalogue shows: its plan, its progress, its summary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from rich.console import Console

from mgc.cluster.incremental import Outcome, RunOptions
from mgc.cluster.progress import Meter
from mgc.cluster.work import Advance
from mgc.commands.tables import counted, titled
from mgc.data.changes import WorkPlan


@dataclass
class Watch:
    """A run's options, wired to a meter that opens once the plan is known."""

    options: RunOptions
    meter: Meter | None = None

    def advance(self, step: Advance) -> None:
        """Pass a finished chunk to the meter."""
        if self.meter:
            self.meter.advance(step)


@contextmanager
def watched(console: Console, label: str, options: RunOptions) -> Iterator[Watch]:
    """Show the plan, then progress, while the block runs."""
    with ExitStack() as stack:
        watch = Watch(options)

        def on_plan(plan: WorkPlan, adopted: int) -> None:
            total = min(plan.todo.height, options.limit or plan.todo.height)
            if not total and not adopted:  # the summary says so
                return
            of_all = f"{total:,} of " if total < plan.todo.height else ""
            console.print(
                f"[bold]{label}[/] {of_all}{counted(plan.todo.height, 'track')}  ({_plan_text(plan, adopted)})"
            )
            watch.meter = stack.enter_context(Meter(console, label, total).shown())

        watch.options = replace(options, on_plan=on_plan)
        yield watch


def _plan_text(plan: WorkPlan, adopted: int) -> str:
    counts = {
        "new": plan.new,
        "changed": plan.changed,
        "to remake": plan.remade,
        "to retry": plan.retried,
        "taken up from a killed run": adopted,
        "unchanged": plan.unchanged - adopted,
        "no longer in the catalogue": plan.gone,
    }
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing in the catalogue"


def run_summary(console: Console, title: str, outcome: Outcome, output: str) -> None:
    """Print a run's short summary: tracks ok, failed by reason, × realtime, where the output is."""
    if outcome.run_id is None:
        console.print(f"[bold green]✓[/] {title}: nothing to do, {_current_text(outcome)} in {output}")
        return
    failed = outcome.failed_by_code
    done = outcome.index.height
    table = titled(f"{title} {outcome.run_id}")
    table.add_row("tracks ok", f"{done - sum(failed.values()):,}")
    for code, count in failed.items():
        table.add_row(f"failed: {code}", f"[yellow]{count:,}[/]")
    if outcome.plan.unchanged > outcome.adopted:
        table.add_row("unchanged, not touched", f"{outcome.plan.unchanged - outcome.adopted:,}")
    if outcome.plan.todo.height > done:
        table.add_row("left for the next run", f"{outcome.plan.todo.height - done:,}")
    if outcome.adopted:
        table.add_row("taken up from a killed run", f"{outcome.adopted:,}")
    if done:
        table.add_row("audio", _duration(outcome.audio_seconds))
        table.add_row("time", f"{outcome.wall_seconds:.1f} s ({outcome.work_seconds:.1f} s of it at work)")
        speed = outcome.audio_seconds / max(outcome.work_seconds, 1e-9)
        table.add_row("speed", f"{speed:,.0f}× realtime, {speed / max(outcome.cores, 1):,.0f}× per core")
    table.add_row("output", output)
    console.print(table)


def _current_text(outcome: Outcome) -> str:
    n_tracks, gone = outcome.plan.unchanged, outcome.plan.gone
    text = f"all {n_tracks:,} tracks are current" if n_tracks != 1 else "the one track is current"
    return f"{text} ({gone:,} no longer in the catalogue)" if gone else text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
