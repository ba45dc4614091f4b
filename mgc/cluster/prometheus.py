"""What a run tells Prometheus, through Ray's own metrics (`docs/report.md` lists the names).

Rows are counted by the driver, once each, as they come back; a chunk is timed by the actor that did it. Ray sends
what was counted every ten seconds, so that a scrape lags that far behind. Ray puts `ray_` before the names.
"""

from __future__ import annotations

from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
from ray.util.metrics import Counter, Histogram

CHUNK_SECONDS = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 300.0]
"""Upper ends of the histogram's bins."""


@cache
def _tracks() -> Counter:
    return Counter("mgc_tracks", "Tracks that came back, failed ones included", ("job",))


@cache
def _failed() -> Counter:
    return Counter("mgc_tracks_failed", "Tracks that came back failed, by error code", ("job", "code"))


@cache
def _audio_seconds() -> Counter:
    return Counter("mgc_audio_seconds", "Length of the tracks that came back", ("job",))


@cache
def _chunk_seconds() -> Histogram:
    return Histogram("mgc_chunk_seconds", "Wall time of an actor's chunk", CHUNK_SECONDS, ("job",))


def count_rows(job: str, index: pa.Table) -> None:
    """Count a chunk's index rows: a track once, however many views it has.

    Parameters
    ----------
    job
        Kind of the output: features or predictions.
    index
        Schema INDEX, of one chunk: all rows of a track are in it.
    """
    tracks = index.group_by("track_id").aggregate([("duration_seconds", "max"), ("error_code", "max")])
    job_tag = {"job": job}
    if tracks.num_rows:
        _tracks().inc(float(tracks.num_rows), job_tag)
    seconds = pc.sum(tracks["duration_seconds_max"]).as_py() or 0.0
    if seconds > 0:
        _audio_seconds().inc(seconds, job_tag)
    for entry in pc.value_counts(pc.drop_null(tracks["error_code_max"])).to_pylist():
        _failed().inc(float(entry["counts"]), {**job_tag, "code": entry["values"]})


def time_chunk(job: str, seconds: float) -> None:
    """Note how long an actor took for a chunk."""
    _chunk_seconds().observe(seconds, {"job": job})
