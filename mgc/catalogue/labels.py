"""Labels of tracks: from a manifest (`mgc.catalogue.label_files`), or from the names of folders.

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

Genres, tags and groups are compared by what is seen: NFC, without invisible characters, spaces as one. `nan`,
`NULL`, `N/A`, `None` and the like are empty cells. Where there is no `tags_known`, tags are known where the cell is
not empty. An empty cell of a CSV leaves them unknown; an empty list of a Parquet column, and ``-`` in a CSV, mean
that the track has none of the tags. An apostrophe before ``=``, ``+``, ``-`` or ``@`` at the start of a CSV's cell
marks it as text for spreadsheets and is no part of it (`mgc.tables.csv_cells`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from urllib.parse import unquote

import polars as pl

from mgc.catalogue.label_files import KEYS, read_label_file
from mgc.catalogue.listing import track_id_of
from mgc.config import CatalogueConfig
from mgc.errors import LabelError, did_you_mean
from mgc.tables.schema import SPLITS

LABELS = ("genre", "tags", "group", "artist", "split")
EXAMPLES = 5
NO_TAGS = "-"
"""In a cell of tags: the track has none of them, and that is known."""

MISSING_WORDS = ("", "-", "nan", "-nan", "null", "none", "n/a", "#n/a", "na", "<na>", "nat")
"""What spreadsheets, pandas, R and databases write where there is no value, in lower case."""

INVISIBLE = "[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
"""Characters that show nothing, but for joiners: scripts and emoji need them."""

TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0")


def read_manifest(path_or_uri: str, config: CatalogueConfig) -> pl.DataFrame:
    """Return a manifest as columns key, genre, tags, tags_known, group, split.

    Parameters
    ----------
    path_or_uri
        A CSV, a spreadsheet or a Parquet file, local or on S3.
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
    raw = read_label_file(path_or_uri)
    _require_no_lists(raw, path_or_uri)
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
    return _seen(first).replace("", None).alias("genre")


def with_known_genres(frame: pl.DataFrame, config: CatalogueConfig, where: str) -> pl.DataFrame:
    """Return the frame after its `genre` column was held against the genres allowed.

    Raises
    ------
    LabelError
        A genre is not among them, and `config.unknown_genre` is "error".
    """
    if not config.genres:
        return frame
    allowed = pl.Series(config.genres).to_frame().select(_seen(pl.first())).to_series()
    unknown = pl.col("genre").is_not_null() & ~pl.col("genre").is_in(allowed.to_list())
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


def _text(name: str) -> pl.Expr:
    """Return a column as trimmed text, null where it is empty."""
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _seen(text: pl.Expr) -> pl.Expr:
    """Return text as it is seen: composed letters, nothing invisible, single spaces."""
    visible = text.str.normalize("NFC").str.replace_all(INVISIBLE, "")
    return visible.str.replace_all(r"\s+", " ").str.strip_chars()


def _label(name: str) -> pl.Expr:
    """Return a column of labels as they are seen, null where it is empty or says that there is none."""
    text = _seen(pl.col(name).cast(pl.String))
    return pl.when(~text.str.to_lowercase().is_in(MISSING_WORDS)).then(text)


def _key(key: str) -> pl.Expr:
    if key != "path":
        return _text(key).alias(key)
    slashed = _text("path").str.replace_all("\\", "/", literal=True)
    return slashed.str.replace(r"^(\./+)+", "").str.normalize("NFC").alias("path")


def _text_or_null(raw: pl.DataFrame, *names: str) -> pl.Expr:
    """Return the first of some columns that is there, under the first's name; null where none is."""
    name = next((name for name in names if name in raw.columns), None)
    return (_label(name) if name else pl.lit(None, pl.String)).alias(names[0])


def _tags(raw: pl.DataFrame, where: str) -> tuple[pl.Expr, pl.Expr]:
    """Return the expressions of tags and tags_known."""
    if "tags" not in raw.columns:
        return pl.lit([], pl.List(pl.String)).alias("tags"), pl.lit(False).alias("tags_known")
    if isinstance(raw.schema["tags"], pl.List | pl.Array):
        names = pl.col("tags").cast(pl.List(pl.String))
    else:
        text = pl.when(_text("tags") == NO_TAGS).then(_text("tags")).otherwise(_label("tags"))
        names = text.str.replace_all(";", "|", literal=True).str.split("|")
    names = names.list.eval(_seen(pl.element())).list.eval(
        pl.element().filter(~pl.element().str.to_lowercase().is_in(MISSING_WORDS))
    )
    known = _boolean(raw, where) if "tags_known" in raw.columns else names.is_not_null()
    tags = names.list.unique(maintain_order=True).fill_null(pl.lit([], pl.List(pl.String)))
    return tags.alias("tags"), known.alias("tags_known")


def _boolean(raw: pl.DataFrame, where: str) -> pl.Expr:
    word = _label("tags_known").str.to_lowercase()
    strange = raw.select(word)["tags_known"].drop_nulls().unique().sort()
    strange = strange.filter(~strange.is_in([*TRUE_WORDS, *FALSE_WORDS]))
    if len(strange):
        raise LabelError(
            f"manifest '{where}': tags_known is neither true nor false: {_listed(strange.to_list())}",
            "write true or false, yes or no, 1 or 0",
        )
    return word.is_in(TRUE_WORDS).fill_null(False)


def _require_no_lists(raw: pl.DataFrame, where: str) -> None:
    """Raise where cells hold a list as Python or JSON writes it, or tags between commas: each would be one label."""
    for name in ("genre", "tags"):
        if raw.schema.get(name) != pl.String:
            continue
        cells = raw.select(_text(name)).to_series()
        lists = cells.filter(cells.str.contains(r"^(\[.*\]|\{.*\}|\(\s*[\"'].*\))$"))
        what = "look like a list of a program"
        if lists.is_empty() and name == "tags" and not cells.str.contains("[|;]").any():
            lists, what = cells.filter(cells.str.contains(",", literal=True)), "have commas"
        if len(lists):
            raise LabelError(
                f"manifest '{where}': {len(lists)} cells of {name} {what}, such as {lists[0]!r}",
                "write a genre bare (Rock), tags between bars (loud|fast), or give a list column of a Parquet file; "
                "where commas or brackets belong to a tag, end its cell with a bar",
            )


def look_alikes(counts: Mapping[str, int]) -> list[str]:
    """Return the names that differ in case, accents, spaces or punctuation alone, each group with its counts."""
    groups: dict[str, list[str]] = {}
    for name in counts:
        letters = unicodedata.normalize("NFKD", name).casefold()
        groups.setdefault("".join(each for each in letters if each.isalnum() or each in "+#") or name, []).append(
            name
        )
    return [", ".join(f"{name} ({counts[name]:,})" for name in group) for group in groups.values() if len(group) > 1]


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
