"""Precomputed mel spectrograms become shards, and what is trained on them knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from in_process import without_ray
from model_makers import FEATURES, bundle_contents
from table_makers import catalogue as small_catalogue

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cluster.extract import extract_features, import_mel_arrays
from mgc.cluster.predict import tag_catalogue
from mgc.cluster.run import RunOptions
from mgc.config import CatalogueConfig, Config, load_config
from mgc.errors import ConfigError, FingerprintError, SchemaError
from mgc.models.bundle import write_bundle
from mgc.storage.store import Store
from mgc.tables.feature_shards import read_feature_set, shard_facts
from mgc.tables.run_index import newest_index
from mgc.tables.run_log import OutputDirectory

ARRAYS = [
    "features.sample_rate=8000",
    "features.n_fft=256",
    "features.hop_length=256",
    "features.n_mels=16",
    "features.window_seconds=0.736",
    "features.max_windows=2",
    "mels.unit_db=0.5",
    "cluster.workers=2",
]


def write_arrays(root: Path, count: int) -> Path:
    for number in range(count):
        folder = root / ("rock" if number % 2 else "jazz")
        folder.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).uniform(-100, -20, (16, 40 + number))
        np.save(folder / f"{number:02d}.npy", values.astype(np.float32))
    return root


def indexed(root: Path, output: Path) -> pl.DataFrame:
    index_catalogue(str(root), str(output), CatalogueConfig(labels_from="folder", files="npy", valid_fraction=0.25))
    return read_catalogue(str(output))


def errors_of(output: Path) -> dict[str, str]:
    index = newest_index(OutputDirectory(Store.open(str(output)), "features"))
    return dict(index.drop_nulls("error_code").select("track_id", "error_code").iter_rows())


@pytest.mark.ray
@pytest.mark.usefixtures("ray_two")
def test_arrays_become_shards_once_and_bad_ones_rows_with_codes(tmp_path: Path) -> None:
    root, out = write_arrays(tmp_path / "mels", 8), tmp_path / "out"
    (root / "rock/cut.npy").write_bytes((root / "rock/01.npy").read_bytes()[:-9])
    np.save(root / "rock/turned.npy", np.zeros((40, 16), np.float32))
    np.save(root / "rock/objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    tracks, config = indexed(root, tmp_path / "c.parquet"), load_config(None, ARRAYS)
    first = import_mel_arrays(tracks, str(out), config, RunOptions())
    names = {Path(uri).stem: track_id for track_id, uri in tracks.select("track_id", "uri").iter_rows()}
    assert errors_of(out) == {
        names["cut"]: "T203_DECODE_FAILED",
        names["turned"]: "T211_MELS_MISFIT",
        names["objects"]: "T210_NOT_MELS",
    }
    assert (first.rows, import_mel_arrays(tracks, str(out), config, RunOptions()).run_id) == (11, None)
    train = read_feature_set(str(out), tracks, "train")
    number = train.track_ids.index(names["06"]) if names["06"] in train.track_ids else 0
    assert train.log_mels[number].shape == (2, 24, 16)
    assert all(log_mel.max() == 0.0 and log_mel.min() >= -40.0 for log_mel in train.log_mels)
    facts = shard_facts(str(out))
    assert facts.features.source == "npy, mels_first, 0.5 dB a unit, reference track_maximum"
    assert facts.fingerprint != config.features.fingerprint()
    other = load_config(None, [*ARRAYS, "mels.unit_db=1.0"])
    assert import_mel_arrays(tracks, str(out), other, RunOptions()).plan.remade == 11


def test_a_bundle_trained_on_arrays_refuses_audio_and_names_both(tmp_path: Path) -> None:
    arrays = FEATURES.model_copy(update={"source": "npy, mels_first, 0.5 dB a unit, reference track_maximum"})
    write_bundle(str(tmp_path / "bundle"), bundle_contents(1, features=arrays))
    with pytest.raises(FingerprintError) as caught:
        tag_catalogue(
            small_catalogue({"a": "1"}), str(tmp_path / "bundle"), str(tmp_path / "out"), Config(), RunOptions()
        )
    message = str(caught.value)
    assert arrays.fingerprint() in message
    assert FEATURES.fingerprint() in message
    assert "npy, mels_first" in message
    assert not (tmp_path / "out").exists()


def test_a_bundle_trained_on_arrays_tags_them_from_their_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    root, shards, bundle = tmp_path / "mels", str(tmp_path / "shards"), str(tmp_path / "bundle")
    (root / "jazz").mkdir(parents=True)
    for number in range(3):
        values = np.random.default_rng(number).uniform(-60, -20, (FEATURES.n_mels, 3 * FEATURES.n_frames))
        np.save(root / f"jazz/{number}.npy", values.astype(np.float32))
    (root / "jazz/2.npy").write_bytes(b"cut")
    tracks, config = indexed(root, tmp_path / "c.parquet"), Config(features=FEATURES)
    import_mel_arrays(tracks, shards, config, RunOptions())
    write_bundle(bundle, bundle_contents(1, features=shard_facts(shards).model_features))
    outcome = tag_catalogue(tracks, bundle, str(tmp_path / "out"), config, RunOptions(), shards)
    assert (outcome.rows, outcome.failed_by_code) == (3, {"T210_NOT_MELS": 1})
    np.save(root / "jazz/3.npy", values)
    more = indexed(root, tmp_path / "c.parquet")
    with pytest.raises(SchemaError, match="1 of 4 tracks have no features"):
        tag_catalogue(more, bundle, str(tmp_path / "out"), config, RunOptions(), shards)


def test_extract_does_not_claim_to_make_arrays(tmp_path: Path) -> None:
    config = load_config(None, ["features.source=npy"])
    with pytest.raises(ConfigError, match="import-mels"):
        extract_features(small_catalogue({"a": "1"}), str(tmp_path / "out"), config, RunOptions())
