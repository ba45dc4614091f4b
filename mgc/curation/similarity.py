"""The similarity index of a catalogue's predictions: an index file beside them, and a manifest that says of what.

Tracks alike are found for one track, for several at once (what somebody played), and for each.

Layout below the predictions::

    similar/manifest.json             of which predictions, of which bundle, how many, how good
    similar/index-<id>.usearch        the vectors and their graph
    similar/tracks-<id>.parquet       which track is which vector

The manifest is written last and names the two files, so that readers see a whole index or the one before.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

import numpy as np
import polars as pl

from mgc.config.section import from_json
from mgc.curation.nearest_neighbours import NeighbourIndex, Vectors, nearest_of, recall_at
from mgc.errors import ConfigError, FingerprintError, SchemaError
from mgc.printable import printable
from mgc.reports.track_look import Neighbour
from mgc.storage.store import ObjectNotFoundError, Store
from mgc.tables.predictions import prediction_files, read_predictions

FOLDER = "similar"
MANIFEST = f"{FOLDER}/manifest.json"
VERSION = 2

COLUMNS = [
    "track_id",
    "uri",
    "duration_seconds",
    "genre",
    "genre_probability",
    "abstained",
    "embedding",
    "error_code",
    "bundle_fingerprint",
    "run_id",
    "tagged_at",
]
TRACK_COLUMNS = ["track_id", "uri", "duration_seconds", "genre", "genre_probability", "abstained"]

NO_DIRECTION = 1e-5
"""A mean of unit vectors that is shorter has no direction but that of rounding."""

RECALL_AT = 10
RECALL_SAMPLES = 200


class SimilarBy(StrEnum):
    """What several tracks are compared by: the mean of their embeddings, or the nearest of them."""

    CENTROID = "centroid"
    NEAREST = "nearest"


@dataclass(frozen=True)
class SimilarityManifest:
    """What an index was built from.

    Parameters
    ----------
    source
        Identity of the predictions files: their ETags, or sizes and times.
    bundle_fingerprint, run_id
        Of its newest row; vectors of other bundles do not compare and are left out.
    count, dimensions
        Of the vectors.
    left_out
        Tracks without a vector: failed ones, and rows of other bundles.
    recall
        Share of the true ten nearest that the graph finds, measured on 200 of its own vectors.
    """

    source: str
    bundle_fingerprint: str
    run_id: str
    count: int
    dimensions: int
    left_out: int
    recall: float
    index_key: str
    tracks_key: str
    version: int = VERSION


@dataclass(frozen=True)
class SimilarityIndex:
    """The tracks of a catalogue, and which are most like which.

    Parameters
    ----------
    manifest
        What it was built from.
    index
        The vectors.
    tracks
        Columns `TRACK_COLUMNS`; row i is vector i.
    predictions_uri
        What it is of, read again to say why a track is not in it.
    """

    manifest: SimilarityManifest
    index: NeighbourIndex
    tracks: pl.DataFrame
    predictions_uri: str | None = None

    def row_of(self, track: str) -> int:
        """Return the number of a track by its track_id, its URI, or the end of its path.

        Raises
        ------
        ConfigError
            No track, or more than one, is called that, or it has no embedding in this index.
        """
        rows = self.tracks.select(_named(track).arg_true()).to_series()
        if len(rows) == 1:
            return int(rows[0])
        if rows.is_empty():
            raise self._not_in_it(track)
        some = ", ".join(self.tracks["uri"].gather(rows.head(3)).to_list())
        raise ConfigError(f"{len(rows)} tracks are called '{track}': {some} …", "give more of the path")

    def similar_to(
        self, tracks: Sequence[str], k: int, *, by: SimilarBy = SimilarBy.CENTROID, exact: bool | None = None
    ) -> pl.DataFrame:
        """Return the k tracks most like the given ones, these left out: rank, cosine, and the columns of `tracks`.

        Parameters
        ----------
        tracks
            Each as `row_of` takes it. One given twice counts twice in the centroid.
        by
            CENTROID: the cosine to the mean of their embeddings. NEAREST: to the nearest of them, named in a further
            column `nearest_to` (URI).

        Raises
        ------
        ConfigError
            As `row_of`, or the embeddings cancel each other, so that nothing is near their mean.
        """
        rows = np.array([self.row_of(track) for track in tracks], dtype=np.int64)
        queries = self.index.vectors(rows)
        if by is SimilarBy.CENTROID:
            queries = queries.mean(axis=0, keepdims=True, dtype=np.float32)
            if np.linalg.norm(queries) < NO_DIRECTION:
                raise ConfigError("the embeddings of the tracks cancel each other: nothing is near", "--by nearest")
        found = self.index.search(queries, k + len(np.unique(rows)), exact=exact)
        pairs = pl.DataFrame(
            {
                "row": found.rows.reshape(-1),
                "cosine": found.cosines.reshape(-1),
                "query": np.repeat(np.arange(len(queries)), found.rows.shape[1]),
            }
        )
        best = (
            pairs.filter(~pl.col("row").is_in(rows))
            .sort("cosine", descending=True, maintain_order=True)
            .unique("row", keep="first", maintain_order=True)
            .head(k)
        )
        nearest: pl.DataFrame = self.tracks[best["row"].to_numpy()]
        shown = nearest.select(pl.Series("rank", np.arange(1, best.height + 1), pl.Int32), best["cosine"], pl.all())
        if by is SimilarBy.CENTROID:
            return shown
        return shown.with_columns(nearest_to=self.tracks["uri"].gather(rows[best["query"].to_numpy()]))

    def _not_in_it(self, track: str) -> ConfigError:
        """Return the error that says why a track is not in the index, as its predictions know it."""
        columns = ["track_id", "uri", "error_code", "bundle_fingerprint"]
        named = []
        if self.predictions_uri is not None:
            named = read_predictions(self.predictions_uri, columns).filter(_named(track)).head(1).to_dicts()
        if named and named[0]["error_code"]:
            return ConfigError(
                f"'{track}' has no embedding: its last tagging failed with {named[0]['error_code']}",
                "see `mgc status`; leave it out, or tag it anew",
            )
        if named:
            return ConfigError(
                f"'{track}' was tagged by bundle {named[0]['bundle_fingerprint']}, and the index is of "
                f"{self.manifest.bundle_fingerprint}: their embeddings do not compare",
                "tag the catalogue with one bundle",
            )
        return ConfigError(
            f"none of the {len(self.tracks):,} tracks with an embedding is called '{track}'",
            "give its track_id, its URI, or the end of its path",
        )

    def all_pairs(self, k: int, *, exact: bool | None = None) -> pl.DataFrame:
        """Return the k most similar of every track: track_id, neighbour_id, rank, cosine."""
        found = self.index.neighbours_of(np.arange(len(self.index), dtype=np.int64), k, exact=exact)
        n, width = found.rows.shape
        ids = self.tracks["track_id"]
        return pl.DataFrame(
            {
                "track_id": ids.gather(np.repeat(np.arange(n), width)),
                "neighbour_id": ids.gather(found.rows.reshape(-1)),
                "rank": np.tile(np.arange(1, width + 1, dtype=np.int32), n),
                "cosine": found.cosines.reshape(-1),
            }
        )


def open_index(predictions_uri: str, *, rebuild: bool | None = None) -> SimilarityIndex:
    """Return the index of predictions, built anew where there is none or it is of other predictions.

    Parameters
    ----------
    predictions_uri
        Output directory of `mgc tag`, or a predictions file.
    rebuild
        True: build it anyway; False: never, an index that does not fit is an error.

    Raises
    ------
    FingerprintError
        `rebuild` is False, and the index is missing or of other predictions.
    SchemaError
        There are no predictions, or none of them has an embedding.
    """
    files = prediction_files(predictions_uri)
    store, source = files.store, files.mark
    manifest = _manifest(store)
    if manifest is not None and manifest.source == source and not rebuild:
        return replace(_loaded(store, manifest), predictions_uri=predictions_uri)
    if rebuild is False:
        what = "there is none" if manifest is None else f"it is of bundle {manifest.bundle_fingerprint}, older"
        raise FingerprintError(
            f"the index in '{store.uri(FOLDER)}' is not of these predictions: {what}", "let it be built anew"
        )
    built = build_index(read_predictions(predictions_uri, COLUMNS), source)
    _save(store, built, manifest)
    return replace(built, predictions_uri=predictions_uri)


def build_index(predictions: pl.DataFrame, source: str = "") -> SimilarityIndex:
    """Return the index of the rows that the newest row's bundle made.

    Raises
    ------
    SchemaError
        No row has an embedding.
    """
    answered = predictions.filter(pl.col("embedding").is_not_null())
    if answered.is_empty():
        raise SchemaError(f"none of {predictions.height:,} predictions has an embedding", "tag some tracks first")
    newest = answered.sort("tagged_at", "run_id").row(-1, named=True)
    rows = answered.filter(pl.col("bundle_fingerprint") == newest["bundle_fingerprint"]).sort("track_id")
    vectors = embedding_matrix(rows)
    index = NeighbourIndex.build(vectors)
    name = f"{newest['bundle_fingerprint'][:8]}-{abs(hash_of(rows, source)):016x}"
    manifest = SimilarityManifest(
        source=source,
        bundle_fingerprint=newest["bundle_fingerprint"],
        run_id=newest["run_id"],
        count=len(index),
        dimensions=vectors.shape[1],
        left_out=predictions.height - rows.height,
        recall=round(recall_at(index, RECALL_AT, RECALL_SAMPLES), 4),
        index_key=f"{FOLDER}/index-{name}.usearch",
        tracks_key=f"{FOLDER}/tracks-{name}.parquet",
    )
    return SimilarityIndex(manifest, index, rows.select(TRACK_COLUMNS))


def nearest_tracks(
    predictions: pl.DataFrame, embedding: Vectors, bundle_fingerprint: str, *, own_uri: str = "", k: int = 10
) -> list[Neighbour]:
    """Return the k tracks of a predictions table most like one that is perhaps not in it, the most similar first.

    Parameters
    ----------
    embedding
        Of the track, shape (dimensions,).
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
    nearest = nearest_of(embedding_matrix(others), embedding[None], k)
    rows = others[nearest.rows[0]].select("uri", "genre", "genre_probability", "abstained").iter_rows()
    return [
        Neighbour(uri, float(cosine), genre, probability, bool(abstained))
        for cosine, (uri, genre, probability, abstained) in zip(nearest.cosines[0], rows, strict=True)
    ]


