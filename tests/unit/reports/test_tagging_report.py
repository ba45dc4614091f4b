from __future__ import annotations

import base64
import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from answer_makers import predictions_of
from drift_makers import made_history, made_run, make_prediction_summary
from page_checker import HOSTILE, checked

from mgc.evaluation.drift import detect_drift
from mgc.reports.page import base_name, clock, count, decimal, folder_name, percent, place, span
from mgc.reports.tagging_report import (
    NearDuplicates,
    PageParts,
    ReviewQueue,
    build_tagging_view,
    drift_view,
    tagging_page,
    write_tagging_report,
)
from mgc.reports.tagging_table import select_listed_tracks, track_lines
from mgc.reports.track_map import TrackMap
from mgc.tables.run_records import RunRecord

STARTED = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)


def summary(**more: Any) -> RunRecord:
    values: dict[str, Any] = {
        "run_id": "run-7",
        "bundle_fingerprint": "bundlefingerprnt",
        "catalogue": "/data/catalogue.parquet",
        "tracks_total": 5,
        "tagged_now": 4,
        "unchanged": 1,
        "failed": {"T201_EMPTY_FILE": 1},
        "audio_seconds": 3_600.0,
        "wall_seconds": 12.0,
        "work_seconds": 10.0,
        "cores": 2,
        "started_at": STARTED,
        "finished_at": STARTED + timedelta(seconds=12),
        "output": "/data/out",
    }
    return RunRecord(**(values | more))


def unpacked(page: str) -> dict[str, Any]:
    """Return the columns that the page's script unpacks."""
    [text] = re.findall(r'id="packed">([^<]*)<', page)
    return dict(json.loads(gzip.decompress(base64.b64decode(text))))


ROWS: list[dict[str, Any]] = [
    {
        "track_id": "a",
        "genres": {"jazz": 0.7, "rock": 0.3},
        "tags": {"loud": 0.9, "slow": 0.6},
        "uri": "s3://b/x/a.mp3",
    },
    {"track_id": "b", "genres": {"jazz": 0.55, "rock": 0.45}, "tags": {"loud": 0.8, "slow": 0.1}},
    {"track_id": "c", "genres": {"jazz": 0.1, "rock": 0.9}, "tags": {"loud": 0.1, "slow": 0.2}, "seconds": 400.0},
    {"track_id": "d", "error": "T201_EMPTY_FILE", "message": "the file has 0 bytes"},
    {"track_id": "e", "error": "T101_NOT_FOUND", "message": "no such object"},
    {"track_id": "f", "error": "T201_EMPTY_FILE", "message": "the file has 0 bytes"},
]


def test_view_counts_all_rows() -> None:
    view = build_tagging_view([predictions_of(ROWS)], predictions_of(ROWS))
    assert (view.rows, view.answered, view.untagged) == (6, 3, 1)
    assert view.genres == [("jazz", 2), ("rock", 1)]
    assert view.tags == [("loud", 2), ("slow", 1)]
    assert view.mean_confidence == pytest.approx((0.7 + 0.55 + 0.9) / 3)
    assert [(one.code, one.stage, one.tracks) for one in view.failures] == [
        ("T201_EMPTY_FILE", "decode", 2),
        ("T101_NOT_FOUND", "decode", 1),
    ]
    assert view.failures[0].examples[0] == ("/music/d.wav", "the file has 0 bytes")
    assert view.sampled == ""


def test_lines_show_the_surest_first() -> None:
    lines = track_lines(predictions_of([ROWS[2], ROWS[0], ROWS[3]]))
    assert [name for name, _ in lines[0].genres] == ["rock", "jazz"]
    assert lines[1].tags == [("loud", pytest.approx(0.9)), ("slow", pytest.approx(0.6))]
    assert (lines[2].error_code, lines[2].genres, lines[2].tags) == ("T201_EMPTY_FILE", [], [])


def test_long_lists_are_cut_and_say_so() -> None:
    tags = {f"tag{index:02}": 0.99 - index / 100 for index in range(11)}
    [line] = track_lines(predictions_of([{"track_id": "a", "genres": {"x": 1.0}, "tags": tags}]))
    assert [name for name, _ in line.tags] == [f"tag{index:02}" for index in range(8)]
    assert line.tags_left_out == 3


