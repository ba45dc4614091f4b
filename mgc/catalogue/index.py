"""The catalogue: one row a track, with what is known of it; the table that every job begins with."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.catalogue.joining import Corrections, Joined, Named, manifest_of, read_corrections, with_labels
from mgc.catalogue.labels import look_alikes
from mgc.catalogue.listing import Skipped, Tally, list_audio, list_mels, with_content_hashes
from mgc.catalogue.splits import assign_splits
from mgc.config import CatalogueConfig
from mgc.errors import SchemaError, StorageError
from mgc.storage.store import Store, UriParts, split_uri
from mgc.tables import slices
from mgc.tables.parquet_batches import frame_of, group_bounds
from mgc.tables.schema import CATALOGUE, SPLITS, marked, require_kind
from mgc.tables.slices import ALL_IDS, Slices, Span

NO_GENRE = "(no genre)"
ROWS_A_GROUP = slices.SLICE_TRACKS


@dataclass(frozen=True)
class IndexSummary:
    """What `index_catalogue` found.

    Parameters
    ----------
    root, output
        URIs of what was indexed, and of the catalogue.
    tracks, size_bytes
        Audio files, and their total length.
    skipped
        Listed files and folders that are no tracks, by reason.
    extensions
        Of the files that are no audio, the most frequent extensions with their counts.
    doubtful
        Tracks that will have no answer: those that cannot be reached, and music that nothing here plays.
    with_genre, with_tags, labelled
        Tracks that have a genre, whose tags are known, and that have either.
    groups
        Distinct groups.
    by_split
        Tracks in each split.
    by_genre
        Tracks in each split, for each genre.
    by_tag
        Tracks with each tag, the most frequent first.
    look_alikes
        Genres, and tags, that differ in case, accents, spaces or punctuation alone.
    manifest_rows
        Rows of the label manifest; 0 without one.
    rows_without_file, tracks_without_row
        Of the manifest and of the tracks, what the other does not know.
    kept_splits
        Tracks whose split was that of the previous catalogue at this place.
    corrections
        What files of corrections changed.
    """

    root: str
    output: str
    tracks: int
    size_bytes: int
    skipped: dict[str, Named]
    extensions: str
    doubtful: dict[str, Named]
    with_genre: int
    with_tags: int
    labelled: int
    groups: int
    by_split: dict[str, int]
    by_genre: dict[str, dict[str, int]]
    by_tag: dict[str, int]
    look_alikes: list[str]
    manifest_rows: int
    rows_without_file: Named
    tracks_without_row: Named
    kept_splits: int
    corrections: Corrections


def index_catalogue(root: str, output: str, config: CatalogueConfig) -> IndexSummary:
    """List the audio under a root, join its labels, draw its splits, and write the catalogue.

    Parameters
    ----------
    root
        Folder or `s3://` prefix.
    output
        Path or URI of the Parquet file to write. Splits of a catalogue that is there already are kept, unless
        the fractions or the seed were changed.
    config
        Where labels and splits come from.

    Raises
    ------
    StorageError
        The root is missing, unreadable or holds no audio, or the output cannot be written.
    ConfigError, LabelError, SplitError
        The labels wanted do not fit each other, or do not fit the files.
    SchemaError
        The output is something other than a catalogue.
    """
    store = Store.open(root)
    store.check_readable()
    skipped = Skipped()
    batches = (list_mels if config.files == "npy" else list_audio)(store, skipped, config)
    if config.content_id == "hash":
        batches = with_content_hashes(batches, store)
    return catalogue_from(batches, skipped, store.uri(), output, config)


def catalogue_from(
    batches: Iterable[pa.RecordBatch], skipped: Skipped, root: str, output: str, config: CatalogueConfig
) -> IndexSummary:
    """Write the catalogue of files that are being listed; see `index_catalogue`.

    Nothing is taken from `batches` before the output, the previous catalogue and the manifest are found good.
    """
    target = split_uri(output)
    Store(target.root).check_writable()
    previous = _previous_catalogue(target, config)
    manifest = manifest_of(config, root)
    corrections = read_corrections(config, root)
    listed = _listed_tracks(batches, skipped)
    if listed.is_empty():
        wanted = "audio" if config.files == "audio" else f".{config.files}"
        raise StorageError(f"'{root}' holds no {wanted} file{skipped}", "check the root, and --files")
    joined = with_labels(listed, manifest, corrections, config, root)
    splits = assign_splits(
        joined.frame.select("track_id", "genre", "tags_known", "group", "split"),
        config.valid_fraction,
        config.test_fraction,
        config.split_seed,
        previous,
    )
    frame = joined.frame.with_columns(splits["group"], splits["split"])
    _write_catalogue(frame, root, target, config)
    return _summary(frame, joined, previous, skipped, root, Store(target.root).uri(target.key))


def read_catalogue(path: str) -> pl.DataFrame:
    """Return a catalogue, in track_id order.

    Raises
    ------
    StorageError
        There is no such file, or it cannot be read.
    SchemaError
        It is no catalogue of this version, a column has another type, a value is missing or not allowed, or a
        track_id repeats.
    """
    with _opened(path) as file:
        return _rows(file, range(file.num_row_groups), path, CATALOGUE.names)


def catalogue_slices(path: str, *tables: Sequence[str]) -> list[Slices]:
    """Return some columns of a catalogue, read a slice at a time; each is checked then, as `read_catalogue` does.

    A catalogue of one slice, or one that is not in track_id order, is read at once, and whole. Of another one the
    file stays open, or a copy of it where it is on S3: who replaces it meanwhile changes nothing.

    Parameters
    ----------
    tables
        Columns wanted, `track_id` among them; for each such list its slices are returned.

    Raises
    ------
    StorageError, SchemaError
        As `read_catalogue`; of what is wrong in a slice when that one is read.
    """
    with _opened(path) as file:
        firsts = _first_ids(file)
        if not firsts or file.metadata.num_rows <= slices.SLICE_TRACKS:
            whole = _rows(file, range(file.num_row_groups), path, CATALOGUE.names)
            return [Slices.of(whole.select(columns)) for columns in tables]
        # Groups of the size that is written are slices; smaller ones are put together.
        borders, held = [], 0
        for number, first in enumerate(firsts):
            rows = file.metadata.row_group(number).num_rows
            if held and held + rows > slices.SLICE_TRACKS:
                borders.append(first)
                held = 0
            held += rows
    kept = _kept_open(path)

    def read(columns: Sequence[str], span: Span) -> pl.DataFrame:
        groups = [number for number, bounds in enumerate(group_bounds(kept)) if bounds and span.meets(*bounds)]
        return span.of(_rows(kept, groups, path, columns))

    return [Slices(ALL_IDS.cut(borders), partial(read, columns)) for columns in tables]


def slices_of(catalogue: pl.DataFrame | str, *tables: Sequence[str]) -> list[Slices]:
    """Return some columns of a catalogue in memory, or at a path; see `catalogue_slices`."""
    if isinstance(catalogue, str):
        return catalogue_slices(catalogue, *tables)
    return [Slices.of(catalogue.select(columns)) for columns in tables]


def _kept_open(path: str) -> pq.ParquetFile:
    root, key = split_uri(path)
    source: IO[bytes] | io.IOBase = Store(root).open_input(key)
    if root.startswith("s3://"):
        copy = TemporaryFile()  # noqa: SIM115 - it lives as long as what reads it
        with source:
            copyfileobj(source, copy)
        source = copy
    return pq.ParquetFile(source)


def _first_ids(file: pq.ParquetFile) -> list[str]:
    """Return the least track id of each row group; none where they do not say so, or do not follow one another."""
    bounds = list(group_bounds(file))
    known = [one for one in bounds if one is not None]
    follow = all(before[1] < after[0] for before, after in pairwise(known))
    return [least for least, _ in known] if len(known) == len(bounds) and follow else []


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    root, key = split_uri(path)
    with Store(root).open_input(key) as source:
        try:
            file = pq.ParquetFile(source)
            require_kind(file.schema_arrow, "catalogue", path)
            yield file
        except (pa.ArrowException, OSError) as error:
            raise SchemaError(f"'{path}' is no catalogue: {error}", "check the path, or index anew") from error


def _rows(file: pq.ParquetFile, groups: Sequence[int], path: str, columns: Sequence[str]) -> pl.DataFrame:
    """Return rows of a catalogue after checking them."""
    table = file.read_row_groups(list(groups), columns=list(columns))
    frame = frame_of(
        pa.table([table[name].cast(CATALOGUE.field(name).type) for name in columns], names=list(columns))
    )
    _require_valid(frame, path)
    return frame


def catalogue_root(path: str) -> str:
    """Return the folder or prefix that a catalogue lists.

    Raises
    ------
    StorageError, SchemaError
        As `read_catalogue`.
    """
    return _marks(path).get("mgc.root", "")


def scan_catalogue(path: str) -> pl.LazyFrame:
    """Return a catalogue lazily, after checking its kind, version and columns but not its values.

    Raises
    ------
    StorageError, SchemaError
        As `read_catalogue`.
    """
    _marks(path)
    root, key = split_uri(path)
    store = Store(root)
    # polars reads no path that is no UTF-8 (a file:// URI then).
    place = io.BytesIO(store.read_bytes(key)) if "://" in store.uri(key) else store.uri(key)
    return pl.scan_parquet(place, glob=False).select(CATALOGUE.names)


def _marks(path: str) -> dict[str, str]:
    """Return the metadata of a catalogue's file after checking its kind, version and columns."""
    root, key = split_uri(path)
    with Store(root).open_input(key) as source:
        try:
            return require_kind(pq.read_schema(source), "catalogue", path)
        except (pa.ArrowException, OSError) as error:
            raise SchemaError(f"'{path}' is no catalogue: {error}", "check the path, or index anew") from error


