"""`current` on a real S3 server: conditional commits, credentials and endpoint as botocore finds them, faults."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from faulty_s3 import DENIED, FAILED, FAILED_AFTER_SUCCESS, REFUSED, Fault, Request, faulty_s3
from in_process import without_ray
from swift_server import SwiftServer
from tiny_predictions import history, identities, ids, output_of, tag_once

from mgc.storage.objects import AccessDeniedError
from mgc.storage.store import Store
from mgc.tables import publish as published
from mgc.tables.publish import open_current, publish

pytestmark = pytest.mark.s3


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


@pytest.mark.parametrize("space", ["", "with space/"])
def test_runs_are_published_and_read_as_on_a_folder(bucket: str, space: str) -> None:
    uri, contents = f"s3://{bucket}/{space}predictions", ids(8)
    tag_once(uri, contents)
    changed = contents | dict.fromkeys(sorted(contents)[:5], "2")
    tag_once(uri, changed)
    assert identities(uri) == changed
    options = Store.open(uri).object_store_options()
    table = DeltaTable(f"{uri}/current", storage_options=options).to_pyarrow_table(columns=["track_id", "content_id"])
    assert dict(pl.DataFrame(table).iter_rows()) == changed
    if not space:  # of such a prefix polars requests other keys
        rows = pl.read_delta(f"{uri}/current", storage_options=options)
        assert dict(rows.select("track_id", "content_id").iter_rows()) == changed
    assert DeltaTable(f"{uri}/current", version=0, storage_options=options).to_pyarrow_table().num_rows == 8
    assert history(uri).height == 13
    assert publish(output_of(uri)) is None


def test_a_writer_that_was_held_up_loses_its_commit(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"s3://{bucket}/predictions"
    tag_once(uri, {"a": "1", "b": "1"})
    with monkeypatch.context() as patch:
        patch.setattr("tiny_predictions.publish", lambda *_, **__: None)
        tag_once(uri, {"a": "2", "b": "1"})
    real, stopped = published._commit, []

    def stop(*arguments: object) -> None:
        if not stopped:
            stopped.append(True)
            tag_once(uri, {"a": "3", "b": "1"})
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(published, "_commit", stop)
    publish(output_of(uri))
    assert identities(uri) == {"a": "3", "b": "1"}
    assert history(uri).height == 4


def test_keys_of_a_profile_are_used_and_shown_nowhere(
    bucket: str, swift_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "credentials"
    keys = {name: swift_env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    profile.write_text("[music]\n" + "".join(f"{name.lower()} = {value}\n" for name, value in keys.items()))
    for name in keys:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_PROFILE", "music")
    uri = f"s3://{bucket}/predictions"
    tag_once(uri, {"a": "1"})
    assert identities(uri) == {"a": "1"}
    store = Store.open(uri)
    for item in store.list(""):
        assert keys["AWS_SECRET_ACCESS_KEY"].encode() not in store.read_bytes(item.key)


def test_a_store_that_denies_the_commit_is_named_and_the_next_run_publishes(
    swift: SwiftServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"s3://{bucket}/predictions"
    tag_once(uri, {"a": "1"})
    with faulty_s3(swift.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        proxy.inject = lambda request: DENIED if is_log_write(request) else None
        with pytest.raises(AccessDeniedError) as caught:
            tag_once(uri, {"a": "2"})
        assert f"{uri}/current" in caught.value.message
        proxy.inject = lambda request: None
        assert identities(uri) == {"a": "1"}
        assert tag_once(uri, {"a": "2"}).run_id is None
        assert identities(uri) == {"a": "2"}


def is_log_write(request: Request) -> bool:
    return request.method == "PUT" and "/_delta_log/" in request.key


@pytest.mark.parametrize("fault", [FAILED_AFTER_SUCCESS, FAILED, REFUSED], ids=["after success", "500", "503"])
def test_a_commit_that_meets_a_fault_of_the_store_is_made_once(
    swift: SwiftServer, bucket: str, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    uri = f"s3://{bucket}/predictions"
    tag_once(uri, {"a": "1", "b": "1"})
    hurt: list[str] = []

    def once(request: Request) -> Fault | None:
        if hurt or not is_log_write(request):
            return None
        hurt.append(request.key)
        return fault

    with faulty_s3(swift.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        proxy.inject = once
        tag_once(uri, {"a": "2", "b": "1"})
    monkeypatch.setenv("AWS_ENDPOINT_URL", swift.endpoint_url)
    assert len(hurt) == 1
    assert identities(uri) == {"a": "2", "b": "1"}
    table = open_current(Store.open(uri))
    assert table is not None
    assert table.table is not None
    assert table.table.version() == 1
    assert publish(output_of(uri)) is None
