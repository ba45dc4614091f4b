"""Train, valid and test: drawn by group, stratified by genre, and never redrawn for a track that has one.

A group (an artist, a work, or the track alone where none is known) lies on one side of every split, or accuracy
on it measures memory. Only `unlisted` rows are exempt, since nothing is learnt from them nor measured on them.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from mgc.errors import SplitError

UNLISTED = "unlisted"
LEARNING_SPLITS = ("train", "valid", "test")
EXAMPLES = 5


@dataclass(frozen=True)
class Shares:
    """What part of the tracks of each genre goes to valid and to test; the rest is train."""

    valid: float
    test: float

    def drawn(self) -> Iterator[tuple[str, float]]:
        """Yield the splits that take a share, with it."""
        yield from ((name, share) for name, share in (("valid", self.valid), ("test", self.test)) if share > 0)


def assign_splits(
    frame: pl.DataFrame,
    valid_fraction: float,
    test_fraction: float,
    seed: int,
    previous: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return the frame with every row's `group` and `split` filled in.

    A split that is given stays, and holds for the labelled rest of its group. Else a group keeps the split
    that a previous catalogue gave it, by its name or by its tracks; where those differ (tracks that are now
    said to belong together), train wins over valid over test, so that nothing trained on is measured on.
    The groups left are drawn: in an order that depends on the seed and the group's name alone, they fill
    valid and test up to their share of the genre's tracks. A genre of two groups or more has one in train and
    one in valid (if `valid_fraction` is above 0) wherever its free groups allow it. Rows without any label and
    without a given split are unlisted.

    Parameters
    ----------
    frame
        Columns track_id, genre, tags_known, group (null: the track alone) and split (null: to be found).
    valid_fraction, test_fraction
        Share of tracks, in [0, 1).
    seed
        Of the draw.
    previous
        The catalogue before this one: columns track_id, group and split.

    Raises
    ------
    SplitError
        A group was given two splits.
    """
    filled = frame.with_columns(group=pl.coalesce("group", "track_id"))
    _require_whole_groups(filled)
    places = _places(filled["group"], seed)
    rows = filled.select("genre", "tags_known", "split").with_columns(places)
    labelled = pl.col("genre").is_not_null() | pl.col("tags_known")
    members = rows.filter(labelled & pl.col("split").ne_missing(UNLISTED))
    pairs = _pairs(members)
    fixed = _fixed_splits(rows, filled["track_id"], previous, seed)
    groups = _groups(pairs).join(fixed, on="place", how="left").sort("place")
    drawn = _with_every_genre(_drawn(groups, Shares(valid_fraction, test_fraction)), pairs, valid_fraction > 0)
    found = pl.when(labelled).then(pl.col("group_split"))
    split = (
        rows.join(drawn.select("place", group_split="split"), on="place", how="left", maintain_order="left")
        .select(split=pl.coalesce("split", found, pl.lit(UNLISTED)))
        .to_series()
    )
    return filled.with_columns(split)


def _places(groups: pl.Series, seed: int) -> pl.Series:
    """Return each row's group as a 64-bit hash of (seed, name): its identity from here on, and its turn.

    Another group more or less reorders none of the others. Should two groups ever share a hash, they share a
    split, which harms nothing; and a number is a tenth of a name in a catalogue of a million groups.
    """
    digests = (hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for name in groups)
    numbers = (int.from_bytes(digest) for digest in digests)
    return pl.Series("place", np.fromiter(numbers, dtype=np.uint64, count=len(groups)))


def _require_whole_groups(frame: pl.DataFrame) -> None:
    given = frame.filter(pl.col("split").is_in(LEARNING_SPLITS))
    torn = (
        given.group_by("group")
        .agg(pl.col("split").unique().sort())
        .filter(pl.col("split").list.len() > 1)
        .sort("group")
    )
    if not torn.is_empty():
        shown = [f"'{name}' ({', '.join(splits)})" for name, splits in torn.head(EXAMPLES).rows()]
        raise SplitError(
            f"{len(torn)} group(s) are given more than one split: {', '.join(shown)}",
            "give all tracks of a group (artist) the same split, or unlisted",
        )


def _pairs(members: pl.DataFrame) -> pl.DataFrame:
    """Return a row a group and genre in it, with the number of its tracks."""
    if members["place"].n_unique() == len(members):
        # Every track is its own group; grouping a million of them would take the memory of all else.
        return members.select("place", "genre", tracks=pl.lit(1, pl.UInt32))
    return members.group_by("place", "genre").agg(tracks=pl.len())


