"""Near-duplicates: the same recording in two files, formats or bit rates.

`duplicate_groups` compares fingerprints of the sound. An embedding alone cannot tell: two solo pianos are as close as
two encodings of one (measured in `docs/curation.md`). `lookalikes` compares embeddings and lengths alone, for reports
that have nothing else. Groups are what pairs of alike tracks connect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mgc.audio.features.filter_banks import filter_banks
from mgc.config import FeatureConfig
from mgc.curation.nearest_neighbours import NeighbourIndex, Vectors
from mgc.curation.similarity import embedding_matrix
from mgc.errors import SchemaError
from mgc.storage.store import Store
from mgc.tables.feature_shards import shard_facts
from mgc.tables.run_index import current_index, current_rows
from mgc.tables.run_log import OutputDirectory

BANDS = 16
VALUES_PER_SECOND = 3.2
TOP_HZ = 7_000.0
"""Of a fingerprint."""

NEIGHBOURS = 20
"""Looked at for each track; more copies than that are still one group, by way of each other."""

COLUMNS = ("track_id", "n_windows", "n_frames", "n_mels", "log_mel")

LOOKALIKE_COSINE = 0.999
LOOKALIKE_SECONDS = 0.25
TRACKS_AT_MOST = 100_000
CHANCE_AT_MOST = 0.01
"""Of two tracks drawn at random being equally long: above it, lengths tell nothing."""


@dataclass(frozen=True)
class Fingerprints:
    """Two vectors a track, shape (n, dimensions), of length one; zero where nothing moves (silence, one long tone).

    A recording is known by how its loudness moves: a figure that is small, and the same in every format and bit rate.
    The log-mel of a window is averaged to 16 bands below 7 kHz (lossy codecs cut what is above) and three values a
    second, and each band's own mean is taken off: what is left is when each band sounds, not what the instruments
    are. Two encodings of one recording correlate above 0.8, two recordings near 0 (measured in `docs/curation.md`).
    The idea is Haitsma & Kalker's (2002), as real numbers for a vector index instead of bits.

    Parameters
    ----------
    middle, last
        Of the window in the middle, by which tracks are looked up, and of the last one, which must agree.
    """

    middle: Vectors
    last: Vectors


@dataclass(frozen=True)
class DuplicateLimits:
    """When two tracks are one recording.

    Parameters
    ----------
    correlation
        Of both fingerprints, at least. Re-encoded tracks were seen at 0.87 and above.
    cosine
        Of the embeddings, at least. Re-encoded tracks were seen at 0.93 and above.
    seconds, share
        Their lengths differ by at most so many seconds, or so much of the longer (encoders pad).
    """

    correlation: float = 0.85
    cosine: float = 0.9
    seconds: float = 0.25
    share: float = 0.002


@dataclass(frozen=True)
class RecordingFingerprints:
    """Tracks and what tells their recordings apart; row i of each is one track."""

    track_ids: list[str]
    fingerprints: Fingerprints


def read_fingerprints(features_uri: str, catalogue: pl.DataFrame) -> RecordingFingerprints:
    """Return the fingerprints of all tracks that have current features, a part at a time.

    Raises
    ------
    SchemaError
        No track of the catalogue has features there.
    """
    facts = shard_facts(features_uri)
    facts.features.require_log_mels("a fingerprint of a recording")
    output = OutputDirectory(Store.open(features_uri), "features")
    where = current_index(output, catalogue).filter(
        pl.col("error_code").is_null() & (pl.col("fingerprint") == facts.fingerprint)
    )
    where = where.join(catalogue.select("track_id", "content_id"), on=["track_id", "content_id"], how="semi")
    track_ids: list[str] = []
    middle: list[Vectors] = []
    last: list[Vectors] = []
    for table in current_rows(output, where, COLUMNS):
        for row in table.select(list(COLUMNS)).to_pylist():
            shape = (row["n_windows"], row["n_frames"], row["n_mels"])
            pair = fingerprint_of(np.frombuffer(row["log_mel"], dtype="<f2").reshape(shape), facts.features)
            track_ids.append(row["track_id"])
            middle.append(pair[0])
            last.append(pair[1])
    if not track_ids:
        raise SchemaError(f"no track of the catalogue has features in '{features_uri}'", "run `mgc extract` over it")
    return RecordingFingerprints(track_ids, Fingerprints(np.stack(middle), np.stack(last)))


def duplicate_groups(
    predictions: pl.DataFrame, recordings: RecordingFingerprints, limits: DuplicateLimits | None = None
) -> pl.DataFrame:
    """Return the groups of tracks that are one recording.

    Parameters
    ----------
    predictions
        Columns track_id, uri, duration_seconds and embedding.
    recordings
        Fingerprints; tracks without a prediction are left out.

    Returns
    -------
    polars.DataFrame
        group_id (its first track_id), track_id, uri, duration_seconds, correlation and cosine with the track of the
        group that it is most like; by group and track. Tracks without a duplicate have no row.
    """
    answered = predictions.filter(pl.col("embedding").is_not_null()).select(
        "track_id", "uri", "duration_seconds", "embedding"
    )
    row_of = pl.DataFrame({"track_id": recordings.track_ids, "row": np.arange(len(recordings.track_ids))})
    tracks = answered.join(row_of, on="track_id").sort("track_id")
    if tracks.is_empty():
        return grouped(tracks, [])
    rows = tracks["row"].to_numpy()
    found = list(_pairs(tracks, recordings.fingerprints.middle[rows], recordings.fingerprints.last[rows], limits))
    return grouped(tracks, found)


@dataclass(frozen=True)
class Lookalikes:
    """What was found.

    Parameters
    ----------
    groups
        group_id, track_id, uri, duration_seconds and cosine, as of `duplicate_groups`.
    comparable
        Whether lengths tell tracks apart, and there were few enough to compare.
    """

    groups: pl.DataFrame
    comparable: bool


def lookalikes(predictions: pl.DataFrame) -> Lookalikes:
    """Return groups of tracks that are equally long and nearly alike by their embeddings.

    Weaker than `duplicate_groups`, and of use only where lengths tell tracks apart: not in a catalogue of clips of
    one length.

    Parameters
    ----------
    predictions
        Columns track_id, uri, duration_seconds and embedding; all of one bundle.
    """
    known = pl.col("embedding").is_not_null() & pl.col("duration_seconds").is_not_null()
    tracks = predictions.filter(known).sort("duration_seconds", "track_id")
    seconds = tracks["duration_seconds"].to_numpy()
    n, rows = len(seconds), np.arange(len(seconds))
    # Of each track, how many that follow it are equally long.
    others = np.searchsorted(seconds, seconds + LOOKALIKE_SECONDS, side="right") - rows - 1
    comparable = 2 <= n <= TRACKS_AT_MOST and others.sum() <= max(CHANCE_AT_MOST * n * (n - 1) / 2, n)
    pairs = _pairs_alike(embedding_matrix(tracks), others) if comparable else ()
    return Lookalikes(grouped(tracks, pairs).drop("correlation"), bool(comparable))


@dataclass(frozen=True)
class Pair:
    """Two tracks by their row numbers, and how alike they are."""

    a: int
    b: int
    correlation: float
    cosine: float


def _pairs(tracks: pl.DataFrame, middle: Vectors, last: Vectors, limits: DuplicateLimits | None) -> Iterator[Pair]:
    limits = limits or DuplicateLimits()
    # Silence is like all silence: zero vectors are no fingerprints.
    moving = np.flatnonzero(middle.any(axis=1) & last.any(axis=1)).astype(np.int64)
    if len(moving) < 2:
        return
    index = NeighbourIndex.build(middle[moving])
    found = index.neighbours_of(np.arange(len(moving), dtype=np.int64), NEIGHBOURS)
    seconds = tracks["duration_seconds"].to_numpy()
    embeddings = embedding_matrix(tracks)
    places, ranks = np.nonzero(found.cosines >= limits.correlation)
    for place, rank in zip(places, ranks, strict=True):
        a, b = int(moving[place]), int(moving[found.rows[place, rank]])
        allowed = max(limits.seconds, limits.share * max(seconds[a], seconds[b]))
        correlation = min(float(found.cosines[place, rank]), float(last[a] @ last[b]))
        cosine = float(embeddings[a] @ embeddings[b])
        if correlation >= limits.correlation and cosine >= limits.cosine and abs(seconds[a] - seconds[b]) <= allowed:
            yield Pair(a, b, correlation, cosine)


def grouped(tracks: pl.DataFrame, pairs: Iterable[Pair]) -> pl.DataFrame:
    """Return the groups that pairs of rows of `tracks` connect, as `duplicate_groups` does."""
    found = list(pairs)
    best: dict[int, Pair] = {}
    for pair in found:
        for one in (pair.a, pair.b):
            if one not in best or best[one].correlation < pair.correlation:
                best[one] = pair
    members = sorted(best)
    size = max(1, tracks.height)
    links = coo_array((np.ones(len(found)), ([pair.a for pair in found], [pair.b for pair in found])), (size, size))
    _, component = connected_components(links, directed=False)
    # Members are sorted, and so a group's first is the first of its component.
    _, first, group = np.unique(component[np.array(members, dtype=np.int64)], return_index=True, return_inverse=True)
    ids = tracks["track_id"].to_list()
    frame = tracks.select("track_id", "uri", "duration_seconds")[members]
    return frame.select(
        pl.Series("group_id", [ids[members[place]] for place in first[group]], pl.String),
        pl.all(),
        pl.Series("correlation", [best[one].correlation for one in members], pl.Float32),
        pl.Series("cosine", [best[one].cosine for one in members], pl.Float32),
    ).sort("group_id", "track_id")


def _pairs_alike(vectors: Vectors, others: npt.NDArray[np.int64]) -> Iterator[Pair]:
    for step in range(1, int(others.max()) + 1):
        rows = np.flatnonzero(others >= step)
        cosines = np.einsum("nd,nd->n", vectors[rows], vectors[rows + step])
        for row, cosine in zip(rows[cosines >= LOOKALIKE_COSINE], cosines[cosines >= LOOKALIKE_COSINE], strict=True):
            yield Pair(int(row), int(row + step), float(cosine), float(cosine))


def fingerprint_of(log_mel: npt.NDArray[np.floating[Any]], features: FeatureConfig) -> tuple[Vectors, Vectors]:
    """Return the two vectors of one track.

    Parameters
    ----------
    log_mel
        dB, shape (n_windows, n_frames, n_mels).
    features
        The settings that made it.
    """
    n_windows = len(log_mel)
    return _of_window(log_mel[n_windows // 2], features), _of_window(log_mel[-1], features)


def _of_window(window: npt.NDArray[np.floating[Any]], features: FeatureConfig) -> Vectors:
    bands = _means(window[:, : _bands_below(features)].astype(np.float32).T, BANDS)
    steps = max(4, round(features.window_seconds * VALUES_PER_SECOND))
    grid = _means(np.ascontiguousarray(bands.T), steps)
    moving = grid - grid.mean(axis=0)
    length = float(np.linalg.norm(moving))
    # Below half a decibel of movement it is noise that would correlate, or not, by chance.
    if length < 0.5 * np.sqrt(moving.size):
        return np.zeros(moving.size, dtype=np.float32)
    return np.asarray(moving.reshape(-1) / length, dtype=np.float32)


def _bands_below(features: FeatureConfig) -> int:
    """Return how many mel bands lie below `TOP_HZ`, at least as many as are averaged."""
    share = float(filter_banks(features).mel_position(TOP_HZ))
    return int(np.clip(round(share * features.n_mels), min(BANDS, features.n_mels), features.n_mels))


def _means(values: npt.NDArray[np.float32], parts: int) -> npt.NDArray[np.float32]:
    """Return the means of `parts` even stretches of the first axis."""
    edges = np.linspace(0, len(values), min(parts, len(values)) + 1).astype(np.int64)
    sums = np.add.reduceat(values, edges[:-1], axis=0)
    return np.asarray(sums / np.diff(edges)[:, None], dtype=np.float32)
