"""Pairs that may be one recording, by what predictions alone tell: the same length, and nearly the same embedding.

Weaker than `mgc.curation.duplicates`, which hears both, and only worth asking where lengths tell tracks apart: in a
catalogue of clips cut to one length it is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mgc.curation.duplicates import Pair, grouped
from mgc.curation.nearest_neighbours import Vectors
from mgc.curation.similarity import embedding_matrix

COSINE = 0.999
SECONDS = 0.25
CHANCE_AT_MOST = 0.01
"""Of two tracks drawn at random being equally long: above it, lengths tell nothing."""

TRACKS_AT_MOST = 100_000


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
    """Return groups of tracks that are equally long and nearly alike.

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
    others = np.searchsorted(seconds, seconds + SECONDS, side="right") - rows - 1
    comparable = 2 <= n <= TRACKS_AT_MOST and others.sum() <= max(CHANCE_AT_MOST * n * (n - 1) / 2, n)
    pairs = _pairs(embedding_matrix(tracks), others) if comparable else ()
    return Lookalikes(grouped(tracks, pairs).drop("correlation"), bool(comparable))


def _pairs(vectors: Vectors, others: npt.NDArray[np.int64]) -> Iterator[Pair]:
    for step in range(1, int(others.max()) + 1):
        rows = np.flatnonzero(others >= step)
        cosines = np.einsum("nd,nd->n", vectors[rows], vectors[rows + step])
        for row, cosine in zip(rows[cosines >= COSINE], cosines[cosines >= COSINE], strict=True):
            yield Pair(int(row), int(row + step), float(cosine), float(cosine))
