"""`mgc report`: the page of a tagging run, and the run's record that later runs are compared with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.text import Text

from mgc.catalogue.index import catalogue_root, read_catalogue, scan_catalogue
from mgc.cli.app import console, plain
from mgc.cli.terminal import counted, facts
from mgc.cluster.run import RunOutcome
from mgc.curation.duplicates import TRACKS_AT_MOST, duplicate_groups, lookalikes, read_fingerprints
from mgc.curation.review_queue import READ, ReviewOptions, review_queue
from mgc.curation.similarity import embedding_matrix
from mgc.errors import SchemaError
from mgc.evaluation.drift import Drift, detect_drift
from mgc.models.bundle_files import read_bundle_files
from mgc.models.model_card import promise_lines
from mgc.reports.page import count
from mgc.reports.tagging_report import (
    COUNTED,
    PAGE_FILE,
    NearDuplicates,
    PageParts,
    ReviewQueue,
    drift_verdict,
    drift_view,
    shift_text,
    write_tagging_report,
)
from mgc.reports.tagging_table import MAX_LISTED_ROWS, PACKED, pairs, select_listed_tracks
from mgc.reports.track_map import TRACKS_ON_MAP, TrackMap, lay_out_map
from mgc.storage.store import ObjectNotFoundError, Store
from mgc.tables.predictions import prediction_batches, read_predictions
from mgc.tables.run_log import OutputDirectory
from mgc.tables.run_records import COUNTED as SUMMARY_COLUMNS
from mgc.tables.run_records import (
    PredictionCounts,
    PredictionSummary,
    RunRecord,
    read_records,
    rows_of_runs,
    write_record,
)

MAP_FILE = "report/map.json"
REVIEWED_AT_MOST = 10_000
QUEUE_SHOWN = 20
COPIES_SHOWN = 1_000
RECORDS_READ = 40
MOVED_PRINTED = 8
_COPY_COLUMNS = ["track_id", "uri", "duration_seconds", "embedding"]


@dataclass(frozen=True)
class PageMade:
    """Where the page is, what the run answered, and how it differs from those before."""

    uri: str
    drift: Drift
    answers: PredictionSummary


def report(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet that was tagged")],
    predictions: Annotated[str, typer.Option("--predictions", "-p", help="output directory of `mgc tag`")],
    features: Annotated[
        str | None, typer.Option("--features", "-f", help="shards of `mgc extract`: tell near-duplicates by them")
    ] = None,
) -> None:
    """Write report/index.html of the last run over PREDICTIONS anew: after a move, an update, or with --features."""
    record = replace(last_record(predictions), output=predictions)
    screen = console()
    say_that_it_is_written(screen, predictions)
    show_page(screen, page_of(record, catalogue, features))


def say_that_it_is_written(console: Console, output: str) -> None:
    """Print that the page is being made: of a million tracks, or on a busy machine, that takes minutes."""
    console.print(Text(f"writing the report {Store.open(output).uri(PAGE_FILE)} …"), soft_wrap=True)


def show_page(console: Console, made: PageMade) -> None:
    """Print of how many tracks the genre is not sure, what drifted, and where the page is."""
    answers = made.answers
    if answers.abstained:
        of_all = f"{answers.abstained:,} of {counted(answers.answered, 'track')}"
        console.print(f"not sure of the genre of {of_all}: column abstained", soft_wrap=True)
    rows: dict[str, str | Text] = {"compared": drift_verdict(made.drift)}
    moved = made.drift.moved
    for number, shift in enumerate(moved[:MOVED_PRINTED], 1):
        rows[f"moved {number}"] = plain(shift_text(shift), "yellow")
    if len(moved) > MOVED_PRINTED:
        rows["and"] = f"{len(moved) - MOVED_PRINTED} more, in the report"
    if made.drift.cause:
        rows["cause"] = made.drift.cause
    facts(console, "Drift", rows | {"report": made.uri})


def latest_tagging_page(
    outcome: RunOutcome, catalogue: str, output: str, bundle: str | None = None, features: str | None = None
) -> str:
    """Return where the page of a run is; of one that had nothing to do, that of the run before."""
    if outcome.run_id is None:
        return Store.open(output).uri(PAGE_FILE)
    return tagging_page(outcome, catalogue, output, bundle, features).uri


def tagging_page(
    outcome: RunOutcome, catalogue: str, output: str, bundle: str | None = None, features: str | None = None
) -> PageMade:
    """Keep a run's record, compare it with earlier ones, and write the page beside the predictions (`page_of`)."""
    if outcome.run_id is None:
        raise ValueError("a run that had nothing to do has no page of its own")
    counts = PredictionCounts()
    for rows in prediction_batches(output, SUMMARY_COLUMNS):
        counts.add(rows_of_runs(rows, outcome.runs))
    prediction_summary = counts.summary(_vocabulary(output, outcome.runs))
    finished, plan = datetime.now(UTC), outcome.plan
    record = RunRecord(
        run_id=outcome.run_id,
        sequence=outcome.sequence,
        runs=tuple(sorted(outcome.runs)),
        bundle_fingerprint=outcome.fingerprint,
        catalogue=catalogue,
        tracks_total=plan.wanted_tracks,
        tagged_now=outcome.rows,
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
        promises=tuple(promise_lines(read_bundle_files(bundle).description["metrics"])) if bundle else (),
    )
    write_record(OutputDirectory(Store.open(output), "predictions"), record)
    return page_of(record, catalogue, features)


