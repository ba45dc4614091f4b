"""MagnaTagATune (Law et al. 2009): 25,863 clips of 29 s in folders 0 to f, 188 tags by players of a game.

The 50 tags used most are kept, and the split is by folder, as nearly everybody has it since Dieleman & Schrauwen
(2014): 0 to b train, c valid, d to f test. Folders hold whole albums, so artists of several albums stand on both
sides of it.
"""

from __future__ import annotations

import polars as pl

from mgc.catalogue.datasets.annotations import Annotations

ANNOTATIONS = "annotations_final.csv"
CLIPS = "clip_info_final.csv"
TAGS_KEPT = 50
NOT_TAGS = ("clip_id", "mp3_path")
CLIP = r"([0-9a-f]/[^/]+)\.[^./]+$"
SONG = r"^(.*?)(?:-\d+-\d+)?$"


def clip_of(name: pl.Expr) -> pl.Expr:
    """Return folder and name of a clip, without extension; null for other files."""
    return name.str.extract(CLIP, 1)


def read(annotations: Annotations) -> pl.DataFrame:
    """Return the labels of all clips, by clip."""
    remedy = "download it beside the folders 0 to f, or give --annotations"
    table = annotations.table(ANNOTATIONS, annotations.read(ANNOTATIONS, remedy), "\t", NOT_TAGS)
    names = [name for name in table.columns if name not in NOT_TAGS]
    counts = table.select((pl.col(name) == "1").sum() for name in names).row(0) if names else ()
    # Ties, were there any, go by name.
    kept = sorted(sorted(names), key=dict(zip(names, counts, strict=True)).__getitem__, reverse=True)[:TAGS_KEPT]
    if not kept or not any(counts):
        raise annotations.unlike(ANNOTATIONS, "it has no column of a tag that holds 0 and 1")
    tags = pl.concat_list(pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in sorted(kept)).list.drop_nulls()
    folder = pl.col("clip").str.slice(0, 1)
    split = pl.when(folder <= "b").then(pl.lit("train")).when(folder == "c").then(pl.lit("valid"))
    labels = table.select("clip_id", clip=clip_of(pl.col("mp3_path")), tags=tags).drop_nulls("clip")
    song = pl.col("clip").str.slice(2).str.extract(SONG, 1)
    return labels.join(_artists(annotations), on="clip_id", how="left", maintain_order="left").select(
        "clip",
        "tags",
        genre=pl.lit(None, pl.String),
        tags_known=pl.lit(True),
        group=pl.coalesce("artist", song),
        split=split.otherwise(pl.lit("test")),
    )


def _artists(annotations: Annotations) -> pl.DataFrame:
    """Return the artist of each clip; where the file is missing the clips of one song are a group."""
    data = annotations.read_optional(CLIPS)
    if data is None:
        return pl.DataFrame(schema={"clip_id": pl.String, "artist": pl.String})
    table = annotations.table(CLIPS, data, "\t", ("clip_id", "artist"))
    return table.select("clip_id", pl.col("artist").str.strip_chars().replace("", None)).unique("clip_id")