def playlist_of(tracks: pl.DataFrame) -> bytes:
    """Return tracks (columns uri, duration_seconds) as an extended M3U in UTF-8, in their order.

    Paths are absolute. One with a line end or another character that is not printed is written as its `file://` URI.
    """
    lines = ["#EXTM3U"]
    for uri, seconds in tracks.select("uri", "duration_seconds").iter_rows():
        title = printable(PurePosixPath(unquote(uri) if uri.startswith("file://") else uri).stem)
        unsafe = printable(uri) != uri
        # -1 is the length that is not known; players read whole seconds.
        lines += [f"#EXTINF:{-1 if seconds is None else round(seconds)},{title}"]
        lines += [(quote(uri, safe="/:") if "://" in uri else f"file://{quote(uri)}") if unsafe else uri]
    return ("\n".join(lines) + "\n").encode()


def embedding_matrix(rows: pl.DataFrame) -> Vectors:
    """Return the embeddings of rows, shape (n, dimensions).

    Raises
    ------
    SchemaError
        They are not all of one length.
    """
    lengths = rows["embedding"].list.len().unique()
    if len(lengths) != 1:
        raise SchemaError(f"embeddings of {lengths.sort().to_list()} values do not compare", "tag all tracks anew")
    flat = rows["embedding"].explode().to_numpy()
    return np.asarray(flat, dtype=np.float32).reshape(rows.height, int(lengths[0]))


