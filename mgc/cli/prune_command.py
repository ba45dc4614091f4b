"""`mgc prune`: merge an output directory's old runs into one, and delete what killed runs left."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from mgc.cli.app import ConfigOption, SetOption, TakeoverOption, console, settings
from mgc.cli.terminal import announce, counted, facts
from mgc.errors import SchemaError
from mgc.storage.store import Store
from mgc.tables.compact import Pruned, PrunePlan, plan_prune
from mgc.tables.compact import prune as prune_output
from mgc.tables.lease import run_lease
from mgc.tables.run_log import MARKER, OutputDirectory, read_marker


def prune(
    output: Annotated[str, typer.Argument(help="output directory of `mgc tag` or `mgc extract`")],
    keep_days: Annotated[
        float, typer.Option(help="runs of so many days stay as they are; older ones become one", min=0.0)
    ] = 30.0,
    apply: Annotated[bool, typer.Option("--apply", help="do it; without it, only say what would be done")] = False,
    takeover: TakeoverOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Compact the history: older runs become one that holds the newest row of each track; a dry run by default.

    The table can still be read as it was on any of the days kept; rows that were out of date before are deleted.
    No reader may be in the middle of the older parts: after the commit they are deleted.
    """
    chosen = settings(config, set_)
    place = opened_output(output)
    screen = console()
    if not apply:
        _show(place, plan_prune(place, keep_days))
        screen.print("dry run: nothing was changed; add --apply")
        return
    place.store.check_writable()
    with run_lease(place.store, chosen.cluster.lease_seconds, takeover=takeover) as lease:
        plan = plan_prune(place, keep_days)
        lease.require()
        done = None if plan.is_empty else prune_output(place, plan)
    if done is None:
        announce(screen, "Pruning", f"nothing to prune in {place.store.uri()}", done=True)
    else:
        _show_done(place, plan, done)


def opened_output(uri: str) -> OutputDirectory:
    """Return an output directory that is there, whichever kind of table it holds."""
    store = Store.open(uri)
    if not store.exists(MARKER):
        raise SchemaError(f"'{store.uri()}' is no output of mgc", "give the --output of `mgc tag` or `mgc extract`")
    return OutputDirectory(store, str(read_marker(store).get("kind")))


def _show(place: OutputDirectory, plan: PrunePlan) -> None:
    replaced = sum(item.size_bytes for item in plan.replaced)
    waste = sum(item.size_bytes for item in plan.waste)
    rows: dict[str, str | Text] = {
        "runs to merge": f"{len(plan.compacted):,} of {len(place.commits()):,}",
        "rows that stay, of them": f"{plan.kept.height:,}",
        "rows out of date, to delete": f"{plan.dropped:,}",
        "objects to replace": f"{len(plan.replaced):,} ({_megabytes(replaced)})",
        "left by killed runs": f"{len(plan.waste):,} ({_megabytes(waste)})",
    }
    facts(console(), f"Pruning {place.store.uri()}", rows)


def _show_done(place: OutputDirectory, plan: PrunePlan, done: Pruned) -> None:
    rows: dict[str, str | Text] = {
        "runs merged": f"{len(plan.compacted):,}",
        "rows out of date, deleted": f"{done.dropped:,}",
        "objects": f"{done.objects_before:,} → {counted(done.objects_after, 'object')}",
        "size": f"{_megabytes(done.bytes_before)} → {_megabytes(done.bytes_after)}",
    }
    facts(console(), f"Pruned {place.store.uri()}", rows)


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
