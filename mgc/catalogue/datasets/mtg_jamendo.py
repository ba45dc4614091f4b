"""MTG-Jamendo (Bogdanov et al. 2019): 55,525 full tracks, 195 tags in the categories genre, instrument, mood/theme.

The labels are those of the repository's `data/splits/split-0` to `split-4`, which keep artists apart; the files are
the audio (`14/214.mp3`, `14/214.low.mp3`) or its mel spectrograms (`14/214.npy`). A tag `genre---rock` becomes
`genre:rock`. Tracks have any number of genres, so there is none in the sense of one a track.
"""

from __future__ import annotations

import polars as pl

from mgc.catalogue.datasets.annotations import Annotations

SUBSETS = ("all", "genre", "instrument", "moodtheme", "top50tags")
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
HEADER = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
CLIP = r"(\d\d/\d+)(?:\.low)?\.[^./]+$"


def clip_of(name: pl.Expr) -> pl.Expr:
    """Return `14/214` of a file's path; null for other files."""
    return name.str.extract(CLIP, 1)


def read(annotations: Annotations, subset: str | None, number: int = 0) -> pl.DataFrame:
    """Return the labels of one of the five splits, by clip."""
    stem = "autotagging" if subset in (None, "all") else f"autotagging_{subset}"
    parts = []
    for split, their_name in SPLITS.items():
        name = f"splits/split-{number}/{stem}-{their_name}.tsv"
        data = annotations.read(name, "clone the data set's repository, and give its folder 'data' as --annotations")
        parts.append(_rows(annotations, name, data).with_columns(split=pl.lit(split)))
    return pl.concat(parts)


def _rows(annotations: Annotations, name: str, data: bytes) -> pl.DataFrame:
    """Return a TSV whose rows are as long as they have tags: no reader of tables takes that."""
    lines = pl.Series("line", data.decode("utf-8", "replace").splitlines(), pl.String)
    if lines.is_empty() or lines[0].split("\t") != HEADER:
        raise annotations.unlike(name, f"its first line is not {' '.join(HEADER)}")
    fields = lines[1:].to_frame().filter(pl.col("line") != "").select(field=pl.col("line").str.split("\t"))
    short = fields.filter(pl.col("field").list.len() <= len(HEADER) - 1)
    if not short.is_empty():
        raise annotations.unlike(name, f"row '{short['field'][0].to_list()[0]}' has no tag")
    field = pl.col("field").list
    rows = fields.select(
        clip=clip_of(field.get(HEADER.index("PATH"))),
        genre=pl.lit(None, pl.String),
        tags=field.slice(len(HEADER) - 1).list.eval(pl.element().str.replace("---", ":", literal=True)),
        tags_known=pl.lit(True),
        group=field.get(HEADER.index("ARTIST_ID")),
    )
    if rows["clip"].null_count():
        raise annotations.unlike(name, "a PATH is not of the form 14/214.mp3")
    return rows
