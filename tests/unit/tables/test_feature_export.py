"""From files through an actor's worker into shards, and out again as tables and JSON; no Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audio_samples import music
from table_makers import catalogue, commit_table

from mgc.audio.decode.sndfile import encode
from mgc.audio.extraction import extract
from mgc.audio.features.feature_rows import statistics_names
from mgc.cluster.extract import ExtractWorker
from mgc.config import Config, DecodeConfig, FeatureConfig
from mgc.errors import ConfigError
from mgc.storage.store import Store
from mgc.tables.feature_export import export_segments, export_statistics
from mgc.tables.feature_shards import ROWS_KEY, UNIT_KEY, frames_from, read_feature_set
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.work_items import clean_items

RUN = OutputRun("r", 1, "f")
FEATURES = FeatureConfig(
    sample_rate=8_000, n_fft=256, hop_length=128, n_mels=20, window_seconds=0.5, max_windows=3,
    frames=("mfcc", "chroma"), statistics=("cao2024", "tempo"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of two tracks and a broken one, made as an actor makes them."""
    place = tmp_path_factory.mktemp("export")
    for number, seconds in enumerate((1.5, 0.4)):
        samples = music(seconds, 8_000) * np.float32(0.5 + 0.5 * number)
        (place / f"{number}.wav").write_bytes(encode(samples, 8_000, "wav", subtype="FLOAT"))
    (place / "2.wav").write_text("no audio")
    tracks = tracks_in(place)
    worker = ExtractWorker(Config(features=FEATURES))
    made = worker.process(clean_items(tracks).to_arrow(), RUN)
    commit_table(OutputDirectory(Store.open(str(place / "shards")), "features"), made, FEATURES.fingerprint())
    return place


def tracks_in(place: Path) -> pl.DataFrame:
    rows = []
    for number, genre in enumerate(("rock", "jazz", "rock")):
        path = place / f"{number}.wav"
        info = Store.open(str(place)).stat(path.name)
        rows.append(catalogue({str(number): info.content_id}, genre=genre).with_columns(uri=pl.lit(str(path))))
    return pl.concat(rows)


def test_shards_hold_what_extract_gives(folder: Path) -> None:
    tables = list(shards(folder))
    assert len(tables) == 1
    table = tables[0]
    schema = table.schema
    assert json.loads(schema.field("chroma").metadata[ROWS_KEY])[:2] == ["C", "Cs"]
    assert schema.field("mfcc").metadata[UNIT_KEY] == b"dB"
    assert json.loads(schema.metadata[b"mgc.statistics_names"]) == statistics_names(FEATURES)
    rows = {row["track_id"]: row for row in table.to_pylist()}
    for number in ("0", "1"):
        track = extract((folder / f"{number}.wav").read_bytes(), FEATURES, DecodeConfig())
        for name in FEATURES.frames:
            expected = track.arrays[name].astype("<f2" if name == "log_mel" else "<f4")
            np.testing.assert_array_equal(frames_from(rows[number], name), expected)
        np.testing.assert_array_equal(np.float32(rows[number]["statistics"]), track.arrays["statistics"])
    assert rows["2"]["error_code"] == "T202_NOT_AUDIO"
    assert rows["2"]["mfcc"] is rows["2"]["statistics"] is None


def shards(folder: Path) -> Iterator[pa.Table]:
    for path in (folder / "shards").rglob("*.parquet"):
        table = pq.read_table(path)
        if "log_mel" in table.schema.names:
            yield table


def test_a_model_sees_only_the_log_mel(folder: Path) -> None:
    found = read_feature_set(str(folder / "shards"), tracks_in(folder), "train")
    assert found.features == FEATURES.for_model()
    assert found.feature_fingerprint == FEATURES.for_model().fingerprint() != FEATURES.fingerprint()
    assert [len(log_mel) for log_mel in found.log_mels] == [3, 1]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_table_has_a_row_for_each_track_and_means_and_variances(folder: Path, suffix: str) -> None:
    output = str(folder / f"table.{suffix}")
    written = export_statistics(str(folder / "shards"), tracks_in(folder), output)
    assert (written.tracks, written.without_features) == (2, 1)
    table = (
        pl.read_csv(output, schema_overrides={"track_id": pl.String}) if suffix == "csv" else pl.read_parquet(output)
    )
    assert table["genre"].to_list() == ["rock", "jazz", "rock"]
    assert table["error_code"].to_list() == [None, None, "T202_NOT_AUDIO"]
    mfcc = extract((folder / "0.wav").read_bytes(), FEATURES, DecodeConfig()).arrays["mfcc"]
    assert table["mfcc_3_mean"][0] == pytest.approx(mfcc[..., 2].mean(), rel=1e-4)
    assert table["mfcc_3_variance"][0] == pytest.approx(mfcc[..., 2].var(), rel=1e-4)
    assert table["tempo"][2] is None
    assert table["tempo"][0] > 30


def test_json_has_a_segment_for_each_window(folder: Path) -> None:
    output = folder / "mfcc.json"
    written = export_segments(str(folder / "shards"), tracks_in(folder), str(output), n_mfcc=13)
    assert (written.tracks, written.segments, written.without_features) == (2, 4, 1)
    found = json.loads(output.read_text())
    assert found["mapping"] == ["jazz", "rock"]
    assert found["labels"] == [1, 1, 1, 0]
    assert found["track_ids"] == ["0", "0", "0", "1"]
    assert found["splits"] == ["train"] * 4
    mfcc = extract((folder / "0.wav").read_bytes(), FEATURES, DecodeConfig()).arrays["mfcc"]
    np.testing.assert_allclose(found["mfcc"][:3], mfcc[..., :13], atol=1e-4)


def test_what_was_not_extracted_is_named_with_the_setting(folder: Path, tmp_path: Path) -> None:
    plain = FeatureConfig(sample_rate=8_000, n_fft=256, hop_length=128, n_mels=20, window_seconds=0.5)
    made = ExtractWorker(Config(features=plain)).process(clean_items(tracks_in(folder)).to_arrow(), RUN)
    commit_table(OutputDirectory(Store.open(str(tmp_path)), "features"), made, plain.fingerprint())
    with pytest.raises(ConfigError, match=r"features\.statistics=cao2024"):
        export_statistics(str(tmp_path), tracks_in(folder), "table.csv")
    with pytest.raises(ConfigError, match=r"features\.frames=jain2021"):
        export_segments(str(tmp_path), tracks_in(folder), "mfcc.json")
    with pytest.raises(ConfigError, match=r"neither \.csv nor \.parquet"):
        export_statistics(str(folder / "shards"), tracks_in(folder), "table.xls")
