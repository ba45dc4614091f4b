"""A map of the catalogue: embeddings laid out in two dimensions, tracks that sound alike near each other.

PCA to a few dozen dimensions, then t-SNE (van der Maaten & Hinton 2008) begun at the first two of them and with a
fixed seed: the same tracks give the same map. A map that was made before is kept, so that it looks
alike from run to run, and new tracks are put among those they are most like; it is laid out anew when little of it is
left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from mgc.arrays import Float64Array
from mgc.config.section import json_object

TRACKS_ON_MAP = 3_000
"""Enough to see what there is; more would lie on top of each other, and take minutes."""

FEWEST_TRACKS = 5
DIMENSIONS_FIRST = 32
PERPLEXITY = 30.0
ITERATIONS = 500
KEPT_SHARE = 0.7
"""Of an old map's tracks that must still be there for it to be kept."""

NEIGHBOURS = 3


@dataclass(frozen=True)
class TrackMap:
    """Where tracks are.

    Parameters
    ----------
    bundle_fingerprint
        Whose embeddings: others do not compare.
    track_ids
        Of the tracks, n of them.
    x, y
        Places in [0, 1], shape (n,).
    """

    bundle_fingerprint: str
    track_ids: list[str]
    x: Float64Array
    y: Float64Array

    def to_json(self) -> bytes:
        """Return the map as bytes to keep."""
        places = {name: np.round(values, 5).tolist() for name, values in (("x", self.x), ("y", self.y))}
        return json.dumps({"bundle": self.bundle_fingerprint, "track_ids": self.track_ids, **places}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> TrackMap | None:
        """Return a map that was kept; None where the bytes are none."""
        try:
            value = json_object(data)
            places = [np.array(value[name], dtype=np.float64) for name in ("x", "y")]
            return cls(value["bundle"], list(value["track_ids"]), *places)
        except (ValueError, KeyError, TypeError):
            return None


def lay_out_map(
    track_ids: Sequence[str],
    embeddings: npt.NDArray[np.float32],
    bundle_fingerprint: str,
    old: TrackMap | None = None,
) -> TrackMap | None:
    """Return where tracks are on the map; None where they are too few for one.

    Parameters
    ----------
    track_ids, embeddings
        Of the tracks, n of them; shape (n, dimensions), of unit length.
    bundle_fingerprint
        Whose embeddings.
    old
        A map made before.
    """
    if len(track_ids) < FEWEST_TRACKS:
        return None
    kept = _kept(track_ids, bundle_fingerprint, old)
    places = _laid_out(embeddings) if kept is None else _placed(embeddings, *kept)
    return TrackMap(bundle_fingerprint, list(track_ids), places[:, 0], places[:, 1])


def _kept(
    track_ids: Sequence[str], bundle_fingerprint: str, old: TrackMap | None
) -> tuple[npt.NDArray[np.bool_], Float64Array] | None:
    """Return which tracks have a place already, shape (n,), and their places, shape (n, 2)."""
    if old is None or old.bundle_fingerprint != bundle_fingerprint:
        return None
    place = {track_id: (x, y) for track_id, x, y in zip(old.track_ids, old.x, old.y, strict=True)}
    known = np.array([track_id in place for track_id in track_ids])
    if known.sum() < max(FEWEST_TRACKS, KEPT_SHARE * len(track_ids)):
        return None
    return known, np.array([place.get(track_id, (0.0, 0.0)) for track_id in track_ids])


def _placed(embeddings: npt.NDArray[np.float32], known: npt.NDArray[np.bool_], places: Float64Array) -> Float64Array:
    """Return places, those of new tracks in the middle of the three known ones that they are most like."""
    there, new = np.flatnonzero(known), np.flatnonzero(~known)
    if len(new):
        cosines = embeddings[new] @ embeddings[there].T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS]
        places[new] = places[there[nearest]].mean(axis=1)
    return places


def _laid_out(embeddings: npt.NDArray[np.float32]) -> Float64Array:
    n, dimensions = embeddings.shape
    if dimensions < 2 or np.allclose(embeddings, embeddings[0]):
        return _within(np.column_stack([embeddings[:, 0], np.zeros(n)]).astype(np.float64))
    first = PCA(min(DIMENSIONS_FIRST, dimensions, n - 1), svd_solver="full")
    reduced = first.fit_transform(embeddings.astype(np.float64))
    layout = TSNE(
        perplexity=min(PERPLEXITY, (n - 1) / 3), init="pca", max_iter=ITERATIONS, random_state=0, n_jobs=1
    ).fit_transform(reduced.astype(np.float32))
    return _within(np.asarray(layout, dtype=np.float64))


def _within(places: Float64Array) -> Float64Array:
    """Return places in the unit square, far outliers drawn to its edge."""
    low, high = np.quantile(places, [0.002, 0.998], axis=0)
    return np.asarray(np.clip((places - low) / np.maximum(high - low, 1e-9), 0.0, 1.0) * 0.96 + 0.02)
