"""What each tagging run did and predicted, in counts, and how fast: `records/<sequence>-<run_id>.json`.

Written once a run has committed and its rows are published. A run that was killed in between has no record; only
the comparison of runs (`mgc.evaluation.drift`) and the page read records. How fast a run was stands in its commit,
from which `forecast` tells how long the next will take.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
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
    """What a tagging run did, over all its commits.

    Parameters
    ----------
    run_id, sequence
        Of its last commit.
    runs
        Whose rows it made visible: one a commit, and the killed runs that it resumed.
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
    runs: Sequence[str] = ()
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
    counts = PredictionCounts()
    counts.add(predictions)
    return counts.summary(vocabulary)


class PredictionCounts:
    """Counts predictions a batch at a time: what is held does not grow with their number."""

    def __init__(self) -> None:
        self._tracks = self._answered = self._abstained = self._confident = 0
        self._genres: Counter[str] = Counter()
        self._tags: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._bins = np.zeros(CONFIDENCE_BINS, np.int64)
        self._mean = self._squares = 0.0
        self._folders = _FolderSums()

    def add(self, predictions: pl.DataFrame) -> None:
        """Count some rows, columns of `COUNTED`."""
        answered = predictions.filter(pl.col("error_code").is_null())
        self._tracks += predictions.height
        self._answered += answered.height
        self._abstained += int(answered["abstained"].fill_null(False).sum())
        self._genres.update(counts_by_name(answered["genre"]))
        self._tags.update(counts_by_name(answered["tags"].explode()))
        self._failed.update(counts_by_name(predictions["error_code"]))
        confidences = answered["genre_probability"].drop_nulls().to_numpy().astype(np.float64)
        if len(confidences):
            self._bins += np.histogram(confidences, CONFIDENCE_BINS, (0.0, 1.0))[0]
            # Chan, Golub & LeVeque (1983): a sum of squares about the mean, put together from those of two samples.
            apart, before = float(confidences.mean()) - self._mean, self._confident
            self._confident += len(confidences)
            self._mean += apart * len(confidences) / self._confident
            within = float(np.square(confidences - confidences.mean()).sum())
            self._squares += within + apart**2 * before * len(confidences) / self._confident
        self._folders.add(predictions, answered)

    def summary(self, vocabulary: Sequence[str] = ()) -> PredictionSummary:
        """Return the counts of all rows; `vocabulary` are the genres and tags that their bundle knows."""
        return PredictionSummary(
            tracks=self._tracks,
            answered=self._answered,
            abstained=self._abstained,
            genres=_most_first(self._genres),
            tags=_most_first(self._tags),
            failed=_most_first(self._failed),
            confident=self._confident,
            confidence_mean=self._mean,
            confidence_variance=self._squares / (self._confident - 1) if self._confident > 1 else 0.0,
            confidence_bins=tuple(map(int, self._bins)),
            design_effects=self._folders.design_effects(),
            vocabulary=tuple(vocabulary),
        )


class _FolderSums:
    """How many tracks of each folder say what: of all, or of some drawn by name where they are many."""

    _SUMS = ("folder", "kind", "name")

    def __init__(self) -> None:
        self._held = pl.DataFrame(
            schema={"folder": pl.UInt64, "kind": pl.String, "name": pl.String, "value": pl.Float64}
        )
        self._below = _DRAWS

    def add(self, rows: pl.DataFrame, answered: pl.DataFrame) -> None:
        folder = pl.col("uri").str.replace(r"/[^/]*$", "").hash(0).alias("folder")
        confident, one = answered.drop_nulls("genre_probability"), pl.lit(1.0)
        sure = pl.col("genre_probability").cast(pl.Float64)
        says = [
            ("rows", rows, pl.lit(""), one),
            ("answered", answered, pl.lit(""), one),
            ("genre", answered, pl.col("genre"), one),
            ("tag", answered.select("uri", "tags").explode("tags"), pl.col("tags"), one),
            ("failed", rows, pl.col("error_code"), one),
            ("abstained", answered.filter("abstained"), pl.lit("abstained"), one),
            ("confident", confident, pl.lit(""), one),
            ("sum", confident, pl.lit(""), sure),
            ("squares", confident, pl.lit(""), sure**2),
        ]
        new = [
            some.select(folder, kind=pl.lit(kind), name=name.cast(pl.String), value=value).drop_nulls("name")
            for kind, some, name, value in says
        ]
        self._held = self._drawn(pl.concat([self._held, *map(self._drawn, new)]).group_by(self._SUMS).sum())
        while self._held.height > SUMS_HELD and self._below > 1:
            self._below //= 2
            self._held = self._drawn(self._held)

    def _drawn(self, sums: pl.DataFrame) -> pl.DataFrame:
        return sums.filter(pl.col("folder") % _DRAWS < self._below) if self._below < _DRAWS else sums

    def _of(self, kind: str) -> pl.DataFrame:
        return self._held.filter(kind=kind).select("folder", "name", "value").sort("folder", "name")

    def design_effects(self) -> dict[str, float]:
        """Return the design effect of folders on each kind of answer; empty where there are fewer than 30 folders."""
        if self._of("rows").height < FEWEST_FOLDERS:
            return {}
        whole = {"genre": "answered", "tag": "answered", "failed": "rows", "abstained": "answered"}
        found = {kind: _design_effect(self._of(rows), self._of(kind)) for kind, rows in whole.items()}
        found["confidence"] = self._confidence_design_effect()
        return {kind: round(max(1.0, value), 3) for kind, value in found.items() if value is not None}

    def _confidence_design_effect(self) -> float | None:
        n, total, squares = (self._of(kind)["value"].to_numpy() for kind in ("confident", "sum", "squares"))
        tracks = n.sum()
        if tracks < 2:
            return None
        mean = total.sum() / tracks
        variance = (squares.sum() - tracks * mean**2) / (tracks - 1)
        if variance <= 1e-12:
            return None
        return float(np.square(total - n * mean).sum() / variance / tracks)


_DRAWS = 1 << 20
SUMS_HELD = 500_000
"""Of folders' sums: beyond that every other folder is left out."""


def _design_effect(sizes: pl.DataFrame, named: pl.DataFrame) -> float | None:
    """Return the mean over names of: the variance of a name's share between folders over that of single tracks."""
    sizes = sizes.select("folder", size="value")
    total, squares = float(sizes["size"].sum()), float((sizes["size"] ** 2).sum())
    by_name = (
        named.join(sizes, on="folder")
        .group_by("name")
        .agg(n=pl.col("value").sum(), yy=(pl.col("value") ** 2).sum(), ys=(pl.col("value") * pl.col("size")).sum())
        .with_columns(p=pl.col("n") / total)
        .filter((pl.col("n") >= 5) & (pl.col("p") < 1))
    )
    p = pl.col("p")
    effect = (pl.col("yy") - 2 * p * pl.col("ys") + p**2 * squares) / (total * p * (1 - p))
    mean = by_name.select(effect.mean()).item() if by_name.height else None
    return float(mean) if mean is not None else None


def rows_of_runs(predictions: pl.DataFrame, runs: Collection[str]) -> pl.DataFrame:
    """Return the rows that some runs made."""
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
        value["runs"] = tuple(value.get("runs", (value["run_id"],)))
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


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


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
