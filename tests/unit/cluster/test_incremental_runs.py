"""Runs that go wrong, over real audio and a real bundle, without Ray: the rows and the messages one hopes for."""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from audio_samples import music
from failing_s3 import FailingS3, failing_s3
from hostile_files import silence_bomb
from in_process import without_ray
from model_makers import bundle_contents
from ray.exceptions import RayError, RayTaskError
from typer.testing import CliRunner

from mgc.audio.decode.sndfile import encode
from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cli.app import build_app
from mgc.cli.tag_command import _confirmed
from mgc.cluster.actor_pool import _own_error
from mgc.cluster.extract import extract_features
from mgc.cluster.predict import tag_catalogue
from mgc.cluster.run import RunOptions, RunOutcome
from mgc.config import CatalogueConfig, DecodeConfig, load_config
from mgc.errors import DecoderStartError, DeletionsError, FailuresError, FingerprintError, StorageError, TrackError
from mgc.logs import log_context
from mgc.models.bundle import load_bundle, write_bundle
from mgc.storage.objects import DiskFullError
from mgc.storage.store import Store, fetch_track
from mgc.tables.predictions import read_predictions
from mgc.tables.run_log import OutputDirectory

CONFIG = load_config(None, ["cluster.tracks_per_chunk=2", "cluster.lease_seconds=5"])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("bundle"))
    write_bundle(place, bundle_contents(2))
    return place


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    without_ray(monkeypatch)
    folder = tmp_path / "music"
    folder.mkdir()
    for seed in range(5):
        (folder / f"song{seed}.flac").write_bytes(encode(music(1.5, 16_000, seed=seed), 16_000, "flac"))
    return folder


def tagged(songs: Path, bundle: str, **options: Any) -> RunOutcome:
    place = str(songs.parent / "catalogue.parquet")
    index_catalogue(str(songs), place, CatalogueConfig())
    return tag_catalogue(read_catalogue(place), bundle, str(songs.parent / "out"), CONFIG, RunOptions(**options))


def codes(out: str) -> dict[str, str | None]:
    rows = read_predictions(out, ["uri", "error_code"])
    return {Path(uri).name: code for uri, code in rows.select("uri", "error_code").iter_rows()}


