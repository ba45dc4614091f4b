"""A URI that names no file is its track's row, in extraction and in tagging; the others are done."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from audio_samples import music
from in_process import without_ray
from model_makers import bundle_contents
from table_makers import catalogue

from mgc.audio.decode.sndfile import encode
from mgc.cluster.extract import ExtractWorker, MelReader
from mgc.cluster.predict import PredictWorker
from mgc.cluster.run import CatalogueJob, RunOptions, run_incrementally
from mgc.config import Config, DecodeConfig
from mgc.errors import Stage, TrackCode, TrackError
from mgc.models.bundle import load_bundle, write_bundle
from mgc.storage.store import Store, fetch_track
from mgc.tables.run_index import newest_index
from mgc.tables.run_log import OutputDirectory
from mgc.tables.slices import Slices
from mgc.tables.work_items import clean_items

BAD = {
    "http": ("http://example.org/a.mp3", "mgc reads folders, file:// and s3://, not http://"),
    "unknown": ("gopher://x/a.wav", "not gopher://"),
    "empty": ("", "an empty URI names no file"),
    "nul": ("/music/a\0b.wav", "NUL byte"),
    "nul_s3": ("s3://music/a\0b.wav", "NUL byte"),
    "no_bucket": ("s3:///a.wav", "names no bucket"),
    "no_key": ("s3://music", "names no file"),
    "folder": ("s3://music/a/", "names no file"),
    "root": ("/", "names no file"),
    "host": ("file://elsewhere/a.wav", "names another machine"),
    "bracket": ("file://[a/b.wav", "names nothing"),
    "long": ("/" + "a" * 5_000, "too long"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_uri_that_names_no_file_is_an_error_of_its_track(name: str) -> None:
    uri, message = BAD[name]
    with pytest.raises(TrackError, match=message) as caught:
        fetch_track(uri, DecodeConfig())
    assert (caught.value.track_code, caught.value.stage) == (TrackCode.FETCH_FAILED, Stage.FETCH)


def _with_bad(good: Path) -> pl.DataFrame:
    stat = good.stat()
    tracks = catalogue({"good": f"{stat.st_size}-{stat.st_mtime_ns}"} | dict.fromkeys(BAD, "1"))
    uris = {"good": str(good)} | {name: uri for name, (uri, _) in BAD.items()}
    return tracks.with_columns(uri=pl.col("track_id").replace_strict(uris))


@pytest.mark.parametrize("job", ["extract", "tag", "import-mels"])
def test_each_is_its_row_in_a_run(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    write_bundle(str(tmp_path / "bundle"), bundle_contents(1))
    bundle = load_bundle(str(tmp_path / "bundle"))
    config = Config(features=bundle.features)
    good = tmp_path / "good.wav"
    good.write_bytes(encode(music(2.0, 22_050), 22_050, "wav"))
    worker = {
        "extract": lambda: ExtractWorker(config),
        "tag": lambda: PredictWorker(str(tmp_path / "bundle"), bundle.fingerprint, config),
        "import-mels": lambda: ExtractWorker(config, MelReader),
    }[job]
    kind = "predictions" if job == "tag" else "features"
    output = OutputDirectory(Store.open(str(tmp_path / "out")), kind)
    made = CatalogueJob(output, Slices.of(clean_items(_with_bad(good))), bundle.fingerprint, worker, config)
    outcome = run_incrementally(made, RunOptions())
    assert outcome.rows == 1 + len(BAD)
    codes = dict(newest_index(output).select("track_id", "error_code").iter_rows())
    assert codes.pop("good") == ("T210_NOT_MELS" if job == "import-mels" else None)
    assert codes == dict.fromkeys(BAD, "T103_FETCH_FAILED")
