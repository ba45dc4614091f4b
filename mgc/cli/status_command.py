"""`mgc status`: when a run last ended well, who is at work, what failed and how old the answers are."""

from __future__ import annotations

import json as json_lines
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import polars as pl
import typer
from rich.text import Text

from mgc.cli.app import ConfigOption, SetOption, console, settings
from mgc.cli.prune_command import opened_output
from mgc.cli.terminal import counted, duration_text, facts, warned
from mgc.config import ClusterConfig
from mgc.errors import SchemaError
from mgc.tables.lease import signs_of_life
from mgc.tables.predictions import read_predictions
from mgc.tables.run_index import newest_index
from mgc.tables.run_log import OutputDirectory
from mgc.tables.run_records import counts_by_name

_READ: dict[str, pl.DataType] = {
    name: pl.Datetime("us", "UTC") if name in ("stale_since", "tagged_at") else pl.String()
    for name in ("track_id", "error_code", "stale_reason", "stale_since", "tagged_at", "bundle_fingerprint")
}
"""Columns of the predictions that are looked at."""


def status(
    output: Annotated[str, typer.Argument(help="output directory of `mgc tag` or `mgc extract`")],
    max_age: Annotated[
        float | None,
        typer.Option(help="exit with status 1 where no run ended well for so long", metavar="HOURS", min=0.0),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Say how an output is: the last good run, who is at work and how far, failures by code, the age of answers.

    Nothing is written, Ray is not started. The exit status is 1 where --max-age is given and exceeded.
    """
    state = output_state(opened_output(output), settings(config, set_).cluster)
    last = state["last_completed"]
    healthy = max_age is None or (last is not None and last["seconds_ago"] <= max_age * 3_600)
    if json:
        typer.echo(json_lines.dumps({"healthy": healthy, **state}, default=_time))
    else:
        title = f"{state['kind'].capitalize()} in {state['output']}"
        facts(console(), title, _shown(state, healthy=healthy))
    if not healthy:
        sys.exit(1)


def output_state(output: OutputDirectory, cluster: ClusterConfig) -> dict[str, Any]:
    """Return what `mgc status --json` prints beside `healthy`."""
    last, unfinished = output.last_completed(), output.unfinished_run()
    try:
        rows = _current(output)
    except SchemaError:  # before the first run has ended well there may be nothing to read
        if last:
            raise
        rows = pl.DataFrame(schema=_READ)
    answered = rows.filter(pl.col("error_code").is_null())
    return {
        "output": output.store.uri(),
        "kind": output.kind,
        "last_completed": last
        and asdict(last) | {"seconds_ago": (datetime.now(UTC) - last.completed_at).total_seconds()},
        "at_work": [
            {name: getattr(seen.lease, name) for name in ("host", "pid", "since")}
            | {"seconds_ago": seen.seconds_ago, "alive": seen.alive}
            for seen in signs_of_life(output.store, cluster.lease_seconds)
        ],
        "unfinished_run": unfinished and asdict(unfinished),
        "tracks": rows["track_id"].n_unique(),
        "rows": rows.height,
        "failed": counts_by_name(rows["error_code"]),
        "stale": counts_by_name(rows["stale_reason"]),
        "stale_since": rows["stale_since"].min(),
        "answered_at": [answered["tagged_at"].min(), answered["tagged_at"].max()],
        "fingerprints": counts_by_name(answered["bundle_fingerprint"]),
    }


def _current(output: OutputDirectory) -> pl.DataFrame:
    """Return the columns of `_READ` of what readers open; of features, of the newest rows."""
    if output.kind == "predictions":
        return read_predictions(output.store.uri(), list(_READ))
    index = newest_index(output).select("track_id", "error_code", bundle_fingerprint="fingerprint")
    return index.with_columns(pl.lit(None, kind).alias(name) for name, kind in _READ.items() if name not in index)


def _shown(state: dict[str, Any], *, healthy: bool) -> dict[str, str | Text]:
    rows: dict[str, str | Text] = {
        "last good run": Text(_last_text(state["last_completed"]), "" if healthy else "red")
    }
    alive = [one for one in state["at_work"] if one["alive"]]
    for number, one in enumerate(state["at_work"], 1):
        seen = "" if one["alive"] else f": no sign of life for {duration_text(one['seconds_ago'])}"
        rows[f"at work, {number}"] = f"process {one['pid']} on {one['host']}, since {one['since']}{seen}"
    if run := state["unfinished_run"]:
        done = (
            "not planned yet" if run["items"] is None else f"{run['done']:,} of {counted(run['items'], 'item')} done"
        )
        rows["unfinished run"] = (
            f"{run['run_id']}: {done}{'' if alive else '; it was ended, the next run resumes it'}"
        )
    fine = state["rows"] - sum(state["failed"].values())
    rows["tracks"] = f"{state['tracks']:,}; {fine:,} of {counted(state['rows'], 'row')} without an error"
    rows |= {f"failed: {code}": warned(count) for code, count in state["failed"].items()}
    rows |= {f"stale: {code}": warned(count, ", the last answer stays") for code, count in state["stale"].items()}
    times = {"stale since": [state["stale_since"]], "answered": state["answered_at"]}
    return rows | {name: " to ".join(map(_time, found)) for name, found in times.items() if found[0]}


def _last_text(last: dict[str, Any] | None) -> str:
    if last is None:
        return "none"
    refused = last["refused_deletions"]
    missing = f", {refused:,} missing tracks not marked deleted" if refused else ""
    run = last["run_id"] or "nothing to do"
    return f"{duration_text(last['seconds_ago'])} ago ({_time(last['completed_at'])}: {run}{missing})"


def _time(value: datetime) -> str:
    return value.isoformat(timespec="seconds")