def test_page_tells_speed_and_failures() -> None:
    page = tagging_page([predictions_of(ROWS)], summary())
    checked(page)
    for text in (
        "360 ×",
        "180 × per core on 2 cores",
        "0.4",
        "T101_NOT_FOUND",
        "no such object",
        "run-7",
        "All 6 tracks.",
    ):
        assert text in page, text
    assert "<strong>4</strong> that were new, changed" in page


def test_hostile_names_are_shown_and_not_run() -> None:
    rows = [
        {"track_id": "a", "uri": f"s3://b/{HOSTILE}/{HOSTILE}.mp3", "genres": {HOSTILE: 1.0}, "tags": {HOSTILE: 0.9}},
        {"track_id": "b", "uri": "\u202e\u0000<img src=x onerror=alert(1)>", "error": HOSTILE, "message": HOSTILE},
    ]
    page = tagging_page(
        [predictions_of(rows)], summary(run_id=HOSTILE, catalogue=HOSTILE, output=HOSTILE, bundle_fingerprint=HOSTILE)
    )
    checked(page)
    assert "<script>alert" not in page
    assert "<img" not in page


def test_nothing_done_and_nothing_there() -> None:
    idle = tagging_page(
        [predictions_of(ROWS[:1])],
        summary(tagged_now=0, unchanged=1, failed={}, audio_seconds=0.0, work_seconds=None),
    )
    checked(idle)
    assert "found all of them up to date" in idle
    checked(tagging_page([predictions_of([])], summary(tracks_total=0, tagged_now=0, unchanged=0, failed={})))
    checked(tagging_page([predictions_of(ROWS[3:])], summary()))
    checked(tagging_page([predictions_of([{"track_id": "a", "tags": {"loud": 0.2}}])], summary()))


def test_many_rows_are_sampled_and_the_page_says_so() -> None:
    rows = [{"track_id": f"{index * 7919 % 4001:05}", "genres": {"jazz": 1.0}} for index in range(3_000)]
    rows += [{"track_id": f"f{index:04}", "error": "T201_EMPTY_FILE"} for index in range(700)]
    predictions = predictions_of(rows)
    listed = select_listed_tracks(predictions.iter_slices(700), 2_000, 500)
    assert listed.sampled == "1\u202f500 of 3\u202f000 tagged tracks, drawn at random and 500 of 700 failed ones"
    kept = predictions.filter(pl.col("track_id").is_in(listed.track_ids.implode()))
    assert (kept.height, kept["error_code"].null_count()) == (2_000, 1_500)
    page = tagging_page([predictions], summary(), PageParts(listed=kept, sampled=listed.sampled))
    assert "1\u202f500 of 3\u202f000 tagged tracks" in page
    assert "3\u202f700 tracks of" in page, "counts are over all"
    assert len(unpacked(page)["name"]) == 2_000
    assert page.count('class="name-cell"') == 25, "the rest is for the script to show"
    assert select_listed_tracks([predictions]).sampled == ""


def test_few_tagged_leave_place_for_failures() -> None:
    rows = [{"track_id": f"t{index}", "genres": {"jazz": 1.0}} for index in range(100)]
    rows += [{"track_id": f"f{index:04}", "error": "T201_EMPTY_FILE"} for index in range(2_500)]
    ids = select_listed_tracks([predictions_of(rows)], 2_000, 500).track_ids
    assert (len(ids), ids.str.starts_with("t").sum()) == (2_000, 100)


