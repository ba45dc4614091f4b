"""Labels that people corrected, on top of the first ones: a later file wins, cell by cell.

A corrections file is a label manifest (`mgc.catalogue.labels`), such as a review queue that was filled in. An empty
cell says nothing, so that a queue may come back half filled in; tags of `-` say that the track has none of the tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from mgc.catalogue.labels import keyed_by_track, read_manifest
from mgc.config import CatalogueConfig

EXAMPLES = 5


@dataclass(frozen=True)
class Corrections:
    """What corrections changed.

    Parameters
    ----------
    tracks
        Tracks that got a label, or another one.
    relabelled
        Of these, tracks that had another genre: `path: old → new`, the first few, and how many.
    without_file
        Rows with a label that name no file: the first few, and how many.
    """

    tracks: int = 0
    relabelled: int = 0
    relabelled_examples: list[str] = field(default_factory=list)
    without_file: int = 0
    without_file_examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Corrected:
    """The tracks with their corrected labels, and what was corrected."""

    frame: pl.DataFrame
    found: Corrections


def read_corrections(config: CatalogueConfig, root: str) -> pl.DataFrame | None:
    """Return the rows of all corrections files that say something, one a track; None without any file.

    Raises
    ------
    LabelError
        See `read_manifest`.
    """
    merged: pl.DataFrame | None = None
    for uri in config.corrections:
        rows = keyed_by_track(read_manifest(uri, config), root)
        rows = (
            rows.rename({rows.columns[0]: "name"})
            if rows.columns[0] != "track_id"
            else rows.with_columns(name=pl.col("track_id"))
        )
        labelled = rows.filter(pl.col("genre").is_not_null() | pl.col("tags_known")).select(
            "track_id", "name", "genre", pl.when("tags_known").then("tags").alias("tags")
        )
        merged = labelled if merged is None else _on_top(merged, labelled)
    return merged


def with_corrections(frame: pl.DataFrame, corrections: pl.DataFrame | None) -> Corrected:
    """Return labelled tracks (track_id, key, genre, tags, tags_known, …) with corrections on top."""
    if corrections is None:
        return Corrected(frame, Corrections())
    new = corrections.select("track_id", new_genre="genre", new_tags="tags")
    both = frame.join(new, on="track_id", how="left", maintain_order="left")
    another = (pl.col("new_genre") != pl.col("genre")).fill_null(False)
    change = pl.concat_str("key", pl.lit(": "), "genre", pl.lit(" → "), "new_genre")
    relabelled = both.filter(another).select(change).to_series()
    stray = corrections.join(frame, on="track_id", how="anti", maintain_order="left")["name"]
    result = both.with_columns(
        genre=pl.coalesce("new_genre", "genre"),
        tags=pl.coalesce("new_tags", "tags"),
        tags_known=pl.col("new_tags").is_not_null() | pl.col("tags_known"),
    ).select(frame.columns)
    found = Corrections(
        tracks=both.filter(pl.col("new_genre").is_not_null() | pl.col("new_tags").is_not_null()).height,
        relabelled=len(relabelled),
        relabelled_examples=relabelled.head(EXAMPLES).to_list(),
        without_file=len(stray),
        without_file_examples=stray.head(EXAMPLES).to_list(),
    )
    return Corrected(result, found)


def _on_top(below: pl.DataFrame, above: pl.DataFrame) -> pl.DataFrame:
    """Return both, the cells of `above` where both say something."""
    joined = below.join(above, on="track_id", how="full", coalesce=True, suffix="_new", maintain_order="left_right")
    return joined.select(
        "track_id",
        *(pl.coalesce(f"{name}_new", name).alias(name) for name in ("name", "genre", "tags")),
    )
