"""Files and labels brought together: where labels come from, which file has which, and what people corrected.

A corrections file is a label manifest (`mgc.catalogue.labels`), such as a review queue that was filled in. It goes on
top of the first labels, a later file over an earlier one, cell by cell. An empty cell leaves the label as it is, so
that a queue may come back half filled in; tags of `-` mean that the track has none of the tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import polars as pl

from mgc.catalogue.datasets.dataset_registry import dataset_labels, keyed_by_clip
from mgc.catalogue.labels import folder_genre, keyed_by_track, read_manifest, with_known_genres
from mgc.config import CatalogueConfig
from mgc.errors import ConfigError, LabelError

EXAMPLES = 5

UNLABELLED = {
    "genre": pl.lit(None, pl.String),
    "tags": pl.lit([], pl.List(pl.String)),
    "tags_known": pl.lit(False),
    "group": pl.lit(None, pl.String),
    "split": pl.lit(None, pl.String),
}
"""The labels of a track about which nothing is known."""


@dataclass(frozen=True)
class Named:
    """How many of something there are, and the first few of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Corrections:
    """What corrections changed.

    Parameters
    ----------
    tracks
        Tracks that got a label, or another one.
    relabelled
        Of these, tracks that had another genre: `path: old → new`.
    without_file
        Rows with a label that name no file.
    """

    tracks: int = 0
    relabelled: Named = field(default_factory=Named)
    without_file: Named = field(default_factory=Named)


@dataclass(frozen=True)
class Joined:
    """The tracks with their labels, and where manifest and files did not meet."""

    frame: pl.DataFrame
    manifest_rows: int = 0
    rows_without_file: Named = field(default_factory=Named)
    tracks_without_row: Named = field(default_factory=Named)
    corrections: Corrections = field(default_factory=Corrections)


def manifest_of(config: CatalogueConfig, root: str) -> pl.DataFrame | None:
    """Return the manifest that the settings name, with track ids; None where labels come from elsewhere.

    The labels of a public data set are by clip: they have no track ids before the files are known.

    Raises
    ------
    ConfigError
        The settings contradict each other.
    LabelError
        See `read_manifest`.
    """
    if config.dataset is not None:
        if config.manifest is not None or config.labels_from is not None:
            raise ConfigError(
                "catalogue.dataset brings labels of its own, but catalogue.manifest or labels_from is set too",
                "set one of them",
            )
        return dataset_labels(config, root)
    if config.labels_from == "manifest" and config.manifest is None:
        raise ConfigError("catalogue.labels_from is 'manifest', but there is none", "set catalogue.manifest")
    if config.labels_from == "folder" and config.manifest is not None:
        raise ConfigError(
            "catalogue.labels_from is 'folder', but catalogue.manifest is set too", "set one of the two"
        )
    if config.labels_from == "none" or config.manifest is None:
        return None
    return keyed_by_track(read_manifest(config.manifest, config), root)


def read_corrections(config: CatalogueConfig, root: str) -> pl.DataFrame | None:
    """Return the rows of all corrections files that hold a label, one a track; None without any file.

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


def with_labels(
    listed: pl.DataFrame,
    manifest: pl.DataFrame | None,
    corrections: pl.DataFrame | None,
    config: CatalogueConfig,
    root: str,
) -> Joined:
    """Return the listed files (track_id, key, …) with genre, tags, tags_known, group and split, corrections on top.

    Raises
    ------
    LabelError
        A folder is no genre allowed, or no row of the manifest names a file.
    """
    joined = _with_first_labels(listed, manifest, config, root)
    return joined if corrections is None else _with_corrections(joined, corrections)


def _with_first_labels(
    listed: pl.DataFrame, manifest: pl.DataFrame | None, config: CatalogueConfig, root: str
) -> Joined:
    if config.labels_from == "folder":
        labelled = listed.with_columns(**{**UNLABELLED, "genre": folder_genre()})
        return Joined(with_known_genres(labelled, config, f"the folders of '{root}'"))
    if manifest is None:
        return Joined(listed.with_columns(**UNLABELLED))
    source = f"manifest '{config.manifest}'"
    if config.dataset is not None:
        manifest, source = keyed_by_clip(manifest, listed, config), f"data set '{config.dataset}'"
        manifest = with_known_genres(manifest, config, source)
    shown = manifest.columns[0]
    stray = manifest.join(listed.select("track_id"), on="track_id", how="anti", maintain_order="left")
    if len(stray) == len(manifest):
        raise LabelError(
            f"no row of {source} names a file under '{root}': "
            f"its first {shown} is '{manifest[shown][0]}', the first file '{listed['key'][0]}'",
            f"give each {shown} relative to the root" if shown == "path" else "check the root and the manifest",
        )
    bare = listed.join(manifest.select("track_id"), on="track_id", how="anti", maintain_order="left")
    labels = manifest.select("track_id", *UNLABELLED)
    joined = listed.join(labels, on="track_id", how="left", maintain_order="left").with_columns(
        tags=pl.col("tags").fill_null(UNLABELLED["tags"]), tags_known=pl.col("tags_known").fill_null(False)
    )
    return Joined(joined, len(manifest), _named(stray[shown]), _named(bare["key"]))


def _with_corrections(joined: Joined, corrections: pl.DataFrame) -> Joined:
    """Return labelled tracks with corrections on top, and what they changed."""
    frame = joined.frame
    new = corrections.select("track_id", new_genre="genre", new_tags="tags")
    both = frame.join(new, on="track_id", how="left", maintain_order="left")
    another = (pl.col("new_genre") != pl.col("genre")).fill_null(False)
    change = pl.concat_str("key", pl.lit(": "), "genre", pl.lit(" → "), "new_genre")
    corrected = both.with_columns(
        genre=pl.coalesce("new_genre", "genre"),
        tags=pl.coalesce("new_tags", "tags"),
        tags_known=pl.col("new_tags").is_not_null() | pl.col("tags_known"),
    ).select(frame.columns)
    found = Corrections(
        tracks=both.filter(pl.col("new_genre").is_not_null() | pl.col("new_tags").is_not_null()).height,
        relabelled=_named(both.filter(another).select(change).to_series()),
        without_file=_named(corrections.join(frame, on="track_id", how="anti", maintain_order="left")["name"]),
    )
    return replace(joined, frame=corrected, corrections=found)


def _on_top(below: pl.DataFrame, above: pl.DataFrame) -> pl.DataFrame:
    """Return both, the cells of `above` where both have one."""
    joined = below.join(above, on="track_id", how="full", coalesce=True, suffix="_new", maintain_order="left_right")
    return joined.select(
        "track_id",
        *(pl.coalesce(f"{name}_new", name).alias(name) for name in ("name", "genre", "tags")),
    )


def _named(names: pl.Series) -> Named:
    return Named(len(names), names.head(EXAMPLES).to_list())