def hash_of(rows: pl.DataFrame, source: str) -> int:
    """Return a number that tells one build's files from another's."""
    return int(pl.Series([source, *rows["track_id"].head(1).to_list(), str(rows.height)]).hash().sum())


def _named(track: str) -> pl.Expr:
    tail = "/" + track.lstrip("/")
    return (pl.col("track_id") == track) | (pl.col("uri") == track) | pl.col("uri").str.ends_with(tail)


def _manifest(store: Store) -> SimilarityManifest | None:
    try:
        manifest = from_json(SimilarityManifest, store.read_bytes(MANIFEST))
    except (ObjectNotFoundError, ValueError):
        return None
    return manifest if manifest.version == VERSION else None


def _loaded(store: Store, manifest: SimilarityManifest) -> SimilarityIndex:
    try:
        index = NeighbourIndex.restore(store.read_bytes(manifest.index_key))
        tracks = pl.read_parquet(io.BytesIO(store.read_bytes(manifest.tracks_key)))
    except (ObjectNotFoundError, ValueError, pl.exceptions.PolarsError) as error:
        raise _broken(store, str(error)) from error
    if len(index) != manifest.count or tracks.height != manifest.count or index.dimensions != manifest.dimensions:
        raise _broken(store, f"{len(index)} vectors and {tracks.height} tracks, {manifest.count} were written")
    return SimilarityIndex(manifest, index, tracks)


def _broken(store: Store, why: str) -> SchemaError:
    return SchemaError(f"the index in '{store.uri(FOLDER)}' is damaged: {why}", "build it anew: --rebuild")


def _save(store: Store, built: SimilarityIndex, old: SimilarityManifest | None) -> None:
    buffer = io.BytesIO()
    built.tracks.write_parquet(buffer)
    store.write_atomic(built.manifest.index_key, built.index.to_bytes())
    store.write_atomic(built.manifest.tracks_key, buffer.getvalue())
    store.write_atomic(MANIFEST, json.dumps(asdict(built.manifest), indent=1).encode())
    if old is not None and old.index_key != built.manifest.index_key:
        store.delete(old.index_key)
        store.delete(old.tracks_key)
