"""The terminal: tables of facts, figures with intervals, and a run's plan, progress and summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from mgc.cluster.progress import Meter
from mgc.evaluation.bootstrap import Figure
from mgc.printable import printable

if TYPE_CHECKING:  # commands that start no Ray do not import it for their tables
    from mgc.cluster.actor_pool import ChunkProgress
    from mgc.cluster.run import RunOutcome
    from mgc.tables.diff import PlanTotals

SHORT_SECONDS = 10.0
"""At work: of a shorter run the speed says little."""
_REASONS = {"new": "new", "changed": "changed", "remade": "to remake", "retried": "to retry"}


def counted(count: int, noun: str) -> str:
    """Return a number and its noun: "1 track", "1,200 tracks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def warned(count: int, rest: str = "") -> Text:
    """Return a number that deserves a look, and what belongs to it."""
    return Text.assemble((f"{count:,}", "yellow"), printable(rest))


def facts(console: Console, title: str, rows: Mapping[str, str | Text]) -> None:
    """Print names and values under a title.

    Values are printed as they are: no markup is read in them, and none is broken into lines, so that a path can
    be copied from a narrow terminal or a log.
    """
    names = [printable(name) for name in rows]
    width = max(map(len, names), default=0)
    console.print(Text(printable(title), "bold"))
    for name, value in zip(names, rows.values(), strict=True):
        shown = printable(value) if isinstance(value, str) else value
        console.print(Text.assemble("  ", (name.ljust(width), "cyan"), "   ", shown), soft_wrap=True)


def announce(console: Console, what: str, rest: str, *, done: bool = False) -> None:
    """Print on one line what begins, in bold, and facts of it; with `done` that there was nothing to do."""
    head = Text("✓", "bold green") if done else Text(what, "bold")
    text = f"{what}: {rest}" if done else rest
    console.print(Text.assemble(head, " ", printable(text)), soft_wrap=True)


def number_text(value: float | None) -> str:
    """Return a figure of three places; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def figure_text(figure: Figure, *, signed: bool = False) -> str:
    """Return a figure with its interval; `signed` for a difference."""
    if figure.value is None:
        return "not defined"
    form = "+.3f" if signed else ".3f"
    text = format(figure.value, form)
    return text if figure.low is None else f"{text}  [{format(figure.low, form)}, {format(figure.high, form)}]"


class Watch:
    """Shows a run's plan, and then its progress in a meter that opens once the plan is known."""

    def __init__(self, console: Console, label: str, limit: int | None, stack: ExitStack) -> None:
        self._console = console
        self._label = label
        self._limit = limit
        self._stack = stack
        self._meter: Meter | None = None

    def show_plan(self, plan: PlanTotals, resumed: int) -> None:
        """Print what there is to do, unless it is nothing: the summary says so."""
        if not plan.chosen and not resumed:
            return
        announce(self._console, self._label, f"{_amount(plan, self._limit)}  ({_plan_text(plan, resumed)})")
        unit = "tracks" if _only_clean(plan) else "views"
        self._meter = self._stack.enter_context(Meter(self._console, self._label, plan.chosen, unit).shown())

    def advance(self, step: ChunkProgress) -> None:
        """Pass a finished chunk to the meter."""
        if self._meter:
            self._meter.advance(step)


@contextmanager
def watched(console: Console, label: str, limit: int | None = None) -> Iterator[Watch]:
    """Return what shows a run while the block runs: its methods are callbacks of `RunOptions`."""
    with ExitStack() as stack:
        yield Watch(console, label, limit, stack)


def dry_summary(console: Console, verb: str, outcome: RunOutcome, limit: int | None) -> None:
    """Print what a run would do, some of the tracks, and how long it is likely to take."""
    plan = outcome.plan
    rows: dict[str, str | Text] = {f"would {verb}": _amount(plan, limit) if plan.tracks else "nothing"}
    rows["because"] = _plan_text(plan, outcome.resumed)
    rows |= {
        f"{_REASONS[reason]}, e.g.": ", ".join(plan.examples[reason])
        for reason in _REASONS
        if reason in plan.examples
    }
    rows["time"] = _forecast_text(outcome)
    facts(console, "Dry run: nothing was written, Ray was not started", rows)


def run_summary(
    console: Console, title: str, outcome: RunOutcome, output: str, readers: Mapping[str, str] | None = None
) -> None:
    """Print a run's short summary: tracks ok, failed by reason, × realtime, where the output is and what reads it."""
    if outcome.run_id is None:
        announce(console, title, f"nothing to do, {_current_text(outcome)} in {output}", done=True)
        return
    facts(console, f"{title} {outcome.run_id}", {**_summary_rows(outcome), "output": output, **(readers or {})})


