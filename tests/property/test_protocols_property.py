"""Protocols over random catalogues: what must stay apart does, and what must be balanced is."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.errors import SplitError
from mgc.evaluation.protocols import (
    Fold,
    fixed_split,
    group_k_fold,
    groups_across,
    random_segments,
    random_tracks,
    stratified_k_fold,
    with_fold,
)

GENRES = ("blues", "jazz", "rock")


def catalogue(rows: list[tuple[str | None, str, str]]) -> pl.DataFrame:
    """Return a catalogue of (genre, group, split)."""
    return pl.DataFrame(
        [
            {"track_id": f"t{number:03d}", "genre": genre, "group": group, "split": split, "tags_known": False}
            for number, (genre, group, split) in enumerate(rows)
        ],
        schema={
            "track_id": pl.String,
            "genre": pl.String,
            "group": pl.String,
            "split": pl.String,
            "tags_known": pl.Boolean,
        },
    )


rows = st.lists(
    st.tuples(st.sampled_from(GENRES), st.sampled_from([f"artist {n}" for n in range(12)]), st.just("train")),
    min_size=12,
    max_size=60,
)


def covers_once(folds: list[Fold], tracks: pl.DataFrame) -> None:
    asked = [track for fold in folds for track in fold.valid]
    assert sorted(asked) == tracks["track_id"].to_list()
    for fold in folds:
        assert sorted([*fold.train, *fold.valid]) == tracks["track_id"].to_list()
        assert list(fold.train) == sorted(fold.train)


@given(rows, st.integers(2, 5), st.integers(0, 2**40))
def test_groups_never_cross_and_every_track_is_asked_once(
    made: list[tuple[str, str, str]], folds: int, seed: int
) -> None:
    tracks = catalogue(made)
    if tracks["group"].n_unique() < folds:
        with pytest.raises(SplitError, match="groups"):
            group_k_fold(tracks, folds, seed)
        return
    parted = group_k_fold(tracks, folds, seed)
    assert len(parted) == folds
    covers_once(parted, tracks)
    assert all(fold.train and fold.valid and not groups_across(tracks, fold) for fold in parted)
    assert parted == group_k_fold(tracks.sample(fraction=1.0, shuffle=True, seed=1), folds, seed)


@given(st.lists(st.integers(4, 30), min_size=2, max_size=3), st.integers(2, 4), st.integers(0, 10))
def test_every_fold_has_its_share_of_each_genre(sizes: list[int], folds: int, seed: int) -> None:
    tracks = catalogue(
        [(GENRES[kind], f"{kind}-{n}", "valid") for kind, size in enumerate(sizes) for n in range(size)]
    )
    parted = stratified_k_fold(tracks, folds, seed)
    covers_once(parted, tracks)
    genre_of = dict(tracks.select("track_id", "genre").iter_rows())
    for fold in parted:
        counts = Counter(genre_of[track] for track in fold.valid)
        for kind, size in enumerate(sizes):
            assert abs(counts[GENRES[kind]] - size / folds) < 1


@given(st.integers(5, 40), st.sampled_from([0.2, 0.3, 0.5]), st.integers(0, 10))
def test_random_draws_are_balanced_and_of_the_size_asked(size: int, fraction: float, seed: int) -> None:
    tracks = catalogue([(genre, "one artist", "train") for genre in GENRES for _ in range(size)])
    (fold,) = random_tracks(tracks, fraction, seed)
    genre_of = dict(tracks.select("track_id", "genre").iter_rows())
    counts = Counter(genre_of[track] for track in fold.valid)
    assert not set(fold.train) & set(fold.valid)
    assert all(abs(counts[genre] - fraction * size) <= 1 for genre in GENRES)
    assert groups_across(tracks, fold) == ["one artist"]
    windows = dict.fromkeys(tracks["track_id"], 3)
    (parted,) = random_segments(tracks, windows, fraction, seed)
    assert sorted([*parted.train, *parted.valid]) == [(track, n) for track in sorted(windows) for n in range(3)]
    assert {track for track, _ in parted.train} & {track for track, _ in parted.valid}


def test_unlisted_and_unlabelled_tracks_are_in_no_fold() -> None:
    made = [("jazz", f"a{n}", "train") for n in range(8)] + [("jazz", "b", "unlisted"), (None, "c", "train")]
    for folds in (
        group_k_fold(catalogue(made), 2),
        stratified_k_fold(catalogue(made), 2),
        random_tracks(catalogue(made)),
    ):
        assert all({"t008", "t009"}.isdisjoint(fold.train + fold.valid) for fold in folds)


def test_the_fixed_split_is_the_catalogues() -> None:
    tracks = catalogue([("jazz", "a", "train"), ("rock", "b", "train"), ("jazz", "c", "valid"), (None, "d", "valid")])
    assert fixed_split(tracks) == [Fold(("t000", "t001"), ("t002",))]
    with pytest.raises(SplitError, match="split 'test' has no labelled track"):
        fixed_split(tracks, valid="test")
    with pytest.raises(SplitError, match=r"split 'valid' lacks genre.* 'train' has: rock"):
        fixed_split(tracks, train="valid", valid="train")


def test_a_fold_becomes_the_splits_of_a_catalogue() -> None:
    tracks = catalogue([("jazz", "a", "test")] * 3)
    assert with_fold(tracks, Fold(("t002",), ("t000",)))["split"].to_list() == ["valid", "unlisted", "train"]


def test_what_cannot_be_parted_says_why() -> None:
    one = catalogue([("jazz", "a", "train")] * 5 + [("rock", "b", "train")])
    with pytest.raises(SplitError, match=r"genre 'rock' has 1 track\(s\), fewer than the 3 folds"):
        stratified_k_fold(one, 3)
    with pytest.raises(SplitError, match="cannot be parted"):
        random_tracks(one)
    with pytest.raises(SplitError, match="1 folds of 2 groups"):
        group_k_fold(one, 1)
    with pytest.raises(SplitError, match="no labelled track"):
        group_k_fold(catalogue([(None, "a", "train")]), 2)
    assert [len(fold.valid) for fold in group_k_fold(one, 2)] in ([5, 1], [1, 5])
