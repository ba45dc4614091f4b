"""FMA, the Free Music Archive's dump (Defferrard et al. 2017): `fma_metadata/tracks.csv`, `012/012345.mp3`.

The genre is `genre_top`; every genre of a track, parents included, is a tag `genre:Title` if `genres.csv` is there.
The split is the data set's own (`set.split`), which keeps artists apart. Subsets are nested: small (8,000 clips of
eight genres), medium (25,000), large (106,574).
"""

from __future__ import annotations

import polars as pl

from mgc.catalogue.datasets.annotations import Annotations

TRACKS, GENRES = "tracks.csv", "genres.csv"
SUBSETS = ("small", "medium", "large")
HEADER_ROWS = 3
"""Group of the column, its name, and the index's name alone."""

COLUMNS = {
    ("set", "split"): "split",
    ("set", "subset"): "subset",
    ("track", "genre_top"): "genre",
    ("track", "genres_all"): "genre_ids",
    ("artist", "id"): "group",
}
SPLITS = {"training": "train", "validation": "valid", "test": "test"}
CLIP = r"(\d{6})\.[^./]+$"


def clip_of(name: pl.Expr) -> pl.Expr:
    """Return the six digits of a track's number; null for other files."""
    return name.str.extract(CLIP, 1)


def read(annotations: Annotations, subset: str | None) -> pl.DataFrame:
    """Return the labels of a subset's tracks, by clip; None: of all."""
    remedy = "unpack fma_metadata.zip beside the audio, or give --annotations"
    table = _tracks(annotations, annotations.read(TRACKS, remedy))
    strange = table.filter(~pl.col("split").is_in(list(SPLITS)))
    if not strange.is_empty():
        raise annotations.unlike(TRACKS, f"set.split holds '{strange['split'][0]}'")
    if subset is not None:
        table = table.filter(pl.col("subset").is_in(SUBSETS[: SUBSETS.index(subset) + 1]))
    titles = _titles(annotations)
    tags = (
        pl.col("genre_ids")
        .str.extract_all(r"\d+")
        .list.eval(pl.concat_str(pl.lit("genre:"), pl.element().replace_strict(titles, default=None)))
    )
    known = pl.lit(bool(titles)) & pl.col("genre_ids").str.contains(r"\d").fill_null(False)
    return table.select(
        "clip",
        pl.col("genre").str.strip_chars().replace("", None),
        "group",
        tags=pl.when(known)
        .then(tags.list.drop_nulls().list.unique(maintain_order=True))
        .otherwise(pl.lit([], pl.List(pl.String))),
        tags_known=known,
        split=pl.col("split").replace_strict(SPLITS),
    )


def _tracks(annotations: Annotations, data: bytes) -> pl.DataFrame:
    """Return the wanted columns of tracks.csv, which has a header of three rows, by clip."""
    head = annotations.csv(TRACKS, data, has_header=False, n_rows=HEADER_ROWS)
    if head.height < HEADER_ROWS or head.item(2, 0) != "track_id":
        raise annotations.unlike(TRACKS, "its third row does not begin with 'track_id'")
    places = {pair: number for number, pair in enumerate(zip(head.row(0), head.row(1), strict=True))}
    missing = [".".join(pair) for pair in COLUMNS if pair not in places]
    if missing:
        raise annotations.unlike(TRACKS, f"it has no column {', '.join(missing)}")
    wanted = {places[pair]: name for pair, name in COLUMNS.items()}
    numbers = [0, *sorted(wanted)]
    body = annotations.csv(TRACKS, data, has_header=False, skip_rows=HEADER_ROWS, columns=numbers)
    named = body.rename(dict(zip(body.columns, ("track_id", *(wanted[place] for place in numbers[1:])), strict=True)))
    return named.with_columns(clip=pl.col("track_id").str.zfill(6))


def _titles(annotations: Annotations) -> dict[str, str]:
    data = annotations.read_optional(GENRES)
    if data is None:
        return {}
    return dict(annotations.table(GENRES, data, ",", ("genre_id", "title")).select("genre_id", "title").iter_rows())