def _write_catalogue(frame: pl.DataFrame, root: str, target: UriParts, config: CatalogueConfig) -> None:
    """Write tracks (`key` in place of `uri`) as the catalogue of `root`, by track_id; readers see it whole."""
    schema = marked("catalogue", root=root, splits=_split_settings(config))
    sink = pa.BufferOutputStream()
    uri = pl.coalesce("uri", pl.concat_str(pl.lit(f"{root.rstrip('/')}/"), "key")).alias("uri")
    order = frame["track_id"].arg_sort()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        # Sorted and given their URIs a slice at a time: either would copy a million rows.
        for start in range(0, len(frame), ROWS_A_GROUP):
            rows = frame[order.slice(start, ROWS_A_GROUP)].with_columns(uri).select(CATALOGUE.names)
            writer.write_table(rows.to_arrow().cast(schema), row_group_size=ROWS_A_GROUP)
    Store(target.root).write_atomic(target.key, memoryview(sink.getvalue()))


def _previous_catalogue(target: UriParts, config: CatalogueConfig) -> pl.DataFrame | None:
    """Return the catalogue that is to be replaced, for its splits; None where they are to be drawn anew."""
    store = Store(target.root)
    if not store.exists(target.key):
        return None
    uri = store.uri(target.key)
    try:
        settings = _marks(uri).get("mgc.splits")
    except SchemaError as error:
        raise SchemaError(
            f"will not overwrite '{uri}': {error.message}",
            "give another --output, or delete that file (splits are then drawn anew)",
        ) from error
    # Other fractions or another seed ask for another draw.
    if settings != _split_settings(config):
        return None
    return scan_catalogue(uri).select("track_id", "group", "split").collect()