def _groups(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return a row a group: its commonest genre and the number of its tracks."""
    if len(pairs) == pairs["place"].n_unique():
        return pairs
    return (
        pairs.sort("tracks", "genre", descending=[True, False], nulls_last=True)
        .group_by("place", maintain_order=True)
        .agg(pl.col("genre").first(), pl.col("tracks").sum())
    )


def _fixed_splits(rows: pl.DataFrame, track_ids: pl.Series, previous: pl.DataFrame | None, seed: int) -> pl.DataFrame:
    """Return the groups whose split is not to be drawn: it is given now, or they had it before."""
    given = rows.filter(pl.col("split").is_in(LEARNING_SPLITS)).select("place", "split").unique("place")
    if previous is None:
        return given
    known = previous.filter(pl.col("split").is_in(LEARNING_SPLITS))
    rank = known["split"].replace_strict(LEARNING_SPLITS, range(3), return_dtype=pl.Int8).alias("rank")
    by_name = pl.DataFrame([_places(known["group"], seed), rank])
    tracks = rows.select("place").with_columns(track_ids.hash().alias("track"))
    before = pl.DataFrame([known["track_id"].hash().alias("track"), rank])
    by_track = tracks.join(before, on="track").select("place", "rank")
    names = pl.col("rank").min().replace_strict(range(3), LEARNING_SPLITS, return_dtype=pl.String)
    kept = pl.concat([by_name, by_track]).group_by("place").agg(split=names)
    return pl.concat([given, kept.join(given, on="place", how="anti")])


def _drawn(groups: pl.DataFrame, shares: Shares) -> pl.DataFrame:
    """Return the groups with `free` (not fixed before) and every split filled in, genre by genre."""
    marked = groups.with_columns(free=pl.col("split").is_null())
    parts = [_draw_genre(part, shares) for part in marked.partition_by("genre", maintain_order=True)]
    return pl.concat(parts) if parts else marked


def _draw_genre(groups: pl.DataFrame, shares: Shares) -> pl.DataFrame:
    splits: list[str | None] = groups["split"].to_list()
    tracks: list[int] = groups["tracks"].to_list()
    left = [index for index, split in enumerate(splits) if split is None]
    # One group stays for train, unless train has one already.
    reserve = 0 if "train" in splits else 1
    for name, share in shares.drawn():
        has = sum(count for count, split in zip(tracks, splits, strict=True) if split == name)
        taken = _fitting(left, tracks, math.floor(share * sum(tracks) + 0.5) - has, len(left) - reserve)
        if not taken and name not in splits and len(left) > reserve:
            # All its groups are larger than its share; an empty split would measure nothing.
            taken = {min(left, key=lambda index: tracks[index])}
        for index in taken:
            splits[index] = name
        left = [index for index in left if index not in taken]
    return groups.with_columns(split=pl.Series([split or "train" for split in splits], dtype=pl.String))


def _fitting(left: list[int], tracks: list[int], room: int, at_most: int) -> set[int]:
    """Return the groups that fill `room` tracks without exceeding it, first come, first served."""
    taken: set[int] = set()
    for index in left:
        if room <= 0 or len(taken) >= at_most:
            break
        if tracks[index] <= room:
            taken.add(index)
            room -= tracks[index]
    return taken


@dataclass(frozen=True)
class _Membership:
    """Which groups hold which genres, where the groups are, and how many of a genre are in each split."""

    groups_of: dict[str, list[int]]
    genres_of: dict[int, list[str]]
    split_of: dict[int, str]
    counts: Counter[tuple[str, str]]

    @classmethod
    def of(cls, pairs: pl.DataFrame, groups: pl.DataFrame) -> _Membership:
        found = cls({}, {}, dict(groups.select("place", "split").iter_rows()), Counter())
        for place, genre in pairs.select("place", "genre").sort("genre", "place").iter_rows():
            found.groups_of.setdefault(genre, []).append(place)
            found.genres_of.setdefault(place, []).append(genre)
            found.counts[genre, found.split_of[place]] += 1
        return found

    def lacks(self, genre: str, split: str) -> bool:
        """Return whether a genre that could have a group in a split has none there."""
        return len(self.groups_of[genre]) > 1 and not self.counts[genre, split]

    def may_leave(self, place: int) -> bool:
        """Return whether none of a group's genres would lose its last group in train or valid."""
        here = self.split_of[place]
        genres = self.genres_of[place]
        return here == "test" or all(
            self.counts[genre, here] > 1 or len(self.groups_of[genre]) == 1 for genre in genres
        )

    def move(self, place: int, split: str) -> None:
        """Put a group elsewhere."""
        for genre in self.genres_of[place]:
            self.counts[genre, self.split_of[place]] -= 1
            self.counts[genre, split] += 1
        self.split_of[place] = split


def _with_every_genre(groups: pl.DataFrame, pairs: pl.DataFrame, needs_valid: bool) -> pl.DataFrame:
    """Return the groups after moving free ones to where a genre would otherwise be missing.

    Needed only where groups hold several genres: a genre that is nowhere its group's commonest was in nobody's
    draw. A move that would take another genre's last group out of train or valid is not made.
    """
    if len(pairs) == len(groups):
        return groups
    membership = _Membership.of(pairs.filter(pl.col("genre").is_not_null()), groups)
    size_of: dict[int, int] = dict(groups.filter("free").select("place", "tracks").iter_rows())
    for genre, places in membership.groups_of.items():
        for needed in ("train", "valid") if needs_valid else ("train",):
            if not membership.lacks(genre, needed):
                continue
            movable = [place for place in places if place in size_of and membership.may_leave(place)]
            if movable:
                membership.move(min(movable, key=lambda place: (size_of[place], place)), needed)
    moved = [membership.split_of[place] for place in groups["place"]]
    return groups.with_columns(split=pl.Series(moved, dtype=pl.String))
