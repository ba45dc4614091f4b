"""Extraction over real files on a real Ray of two workers."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from small_music import SETTINGS, add_bad_files, add_hostile_files, write_music, write_track

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cluster.extract import extract_features
from mgc.cluster.run import RunOptions
from mgc.config import CatalogueConfig, load_config
from mgc.errors import SchemaError
from mgc.storage.store import Store
from mgc.tables.feature_shards import read_feature_set
from mgc.tables.run_index import current_index, current_rows, newest_index
from mgc.tables.run_log import OutputDirectory
from mgc.tables.work_items import plan_items

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_two")]
CONFIG = load_config(None, SETTINGS)


def indexed(root: Path, catalogue: Path) -> pl.DataFrame:
    index_catalogue(str(root), str(catalogue), CatalogueConfig(labels_from="folder"))
    return read_catalogue(str(catalogue))


def rows_of(output: Path, tracks: pl.DataFrame) -> list[dict[str, object]]:
    directory = OutputDirectory(Store.open(str(output)), "features")
    where = current_index(directory, tracks)
    return [row for table in current_rows(directory, where) for row in table.to_pylist()]


def test_rows_out_equal_rows_in_and_every_bad_file_has_its_code(tmp_path: Path) -> None:
    write_music(tmp_path / "music")
    codes = add_bad_files(tmp_path / "music") | add_hostile_files(tmp_path / "music")
    tracks = indexed(tmp_path / "music", tmp_path / "catalogue.parquet")
    gone = write_track(tmp_path / "music", "drone", 90)
    tracks = indexed(tmp_path / "music", tmp_path / "catalogue.parquet")
    gone.unlink()
    # The hang costs its limit; and of most files (all beyond 60 kB) only ranges are read.
    bounds = ["decode.time_limit_seconds=6", "decode.whole_file_bytes=60000"]
    outcome = extract_features(tracks, str(tmp_path / "out"), load_config(None, [*SETTINGS, *bounds]), RunOptions())
    rows = rows_of(tmp_path / "out", tracks)
    assert sorted(str(row["track_id"]) for row in rows) == tracks["track_id"].to_list()
    found = {Path(str(row["uri"])).name: row["error_code"] for row in rows if row["error_code"]}
    assert found == codes | {gone.name: "T101_NOT_FOUND"}
    assert sum(outcome.failed_by_code.values()) == len(found)
    good = [row for row in rows if row["error_code"] is None]
    assert len(good) == 18
    for row in good:
        shape = (row["n_windows"], row["n_frames"], row["n_mels"])
        assert shape == (2, CONFIG.features.n_frames, 32)
        assert len(bytes(row["log_mel"])) == 2 * shape[0] * shape[1] * shape[2]  # type: ignore[arg-type]
        assert row["duration_seconds"] == pytest.approx(4.0, abs=0.1)


def test_only_what_changed_is_done_again(tmp_path: Path) -> None:
    music, catalogue, out = write_music(tmp_path / "music"), tmp_path / "catalogue.parquet", str(tmp_path / "out")
    first = extract_features(indexed(music, catalogue), out, CONFIG, RunOptions())
    assert (first.plan.new, first.rows) == (18, 18)
    again = extract_features(read_catalogue(str(catalogue)), out, CONFIG, RunOptions())
    assert (again.run_id, again.plan.unchanged) == (None, 18)
    for seed in (50, 51, 52):
        write_track(music, "pulse", seed)
    changed = music / "drone" / "drone000.wav"
    changed.write_bytes((music / "noise" / "noise000.wav").read_bytes())
    os.utime(changed, ns=(1, 1))
    third = extract_features(indexed(music, catalogue), out, CONFIG, RunOptions())
    assert (third.plan.new, third.plan.changed, third.plan.unchanged) == (3, 1, 17)
    assert third.rows == 4
    other = load_config(None, [*SETTINGS, "features.n_mels=24"])
    assert extract_features(read_catalogue(str(catalogue)), out, other, RunOptions()).plan.remade == 21


def test_views_are_rows_and_only_those_that_lack_are_made(tmp_path: Path) -> None:
    music, out = write_music(tmp_path / "music", 2), str(tmp_path / "out")
    (music / "drone" / "bad.wav").write_bytes(b"no audio at all")
    tracks = indexed(music, tmp_path / "catalogue.parquet").with_columns(split=pl.lit("train"))
    first = extract_features(tracks, out, CONFIG, RunOptions())
    assert first.rows == 7
    views = load_config(None, [*SETTINGS, 'augment.views=["tempo", "pitch+loudness", "overlay", "noise"]'])
    second = extract_features(tracks, out, views, RunOptions())
    assert (second.plan.new, second.plan.unchanged, second.plan.tracks) == (7 * 4, 7, 7)
    items = plan_items(tracks, views.augment)
    rows = rows_of(tmp_path / "out", items)
    keys = sorted((str(row["track_id"]), str(row["view"])) for row in rows)
    assert keys == sorted(items.select("track_id", "view").rows())
    bad = {row["track_id"] for row in rows if row["view"] == "clean" and row["error_code"]}
    partners = dict(items.filter(view="overlay").select("track_id", "partner_id").rows())
    for row in rows:
        with_bad = row["view"] == "overlay" and partners[str(row["track_id"])] in bad
        assert (row["error_code"] is not None) == (row["track_id"] in bad or with_bad)
    trained_on = read_feature_set(out, tracks, "train", views.augment)
    assert len(trained_on) == sum(row["error_code"] is None for row in rows)
    assert extract_features(tracks, out, views, RunOptions()).run_id is None
    assert extract_features(tracks, out, CONFIG, RunOptions()).plan.unwanted == 28


def test_a_failed_fetch_is_tried_again_and_a_bad_file_only_by_request(tmp_path: Path) -> None:
    music, out = tmp_path / "music", str(tmp_path / "out")
    write_track(music, "drone", 0)
    add_bad_files(music)
    missing = write_track(music, "noise", 1)
    tracks = indexed(music, tmp_path / "catalogue.parquet")
    kept = missing.read_bytes()
    stat = missing.stat()
    missing.unlink()
    extract_features(tracks, out, CONFIG, RunOptions())
    missing.write_bytes(kept)
    os.utime(missing, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = extract_features(tracks, out, CONFIG, RunOptions())
    assert (second.plan.retried, second.failed_by_code) == (1, {})
    retry = load_config(None, [*SETTINGS, "cluster.retry_failed=true"])
    third = extract_features(tracks, out, retry, RunOptions())
    assert third.plan.retried == tracks.height - 2


def test_a_limit_leaves_the_rest_for_the_next_run(tmp_path: Path) -> None:
    tracks = indexed(write_music(tmp_path / "music"), tmp_path / "catalogue.parquet")
    out = str(tmp_path / "out")
    assert extract_features(tracks, out, CONFIG, RunOptions(limit=5)).rows == 5
    assert extract_features(tracks, out, CONFIG, RunOptions()).rows == 13
    index = newest_index(OutputDirectory(Store.open(out), "features"))
    assert index.height == 18


def test_an_output_of_another_schema_is_refused_before_any_work(tmp_path: Path) -> None:
    tracks = indexed(write_music(tmp_path / "music", 1), tmp_path / "catalogue.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_mgc.json").write_text('{"kind": "features", "schema_version": 99}')
    with pytest.raises(SchemaError, match="schema version 99"):
        extract_features(tracks, str(tmp_path / "out"), CONFIG, RunOptions())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["_mgc.json"]


def test_what_a_worker_logs_is_logged_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_music(tmp_path / "music")
    tracks = indexed(tmp_path / "music", tmp_path / "catalogue.parquet")
    hasty = load_config(None, [*SETTINGS, "decode.time_limit_seconds=0.001"])
    outcome = extract_features(tracks, str(tmp_path / "out"), hasty, RunOptions(limit=2))
    assert outcome.failed_by_code == {"T207_DECODE_TIMEOUT": 2}
    lines = {(record.run_id, record.track_id, record.uri) for record in caplog.records}  # type: ignore[attr-defined]
    uris = dict(tracks.select("track_id", "uri").iter_rows())
    made = newest_index(OutputDirectory(Store.open(str(tmp_path / "out")), "features"))["track_id"]
    assert len(made) == outcome.rows
    assert lines == {(outcome.run_id, track, uris[track]) for track in made}
    assert all("killed: no answer within 0.001 s" in record.getMessage() for record in caplog.records)