def test_packed_columns_say_what_the_rows_say() -> None:
    layout = TrackMap("b" * 16, ["c", "deleted", "b"], np.array([0.25, 0.5, 1.0]), np.array([0.0, 0.5, 0.75]))
    packed = unpacked(tagging_page([predictions_of(ROWS)], summary(run_id="run"), PageParts(layout=layout)))
    uris = [packed["folders"][folder] + name for folder, name in zip(packed["folder"], packed["name"], strict=True)]
    assert uris == ["/music/b.wav", "/music/c.wav", "/music/d.wav", "/music/e.wav", "/music/f.wav", "s3://b/x/a.mp3"]
    assert packed["seconds"] == [90.0, 400.0, None, None, None, 90.0]
    assert packed["state"] == [0, 0, 2, 2, 2, 0]
    assert packed["now"] == [1] * 6
    jazz, rock = (packed["genreNames"].index(name) for name in ("jazz", "rock"))
    assert packed["genres"][:10] == [jazz, 550, rock, 450, -1, 0, -1, 0, -1, 0]
    assert packed["genres"][10:14] == [rock, 900, jazz, 100]
    assert packed["tagCounts"] == [1, 0, 0, 0, 0, 2]
    assert [packed["tagNames"][number] for number in packed["tags"][::2]] == ["loud", "loud", "slow"]
    assert packed["tags"][1::2] == [800, 900, 600]
    assert packed["failures"][0] == [2, "T201_EMPTY_FILE", "the file has 0 bytes"]
    assert packed["map"] == {"row": [0, 1], "x": [4_000, 1_000], "y": [3_000, 0]}


def test_page_tells_what_drifted_what_is_double_and_what_to_label() -> None:
    rng = np.random.default_rng(0)
    history = made_history(rng, 3, 600)
    run = made_run(make_prediction_summary(rng, 600, genres=(0.02, *[0.1] * 9)), 9, run_id="run-7")
    parts = PageParts(
        drift=drift_view(detect_drift(run, history), [*history, run]),
        copies=NearDuplicates(
            "2 tracks in 1 group", [{"group": 1, "uri": "/m/a", "duration_seconds": 9.0, "likeness": 0.99}]
        ),
        queue=ReviewQueue(
            "ask these",
            [
                {
                    "path": HOSTILE,
                    "predicted_genre": "a",
                    "probability": 0.5,
                    "runner_up": "b",
                    "runner_up_probability": 0.4,
                    "why": HOSTILE,
                }
            ],
            f"mgc review {HOSTILE}",
        ),
    )
    page = tagging_page([predictions_of(ROWS)], summary(), parts)
    checked(page)
    for text in ("Drift: genre", "blues", "beside 1\u202f800 of the last 3 runs", "2 tracks in 1 group", "ask these"):
        assert text in page, text
    assert "<script>alert" not in page
    quiet = drift_view(detect_drift(history[0], []), [history[0]])
    alone = tagging_page([predictions_of(ROWS)], summary(), PageParts(drift=quiet))
    checked(alone)
    assert "Nothing was compared: there is no earlier run" in alone


def test_codes_are_explained_on_the_page() -> None:
    page = tagging_page([predictions_of(ROWS)], summary())
    assert 'href="#code-T201_EMPTY_FILE"' in page
    assert 'id="code-T201_EMPTY_FILE" tabindex="-1">The file has 0 bytes. Upload it again.' in page


def test_report_is_written_beside_the_predictions(tmp_path: Path) -> None:
    where = write_tagging_report([predictions_of(ROWS)], summary(), str(tmp_path))
    assert where == str(tmp_path / "report" / "index.html")
    assert "jazz" in Path(where).read_text(encoding="utf-8")


def test_numbers_are_formatted_for_people() -> None:
    assert [percent(None), percent(0.1234), percent(1.0, 0)] == ["–", "12.3 %", "100 %"]
    assert decimal(-0.5, 1) == "−0.5"
    assert count(1_234_567) == "1\u202f234\u202f567"
    assert [span(3.21), span(61), span(7_322), span(None)] == ["3.2 s", "1 min 01 s", "2 h 02 min", "–"]
    assert [clock(59.6), clock(125)] == ["1:00", "2:05"]
    assert [place(-1), place(0.5), place(3), place(None)] == ["0.00%", "50.00%", "100.00%", "0.00%"]
    assert [base_name("s3://b/x/a.mp3"), base_name("a.mp3"), base_name("/")] == ["a.mp3", "a.mp3", "/"]
    assert [folder_name("s3://b/x/a.mp3"), folder_name("s3://b/a.mp3"), folder_name("a.mp3")] == ["x", "", ""]
