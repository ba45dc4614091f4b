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
from usearch.compiled import MetricKind
from usearch.index import Index
from usearch.index import search as search_all

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


def nearest_of(vectors: Vectors, queries: Vectors, k: int) -> Neighbours:
    """Return the k nearest vectors of each query by comparing all: for a few queries, no index is worth its making.

    Parameters
    ----------
    vectors, queries
        Shape (n, dimensions) and (n_queries, dimensions).
    """
    if not len(vectors) or not len(queries):
        return _no_neighbours(len(queries))
    count = min(k, len(vectors))
    return _neighbours(search_all(_rows(vectors), _rows(queries), count, MetricKind.Cos, exact=True), len(queries))


def _rows(vectors: Vectors) -> Vectors:
    return np.atleast_2d(np.ascontiguousarray(vectors, dtype=np.float32))


def _neighbours(found: Any, n_queries: int) -> Neighbours:
    """Return what the library found: for one query it gives vectors, for several matrices."""
    rows, distances = (np.asarray(values).reshape(n_queries, -1) for values in (found.keys, found.distances))
    return Neighbours(rows.astype(np.int64), 1.0 - distances.astype(np.float32))


def _no_neighbours(n_queries: int) -> Neighbours:
    return Neighbours(np.zeros((n_queries, 0), np.int64), np.zeros((n_queries, 0), np.float32))


class NeighbourIndex:
    """Vectors and the graph over them; the number of a vector is its place when built.

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
            graph.add(np.arange(len(vectors), dtype=np.uint64), _rows(vectors))
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
        """Whether searches compare all vectors by default."""
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
        if not len(self) or not len(queries):
            return _no_neighbours(len(queries))
        use_exact = self.is_exact if exact is None else exact
        blocks = [
            _rows(queries[start : start + QUERIES_AT_ONCE]) for start in range(0, len(queries), QUERIES_AT_ONCE)
        ]
        count = min(k, len(self))
        found = [_neighbours(self._graph.search(block, count, exact=use_exact), len(block)) for block in blocks]
        return Neighbours(np.concatenate([one.rows for one in found]), np.concatenate([one.cosines for one in found]))

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
