"""What indexing a catalogue found, in figures."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mgc.catalogue.corrections import Corrections
from mgc.catalogue.joining import Joined, Named
from mgc.catalogue.listing import Skipped
from mgc.tables.schema import SPLITS

NO_GENRE = "(no genre)"


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
        Listed files that are no tracks, by reason.
    with_genre, with_tags, labelled
        Tracks that have a genre, whose tags are known, and that have either.
    groups
        Distinct groups.
    by_split
        Tracks in each split.
    by_genre
        Tracks in each split, for each genre.
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
    with_genre: int
    with_tags: int
    labelled: int
    groups: int
    by_split: dict[str, int]
    by_genre: dict[str, dict[str, int]]
    manifest_rows: int
    rows_without_file: Named
    tracks_without_row: Named
    kept_splits: int
    corrections: Corrections


def summarise(
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
        skipped={why: Named(count, skipped.examples[why]) for why, count in skipped.counts.items()},
        with_genre=len(frame) - frame["genre"].null_count(),
        with_tags=int(frame["tags_known"].sum()),
        labelled=int((frame["genre"].is_not_null() | frame["tags_known"]).sum()),
        groups=frame["group"].hash().n_unique(),
        by_split={name: int((frame["split"] == name).sum()) for name in SPLITS},
        by_genre=by_genre,
        manifest_rows=joined.manifest_rows,
        rows_without_file=joined.rows_without_file,
        tracks_without_row=joined.tracks_without_row,
        kept_splits=kept,
        corrections=joined.corrections,
    )
