"""Labels of tracks: from a CSV or Parquet manifest, or from the names of folders.

A manifest has a row a track and any of these columns, in any order and case; others are ignored:

==============  =====================================================================================
path            file, relative to the catalogue's root (or absolute, below it); the key if present
uri             whole URI of the file; the key if there is no path
track_id        mgc's own id; the key if there is neither
genre           one genre, or empty
tags            names separated by ``|`` or ``;``, or a list column
tags_known      whether the tags are complete, so that a tag not named is known to be absent
group, artist   what must stay on one side of every split
split           train, valid, test or unlisted
==============  =====================================================================================

Where there is no `tags_known`, tags are known where the cell is not empty. An empty cell of a CSV leaves
them unknown; an empty list of a Parquet column, and ``-`` in a CSV, mean that the track has none of the tags. An
apostrophe before ``=``, ``+``, ``-`` or ``@`` at the start of a CSV's cell marks it as text for spreadsheets and is
no part of it (`mgc.tables.csv_cells`).
"""

from __future__ import annotations

import io
from urllib.parse import unquote

import polars as pl

from mgc.catalogue.listing import track_id_of
from mgc.config import CatalogueConfig
from mgc.errors import LabelError, did_you_mean
from mgc.storage.store import ObjectNotFoundError, Store, split_uri
from mgc.tables.csv_cells import without_mark
from mgc.tables.schema import SPLITS

KEYS = ("path", "uri", "track_id")
LABELS = ("genre", "tags", "group", "artist", "split")
EXAMPLES = 5
NO_TAGS = "-"
"""In a cell of tags: the track has none of them, and that is known."""

TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0")


def read_manifest(path_or_uri: str, config: CatalogueConfig) -> pl.DataFrame:
    """Return a manifest as columns key, genre, tags, tags_known, group, split.

    Parameters
    ----------
    path_or_uri
        A CSV (or TSV) or Parquet file, local or on S3.
    config
        The genres allowed, and what to do with others.

    Returns
    -------
    polars.DataFrame
        The first column is named `path`, `uri` or `track_id`, and holds the keys. Genre, group and split are
        null where they are not given; tags are never null.

    Raises
    ------
    LabelError
        The manifest is missing or unreadable, has no key or no label column, repeats a key, or names an
        unknown genre or split.
    """
    raw = _lower_names(_read_table(path_or_uri), path_or_uri)
    key = next((name for name in KEYS if name in raw.columns), None)
    if key is None:
        raise LabelError(
            f"manifest '{path_or_uri}' has no column path, uri or track_id (it has {_listed(raw.columns)})",
            "name each track's file, relative to the root, in a column 'path'",
        )
    if not any(name in raw.columns for name in LABELS):
        raise LabelError(
            f"manifest '{path_or_uri}' has none of the columns {', '.join(LABELS)} (it has {_listed(raw.columns)})",
            "add a column of labels, or leave the manifest out",
        )
    frame = raw.select(
        _key(key),
        _text_or_null(raw, "genre"),
        *_tags(raw, path_or_uri),
        _text_or_null(raw, "group", "artist"),
        _text_or_null(raw, "split").str.to_lowercase(),
    )
    _require_keys(frame, key, path_or_uri)
    _require_splits(frame, path_or_uri)
    return with_known_genres(frame, config, f"manifest '{path_or_uri}'")


def keyed_by_track(manifest: pl.DataFrame, root: str) -> pl.DataFrame:
    """Return a manifest with the `track_id` of each row's key in a catalogue at `root`.

    Raises
    ------
    LabelError
        Two rows name the same file.
    """
    key = manifest.columns[0]
    if key == "track_id":
        return manifest
    inside = f"{_local(root).rstrip('/')}/"
    ids = (track_id_of(_local(name).removeprefix(inside)) for name in manifest[key])
    keyed = manifest.with_columns(pl.Series("track_id", ids, pl.String))
    _require_unique(keyed, "track_id", key, "the manifest")
    return keyed


def folder_genre() -> pl.Expr:
    """Return the genre of a column `key` by its first folder; null for files at the root."""
    first = pl.col("key").str.extract(r"^([^/]+)/", 1)
    return first.str.strip_chars().replace("", None).alias("genre")


def with_known_genres(frame: pl.DataFrame, config: CatalogueConfig, where: str) -> pl.DataFrame:
    """Return the frame after its `genre` column was held against the genres allowed.

    Raises
    ------
    LabelError
        A genre is not among them, and `config.unknown_genre` is "error".
    """
    if not config.genres:
        return frame
    unknown = pl.col("genre").is_not_null() & ~pl.col("genre").is_in(list(config.genres))
    found = frame.filter(unknown)["genre"].value_counts(sort=True).rows()
    if found and config.unknown_genre == "error":
        shown = [f"'{name}' ({count} rows; {did_you_mean(name, list(config.genres))})" for name, count in found]
        raise LabelError(
            f"{where} names unknown genres: {_listed(shown)}",
            "correct them, add them to catalogue.genres, or set catalogue.unknown_genre = 'unlabelled'",
        )
    return frame.with_columns(genre=pl.when(unknown).then(None).otherwise(pl.col("genre")))


