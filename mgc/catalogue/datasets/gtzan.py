"""GTZAN (Tzanetakis & Cook 2002): `<genre>/<genre>.NNNNN.au` (or .wav, …), ten genres, 100 clips each.

Its faults (repeated clips, wrong labels, many clips of one artist) are catalogued by Sturm (2013); the fault-filtered
lists of Kereliuk, Sturm & Larsen (2015) leave them out and keep artists apart. Given as files they are used:
`train_filtered.txt`, `valid_filtered.txt`, `test_filtered.txt`, a line a clip (`blues/blues.00029.au`, or its number
from 1 in the order of genres), and `artists.csv` with a clip's name and its `artist`.
"""

from __future__ import annotations

import logging

import polars as pl

from mgc.catalogue.datasets.annotations import Annotations

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
CLIPS_A_GENRE = 100
LISTS = {"train": "train_filtered.txt", "valid": "valid_filtered.txt", "test": "test_filtered.txt"}
CLIP = rf"((?:{'|'.join(GENRES)})\.\d{{5}})(?:\.[^./]*)?$"

logger = logging.getLogger(__name__)


def clip_of(name: pl.Expr) -> pl.Expr:
    """Return `blues.00029` of a file's name or path; null where it is no clip's."""
    return name.str.extract(CLIP, 1)


def read(annotations: Annotations) -> pl.DataFrame:
    """Return the labels of the thousand clips, by clip."""
    numbers = [(genre, number) for genre in GENRES for number in range(CLIPS_A_GENRE)]
    clips = pl.DataFrame(
        {
            "clip": [f"{genre}.{number:05d}" for genre, number in numbers],
            "genre": [genre for genre, _ in numbers],
        }
    )
    joined = clips.join(_artists(annotations), on="clip", how="left", maintain_order="left")
    return joined.join(_splits(annotations, clips), on="clip", how="left", maintain_order="left").with_columns(
        tags=pl.lit([], pl.List(pl.String)), tags_known=pl.lit(False)
    )


def _artists(annotations: Annotations) -> pl.DataFrame:
    data = annotations.read_optional("artists.csv")
    if data is None:
        logger.warning("gtzan: no artists.csv, so every clip is a group of its own, and artists leak across splits")
        return pl.DataFrame(schema={"clip": pl.String, "group": pl.String})
    table = annotations.table("artists.csv", data, ",", ("artist",))
    named = next((name for name in ("path", "track_id", "clip", "file") if name in table.columns), None)
    if named is None:
        raise annotations.unlike("artists.csv", "none of its columns path, track_id, clip, file names the clip")
    artist = pl.col("artist").str.strip_chars().replace("", None).alias("group")
    return table.select(clip_of(pl.col(named)).alias("clip"), artist).drop_nulls().unique("clip", keep="first")


def _splits(annotations: Annotations, clips: pl.DataFrame) -> pl.DataFrame:
    """Return each clip's split: unlisted where the lists leave it out, null for all where there are no lists."""
    found = {split: annotations.read_optional(name) for split, name in LISTS.items()}
    if not any(found.values()):
        return clips.select("clip", split=pl.lit(None, pl.String))
    parts = []
    for split, name in LISTS.items():
        data = found[split] or annotations.read(name, "put the three fault-filtered lists side by side")
        lines = pl.Series("line", data.decode("utf-8", "replace").split(), pl.String).to_frame()
        order = clips.with_row_index("number", 1).select(pl.col("number").cast(pl.String), by_number="clip")
        listed = lines.join(order, left_on="line", right_on="number", how="left", maintain_order="left").select(
            "line", clip=pl.coalesce("by_number", clip_of(pl.col("line")))
        )
        strange = listed.filter(pl.col("clip").is_null())
        if not strange.is_empty():
            raise annotations.unlike(name, f"line '{strange['line'][0]}' names no clip")
        parts.append(listed.select("clip", split=pl.lit(split)))
    whole = pl.concat(parts)
    twice = whole.filter(pl.col("clip").is_duplicated())
    if not twice.is_empty():
        raise annotations.unlike(LISTS["train"], f"clip '{twice['clip'][0]}' stands in the lists twice")
    return clips.select("clip").join(whole, on="clip", how="left").with_columns(pl.col("split").fill_null("unlisted"))
