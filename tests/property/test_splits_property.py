"""What holds of splits whatever the catalogue: nothing is lost, nothing leaks, nothing moves."""

from __future__ import annotations

from random import Random

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.catalogue.splits import assign_splits
from mgc.tables.schema import SPLITS

SCHEMA = {
    "track_id": pl.String,
    "genre": pl.String,
    "tags_known": pl.Boolean,
    "group": pl.String,
    "split": pl.String,
}
FRACTIONS = st.sampled_from([(0.2, 0.0), (0.0, 0.0), (0.3, 0.3), (0.1, 0.05), (0.45, 0.45)])
GENRES = st.sampled_from(["jazz", "rock", "ska"])


@st.composite
def catalogues(draw: st.DrawFn, one_genre_a_group: bool = False) -> pl.DataFrame:
    """Return tracks of a few groups; groups have any sizes, a split may be given to a group as a whole."""
    group_count = draw(st.integers(1, 12))
    given_splits = draw(
        st.lists(
            st.sampled_from([None, None, None, "train", "valid", "test"]),
            min_size=group_count,
            max_size=group_count,
        )
    )
    genres = draw(st.lists(GENRES, min_size=group_count, max_size=group_count))
    rows = []
    for number in range(draw(st.integers(1, 40))):
        group = draw(st.integers(0, group_count - 1))
        alone = draw(st.booleans())
        genre = genres[group] if one_genre_a_group else draw(st.none() | GENRES)
        split = None if one_genre_a_group or alone else draw(st.sampled_from([given_splits[group], "unlisted", None]))
        rows.append((f"t{number}", genre, draw(st.booleans()), None if alone else f"g{group}", split))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@settings(max_examples=40)
@given(catalogues(), FRACTIONS, st.integers(0, 5))
def test_every_row_stays_in_place_and_no_group_crosses(
    frame: pl.DataFrame, fractions: tuple[float, float], seed: int
) -> None:
    done = assign_splits(frame, *fractions, seed)
    assert done["track_id"].to_list() == frame["track_id"].to_list()
    assert done["split"].is_in(SPLITS).all()
    assert done["group"].null_count() == 0
    listed = done.filter(pl.col("split") != "unlisted")
    assert listed.group_by("group").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1).is_empty()
    kept = frame["split"].is_not_null()
    assert done.filter(kept)["split"].to_list() == frame.filter(kept)["split"].to_list()
    labelled = done["genre"].is_not_null() | done["tags_known"]
    unlisted = done["split"] == "unlisted"
    assert (unlisted == ((~labelled & ~kept) | (frame["split"] == "unlisted").fill_null(False))).all()


@settings(max_examples=40)
@given(catalogues(), FRACTIONS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing(
    frame: pl.DataFrame, fractions: tuple[float, float], seed: int, random: Random
) -> None:
    order = list(range(len(frame)))
    random.shuffle(order)
    shuffled = assign_splits(frame[order], *fractions, seed)
    assert shuffled.sort("track_id").equals(assign_splits(frame, *fractions, seed).sort("track_id"))


@settings(max_examples=40)
@given(
    catalogues(one_genre_a_group=True), st.sampled_from([(0.2, 0.0), (0.1, 0.05), (0.45, 0.45)]), st.integers(0, 5)
)
def test_a_genre_of_two_groups_is_trained_on_and_validated_on(
    frame: pl.DataFrame, fractions: tuple[float, float], seed: int
) -> None:
    done = assign_splits(frame, *fractions, seed)
    for (_,), genre in done.group_by("genre"):
        found = set(genre["split"])
        assert "train" in found
        if genre["group"].n_unique() > 1:
            assert "valid" in found


@settings(max_examples=40)
@given(catalogues(), catalogues(), FRACTIONS, st.integers(0, 5))
def test_a_catalogue_that_grows_moves_nothing(
    frame: pl.DataFrame, more: pl.DataFrame, fractions: tuple[float, float], seed: int
) -> None:
    before = assign_splits(frame, *fractions, seed)
    added = more.with_columns(track_id="n" + pl.col("track_id"), split=pl.lit(None, pl.String))
    after = assign_splits(pl.concat([frame, added]), *fractions, seed, previous=before)
    assert after.head(len(frame))["split"].to_list() == before["split"].to_list()
    listed = after.filter(pl.col("split") != "unlisted")
    assert listed.group_by("group").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1).is_empty()
