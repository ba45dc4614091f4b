"""Which failed tracks a later run tries again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from in_process import config_of, without_ray
from table_makers import catalogue
from tiny_predictions import tag_once

from mgc.audio.decode.audio_reader import decoder_mark
from mgc.config import DecodeConfig, RetryConfig
from mgc.errors import ConfigError, FailuresError
from mgc.storage.store import Store
from mgc.tables.retry import FailureLimit, RetryRule
from mgc.tables.run_index import empty_index, newest_index
from mgc.tables.run_log import OutputDirectory
from mgc.tables.work_items import clean_items

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


def due(config: RetryConfig, hours_ago: float | None, *, decoder: str = "d", now: str = "d", **row: Any) -> bool:
    tried = None if hours_ago is None else NOW - timedelta(hours=hours_ago)
    values = {"error_code": "T103_FETCH_FAILED", "attempts": 1, "tried_at": tried, "decoder": decoder} | row
    index = pl.concat([empty_index(), pl.DataFrame([values], schema_overrides=empty_index().schema)], how="diagonal")
    return bool(index.select(RetryRule(config, now, NOW).due()).item())


@pytest.mark.parametrize(("attempts", "hours"), [(1, 0), (2, 10), (3, 30), (4, 70), (5, 150), (6, 168), (9, 168)])
def test_a_fetch_waits_longer_each_time_it_fails(attempts: int, hours: float) -> None:
    assert due(RetryConfig(), hours, attempts=attempts)
    assert hours == 0 or not due(RetryConfig(), hours - 0.1, attempts=attempts)


def test_after_enough_failures_it_waits_for_a_change() -> None:
    assert not due(RetryConfig(), 10_000, attempts=10)
    assert due(RetryConfig(attempts=None), 10_000, attempts=10_000)


def test_a_try_by_a_clock_that_was_ahead_is_no_reason_to_wait() -> None:
    assert due(RetryConfig(), -500, attempts=5)


def test_a_decode_error_waits_for_another_decoder_and_rows_of_older_versions_for_a_change() -> None:
    decode = {"error_code": "T203_DECODE_FAILED"}
    assert not due(RetryConfig(), 10_000, **decode)
    assert due(RetryConfig(), 0, now="another", **decode)
    assert not due(RetryConfig(), 0, now="another", **(decode | {"decoder": None}))
    assert not due(RetryConfig(), None, error_code=None, now="another")
    assert due(RetryConfig(codes=("T203_DECODE_FAILED",)), 0, **decode)
    assert not due(RetryConfig(codes=()), 0)


def test_the_decoders_mark_changes_with_its_bounds() -> None:
    assert decoder_mark(DecodeConfig()) == decoder_mark(DecodeConfig())
    assert decoder_mark(DecodeConfig()) != decoder_mark(DecodeConfig(max_file_bytes=1))


def test_an_unknown_code_is_named() -> None:
    from mgc.config import load_config

    with pytest.raises(ConfigError, match="T999"):
        load_config(None, ['retry.codes=["T999"]'])


def test_nights_count_the_failures_of_one_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    uri = str(tmp_path)
    eager = config_of().model_copy(update={"retry": RetryConfig(attempts=3, wait_hours=0)})
    contents = {"far": "offline-1", "bad": "broken-1", "ok": "1"}

    def attempts() -> dict[str, int | None]:
        index = newest_index(OutputDirectory(Store.open(uri), "predictions"))
        return dict(index.select("track_id", "attempts").iter_rows())

    assert tag_once(uri, contents, config=eager).rows == 3
    assert attempts() == {"far": 1, "bad": 1, "ok": None}
    assert tag_once(uri, contents, config=eager).plan.retried == 1
    assert tag_once(uri, contents, config=eager).plan.retried == 1
    assert attempts() == {"far": 3, "bad": 1, "ok": None}
    assert tag_once(uri, contents, config=eager).run_id is None, "three times is enough"
    assert tag_once(uri, contents | {"far": "offline-2"}, config=eager).plan.changed == 1
    assert attempts()["far"] == 1, "another content begins anew"
    wider = eager.model_copy(update={"decode": DecodeConfig(max_file_bytes=10**12), "retry": RetryConfig(codes=())})
    assert tag_once(uri, contents | {"far": "offline-2"}, config=wider).plan.retried == 2, "other bounds: both anew"


def index_of(rows: dict[str, str | None]) -> pl.DataFrame:
    """Return index rows of content 1: track → error code."""
    made = [
        {"track_id": track, "view": "clean", "content_id": "1", "error_code": code} for track, code in rows.items()
    ]
    return pl.concat([empty_index(), pl.DataFrame(made, schema_overrides=empty_index().schema)], how="diagonal")


def limit_of(n_items: int, known: dict[str, str | None] | None = None, resumed: int = 0) -> FailureLimit:
    todo = clean_items(catalogue({f"t{number:02}": "1" for number in range(n_items)}))
    committed = index_of(known or {}) if known else empty_index()
    return FailureLimit(0.5, RetryRule(RetryConfig(), "d", NOW), todo, committed, resumed)


def failed_until(limit: FailureLimit, code: str, n_items: int) -> int | None:
    """Return how many items had failed, one after the other, when the run was ended; None: it never was."""
    for number in range(n_items):
        try:
            limit.count(index_of({f"t{number:02}": code}))
        except FailuresError:
            return number + 1
    return None


@pytest.mark.parametrize(
    "code", ["T102_ACCESS_DENIED", "T103_FETCH_FAILED", "T207_DECODE_TIMEOUT", "T301_FEATURES_FAILED"]
)
def test_a_run_ends_as_soon_as_too_many_have_failed_whatever_else_comes(code: str) -> None:
    with pytest.raises(FailuresError, match=rf"^11 of 20 items failed \({code} 11 times; '/music/t00.wav'\)"):
        limit_of(20).count(index_of({f"t{number:02}": code for number in range(11)}))
    assert failed_until(limit_of(20), code, 20) == 11
    assert failed_until(limit_of(30), code, 30) == 16
    assert failed_until(limit_of(19), code, 19) is None, "of a few any number may fail"


def test_files_that_are_no_audio_end_no_run() -> None:
    assert failed_until(limit_of(30), "T202_NOT_AUDIO", 30) is None


def test_links_that_are_known_to_be_dead_end_no_run() -> None:
    known = {f"t{number:02}": "T101_NOT_FOUND" for number in range(30)}
    assert failed_until(limit_of(30, dict(known)), "T101_NOT_FOUND", 30) is None
    limit = limit_of(60, dict(known))
    assert failed_until(limit, "T101_NOT_FOUND", 30) is None, "30 known ones count neither way"
    limit.count(index_of({f"t{number:02}": "T103_FETCH_FAILED" for number in range(30, 45)}))
    with pytest.raises(FailuresError, match="16 of 30 items"):
        limit.count(index_of({"t45": "T103_FETCH_FAILED"}))


def test_what_ended_runs_had_finished_counts_among_all() -> None:
    assert failed_until(limit_of(30, resumed=30), "T103_FETCH_FAILED", 30) is None
    assert failed_until(limit_of(30, resumed=10), "T103_FETCH_FAILED", 30) == 21


def test_an_answer_before_makes_a_failure_no_known_one() -> None:
    answered: dict[str, str | None] = {f"t{number:02}": None for number in range(30)}
    assert failed_until(limit_of(30, answered), "T102_ACCESS_DENIED", 30) == 16
