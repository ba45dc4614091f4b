"""The page of a tagging run, and the run's record that later ones are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.text import Text

from mgc.cli.page_parts import found_copies, found_queue, made_map, rows_of
from mgc.cli.tables import facts
from mgc.cluster.run import RunOutcome
from mgc.errors import SchemaError
from mgc.evaluation.drift import Drift, detect_drift
from mgc.models.bundle import load_bundle
from mgc.reports.drift_report import drift_verdict, drift_view, shift_text
from mgc.reports.tagging_report import COUNTED, PAGE_FILE, PageParts, write_tagging_report
from mgc.reports.tagging_table import PACKED, select_listed_tracks
from mgc.storage.store import Store
from mgc.tables.predictions import read_predictions
from mgc.tables.run_log import OutputDirectory
from mgc.tables.run_records import COUNTED as SUMMARY_COLUMNS
from mgc.tables.run_records import RunRecord, read_records, rows_of_commit, summarise_predictions, write_record

RECORDS_READ = 40
MOVED_PRINTED = 8


@dataclass(frozen=True)
class PageMade:
    """Where the page is, and how the run differs from those before."""

    uri: str
    drift: Drift


def latest_tagging_page(outcome: RunOutcome, catalogue: str, bundle: str, output: str) -> str:
    """Return where the page of a run is; of one that had nothing to do, that of the run before."""
    if outcome.run_id is None:
        return Store.open(output).uri(PAGE_FILE)
    return tagging_page(outcome, catalogue, bundle, output).uri


def tagging_page(outcome: RunOutcome, catalogue: str, bundle: str, output: str) -> PageMade:
    """Keep a run's record, compare it with earlier ones, and write the page beside the predictions."""
    place = OutputDirectory(Store.open(output), "predictions")
    commit = next(one for one in reversed(place.commits()) if one.run_id == outcome.run_id)
    prediction_summary = summarise_predictions(rows_of_commit(read_predictions(output, SUMMARY_COLUMNS), commit))
    finished, plan = datetime.now(UTC), outcome.plan
    record = RunRecord(
        run_id=commit.run_id,
        sequence=commit.sequence,
        bundle_fingerprint=load_bundle(bundle).fingerprint,
        catalogue=catalogue,
        tracks_total=plan.wanted_tracks,
        tagged_now=outcome.index.height,
        unchanged=plan.unchanged,
        failed=outcome.failed_by_code,
        audio_seconds=outcome.audio_seconds,
        wall_seconds=outcome.wall_seconds,
        cores=outcome.cores,
        started_at=finished - timedelta(seconds=outcome.wall_seconds),
        finished_at=finished,
        output=output,
        work_seconds=outcome.work_seconds,
        why={"new": plan.new, "changed": plan.changed, "remade": plan.remade, "retried": plan.retried},
        deleted=outcome.deleted,
        restored=outcome.restored,
        prediction_summary=prediction_summary,
    )
    write_record(place, record)
    return page_of(record, catalogue)


def page_of(record: RunRecord, catalogue: str, features: str | None = None) -> PageMade:
    """Write the page of a run of which a record was kept.

    Parameters
    ----------
    features
        Shards of `mgc extract`, to tell near-duplicates by what is heard; None: by length and embedding.
    """
    output = record.output
    runs = read_records(OutputDirectory(Store.open(output), "predictions"), RECORDS_READ)
    earlier = [run for run in runs if run.sequence < record.sequence]
    drift = detect_drift(record, earlier)
    predictions = read_predictions(output, COUNTED)
    listed = select_listed_tracks(predictions)
    layout, map_text = made_map(output, record, listed.track_ids)
    parts = PageParts(
        listed=rows_of(output, PACKED, listed.track_ids),
        sampled=listed.sampled,
        run_ids=_run_ids(record),
        layout=layout,
        map_text=map_text,
        drift=drift_view(drift, [*earlier, record]),
        copies=found_copies(output, record, catalogue, features),
        queue=found_queue(output, record, catalogue),
    )
    return PageMade(write_tagging_report(predictions, record, output, parts), drift)


def last_record(output: str) -> RunRecord:
    """Return the record of the last run over an output directory.

    Raises
    ------
    SchemaError
        There is none.
    """
    records = read_records(OutputDirectory(Store.open(output), "predictions"), RECORDS_READ)
    if not records:
        raise SchemaError(
            f"'{output}' holds no record of a run", "run `mgc tag` first: it keeps one, and makes the page"
        )
    return records[-1]


def show_page(console: Console, made: PageMade) -> None:
    """Print what drifted, and where the page is."""
    rows: dict[str, str | Text] = {"compared": drift_verdict(made.drift)}
    moved = made.drift.moved
    for number, shift in enumerate(moved[:MOVED_PRINTED], 1):
        rows[f"moved {number}"] = Text(shift_text(shift), "yellow")
    if len(moved) > MOVED_PRINTED:
        rows["and"] = f"{len(moved) - MOVED_PRINTED} more, in the report"
    if made.drift.cause:
        rows["cause"] = made.drift.cause
    facts(console, "Drift", rows | {"report": made.uri})


def _run_ids(record: RunRecord) -> tuple[str, ...]:
    place = OutputDirectory(Store.open(record.output), "predictions")
    return tuple(
        sorted(
            {
                part.key.split("/")[1]
                for commit in place.commits()
                if commit.run_id == record.run_id
                for part in commit.parts
            }
        )
    )
