from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from drift_makers import made_run, make_prediction_summary

from mgc.storage.store import Store
from mgc.tables.run_log import Commit, OutputDirectory, PartRef
from mgc.tables.run_records import (
    COUNTED,
    PredictionCounts,
    PredictionSummary,
    read_records,
    rows_of_runs,
    summarise_predictions,
    write_record,
)

ROWS = pl.DataFrame(
    {
        "run_id": ["run-1", "run-1", "killed", "run-0"],
        "uri": ["/m/a.mp3", "/m/b.mp3", "/m/c.mp3", "/m/d.mp3"],
        "genre": ["jazz", "jazz", None, "rock"],
        "genre_probability": [0.9, 0.3, None, 0.5],
        "abstained": [False, True, None, False],
        "tags": [["loud", "slow"], ["loud"], None, []],
        "error_code": [None, None, "T101_NOT_FOUND", None],
    },
    schema_overrides={"tags": pl.List(pl.String), "genre_probability": pl.Float32},
).select(COUNTED)


def albums(size: int, n: int = 2_400) -> pl.DataFrame:
    """Tracks in folders of 12; of `size` tracks that follow one another all say the same."""
    rng = np.random.default_rng(0)
    number = np.arange(n) // size
    sure = rng.random(n)[number]
    loud = (rng.random(n) < 0.3)[number]
    return pl.DataFrame(
        {
            "run_id": ["r"] * n,
            "uri": [f"/m/{row // 12}/{row}.mp3" for row in range(n)],
            "genre": rng.choice(list("abcde"), n)[number],
            "genre_probability": sure,
            "abstained": sure < 0.2,
            "tags": [["loud"] if one else [] for one in loud],
            "error_code": np.where(rng.random(n) < 0.05, "T202", None)[number].tolist(),
        }
    )


def test_rows_are_counted() -> None:
    prediction_summary = summarise_predictions(ROWS)
    assert (
        prediction_summary.tracks,
        prediction_summary.answered,
        prediction_summary.abstained,
        prediction_summary.confident,
    ) == (4, 3, 1, 3)
    assert prediction_summary.genres == {"jazz": 2, "rock": 1}
    assert prediction_summary.tags == {"loud": 2, "slow": 1}
    assert prediction_summary.failed == {"T101_NOT_FOUND": 1}
    assert prediction_summary.confidence_mean == pytest.approx(1.7 / 3)
    assert prediction_summary.confidence_variance == pytest.approx(np.var([0.9, 0.3, 0.5], ddof=1))
    assert prediction_summary.confidence_bins[6] + prediction_summary.confidence_bins[5] == 1
    assert sum(prediction_summary.confidence_bins) == 3
    assert summarise_predictions(ROWS.clear()) == PredictionSummary()


def test_likeness_of_a_folder_is_its_design_effect() -> None:
    kinds = ("genre", "tag", "failed", "abstained", "confidence")
    alike = summarise_predictions(albums(12)).design_effects
    assert [alike[kind] for kind in kinds] == [pytest.approx(12.0, rel=0.2)] * 5
    apart = summarise_predictions(albums(1)).design_effects
    assert [apart[kind] for kind in kinds] == [pytest.approx(1.0, abs=0.25)] * 5
    assert summarise_predictions(albums(12).head(300)).design_effects == {}, "25 folders may be the genres themselves"


def test_batches_are_counted_as_the_whole() -> None:
    rows, counts = albums(12), PredictionCounts()
    for batch in rows.iter_slices(700):
        counts.add(batch)
    whole, parts = summarise_predictions(rows), counts.summary()
    assert parts.confidence_variance == pytest.approx(whole.confidence_variance, rel=1e-9)
    assert parts.confidence_mean == pytest.approx(whole.confidence_mean, rel=1e-9)
    assert replace(parts, confidence_variance=0, confidence_mean=0) == replace(
        whole, confidence_variance=0, confidence_mean=0
    )


def test_of_many_folders_some_are_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgc.tables.run_records.SUMS_HELD", 1_500)
    alike = summarise_predictions(albums(12, 6_000)).design_effects
    assert [alike[kind] for kind in ("genre", "tag", "abstained", "confidence")] == [pytest.approx(12.0, rel=0.3)] * 4
    counts = PredictionCounts()
    for batch in albums(12, 24_000).iter_slices(2_000):
        counts.add(batch)
        assert counts._folders._held.height <= 1_500


def test_a_commit_knows_its_rows() -> None:
    parts = [
        PartRef("runs/run-1/part-000000.parquet", 2, "f", 2),
        PartRef("runs/killed/part-000000.parquet", 1, "f", 1),
    ]
    mine = rows_of_runs(ROWS, Commit("run-1", 2, "runs/run-1/index.parquet", parts, {}).runs)
    assert mine["uri"].to_list() == ["/m/a.mp3", "/m/b.mp3", "/m/c.mp3"]


def test_records_are_kept_in_order(tmp_path: Path) -> None:
    output = OutputDirectory(Store.open(str(tmp_path)), "predictions")
    output.mark()
    rng = np.random.default_rng(0)
    runs = [made_run(make_prediction_summary(rng, 50), number) for number in (2, 10, 1)]
    for run in runs:
        write_record(output, run)
    assert read_records(output, 2) == [runs[0], runs[1]]
    assert [run.sequence for run in read_records(output, 9)] == [1, 2, 10]
    output.store.write_atomic("records/00000011-new.json", b'{"version": 99}')
    output.store.write_atomic("records/00000012-odd.json", b"[]")
    assert [run.sequence for run in read_records(output, 3)] == [10]
