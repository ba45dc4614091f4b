"""Which failed tracks a later run tries again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from in_process import config_of, without_ray
from tiny_predictions import tag_once

from mgc.audio.decode.audio_reader import decoder_mark
from mgc.config import DecodeConfig, RetryConfig
from mgc.errors import ConfigError
from mgc.storage.store import Store
from mgc.tables.retry import RetryRule
from mgc.tables.run_index import empty_index, newest_index
from mgc.tables.run_log import OutputDirectory

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

    assert tag_once(uri, contents, config=eager).index.height == 3
    assert attempts() == {"far": 1, "bad": 1, "ok": None}
    assert tag_once(uri, contents, config=eager).plan.retried == 1
    assert tag_once(uri, contents, config=eager).plan.retried == 1
    assert attempts() == {"far": 3, "bad": 1, "ok": None}
    assert tag_once(uri, contents, config=eager).run_id is None, "three times is enough"
    assert tag_once(uri, contents | {"far": "offline-2"}, config=eager).plan.changed == 1
    assert attempts()["far"] == 1, "another content begins anew"
    wider = eager.model_copy(update={"decode": DecodeConfig(max_file_bytes=10**12), "retry": RetryConfig(codes=())})
    assert tag_once(uri, contents | {"far": "offline-2"}, config=wider).plan.retried == 2, "other bounds: both anew"
