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
    labelled = pl.col("genre").is_not_null() | pl.col("tags_known")
    members = filled.filter(labelled & pl.col("split").ne_missing(UNLISTED))
    groups = _with_fixed_splits(_groups(members), filled, previous)
    drawn = _drawn(_in_draw_order(groups, seed), Shares(valid_fraction, test_fraction))
    drawn = _with_every_genre(drawn, members, valid_fraction > 0)
    found = pl.when(labelled).then(pl.col("group_split"))
    return (
        filled.join(drawn.select("group", group_split="split"), on="group", how="left", maintain_order="left")
        .with_columns(split=pl.coalesce("split", found, pl.lit(UNLISTED)))
        .drop("group_split")
    )


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


def _groups(members: pl.DataFrame) -> pl.DataFrame:
    """Return a row a group: its commonest genre, the number of its tracks, and the split given to it."""
    genre = (
        members.group_by("group", "genre")
        .len()
        .sort("group", "len", "genre", descending=[False, True, False], nulls_last=True)
        .unique("group", keep="first", maintain_order=True)
        .select("group", "genre")
    )
    facts = members.group_by("group").agg(tracks=pl.len(), split=pl.col("split").drop_nulls().first())
    return genre.join(facts, on="group", how="inner", maintain_order="left")


def _with_fixed_splits(groups: pl.DataFrame, frame: pl.DataFrame, previous: pl.DataFrame | None) -> pl.DataFrame:
    """Return the groups with the splits that are not to be drawn: given now, or had before."""
    given = frame.filter(pl.col("split").is_in(LEARNING_SPLITS)).unique("group").select("group", given="split")
    fixed = groups.join(given, on="group", how="left", maintain_order="left")
    if previous is None:
        return fixed.with_columns(split=pl.col("given")).drop("given")
    before = previous.filter(pl.col("split").is_in(LEARNING_SPLITS)).select(
        "track_id", "group", rank=pl.col("split").replace_strict(LEARNING_SPLITS, range(3), return_dtype=pl.Int8)
    )
    by_track = frame.select("track_id", "group").join(before.select("track_id", "rank"), on="track_id")
    ranks = pl.concat([by_track.select("group", "rank"), before.select("group", "rank")])
    kept = ranks.group_by("group").agg(pl.col("rank").min())
    names = pl.col("rank").replace_strict(range(3), LEARNING_SPLITS, return_dtype=pl.String)
    return (
        fixed.join(kept, on="group", how="left", maintain_order="left")
        .with_columns(split=pl.coalesce("given", names))
        .drop("given", "rank")
    )


def _in_draw_order(groups: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return the groups by a hash of (seed, name): another group more or less reorders none of the others."""
    digests = (hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for name in groups["group"])
    order = pl.Series("order", (int.from_bytes(digest) for digest in digests), pl.UInt64)
    return groups.with_columns(order).sort("order", "group")


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

    groups_of: dict[str, list[str]]
    genres_of: dict[str, list[str]]
    split_of: dict[str, str]
    counts: Counter[tuple[str, str]]

    @classmethod
    def of(cls, pairs: pl.DataFrame, groups: pl.DataFrame) -> _Membership:
        found = cls({}, {}, dict(groups.select("group", "split").iter_rows()), Counter())
        for group, genre in pairs.sort("genre", "group").iter_rows():
            found.groups_of.setdefault(genre, []).append(group)
            found.genres_of.setdefault(group, []).append(genre)
            found.counts[genre, found.split_of[group]] += 1
        return found

    def lacks(self, genre: str, split: str) -> bool:
        """Return whether a genre that could have a group in a split has none there."""
        return len(self.groups_of[genre]) > 1 and not self.counts[genre, split]

    def may_leave(self, group: str) -> bool:
        """Return whether none of a group's genres would lose its last group in train or valid."""
        here = self.split_of[group]
        genres = self.genres_of[group]
        return here == "test" or all(
            self.counts[genre, here] > 1 or len(self.groups_of[genre]) == 1 for genre in genres
        )

    def move(self, group: str, split: str) -> None:
        """Put a group elsewhere."""
        for genre in self.genres_of[group]:
            self.counts[genre, self.split_of[group]] -= 1
            self.counts[genre, split] += 1
        self.split_of[group] = split


def _with_every_genre(groups: pl.DataFrame, members: pl.DataFrame, needs_valid: bool) -> pl.DataFrame:
    """Return the groups after moving free ones to where a genre would otherwise be missing.

    Needed only where groups hold several genres: a genre that is nowhere its group's commonest was in nobody's
    draw. A move that would take another genre's last group out of train or valid is not made.
    """
    pairs = members.filter(pl.col("genre").is_not_null()).select("group", "genre").unique()
    if len(pairs) == pairs["group"].n_unique():
        return groups
    membership = _Membership.of(pairs, groups)
    size_of: dict[str, int] = dict(groups.filter("free").select("group", "tracks").iter_rows())
    for genre, names in membership.groups_of.items():
        for needed in ("train", "valid") if needs_valid else ("train",):
            if not membership.lacks(genre, needed):
                continue
            movable = [name for name in names if name in size_of and membership.may_leave(name)]
            if movable:
                membership.move(min(movable, key=lambda name: (size_of[name], name)), needed)
    moved = [membership.split_of[name] for name in groups["group"]]
    return groups.with_columns(split=pl.Series(moved, dtype=pl.String))