def tagging_summary(console: Console, outcome: RunOutcome, output: str) -> None:
    """Print the summary of a run of predictions, with how others read them."""
    place = f"{output.rstrip('/')}/current"
    readers = {
        "polars": f'polars.scan_delta("{place}")',
        "pandas, DuckDB": f'deltalake.DeltaTable("{place}").to_pandas(), .to_pyarrow_dataset()',
        "Spark": f'spark.read.format("delta").load("{place}")',
    }
    run_summary(console, "Tagging", outcome, f"{place} (a Delta table)", readers)


def _only_clean(plan: PlanTotals) -> bool:
    return plan.tracks == plan.items


def _amount(plan: PlanTotals, limit: int | None) -> str:
    """Return what there is to do: "3 of 12 tracks", "40 views of 5 of 12 tracks"."""
    tracks = min(plan.tracks, limit or plan.tracks)
    of_all = f"{tracks:,} of " if tracks < plan.tracks else ""
    views = "" if _only_clean(plan) else f"{counted(plan.chosen, 'view')} of "
    return f"{views}{of_all}{counted(plan.tracks, 'track')}"


def _plan_text(plan: PlanTotals, resumed: int) -> str:
    counts = {
        "new": plan.new,
        "changed": plan.changed,
        f"to remake{_makers(plan)}": plan.remade,
        "to retry": plan.retried,
        "resumed from a killed run": resumed,
        "unchanged": plan.unchanged - resumed,
        "views no longer wanted": plan.unwanted,
        "no longer in the catalogue": plan.removed,
        "restored, as they were": plan.restored,
    }
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing in the catalogue"


def _makers(plan: PlanTotals) -> str:
    """Name what made the rows that are there: a wrong directory shows by it."""
    if not plan.made_by:
        return ""
    more = f" and {len(plan.made_by) - 1:,} more" if len(plan.made_by) > 1 else ""
    return f" (made by {plan.made_by[0]}{more})"


def _forecast_text(outcome: RunOutcome) -> str:
    forecast = outcome.forecast
    if not outcome.plan.tracks:
        return "none"
    if forecast is None or forecast.seconds is None:
        return "not known: no earlier run in this output gives a pace"
    workers, runs = counted(forecast.workers or 1, "worker"), counted(forecast.runs, "earlier run")
    return f"about {duration_text(forecast.seconds)} with {workers}, as {runs} went"


def _summary_rows(outcome: RunOutcome) -> dict[str, str | Text]:
    failed = outcome.failed_by_code
    done, tracks = outcome.rows, outcome.tracks
    rows: dict[str, str | Text] = {}
    if done != tracks:
        rows["tracks"] = f"{tracks:,}"
    rows["tracks ok" if done == tracks else "views ok"] = f"{done - sum(failed.values()):,}"
    examples = outcome.failed_examples
    rows |= {f"failed: {code}": warned(count, f", e.g. {examples[code]}") for code, count in failed.items()}
    if failed:
        rows["why"] = "column error_message of their rows; docs/errors.md explains the codes"
    counts = {
        "unchanged, not touched": outcome.plan.unchanged - outcome.resumed,
        "left for the next run": outcome.plan.items - done,
        "resumed from a killed run": outcome.resumed,
        "views no longer wanted": outcome.plan.unwanted,
        "marked deleted": outcome.deleted,
        "restored, as they were": outcome.restored,
        "no longer in the catalogue": outcome.plan.removed - outcome.deleted,
    }
    rows |= {name: f"{count:,}" for name, count in counts.items() if count > 0}
    if done:
        rows["audio"] = duration_text(outcome.audio_seconds)
        rows["time"] = f"{outcome.wall_seconds:.1f} s ({outcome.work_seconds:.1f} s of it at work)"
        speed = outcome.audio_seconds / max(outcome.work_seconds, 1e-9)
        rows["speed"] = f"{_times(speed)}× realtime, {_times(speed / max(outcome.cores, 1))}× per core"
        if outcome.work_seconds < SHORT_SECONDS:
            rows["speed"] += " (too short a run to tell)"
    return rows


def _times(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def _current_text(outcome: RunOutcome) -> str:
    plan, removed = outcome.plan, outcome.plan.removed
    views = f"{plan.unchanged:,} views of " if plan.unchanged != plan.wanted_tracks else ""
    count = plan.wanted_tracks
    text = f"all {views}{count:,} tracks are current" if count != 1 else f"{views or 'the '}one track is current"
    return f"{text} ({removed:,} no longer in the catalogue)" if removed else text


def duration_text(seconds: float) -> str:
    """Return a duration in words: "3 min 05 s", "2 h 07 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
