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
        typer.echo(json_lines.dumps({"healthy": healthy, **state}))
    else:
        title = f"{state['kind'].capitalize()} in {state['output']}"
        facts(console(), title, _shown(state, max_age, healthy=healthy))
    if not healthy:
        sys.exit(1)


def output_state(output: OutputDirectory, cluster: ClusterConfig) -> dict[str, Any]:
    """Return what `mgc status --json` prints beside `healthy`."""
    last, unfinished = output.last_completed(), output.unfinished_run()
    return {
        "output": output.store.uri(),
        "kind": output.kind,
        "last_completed": last
        and asdict(last)
        | {
            "completed_at": last.completed_at.isoformat(),
            "seconds_ago": (datetime.now(UTC) - last.completed_at).total_seconds(),
        },
        "at_work": [
            {name: getattr(seen.lease, name) for name in ("host", "pid", "since")}
            | {"seconds_ago": seen.seconds_ago, "alive": seen.alive}
            for seen in signs_of_life(output.store, cluster.lease_seconds)
        ],
        "unfinished_run": unfinished and asdict(unfinished),
        **_counts(_current(output) if last else pl.DataFrame(schema=_READ)),
    }


def _current(output: OutputDirectory) -> pl.DataFrame:
    """Return the columns of `_READ` of what readers open; of features, of the newest rows."""
    if output.kind == "predictions":
        return read_predictions(output.store.uri(), list(_READ))
    index = newest_index(output).select("track_id", "error_code", bundle_fingerprint="fingerprint")
    return index.with_columns(pl.lit(None, kind).alias(name) for name, kind in _READ.items() if name not in index)


def _counts(rows: pl.DataFrame) -> dict[str, Any]:
    answered = rows.filter(pl.col("error_code").is_null())
    made = answered["tagged_at"].drop_nulls().sort()
    return {
        "tracks": rows["track_id"].n_unique(),
        "rows": rows.height,
        "failed": counts_by_name(rows["error_code"]),
        "stale": counts_by_name(rows["stale_reason"]),
        "stale_since": _time(rows["stale_since"].min()),
        "answered_at": {
            name: _time(made[place]) if len(made) else None
            for name, place in {"oldest": 0, "median": len(made) // 2, "newest": -1}.items()
        },
        "fingerprints": counts_by_name(answered["bundle_fingerprint"]),
    }


def _time(value: Any) -> str | None:
    return value.isoformat(timespec="seconds") if value is not None else None


def _shown(state: dict[str, Any], max_age: float | None, *, healthy: bool) -> dict[str, str | Text]:
    failed, stale, made = state["failed"], state["stale"], state["answered_at"]
    rows: dict[str, str | Text] = {"last good run": _last_text(state["last_completed"], max_age, healthy=healthy)}
    for number, one in enumerate(state["at_work"]):
        seen = "" if one["alive"] else f": no sign of life for {duration_text(one['seconds_ago'])}"
        who = f"process {one['pid']} on {one['host']}, since {one['since']}{seen}"
        rows["at work" if number == 0 else f"at work, {number + 1}"] = who if one["alive"] else Text(who, "yellow")
    if unfinished := state["unfinished_run"]:
        rows["unfinished run"] = _unfinished_text(unfinished, at_work=any(one["alive"] for one in state["at_work"]))
    rows["tracks"] = f"{state['tracks']:,}"
    rows["without an error"] = f"{state['rows'] - sum(failed.values()):,} of {counted(state['rows'], 'row')}"
    rows |= {f"failed: {code}": warned(count) for code, count in failed.items()}
    rows |= {f"stale: {code}": warned(count, ", the last answer stays") for code, count in stale.items()}
    if state["stale_since"]:
        rows["stale since"] = f"{state['stale_since']}, the oldest"
    if made["median"]:
        rows["answered"] = f"{made['oldest']} to {made['newest']}, half of them before {made['median']}"
    rows |= {f"by {fingerprint}": f"{count:,}" for fingerprint, count in state["fingerprints"].items()}
    return rows


def _last_text(last: dict[str, Any] | None, max_age: float | None, *, healthy: bool) -> str | Text:
    if last is None:
        return Text("none", "" if healthy else "red")
    run = last["run_id"] or "nothing to do"
    refused = last["refused_deletions"]
    missing = f", {refused:,} missing tracks not marked deleted" if refused else ""
    text = f"{duration_text(last['seconds_ago'])} ago ({last['completed_at']}: {run}{missing})"
    return text if healthy else Text(f"{text}, more than {max_age:g} h", "red")


def _unfinished_text(run: dict[str, Any], *, at_work: bool) -> str:
    done = "not planned yet" if run["items"] is None else f"{run['done']:,} of {counted(run['items'], 'item')} done"
    return f"{run['run_id']}: {done}{'' if at_work else '; it was ended, the next run resumes it'}"