def _split_settings(config: CatalogueConfig) -> str:
    return json.dumps(config.model_dump(include={"valid_fraction", "test_fraction", "split_seed"}), sort_keys=True)


def _listed_tracks(batches: Iterable[pa.RecordBatch], skipped: Skipped) -> pl.DataFrame:
    """Return the listed files as one frame with unique track ids."""
    frames = [pl.DataFrame(pl.from_arrow(batch)) for batch in batches]
    if not frames:
        return pl.DataFrame(schema={"track_id": pl.String, "key": pl.String})
    frame = pl.concat(frames)
    first = frame["track_id"].is_first_distinct()
    if first.all():
        return frame
    # Two names that differ only in how an accent is encoded are one identity; the first in key order stays.
    for key in frame.filter(~first)["key"]:
        skipped.add("same name in another Unicode form", key)
    return frame.filter(first)


def _require_valid(frame: pl.DataFrame, path: str) -> None:
    for column in CATALOGUE:
        if column.name in frame and not column.nullable and frame[column.name].null_count():
            raise SchemaError(f"'{path}': column {column.name} has empty cells", "index anew")
    repeated = frame.filter(pl.col("track_id").is_duplicated())
    if not repeated.is_empty():
        raise SchemaError(
            f"'{path}' has {len(repeated)} rows that share a track_id, such as '{repeated['uri'][0]}'",
            "index anew",
        )
    if "split" not in frame:
        return
    strange = frame.filter(~pl.col("split").is_in(SPLITS))
    if not strange.is_empty():
        raise SchemaError(f"'{path}' has a split '{strange['split'][0]}'", f"a split is one of {', '.join(SPLITS)}")