def _vocabulary(output: str, runs: Collection[str]) -> Sequence[str]:
    """Return all genres and tags that the bundle of some runs knows; none where it answered for no track."""
    columns = ["genre_probabilities", "tag_probabilities"]
    for rows in prediction_batches(output, ["run_id", "error_code", *columns]):
        answered = rows_of_runs(rows, runs).filter(pl.col("error_code").is_null()).head(1)
        if answered.height:
            return [name for column in columns for name, _ in pairs(answered[column][0])]
    return []


def page_of(record: RunRecord, catalogue: str, features: str | None = None) -> PageMade:
    """Write the page of a run of which a record was kept.

    Parameters
    ----------
    features
        Shards of `mgc extract`, to tell near-duplicates by their sound; None: by length and embedding.
    """
    output = record.output
    runs = read_records(OutputDirectory(Store.open(output), "predictions"), RECORDS_READ)
    earlier = [run for run in runs if run.sequence < record.sequence]
    drift = detect_drift(record, earlier)
    listed = select_listed_tracks(prediction_batches(output, ["track_id", "error_code"]))
    answered = _answered_by(output, record.bundle_fingerprint)
    layout, map_text = _map(output, record, answered, listed.track_ids)
    parts = PageParts(
        listed=read_predictions(output, PACKED, listed.track_ids),
        sampled=listed.sampled,
        run_ids=tuple(record.runs),
        layout=layout,
        map_text=map_text,
        drift=drift_view(drift, [*earlier, record]),
        copies=_near_duplicates(output, answered, catalogue, features),
        queue=_review_queue(output, answered, catalogue),
    )
    where = write_tagging_report(prediction_batches(output, COUNTED), record, output, parts)
    return PageMade(where, drift, record.prediction_summary)


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


def _map(output: str, record: RunRecord, answered: _Answered, listed: pl.Series) -> tuple[TrackMap | None, str]:
    """Return the map and its caption; the map is kept beside the page, and the next run starts from it.

    Parameters
    ----------
    listed
        Ids of the tracks that the page's table holds: only those can be opened from the map.
    """
    on_page = answered.first.filter(answered.first.is_in(listed.implode()))
    chosen = on_page.head(TRACKS_ON_MAP)
    rows = read_predictions(output, ["track_id", "embedding"], chosen).sort("track_id")
    if rows.is_empty():
        return None, ""
    store = Store.open(output)
    old = _old_map(store)
    made = lay_out_map(rows["track_id"].to_list(), embedding_matrix(rows), record.bundle_fingerprint, old)
    if made is None:
        return None, ""
    if old is None or old.track_ids != made.track_ids or old.bundle_fingerprint != made.bundle_fingerprint:
        store.write_atomic(MAP_FILE, made.to_json())
    some = f"{count(rows.height)} of the {count(len(on_page))}"
    which = "All" if rows.height == len(on_page) else f"Drawn at random: {some}"
    return made, (
        f"{which} tracks with an embedding of this bundle; those near each other sound alike to it. "
        "Only who is near whom has a meaning: not the directions, and not how far apart two groups are."
    )


def _near_duplicates(output: str, answered: _Answered, catalogue: str, features: str | None) -> NearDuplicates:
    """Return near-duplicates: by fingerprints where there are features, else by length and embedding."""
    if features is not None:
        groups = duplicate_groups(
            read_predictions(output, _COPY_COLUMNS), read_fingerprints(features, read_catalogue(catalogue))
        )
        how = "One recording in several files, by fingerprints of the sound; likeness is their correlation."
        return _copies(groups.rename({"correlation": "likeness"}), how)
    if answered.tracks < 2:
        return NearDuplicates("Fewer than two tracks have an answer of this bundle.")
    if answered.tracks > TRACKS_AT_MOST:
        return NearDuplicates(
            f"Not looked for among more than {count(TRACKS_AT_MOST)} tracks; mgc similar --duplicates does."
        )
    found = lookalikes(read_predictions(output, _COPY_COLUMNS, answered.first))
    if not found.comparable:
        return NearDuplicates(
            "Not looked for: too many tracks are equally long, and embeddings alone cannot tell a copy from a "
            "likeness. With the shards of mgc extract they are found: mgc report … --features features/."
        )
    how = (
        "Candidates: equally long within a quarter of a second, and nearly one embedding (likeness is their cosine). "
        "Listen before you delete; mgc report … --features features/ compares the sound."
    )
    return _copies(found.groups.rename({"cosine": "likeness"}), how)


