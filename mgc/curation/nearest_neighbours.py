"""Nearest neighbours by cosine: exact where that is quick, by a navigable small-world graph where it is not.

The only module that imports usearch (Malkov & Yashunin 2018, HNSW). Why usearch and not faiss: one wheel of 2 MB
that brings its own kernels for the processor it finds, no OpenMP runtime beside torch's, an index that is saved to
and restored from bytes (so that it can lie on S3), and exact search over the same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from usearch.index import Index

from mgc.errors import FingerprintError
from mgc.reports.track_look import Neighbour

Vectors = npt.NDArray[np.float32]

EXACT_BELOW = 20_000
"""Fewer vectors are compared one by one: a query over them takes a millisecond."""

CONNECTIVITY = 16
EXPANSION_ADD = 128
EXPANSION_SEARCH = 128
"""Of the graph: neighbours a node keeps, and candidates held while adding and searching."""

QUERIES_AT_ONCE = 4_096


@dataclass(frozen=True)
class Neighbours:
    """The nearest of each query, nearest first.

    Parameters
    ----------
    rows
        Numbers of the vectors found, shape (n_queries, k).
    cosines
        Cosine similarity to them, shape (n_queries, k).
    """

    rows: npt.NDArray[np.int64]
    cosines: Vectors


class NeighbourIndex:
    """Vectors that can be asked for the nearest; the number of a vector is its place when built.

    Parameters
    ----------
    graph
        As `build` and `restore` make it.
    """

    def __init__(self, graph: Index) -> None:
        self._graph = graph

    @classmethod
    def build(cls, vectors: Vectors) -> NeighbourIndex:
        """Return the index of vectors, shape (n, dimensions)."""
        graph = Index(
            ndim=vectors.shape[1],
            metric="cos",
            dtype="f32",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )
        if len(vectors):
            graph.add(np.arange(len(vectors), dtype=np.uint64), np.ascontiguousarray(vectors, dtype=np.float32))
        return cls(graph)

    @classmethod
    def restore(cls, data: bytes) -> NeighbourIndex:
        """Return an index from its bytes.

        Raises
        ------
        ValueError
            The bytes are no index.
        """
        try:
            graph = Index.restore(data)
        except Exception as error:  # the library raises what its C++ throws
            raise ValueError(str(error)) from error
        if graph is None:
            raise ValueError("not an index")
        return cls(graph)

    def to_bytes(self) -> bytes:
        """Return the index as bytes."""
        return bytes(self._graph.save())  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._graph)

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        return int(self._graph.ndim)

    @property
    def is_exact(self) -> bool:
        """Whether searches compare all vectors unless told otherwise."""
        return len(self) < EXACT_BELOW

    def vectors(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """Return vectors by number, shape (n, dimensions)."""
        found: Any = self._graph.get(rows.astype(np.uint64))
        return np.asarray(found, dtype=np.float32)

    def search(self, queries: Vectors, k: int, *, exact: bool | None = None) -> Neighbours:
        """Return the k nearest vectors of each query (fewer where there are fewer vectors).

        Parameters
        ----------
        queries
            Shape (n_queries, dimensions).
        exact
            Compare all vectors; None: where there are fewer than `EXACT_BELOW`.
        """
        count = min(k, len(self))
        if not count or not len(queries):
            return Neighbours(np.zeros((len(queries), count), np.int64), np.zeros((len(queries), count), np.float32))
        use_exact = self.is_exact if exact is None else exact
        rows, cosines = [], []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            block = np.atleast_2d(np.ascontiguousarray(queries[start : start + QUERIES_AT_ONCE], dtype=np.float32))
            # One query gives vectors, several give matrices.
            found = self._graph.search(block, count, exact=use_exact)
            rows.append(np.asarray(found.keys).reshape(len(block), -1).astype(np.int64))
            cosines.append(1.0 - np.asarray(found.distances, dtype=np.float32).reshape(len(block), -1))
        return Neighbours(np.concatenate(rows), np.concatenate(cosines))

    def neighbours_of(self, rows: npt.NDArray[np.int64], k: int, *, exact: bool | None = None) -> Neighbours:
        """Return the k nearest other vectors of vectors that are in the index, by number."""
        found = self.search(self.vectors(rows), k + 1, exact=exact)
        width = found.rows.shape[1] - 1
        if width <= 0:
            return Neighbours(found.rows[:, :0], found.cosines[:, :0])
        # Itself is the nearest, unless others are the same to the last bit: then the farthest gives way.
        strange = found.rows != rows[:, None]
        strange[strange.all(axis=1), -1] = False
        return Neighbours(found.rows[strange].reshape(-1, width), found.cosines[strange].reshape(-1, width))


def recall_at(index: NeighbourIndex, k: int, samples: int, seed: int = 0) -> float:
    """Return which share of the true k nearest of sampled vectors the graph finds."""
    rows = np.random.default_rng(seed).permutation(len(index))[:samples].astype(np.int64)
    if not len(rows) or len(index) < 2:
        return 1.0
    queries = index.vectors(rows)
    true, found = index.search(queries, k, exact=True), index.search(queries, k, exact=False)
    # By distance rather than by number: among equals, any is right.
    limit = true.cosines[:, -1:] - 1e-6
    return float((found.cosines >= limit).sum() / true.cosines.size)


# The tracks of a catalogue that sound most like one: dot products with every embedding, no index needed.

NEAREST = 10


def nearest_tracks(
    predictions: pl.DataFrame,
    embedding: npt.NDArray[np.float32],
    bundle_fingerprint: str,
    *,
    own_uri: str = "",
    most: int = NEAREST,
) -> list[Neighbour]:
    """Return the most similar tracks of a predictions table, the most similar first.

    Parameters
    ----------
    embedding
        Of the track, length 1, shape (d,).
    bundle_fingerprint
        What made it; embeddings of other bundles say nothing about it and are left out.
    own_uri
        The track itself, left out.

    Raises
    ------
    FingerprintError
        No row was made by that bundle.
    """
    same = predictions.filter(pl.col("bundle_fingerprint") == bundle_fingerprint)
    if same.is_empty():
        found = predictions["bundle_fingerprint"].unique().sort().to_list()
        raise FingerprintError(
            f"none of {predictions.height} predictions is of bundle {bundle_fingerprint}; they are of "
            f"{', '.join(found) or 'none'}",
            "give the bundle that made them, or tag the catalogue with this one",
        )
    others = same.filter(pl.col("embedding").is_not_null() & (pl.col("uri") != own_uri))
    if others.is_empty():
        return []
    vectors = others["embedding"].list.to_array(len(embedding)).to_numpy()
    similarity = vectors @ embedding
    best = np.argsort(-similarity, kind="stable")[:most]
    rows = others[best.tolist()].select("uri", "genre", "genre_probability")
    return [
        Neighbour(uri, float(similarity[place]), genre, probability)
        for place, (uri, genre, probability) in zip(best, rows.iter_rows(), strict=True)
    ]
