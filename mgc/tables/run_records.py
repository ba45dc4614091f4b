"""What each tagging run did and predicted, in counts, and how fast: `records/<sequence>-<run_id>.json`.

Written once a run has committed and its rows are published. A run that was killed in between has no record; only
the comparison of runs (`mgc.evaluation.drift`) and the page read records. How fast a run was stands in its commit,
from which `forecast` tells how long the next will take.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime

import numpy as np
import polars as pl

from mgc.config.section import json_object
from mgc.tables.run_log import Commit, OutputDirectory

FOLDER = "records/"
VERSION = 1
CONFIDENCE_BINS = 20
COUNTED = ["run_id", "uri", "genre", "genre_probability", "abstained", "tags", "error_code"]
"""Columns of the predictions that `summarise_predictions` reads."""

FEWEST_FOLDERS = 30
"""Below so many, folders are no sample of albums: they may as well be the genres themselves."""

RUNS_LOOKED_AT = 5
"""Of the runs that measured their throughput, the newest: the machine may have changed since older ones."""


@dataclass(frozen=True)
class PredictionSummary:
    """The rows of a run, counted.

    Parameters
    ----------
    tracks, answered, abstained
        All rows; those without an error; of these, those marked `abstained`.
    genres, tags
        Tracks by genre, and by tag listed.
    failed
        Tracks by error code.
    confidence_mean, confidence_variance
        Of the probability of the genre, over the `confident` rows that have one.
    confidence_bins
        The same as a histogram of 20 equal bins over [0, 1].
    design_effects
        How alike tracks of one folder are in each kind of answer (genre, tag, failed, abstained, confidence), as the
        design effect of Kish (1965): 1 where folders do not matter, the size of a folder where all its tracks are
        alike. Empty where there are too few folders to tell.
    """

    tracks: int = 0
    answered: int = 0
    abstained: int = 0
    genres: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    confident: int = 0
    confidence_mean: float = 0.0
    confidence_variance: float = 0.0
    confidence_bins: tuple[int, ...] = (0,) * CONFIDENCE_BINS
    design_effects: Mapping[str, float] = field(default_factory=dict)
    vocabulary: Sequence[str] = ()


@dataclass(frozen=True)
class RunRecord:
    """What a tagging run did.

    Parameters
    ----------
    catalogue, output
        URIs.
    tracks_total
        Tracks in the catalogue.
    tagged_now, unchanged
        Rows this run made, failed ones included; rows that were current.
    failed
        Failed tracks of this run by error code.
    audio_seconds, wall_seconds
        Audio that was tagged, and how long the run took.
    work_seconds
        Of the wall seconds, those at work: without planning and the start of Ray. None: not measured.
    cores
        CPUs that worked.
    why
        Why tracks were tagged: new, changed, remade (another bundle, or forced), retried.
    deleted, restored
        Tracks marked deleted; restored as they were.
    prediction_summary
        Of the run's rows, those included that it resumed from a killed run.
    promises
        What the bundle promises of its genres and tags, in sentences.
    """

    run_id: str
    bundle_fingerprint: str
    catalogue: str
    tracks_total: int
    tagged_now: int
    unchanged: int
    failed: Mapping[str, int]
    audio_seconds: float
    wall_seconds: float
    cores: int
    started_at: datetime
    finished_at: datetime
    output: str
    work_seconds: float | None = None
    sequence: int = 0
    why: Mapping[str, int] = field(default_factory=dict)
    deleted: int = 0
    restored: int = 0
    prediction_summary: PredictionSummary = field(default_factory=PredictionSummary)
    promises: Sequence[str] = ()

    @property
    def busy_seconds(self) -> float:
        """Seconds that speeds are measured over."""
        return max(self.work_seconds or self.wall_seconds, 1e-9)


def summarise_predictions(predictions: pl.DataFrame, vocabulary: Sequence[str] = ()) -> PredictionSummary:
    """Return the counts of rows.

    Parameters
    ----------
    predictions
        Columns of `COUNTED`.
    vocabulary
        Genres and tags that their bundle knows.
    """
    answered = predictions.filter(pl.col("error_code").is_null())
    confidences = answered["genre_probability"].drop_nulls().to_numpy().astype(np.float64)
    return PredictionSummary(
        tracks=predictions.height,
        answered=answered.height,
        abstained=int(answered["abstained"].fill_null(False).sum()),
        genres=counts_by_name(answered["genre"]),
        tags=counts_by_name(answered["tags"].explode()),
        failed=counts_by_name(predictions["error_code"]),
        confident=len(confidences),
        confidence_mean=float(confidences.mean()) if len(confidences) else 0.0,
        confidence_variance=float(confidences.var(ddof=1)) if len(confidences) > 1 else 0.0,
        confidence_bins=tuple(map(int, np.histogram(confidences, CONFIDENCE_BINS, (0.0, 1.0))[0])),
        design_effects=design_effects(predictions),
        vocabulary=tuple(vocabulary),
    )


def design_effects(predictions: pl.DataFrame) -> dict[str, float]:
    """Return the design effect of folders on each kind of answer; empty where there are fewer than 30 folders."""
    rows = predictions.with_columns(folder=pl.col("uri").str.replace(r"/[^/]*$", ""))
    if rows["folder"].n_unique() < FEWEST_FOLDERS:
        return {}
    answered = rows.filter(pl.col("error_code").is_null())
    answers_by_kind = {
        "genre": (answered, answered.select("folder", name="genre")),
        "tag": (answered, answered.select("folder", name="tags").explode("name")),
        "failed": (rows, rows.select("folder", name="error_code")),
        "abstained": (answered, answered.filter("abstained").select("folder", name=pl.lit("abstained"))),
    }
    found = {kind: _design_effect(whole, named.drop_nulls()) for kind, (whole, named) in answers_by_kind.items()}
    found["confidence"] = _confidence_design_effect(answered)
    return {kind: round(max(1.0, value), 3) for kind, value in found.items() if value is not None}


def _design_effect(rows: pl.DataFrame, named: pl.DataFrame) -> float | None:
    """Return the mean over names of: the variance of a name's share between folders over that of single tracks."""
    sizes = rows.group_by("folder").agg(size=pl.len().cast(pl.Float64))
    total = rows.height
    squares = float((sizes["size"] ** 2).sum())
    by_name = (
        named.group_by("folder", "name")
        .agg(count=pl.len().cast(pl.Float64))
        .join(sizes, on="folder")
        .group_by("name")
        .agg(n=pl.col("count").sum(), yy=(pl.col("count") ** 2).sum(), ys=(pl.col("count") * pl.col("size")).sum())
        .with_columns(p=pl.col("n") / total)
        .filter((pl.col("n") >= 5) & (pl.col("p") < 1))
    )
    p = pl.col("p")
    effect = (pl.col("yy") - 2 * p * pl.col("ys") + p**2 * squares) / (total * p * (1 - p))
    mean = by_name.select(effect.mean()).item() if by_name.height else None
    return float(mean) if mean is not None else None


