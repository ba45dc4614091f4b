"""`mgc report` and the page after a run: what is kept of a run, what it is compared with, what the page shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curation_makers import GENRES, Tagged, tagged_folder, unit_rows

from mgc.cli.report_command import PageMade, last_record, latest_tagging_page, page_of, report, tagging_page
from mgc.cluster.run import RunOutcome
from mgc.errors import SchemaError
from mgc.storage.store import Store
from mgc.tables.diff import PlanTotals
from mgc.tables.run_log import OutputDirectory
from mgc.tables.run_records import read_records, write_record

N = 40


@pytest.fixture
def tagged(tmp_path: Path) -> Tagged:
    """Forty tracks, two of which are copies, and one of which failed."""
    vectors = unit_rows(np.random.default_rng(0).normal(size=(N, 8)))
    vectors[1] = vectors[0]
    changes: dict[str, dict[str, Any]] = {
        f"song{number:02}": {
            "genre": GENRES[number % 2],
            "genre_probability": 0.55 + number / 100,
            "abstained": number < 10,
            "embedding": vectors[number].tolist(),
            "duration_seconds": 100.0 + 2 * max(1, number),
        }
        for number in range(N)
    }
    changes["song39"] = {"error_code": "T202_NOT_AUDIO", "error_stage": "decode", "error_message": "it is HTML"}
    return tagged_folder(tmp_path, {f"a/song{number:02}.wav": bytes([number]) for number in range(N)}, **changes)


def made_page(tagged: Tagged) -> PageMade:
    """Return the page of the run that `tagged_folder` committed, as `mgc tag` makes it."""
    place = OutputDirectory(Store.open(str(tagged.predictions)), "predictions")
    [commit] = place.commits()
    outcome = RunOutcome(
        "b" * 16,
        PlanTotals(items=N, tracks=N, chosen=N, new=N, wanted_tracks=N),
        run_id=commit.run_id,
        sequence=commit.sequence,
        runs=commit.runs,
        rows=N,
        tracks=N,
        failed_by_code={"T202_NOT_AUDIO": 1},
        audio_seconds=4_000.0,
        work_seconds=8.0,
        wall_seconds=10.0,
        cores=2,
        deleted=3,
    )
    return tagging_page(outcome, str(tagged.catalogue), str(tagged.predictions))


def test_a_run_with_nothing_to_do_names_the_page_of_the_one_before(tmp_path: Path) -> None:
    nothing = RunOutcome("b" * 16, PlanTotals())
    page = latest_tagging_page(nothing, "catalogue.parquet", str(tmp_path))
    assert page == str(tmp_path / "report" / "index.html")


def test_a_run_is_recorded_and_its_page_shows_all_parts(tagged: Tagged) -> None:
    made = made_page(tagged)
    assert made.uri == str(tagged.predictions / "report" / "index.html")
    record = last_record(str(tagged.predictions))
    assert (record.tagged_now, record.tracks_total, record.failed) == (N, N, {"T202_NOT_AUDIO": 1})
    assert (
        record.prediction_summary.tracks,
        record.prediction_summary.answered,
        record.prediction_summary.abstained,
    ) == (N, N - 1, 10)
    assert dict(record.prediction_summary.genres) == {"jazz": 20, "rock": 19}
    page = Path(made.uri).read_text(encoding="utf-8")
    for text in (
        "All tracks with an embedding of this bundle",
        "2 tracks in 1 group. Candidates: equally long",
        "The unlabelled tracks whose label would help most",
        "Nothing was compared: there is no earlier run to compare with.",
        "500 ×",
        "3 tracks left the catalogue and were marked deleted",
    ):
        assert text in page, text
    assert made.drift.why_not


def test_the_map_is_kept_for_the_next_run(tagged: Tagged, monkeypatch: pytest.MonkeyPatch) -> None:
    made_page(tagged)
    kept = tagged.predictions / "report" / "map.json"
    before = kept.read_bytes()
    monkeypatch.setattr("mgc.reports.track_map._laid_out", lambda _: pytest.fail("the map was laid out anew"))
    page_of(last_record(str(tagged.predictions)), str(tagged.catalogue))
    assert kept.read_bytes() == before


def test_report_command_makes_the_page_anew_and_compares(tagged: Tagged, capsys: pytest.CaptureFixture[str]) -> None:
    made_page(tagged)
    place = OutputDirectory(Store.open(str(tagged.predictions)), "predictions")
    [first] = read_records(place, 1)
    jazz = replace(first.prediction_summary, genres={"jazz": N - 1}, tracks=400, answered=400, abstained=0)
    later = datetime(2026, 3, 2, tzinfo=UTC)
    write_record(place, replace(first, run_id="later", sequence=7, prediction_summary=jazz, finished_at=later))
    (tagged.predictions / "report" / "index.html").unlink()
    report(str(tagged.catalogue), str(tagged.predictions))
    said = capsys.readouterr().out
    assert "genre rock 48.7 % → 0.0 %" in said
    assert "cause" in said
    page = (tagged.predictions / "report" / "index.html").read_text(encoding="utf-8")
    assert "Drift: " in page
    assert "this run" in page


def test_a_run_in_which_all_failed_has_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"error_code": "T202_NOT_AUDIO", "error_stage": "decode", "error_message": "it is HTML"}
    names = [f"song{number:02}" for number in range(3)]
    broken = tagged_folder(tmp_path, {f"{name}.wav": b"x" for name in names}, **dict.fromkeys(names, failed))
    monkeypatch.setattr(f"{__name__}.N", 3)
    page = Path(made_page(broken).uri).read_text(encoding="utf-8")
    assert "3 of 3 tracks of the catalogue have no answer" in page
    assert "Fewer than two tracks have an answer" in page
    assert 'id="map"' not in page
    assert 'id="review"' not in page


def test_without_a_record_there_is_no_page(tagged: Tagged) -> None:
    with pytest.raises(SchemaError, match="no record of a run"):
        report(str(tagged.catalogue), str(tagged.predictions))