def _review_queue(output: str, answered: _Answered, catalogue: str) -> ReviewQueue | None:
    """Return the first rows of the review queue; None where no track has an answer of this bundle."""
    if not answered.tracks:
        return None
    rows = read_predictions(output, READ, answered.to_review)
    scanned = scan_catalogue(catalogue)
    unlabelled = scanned.select(pl.col("genre").null_count()).collect(engine="streaming").item() > 0
    chosen = pl.col("track_id").is_in(rows["track_id"].implode())
    tracks = scanned.filter(chosen).collect(engine="streaming")
    queue = review_queue(
        rows, tracks, catalogue_root(catalogue), ReviewOptions(QUEUE_SHOWN, labelled_too=not unlabelled)
    )
    what = (
        "The unlabelled tracks whose label would help most"
        if unlabelled
        else "Every track has a genre: these are the ones whose label is most worth checking"
    )
    sampled = (
        f" Drawn from {count(rows.height)} of {count(answered.tracks)} tracks: the least sure, and some at random."
        if rows.height < answered.tracks
        else ""
    )
    numbers = ("probability", "runner_up_probability")
    shown = [row | {name: float(row[name] or 0.0) for name in numbers} for row in queue.iter_rows(named=True)]
    caption = f"{what}, the most helpful first: unsure, like many others, and unlike those above.{sampled}"
    if not shown:
        caption = "The queue is empty: every answer is sure."
    too = "" if unlabelled else " --labelled-too"
    return ReviewQueue(caption, shown, f"mgc review {catalogue} -p {output} -o review.csv{too}")


@dataclass(frozen=True)
class _Answered:
    """How many tracks have an answer of a bundle, and the ids of those that the page's parts look at.

    `first` are those lowest in order, which is at random: all that the table lists, or that are compared as copies.
    """

    tracks: int
    first: pl.Series
    to_review: pl.Series


def _answered_by(output: str, bundle_fingerprint: str) -> _Answered:
    columns = ["track_id", "genre_probability", "abstained", "error_code", "bundle_fingerprint"]
    tracks, first = 0, pl.Series("track_id", [], pl.String)
    unsure: list[pl.DataFrame] = []
    for batch in prediction_batches(output, columns):
        ours = pl.col("bundle_fingerprint") == bundle_fingerprint
        rows = batch.filter(ours & pl.col("error_code").is_null())
        tracks += rows.height
        first = pl.concat([first, rows["track_id"]]).sort().head(max(TRACKS_AT_MOST, MAX_LISTED_ROWS))
        by = [pl.col("abstained").fill_null(False).not_(), pl.col("genre_probability"), pl.col("track_id")]
        unsure = [pl.concat([*unsure, rows]).sort(*by).head(REVIEWED_AT_MOST // 2)]
    if tracks <= REVIEWED_AT_MOST:
        return _Answered(tracks, first, first)
    some = [first.head(REVIEWED_AT_MOST // 2), *(rows["track_id"] for rows in unsure)]
    return _Answered(tracks, first, pl.concat(some).unique())


def _copies(groups: pl.DataFrame, how: str) -> NearDuplicates:
    n_groups = groups["group_id"].n_unique()
    if not n_groups:
        return NearDuplicates(f"None found. Looked for: {how[0].lower()}{how[1:]}")
    number = pl.col("group_id").rank("dense").alias("group")
    shown = groups.with_columns(number).head(COPIES_SHOWN)
    cut = f" The first {count(shown.height)} tracks are shown." if shown.height < groups.height else ""
    in_groups = "1 group" if n_groups == 1 else f"{count(n_groups)} groups"
    caption = f"{count(groups.height)} tracks in {in_groups}. {how}{cut}"
    return NearDuplicates(
        caption, list(shown.select("group", "uri", "duration_seconds", "likeness").iter_rows(named=True))
    )


def _old_map(store: Store) -> TrackMap | None:
    try:
        return TrackMap.from_json(store.read_bytes(MAP_FILE))
    except ObjectNotFoundError:
        return None