def _local(name: str) -> str:
    """Return a `file://` URI as its path, and any other name as it is."""
    return unquote(name.removeprefix("file://"), errors="surrogateescape") if name.startswith("file://") else name


def _read_table(path_or_uri: str) -> pl.DataFrame:
    root, name = split_uri(path_or_uri)
    try:
        data = Store(root).read_bytes(name)
    except ObjectNotFoundError as error:
        raise LabelError(f"manifest '{path_or_uri}' does not exist", "check --manifest") from error
    suffix = name.rpartition(".")[2].lower()
    try:
        if data.startswith(b"PAR1") or suffix in ("parquet", "pq"):
            frame = pl.read_parquet(io.BytesIO(data))
        else:
            # Everything as text: the track id 00012 is not the number 12.
            frame = pl.read_csv(data, infer_schema=False, separator="\t" if suffix == "tsv" else ",")
            frame = frame.with_columns(without_mark(pl.all()))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise LabelError(
            f"manifest '{path_or_uri}' cannot be read: {reason}", "give a UTF-8 CSV or a Parquet file"
        ) from error
    if frame.is_empty():
        raise LabelError(f"manifest '{path_or_uri}' has no rows", "give a row for each labelled track")
    return frame


def _lower_names(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    names = [name.strip().lower() for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LabelError(f"manifest '{where}' has more than one column '{twice[0]}'", "rename one of them")
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def _text(name: str) -> pl.Expr:
    """Return a column as trimmed text, null where it is empty."""
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _key(key: str) -> pl.Expr:
    if key != "path":
        return _text(key).alias(key)
    slashed = _text("path").str.replace_all("\\", "/", literal=True)
    return slashed.str.replace(r"^(\./+)+", "").str.normalize("NFC").alias("path")


def _text_or_null(raw: pl.DataFrame, *names: str) -> pl.Expr:
    """Return the first of some columns that is there, under the first's name; null where none is."""
    name = next((name for name in names if name in raw.columns), None)
    return (_text(name) if name else pl.lit(None, pl.String)).alias(names[0])


def _tags(raw: pl.DataFrame, where: str) -> tuple[pl.Expr, pl.Expr]:
    """Return the expressions of tags and tags_known."""
    if "tags" not in raw.columns:
        return pl.lit([], pl.List(pl.String)).alias("tags"), pl.lit(False).alias("tags_known")
    if isinstance(raw.schema["tags"], pl.List | pl.Array):
        names = pl.col("tags").cast(pl.List(pl.String))
    else:
        names = _text("tags").str.replace_all(";", "|", literal=True).str.split("|")
    names = names.list.eval(pl.element().str.strip_chars()).list.eval(
        pl.element().filter(pl.element().is_not_null() & ~pl.element().is_in(["", NO_TAGS]))
    )
    known = _boolean(raw, where) if "tags_known" in raw.columns else names.is_not_null()
    tags = names.list.unique(maintain_order=True).fill_null(pl.lit([], pl.List(pl.String)))
    return tags.alias("tags"), known.alias("tags_known")


def _boolean(raw: pl.DataFrame, where: str) -> pl.Expr:
    word = _text("tags_known").str.to_lowercase()
    strange = raw.select(word)["tags_known"].drop_nulls().unique().sort()
    strange = strange.filter(~strange.is_in([*TRUE_WORDS, *FALSE_WORDS]))
    if len(strange):
        raise LabelError(
            f"manifest '{where}': tags_known is neither true nor false: {_listed(strange.to_list())}",
            "write true or false, yes or no, 1 or 0",
        )
    return word.is_in(TRUE_WORDS).fill_null(False)


def _require_keys(frame: pl.DataFrame, key: str, where: str) -> None:
    empty = frame[key].null_count()
    if empty:
        raise LabelError(f"manifest '{where}' has {empty} row(s) with an empty '{key}'", "fill them in")
    _require_unique(frame, key, key, f"manifest '{where}'")


def _require_unique(frame: pl.DataFrame, column: str, shown: str, where: str) -> None:
    repeated = frame.filter(pl.col(column).is_duplicated())
    if not repeated.is_empty():
        names = repeated.unique(column, keep="first", maintain_order=True)[shown].to_list()
        raise LabelError(
            f"{where} names {len(names)} track(s) more than once: {_listed(names)}", "keep one row a track"
        )


def _require_splits(frame: pl.DataFrame, where: str) -> None:
    found = frame["split"].drop_nulls().unique().sort()
    strange = found.filter(~found.is_in(SPLITS)).to_list()
    if strange:
        hints = [f"'{name}' ({did_you_mean(name, list(SPLITS))})" for name in strange]
        raise LabelError(
            f"manifest '{where}' names unknown splits: {_listed(hints)}",
            "a split is train, valid, test or unlisted; leave it empty to have one drawn",
        )


def _listed(names: list[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > EXAMPLES else ""
    return ", ".join(names[:EXAMPLES]) + more