def _summary(
    frame: pl.DataFrame,
    joined: Joined,
    previous: pl.DataFrame | None,
    skipped: Skipped,
    root: str,
    output: str,
) -> IndexSummary:
    """Return the figures of a catalogue that was just made."""
    genre = pl.col("genre").fill_null(NO_GENRE)
    counts = frame.lazy().group_by(genre, "split").len().collect(engine="streaming")
    by_genre: dict[str, dict[str, int]] = {}
    for name, split, count in counts.sort("genre", "split").iter_rows():
        by_genre.setdefault(name, {})[split] = count
    tags = frame.lazy().select(pl.col("tags").explode(empty_as_null=False)).group_by("tags").len()
    by_tag = dict(tags.sort("len", "tags", descending=[True, False]).collect(engine="streaming").iter_rows())
    of_genre = {name: sum(by_split.values()) for name, by_split in by_genre.items()}
    # Hashes of ids rather than ids: a tenth of the memory in a catalogue of a million.
    marks = (pl.col("track_id").hash(), "split")
    kept = (
        0
        if previous is None
        else len(frame.select(marks).join(previous.select(marks), on=["track_id", "split"], how="semi"))
    )
    return IndexSummary(
        root=root,
        output=output,
        tracks=len(frame),
        size_bytes=int(frame["size_bytes"].sum()),
        skipped=_named(skipped),
        extensions=skipped.by_extension(),
        doubtful=_named(skipped.doubtful),
        with_genre=len(frame) - frame["genre"].null_count(),
        with_tags=int(frame["tags_known"].sum()),
        labelled=int((frame["genre"].is_not_null() | frame["tags_known"]).sum()),
        groups=frame["group"].hash().n_unique(),
        by_split={name: int((frame["split"] == name).sum()) for name in SPLITS},
        by_genre=by_genre,
        by_tag=by_tag,
        look_alikes=look_alikes(of_genre) + look_alikes(by_tag),
        manifest_rows=joined.manifest_rows,
        rows_without_file=joined.rows_without_file,
        tracks_without_row=joined.tracks_without_row,
        kept_splits=kept,
        corrections=joined.corrections,
    )


def _named(found: Tally) -> dict[str, Named]:
    return {why: Named(count, found.examples[why]) for why, count in found.counts.items()}
