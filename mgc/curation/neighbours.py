"""The tracks of a catalogue that sound most like one: dot products with every embedding, no index needed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from mgc.errors import FingerprintError
from mgc.reports.track_look import Neighbour

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
