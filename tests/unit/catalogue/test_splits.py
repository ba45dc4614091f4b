from __future__ import annotations

import hashlib
from collections import Counter

import polars as pl
import pytest

from mgc.catalogue.splits import assign_splits
from mgc.errors import SplitError

Row = tuple[str, str | None, str | None, str | None]


def tracks(*rows: Row) -> pl.DataFrame:
    """Return (track_id, genre, group, split) as a frame without tags."""
    schema = {"track_id": pl.String, "genre": pl.String, "group": pl.String, "split": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(tags_known=pl.lit(False))


def singles(genre: str, count: int, split: str | None = None) -> list[Row]:
    return [(f"{genre}{number:04d}", genre, None, split) for number in range(count)]


def splits_of(frame: pl.DataFrame) -> dict[str, str]:
    return dict(frame.select("track_id", "split").iter_rows())


def counts(frame: pl.DataFrame, genre: str) -> dict[str, int]:
    return dict(Counter(frame.filter(pl.col("genre") == genre)["split"]))


def test_each_genre_is_shared_out_by_the_fractions() -> None:
    frame = assign_splits(tracks(*singles("jazz", 100), *singles("rock", 10)), 0.2, 0.1, seed=0)
    assert counts(frame, "jazz") == {"train": 70, "valid": 20, "test": 10}
    assert counts(frame, "rock") == {"train": 7, "valid": 2, "test": 1}
    assert frame["group"].to_list() == frame["track_id"].to_list()


def test_rows_keep_their_order_and_their_other_columns() -> None:
    rows = tracks(*singles("jazz", 20), *singles("rock", 20)).sample(fraction=1.0, shuffle=True, seed=3)
    frame = assign_splits(rows, 0.2, 0.0, seed=0)
    assert frame.drop("group", "split").equals(rows.drop("group", "split"))


def test_the_same_seed_draws_the_same_and_another_one_another() -> None:
    rows = tracks(*singles("jazz", 60))
    first = splits_of(assign_splits(rows, 0.5, 0.0, seed=1))
    assert splits_of(assign_splits(rows.reverse(), 0.5, 0.0, seed=1)) == first
    assert splits_of(assign_splits(rows, 0.5, 0.0, seed=2)) != first


def test_groups_take_their_turn_by_the_hash_of_seed_and_name() -> None:
    frame = assign_splits(tracks(*singles("jazz", 8)), 0.25, 0.25, seed=7)
    names = frame["track_id"].to_list()
    turn = sorted(names, key=lambda name: hashlib.blake2b(f"7:{name}".encode(), digest_size=8).hexdigest())
    assert [splits_of(frame)[name] for name in turn] == ["valid"] * 2 + ["test"] * 2 + ["train"] * 4


def test_a_group_is_drawn_as_one() -> None:
    rows = [(f"t{number}", "jazz", f"g{number % 7}", None) for number in range(70)]
    frame = assign_splits(tracks(*rows), 0.3, 0.2, seed=0)
    assert frame.group_by("group").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 7
    assert counts(frame, "jazz") == {"train": 40, "valid": 20, "test": 10}


def test_a_group_too_large_for_valid_stays_in_train() -> None:
    big = [(f"b{number}", "jazz", "big", None) for number in range(10)]
    for seed in range(10):
        frame = assign_splits(tracks(*big, *singles("jazz", 10)), 0.2, 0.0, seed)
        assert counts(frame, "jazz") == {"train": 16, "valid": 4}
        assert set(frame.filter(group="big")["split"]) == {"train"}


def test_two_groups_suffice_for_train_and_valid() -> None:
    rows = [(f"t{number}", "jazz", "big" if number else "small", None) for number in range(9)]
    frame = assign_splits(tracks(*rows), 0.01, 0.01, seed=0)
    assert splits_of(frame)["t0"] == "valid"
    assert counts(frame, "jazz") == {"train": 8, "valid": 1}


def test_a_genre_of_one_group_is_trained_on() -> None:
    rows = [(f"t{number}", "jazz", "only", None) for number in range(5)]
    assert counts(assign_splits(tracks(*rows), 0.4, 0.4, seed=0), "jazz") == {"train": 5}


def test_given_splits_stay_and_hold_for_their_group() -> None:
    rows: list[Row] = [
        ("a", "jazz", "g1", "test"),
        ("b", "jazz", "g1", None),
        ("c", "rock", "g2", "valid"),
        ("d", None, "g2", "valid"),
        ("e", "rock", None, "unlisted"),
    ]
    frame = assign_splits(tracks(*rows), 0.0, 0.0, seed=0)
    assert splits_of(frame) == {"a": "test", "b": "test", "c": "valid", "d": "valid", "e": "unlisted"}


def test_given_splits_count_towards_the_fractions() -> None:
    frame = assign_splits(tracks(*singles("jazz", 2, "valid"), ("x", "jazz", None, None)), 0.5, 0.0, 0)
    assert splits_of(frame)["x"] == "train"


def test_a_group_given_two_splits_is_named() -> None:
    rows: list[Row] = [
        ("a", "jazz", "Bob", "train"),
        ("b", "jazz", "Bob", "valid"),
        ("c", "jazz", "Eve", "train"),
    ]
    with pytest.raises(SplitError, match=r"1 group\(s\) are given more than one split: 'Bob' \(train, valid\)"):
        assign_splits(tracks(*rows), 0.2, 0.0, seed=0)


def test_unlisted_rows_of_a_group_contradict_nothing() -> None:
    rows: list[Row] = [("a", "jazz", "Bob", "train"), ("b", "jazz", "Bob", "unlisted")]
    assert splits_of(assign_splits(tracks(*rows), 0.2, 0.0, seed=0)) == {"a": "train", "b": "unlisted"}


def test_tracks_without_any_label_are_unlisted_and_tagged_ones_are_not() -> None:
    frame = tracks(("a", None, None, None), ("b", None, None, None), ("c", "jazz", None, None))
    known = frame.with_columns(tags_known=pl.col("track_id") == "b")
    assert splits_of(assign_splits(known, 0.0, 0.0, seed=0)) == {"a": "unlisted", "b": "train", "c": "train"}
    assert assign_splits(frame.head(0), 0.2, 0.1, seed=0).is_empty()


def test_a_growing_catalogue_moves_no_track() -> None:
    before = assign_splits(tracks(*singles("jazz", 40), *singles("rock", 10)), 0.2, 0.2, seed=0)
    grown = tracks(*singles("jazz", 90), *singles("rock", 11), *singles("folk", 30))
    after = splits_of(assign_splits(grown, 0.2, 0.2, seed=0, previous=before))
    assert {track: after[track] for track in splits_of(before)} == splits_of(before)
    assert Counter(split for track, split in after.items() if track.startswith("jazz")) == {
        "train": 54,
        "valid": 18,
        "test": 18,
    }


def test_new_tracks_follow_the_group_they_are_of() -> None:
    before = assign_splits(tracks(("a", "jazz", "Bob", "valid")), 0.2, 0.0, seed=0)
    grown = tracks(("b", "jazz", "Bob", None), ("c", "jazz", "Eve", None))
    after = assign_splits(grown, 0.2, 0.0, seed=0, previous=before)
    assert splits_of(after) == {"b": "valid", "c": "train"}


def test_tracks_found_to_belong_together_go_where_one_was_trained_on() -> None:
    before = tracks(("a", "jazz", "a", "valid"), ("b", "jazz", "b", "train"))
    now = tracks(("a", "jazz", "Bob", None), ("b", "jazz", "Bob", None))
    assert set(assign_splits(now, 0.5, 0.0, seed=0, previous=before)["split"]) == {"train"}


def test_a_split_given_now_overrules_the_one_before() -> None:
    before = tracks(("a", "jazz", "Bob", "train"))
    now = tracks(("a", "jazz", "Bob", "test"), ("b", "jazz", "Bob", None))
    assert set(assign_splits(now, 0.0, 0.0, seed=0, previous=before)["split"]) == {"test"}


def test_what_was_unlisted_for_want_of_a_label_is_drawn_once_it_has_one() -> None:
    before = assign_splits(tracks(("a", None, None, None)), 0.2, 0.0, seed=0)
    assert splits_of(before) == {"a": "unlisted"}
    now = tracks(("a", "jazz", None, None))
    assert splits_of(assign_splits(now, 0.2, 0.0, seed=0, previous=before)) == {"a": "train"}


def test_a_genre_that_only_minorities_of_groups_play_is_in_train_and_valid() -> None:
    rows: list[Row] = [(f"r{number}", "rock", f"g{number % 10}", None) for number in range(100)]
    rows += [("s1", "ska", "g1", None), ("s2", "ska", "g2", None)]
    for seed in range(20):
        frame = assign_splits(tracks(*rows), 0.2, 0.0, seed)
        assert counts(frame, "ska") == {"train": 1, "valid": 1}
        assert set(counts(frame, "rock")) == {"train", "valid"}
        assert frame.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
