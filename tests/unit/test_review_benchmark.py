"""The benchmark of the review queue: what is hidden at first, what an annotator fills in, and what is said of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks.review_loop import Draw, Score, filled_in, first_manifest, show


@pytest.fixture
def truth() -> pl.DataFrame:
    """Thirty tracks by twos of a group; the last three groups are held out."""
    return pl.DataFrame(
        {
            "path": [f"{number:02}.ogg" for number in range(30)],
            "genre": ["jazz" if number % 2 else "rock" for number in range(30)],
            "tags": [None if number == 1 else "piano|drums" for number in range(30)],
            "group": [f"g{number // 2:02}" for number in range(30)],
            "split": ["valid" if number >= 24 else "train" for number in range(30)],
        }
    )


def test_held_out_tracks_stay_so_and_hidden_ones_have_neither_label_nor_split(truth: pl.DataFrame) -> None:
    first = first_manifest(truth, 6, np.random.default_rng(0))
    counts = dict(first["split"].value_counts().iter_rows())
    assert (counts["test"], counts["train"], counts["valid"]) == (6, 6, 4)
    hidden = first.filter(pl.col("split").is_null())
    assert hidden.height == 14
    assert hidden["genre"].null_count() == hidden["tags"].null_count() == 14
    assert first.filter(pl.col("split") == "test")["path"].to_list() == truth["path"][24:].to_list()
    torn = first.filter(pl.col("split") != "test").group_by("group").agg(pl.col("split") == "valid")
    assert all(len(set(flags)) == 1 for flags in torn["split"].to_list()), "a group of valid is whole"


def test_a_queue_is_filled_in_in_its_order_and_says_where_a_track_has_no_tag(truth: pl.DataFrame) -> None:
    queue = pl.DataFrame({"path": ["03.ogg", "01.ogg"], "genre": ["", ""], "tags": ["", ""], "why": ["torn", "torn"]})
    assert filled_in(queue, truth).rows(named=True) == [
        {"path": "03.ogg", "why": "torn", "genre": "jazz", "tags": "piano|drums"},
        {"path": "01.ogg", "why": "torn", "genre": "jazz", "tags": "-"},
    ]


def test_gains_are_told_with_their_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    draws = [Draw(Score(0.5, 0.4), Score(gain, 0.4), Score(0.55, 0.4), 0.3, 0.6) for gain in (0.6, 0.7)]
    show(draws)
    said = capsys.readouterr().out
    assert "accuracy, queue over before: +0.150 ± 0.050 (standard error)" in said
    assert "accuracy, queue over random: +0.100 ± 0.050 (standard error)" in said