def _confidence_design_effect(answered: pl.DataFrame) -> float | None:
    rows = answered.select("folder", value=pl.col("genre_probability").cast(pl.Float64)).drop_nulls()
    spread = rows["value"].std() if rows.height > 1 else None
    if not isinstance(spread, float) or spread <= 0:
        return None
    apart = (pl.col("value") - pl.col("value").mean()) / spread
    sums = rows.with_columns(apart.alias("apart")).group_by("folder").agg(pl.col("apart").sum())["apart"]
    return float((sums**2).sum()) / rows.height


def rows_of_commit(predictions: pl.DataFrame, commit: Commit) -> pl.DataFrame:
    """Return the rows that a commit brought, those of the killed runs included whose parts it resumed."""
    runs = {part.key.split("/")[1] for part in commit.parts} | {commit.run_id}
    return predictions.filter(pl.col("run_id").is_in(sorted(runs)))


def write_record(output: OutputDirectory, record: RunRecord) -> None:
    """Keep a run's record."""
    text = json.dumps({"version": VERSION, **asdict(record)}, indent=1, default=_plain)
    output.store.write_atomic(f"{FOLDER}{record.sequence:08d}-{record.run_id}.json", text.encode())


def read_records(output: OutputDirectory, last: int) -> list[RunRecord]:
    """Return the records of the last runs, oldest first; those of another version of mgc are left out."""
    keys = sorted(item.key for item in output.store.list(FOLDER))
    found = (_record(output.store.read_bytes(key)) for key in keys[-last:])
    return [record for record in found if record is not None]


def _record(data: bytes) -> RunRecord | None:
    try:
        value = json_object(data)
        if value.pop("version") != VERSION:
            return None
        summary = value["prediction_summary"]
        summary |= {name: tuple(summary.get(name, ())) for name in ("confidence_bins", "vocabulary")}
        value["prediction_summary"] = PredictionSummary(**summary)
        value["promises"] = tuple(value.get("promises", ()))
        for name in ("started_at", "finished_at"):
            value[name] = datetime.fromisoformat(value[name])
        known = {one.name for one in fields(RunRecord)}
        return RunRecord(**{name: value[name] for name in value if name in known})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # of another version


def counts_by_name(names: pl.Series) -> dict[str, int]:
    """Return how often each name is there, the most frequent first; nulls are left out."""
    counts = names.drop_nulls().alias("name").value_counts(name="tracks")
    return dict(counts.sort(["tracks", "name"], descending=[True, False]).iter_rows())


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not kept in a record")


@dataclass(frozen=True)
class RunThroughput:
    """What a run measured of itself; its commit keeps it.

    Parameters
    ----------
    workers
        Actors at work.
    rows_per_worker_second
        From the first chunk back to the last; None where there was but one chunk.
    other_seconds
        All the rest of the run: planning, Ray's start, the actors' start, the commit.
    """

    workers: int
    rows_per_worker_second: float | None
    other_seconds: float

    def facts(self) -> dict[str, object]:
        """Return it as facts of a commit."""
        return {"throughput": asdict(self)}


@dataclass(frozen=True)
class Forecast:
    """How long a run is likely to take, and on how many earlier runs that rests.

    Parameters
    ----------
    seconds
        Wall time; None where no earlier run tells.
    workers
        Actors it is made for.
    """

    seconds: float | None
    workers: int | None
    runs: int


def forecast(commits: list[Commit], rows: int, workers: int | None) -> Forecast:
    """Return how long `rows` rows are likely to take.

    Parameters
    ----------
    commits
        Of the output directory, oldest first.
    workers
        Actors; None: as many as the newest of the runs had.
    """
    measured = (RunThroughput(**commit.facts["throughput"]) for commit in commits if "throughput" in commit.facts)
    last = [one for one in measured if one.rows_per_worker_second][-RUNS_LOOKED_AT:]
    if not last:
        return Forecast(None, workers, 0)
    at_work = workers or last[-1].workers
    rate = statistics.median(one.rows_per_worker_second or 0.0 for one in last)
    other = statistics.median(one.other_seconds for one in last)
    return Forecast(rows / (rate * at_work) + (other if rows else 0.0), at_work, len(last))