def test_four_scheduled_runs(songs: Path, bundle: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    first = tagged(songs, bundle)
    assert (first.plan.new, len(first.failed_by_code)) == (5, 0)
    rows = read_predictions(out)
    assert (set(rows["run_id"]), set(rows["sequence"]), rows["deleted_at"].null_count()) == ({first.run_id}, {1}, 5)
    assert tagged(songs, bundle).run_id is None
    (songs / "song0.flac").unlink()
    (songs / "song1.flac").write_bytes(encode(music(1.5, 16_000, seed=9), 16_000, "flac"))
    (songs / "new.flac").write_bytes(encode(music(1.5, 16_000, seed=10), 16_000, "flac"))
    (songs / "broken.mp3").write_bytes(b"no music at all" * 100)
    third = tagged(songs, bundle)
    assert (third.plan.new, third.plan.changed, third.deleted, third.plan.unchanged) == (2, 1, 1, 3)
    assert codes(out) == dict.fromkeys(["new.flac", *(f"song{n}.flac" for n in range(1, 5))]) | {
        "broken.mp3": "T202_NOT_AUDIO"
    }
    other = str(tmp_path / "bundle")
    write_bundle(other, bundle_contents(1))
    assert tagged(songs, other).plan.remade == 6
    assert read_predictions(out)["bundle_fingerprint"].n_unique() == 1


def test_features_that_were_extracted_are_not_decoded_again(
    songs: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, features = str(tmp_path / "catalogue.parquet"), str(tmp_path / "features")
    index_catalogue(str(songs), place, CatalogueConfig())
    catalogue = read_catalogue(place)
    own = CONFIG.model_copy(update={"features": load_bundle(bundle).features})
    extract_features(catalogue.head(4), features, own, RunOptions())
    tag_catalogue(catalogue, bundle, str(tmp_path / "audio"), CONFIG, RunOptions())
    for path in sorted(songs.iterdir()):
        path.unlink()
    outcome = tag_catalogue(catalogue, bundle, str(tmp_path / "shards"), CONFIG, RunOptions(), features)
    assert outcome.failed_by_code == {"T101_NOT_FOUND": 1}, "the track without features, whose audio is gone"
    by_audio, by_shards = (read_predictions(str(tmp_path / name)).sort("track_id") for name in ("audio", "shards"))
    run = ["run_id", "tagged_at"]
    assert by_shards.drop(run).filter(pl.col("error_code").is_null()).equals(by_audio.drop(run).head(4)), "to the bit"


def test_features_of_other_settings_are_refused(songs: Path, bundle: str, tmp_path: Path) -> None:
    place, features = str(tmp_path / "catalogue.parquet"), str(tmp_path / "features")
    index_catalogue(str(songs), place, CatalogueConfig())
    catalogue = read_catalogue(place)
    extract_features(catalogue, features, load_config(None, ["features.n_mels=20"]), RunOptions())
    with pytest.raises(FingerprintError, match="the bundle was trained on"):
        tag_catalogue(catalogue, bundle, str(tmp_path / "out"), CONFIG, RunOptions(), features)
    assert not (tmp_path / "out").exists()


def test_a_bundle_replaced_after_the_run_began_ends_it(songs: Path, tmp_path: Path) -> None:
    place, out = str(tmp_path / "bundle"), str(tmp_path / "out")
    before = write_bundle(place, bundle_contents(2))
    tagged(songs, place)
    rows = read_predictions(out)
    after = write_bundle(place, bundle_contents(1), overwrite=True)
    replaced = {"on_plan": lambda plan, resumed: write_bundle(place, bundle_contents(2), overwrite=True)}
    with pytest.raises(FingerprintError) as error:
        tagged(songs, place, **replaced)
    assert f"it is {before} now, and the run began with {after}" in str(error.value)
    assert "MGC304" in str(error.value)
    assert "start the command again" in str(error.value)
    assert read_predictions(out).equals(rows)
    assert tagged(songs, place).run_id is None, "the answers of the one that is there are current"


@pytest.mark.parametrize("name", ["per%20cent", "back\\slash", "new\nline"])
def test_a_path_that_no_delta_table_can_have_is_refused_before_any_work(
    songs: Path, bundle: str, tmp_path: Path, name: str
) -> None:
    place = str(tmp_path / "catalogue.parquet")
    index_catalogue(str(songs), place, CatalogueConfig())
    with pytest.raises(StorageError, match="cannot be a Delta table"):
        tag_catalogue(read_catalogue(place), bundle, str(tmp_path / name), CONFIG, RunOptions())
    assert not (tmp_path / name).exists()


def test_hours_of_silence_are_one_row_with_a_code_of_its_own(songs: Path, bundle: str, tmp_path: Path) -> None:
    (songs / "silence.flac").write_bytes(silence_bomb(9))
    tagged(songs, bundle)
    row = read_predictions(str(tmp_path / "out")).filter(pl.col("uri").str.ends_with("silence.flac"))
    assert row.select("windows", "genre", "error_code").rows() == [(0, None, "T212_SILENT")]


def test_a_job_that_nobody_watches_marks_no_half_of_a_catalogue_and_ends_with_an_error(
    songs: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagged(songs, bundle)
    for number in (1, 2, 3):
        (songs / f"song{number}.flac").unlink()
    catalogue, out = str(tmp_path / "catalogue.parquet"), str(tmp_path / "out")
    index_catalogue(str(songs), catalogue, CatalogueConfig())
    command = ["tag", catalogue, "-b", bundle, "-o", out]
    refused = CliRunner().invoke(build_app("tag"), command)
    assert isinstance(refused.exception, DeletionsError)
    assert "3 of 5 tracks are missing" in str(refused.exception)
    assert read_predictions(out).height == 5
    said = CliRunner().invoke(build_app("tag"), [*command, "--accept-deletions"])
    assert said.exit_code == 0, said.output
    assert "marked deleted" in said.output
    assert read_predictions(out).height == 2


def test_a_terminal_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr("typer.confirm", yes)
    assert not _confirmed(3, 5)
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(sys, stream, SimpleNamespace(isatty=lambda: True))
    assert _confirmed(3, 5)
    assert asked == ["3 of 5 tracks are missing from the catalogue. Mark them deleted?"]


@contextmanager
def files_at_most(n_bytes: int) -> Iterator[None]:
    """Let no file grow longer: what a full disk or a quota does, to this process alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_nothing_is_half_written_and_the_next_run_goes_on(
    songs: Path, bundle: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tagged(songs, bundle, limit=2)
    before = read_predictions(str(out))
    (songs / "song5.flac").write_bytes(encode(music(1.5, 16_000, seed=5), 16_000, "flac"))
    plan_fits = 12_000  # bytes: the plan and the small objects do, a part of predictions does not
    with files_at_most(plan_fits), pytest.raises(DiskFullError, match="no room to write") as caught:
        tagged(songs, bundle)
    assert "what was finished is resumed" in str(caught.value)
    assert read_predictions(str(out)).equals(before)
    assert not list(out.rglob(".mgc-tmp-*"))
    assert tagged(songs, bundle).plan.new == 4
    assert read_predictions(str(out)).height == 6


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_and_no_quota_are_one(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="no room to write"):
        Store.open(str(tmp_path)).write_atomic("part", b"data")
    assert list(tmp_path.iterdir()) == []


def test_an_actors_own_error_is_found_in_rays_wrappings() -> None:
    full = DiskFullError("no room to write 'part'", "free some space")
    task = RayTaskError("process", "traceback", full)
    outer = RayError("the job failed")
    outer.__cause__ = task
    assert [_own_error(each) for each in (task, task.as_instanceof_cause(), outer)] == [full, full, full]
    assert _own_error(RayError("the node is gone")) is None


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingS3]:
    with failing_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        # botocore waits up to 1, 2, 4 … s, by chance shorter.
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
        yield server


def test_a_run_outlives_an_s3_that_answers_503_for_a_while(
    songs: Path, bundle: str, s3: FailingS3, caplog: pytest.LogCaptureFixture
) -> None:
    for path in songs.iterdir():
        s3.objects[f"music/{path.name}"] = path.read_bytes()
    catalogue = str(songs.parent / "catalogue.parquet")
    index_catalogue("s3://music", catalogue, CatalogueConfig())
    tracks = read_catalogue(catalogue)

    def refuse_a_few(_: object) -> None:
        s3.refuse = 5

    tag_catalogue(tracks, bundle, "s3://out/tags", CONFIG, RunOptions(on_progress=refuse_a_few))
    assert s3.refused >= 10, "after each of three chunks"
    assert set(codes("s3://out/tags").values()) == {None}
    assert read_predictions("s3://out/tags").height == 5
    rows = {row["track_id"]: row for row in read_predictions("s3://out/tags").iter_rows(named=True)}
    fetches = [record for record in caplog.records if record.track_id]  # type: ignore[attr-defined]
    for record in fetches:
        assert re.fullmatch(r"the fetch was retried \d times?", record.getMessage())
        row = rows[record.track_id]  # type: ignore[attr-defined]
        assert (record.run_id, record.uri) == (row["run_id"], row["uri"])  # type: ignore[attr-defined]


def test_a_store_that_refuses_the_music_ends_the_run_and_costs_no_answer(
    songs: Path, bundle: str, s3: FailingS3, tmp_path: Path
) -> None:
    one_song, out = (songs / "song0.flac").read_bytes(), str(tmp_path / "out")
    s3.objects |= {f"music/song{number:02}.flac": one_song for number in range(24)}
    catalogue = str(tmp_path / "catalogue.parquet")
    index_catalogue("s3://music", catalogue, CatalogueConfig())
    tracks = read_catalogue(catalogue)
    tag_catalogue(tracks, bundle, out, CONFIG, RunOptions())
    before = read_predictions(out)
    assert before["error_code"].null_count() == 24
    new = str(tmp_path / "new")
    fingerprint = write_bundle(new, bundle_contents(1))
    readable = {uri.removeprefix("s3://") for uri in tracks.sort("track_id")["uri"][:4]}
    s3.denied = lambda key: key.startswith("music/") and key not in readable
    with pytest.raises(FailuresError) as error:
        tag_catalogue(tracks, new, out, CONFIG, RunOptions())
    assert "14 of 24 items failed (T102_ACCESS_DENIED 14 times; 's3://music/song" in str(error.value)
    for part in ("MGC306", "cluster.max_failed_fraction=1", "renew the credentials", "the same command resumes it"):
        assert part in str(error.value)
    assert read_predictions(out).equals(before), "nothing was committed, and current is as it was"
    assert len(list((tmp_path / "out" / "commits").iterdir())) == 1
    with pytest.raises(FailuresError, match="14 of 24 items failed"):
        tag_catalogue(tracks, new, out, CONFIG, RunOptions())
    s3.denied = lambda key: key == "music/song07.flac"
    after = tag_catalogue(tracks, new, out, CONFIG, RunOptions())
    assert (after.resumed, after.rows, after.failed_by_code) == (4, 20, {"T102_ACCESS_DENIED": 1})
    rows = read_predictions(out)
    (stale,) = rows.filter(pl.col("stale_reason").is_not_null()).to_dicts()
    assert (stale["uri"], stale["stale_reason"]) == ("s3://music/song07.flac", "T102_ACCESS_DENIED")
    kept = before.filter(track_id=stale["track_id"]).to_dicts()[0]
    assert stale | {"stale_since": None, "stale_reason": None} == kept, "the old bundle's answer stays"
    assert rows.height == rows["genre"].len() - rows["genre"].null_count() == 24
    assert rows.filter(bundle_fingerprint=fingerprint).height == 23
    s3.denied = lambda key: key.startswith("music/")
    anyhow = CONFIG.model_copy(update={"cluster": CONFIG.cluster.model_copy(update={"max_failed_fraction": 1.0})})
    forced = tag_catalogue(tracks, new, out, anyhow, RunOptions(force=True))
    assert forced.failed_by_code == {"T102_ACCESS_DENIED": 24}
    assert read_predictions(out).drop("stale_since", "stale_reason").equals(rows.drop("stale_since", "stale_reason"))


def test_a_retried_fetch_is_one_line(s3: FailingS3, caplog: pytest.LogCaptureFixture) -> None:
    s3.objects["music/a.flac"] = b"some bytes"
    s3.refuse = 3
    with log_context(run_id="run", track_id="track"):
        assert fetch_track("s3://music/a.flac", DecodeConfig()) == b"some bytes"
        fetch_track("s3://music/a.flac", DecodeConfig())
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "the fetch was retried 3 times")
    assert (record.run_id, record.track_id, record.uri) == (  # type: ignore[attr-defined]
        "run",
        "track",
        "s3://music/a.flac",
    )


def test_a_fetch_that_fails_for_good_is_one_line_too(s3: FailingS3, caplog: pytest.LogCaptureFixture) -> None:
    s3.refuse = 10**9
    with pytest.raises(TrackError, match="reduce your request rate"):
        fetch_track("s3://music/a.flac", DecodeConfig())
    (record,) = caplog.records
    assert record.getMessage() == "the fetch was retried 7 times"


def test_an_s3_that_does_not_recover_is_named_and_the_next_run_tries_again(
    songs: Path, bundle: str, s3: FailingS3, tmp_path: Path
) -> None:
    for path in songs.iterdir():
        s3.objects[f"music/{path.name}"] = path.read_bytes()
    catalogue, out = str(songs.parent / "catalogue.parquet"), str(tmp_path / "out")
    index_catalogue("s3://music", catalogue, CatalogueConfig())
    s3.refuse = 10**9
    with pytest.raises(StorageError, match="reduce your request rate"):
        Store.open("s3://music").read_bytes("song0.flac")
    tracks = read_catalogue(catalogue)
    assert tag_catalogue(tracks, bundle, out, CONFIG, RunOptions()).failed_by_code == {"T103_FETCH_FAILED": 5}
    s3.refuse = 0
    assert tag_catalogue(tracks, bundle, out, CONFIG, RunOptions()).plan.retried == 5
    assert set(codes(out).values()) == {None}


def test_decoders_that_do_not_start_end_the_run_and_condemn_no_track(
    songs: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_catalogue(str(songs), str(tmp_path / "catalogue.parquet"), CatalogueConfig())
    tracks = read_catalogue(str(tmp_path / "catalogue.parquet"))
    out = str(tmp_path / "predictions")
    python = sys.executable
    with monkeypatch.context() as patch:
        patch.setattr("mgc.audio.sandbox.supervisor.sys.executable", "/bin/false")
        with pytest.raises(DecoderStartError, match="exit status 1"):
            tag_catalogue(tracks, bundle, out, CONFIG, RunOptions())
    assert sys.executable == python
    assert OutputDirectory(Store.open(out), "predictions").commits() == []
    outcome = tag_catalogue(tracks, bundle, out, CONFIG, RunOptions())
    assert outcome.failed_by_code == {}
    assert read_predictions(out)["error_code"].to_list() == [None] * 5


@pytest.mark.parametrize("command", ["tag", "compare", "inspect"])
def test_a_decoder_that_does_not_start_is_the_commands_error(
    command: str, songs: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgc.audio.sandbox.supervisor.sys.executable", "/bin/false")
    song = str(songs / "song0.flac")
    arguments = {
        "tag": ["tag", song, "-b", bundle],
        "compare": ["compare", bundle, bundle, song],
        "inspect": ["inspect", song, "-b", bundle, "-o", str(tmp_path / "page.html")],
    }
    done = CliRunner().invoke(build_app(command), arguments[command])
    assert isinstance(done.exception, DecoderStartError), done.output
    assert not (tmp_path / "page.html").exists()
