"""Data as they come: a class with one track, a split that lacks one, no tag, one, two thousand; damaged shards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from model_makers import FEATURES, MODEL, TAXONOMY, TRAINING, bundle_contents, feature_set, small_model
from table_makers import catalogue, commit_table, feature_part

from mgc.cli.evaluate_command import answers_from_shards, both_splits
from mgc.config import Config, EvaluationConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import FingerprintError, MgcError, SchemaError
from mgc.evaluation.answers import LabelledPredictions, genre_indices, tag_vectors
from mgc.evaluation.evaluate import evaluate
from mgc.inference.predictor import Predictor
from mgc.models.bundle import Bundle, load_bundle, write_bundle
from mgc.reports.evaluation_report import ReportContext, evaluation_page
from mgc.storage.store import Store
from mgc.tables.feature_cache import clear_feature_cache
from mgc.tables.feature_shards import FeatureSet, read_feature_set
from mgc.tables.run_log import OutputDirectory
from mgc.training.assemble import assemble
from mgc.training.batches import Shard, TrainingWindows
from mgc.training.loop import fit

QUICK = TRAINING.model_copy(update={"epochs": 2, "members": 1})
FEW_SAMPLES = EvaluationConfig(bootstrap_samples=10)


def trained(train: FeatureSet, valid: FeatureSet | None, taxonomy: Taxonomy, place: Path) -> Bundle:
    """Fit, calibrate, write and read a bundle of one member."""
    weights = fit(small_model(taxonomy), train, valid, taxonomy, QUICK, seed=0).best_weights
    config = Config(model=MODEL, training=QUICK, features=FEATURES)
    write_bundle(str(place), assemble([weights], valid, taxonomy, config, FEATURES, {}))
    return load_bundle(str(place))


def answered(bundle: Bundle, tracks: FeatureSet) -> LabelledPredictions:
    predictions = Predictor(bundle).predict(tracks.log_mels)
    genres, tags = bundle.taxonomy.genres, bundle.taxonomy.tags
    return LabelledPredictions(
        track_ids=tracks.track_ids,
        groups=tracks.groups,
        genres=genres,
        tags=tags,
        genre_true=genre_indices(tracks.genres, genres),
        genre_probabilities=np.stack([one.genre_probabilities for one in predictions]).astype(np.float64),
        tag_true=tag_vectors(tracks.tags, tags),
        tags_known=np.array(tracks.tags_known, dtype=bool),
        tag_probabilities=np.stack([one.tag_probabilities for one in predictions]).astype(np.float64),
    )


def with_genres(features: FeatureSet, *genres: str) -> FeatureSet:
    """Return the tracks with the first ones' genres replaced."""
    return replace(features, genres=[*genres, *features.genres[len(genres) :]])


def test_a_class_with_one_track_is_learnt_and_predicted(tmp_path: Path) -> None:
    taxonomy = Taxonomy(("high", "lone", "low"), TAXONOMY.tags)
    train, valid = with_genres(feature_set(20, seed=1), "lone"), feature_set(12, seed=2)
    bundle = trained(train, valid, taxonomy, tmp_path)
    evaluation = evaluate(answered(bundle, with_genres(valid, "lone")), FEW_SAMPLES)
    assert evaluation.genre is not None
    assert evaluation.genre.tracks == 12
    assert "lone" in evaluation_page(evaluation, ReportContext("c", "b", "f", "g"))


@pytest.mark.parametrize("sampling", ["oversample", "undersample"])
def test_a_class_with_one_track_is_sampled(sampling: str) -> None:
    taxonomy = Taxonomy(("high", "lone", "low"), TAXONOMY.tags)
    config = QUICK.model_copy(update={"sampling": sampling, "overlay_probability": 1.0, "mixup_alpha": 0.5})
    train = with_genres(feature_set(12, seed=1), "lone")
    result = fit(small_model(taxonomy), train, feature_set(6, seed=2), taxonomy, config, seed=0)
    assert all(np.isfinite(report.train_loss) for report in result.reports)


def test_a_class_that_valid_lacks_is_calibrated_and_judged_by_the_others(tmp_path: Path) -> None:
    valid = with_genres(feature_set(12, seed=2), *["high"] * 12)
    bundle = trained(feature_set(20, seed=1), valid, TAXONOMY, tmp_path)
    assert bundle.metrics["ensemble"]["genre_accuracy"] is not None
    evaluation = evaluate(answered(bundle, valid), FEW_SAMPLES)
    assert evaluation.genre is not None
    assert evaluation.genre.tracks == 12


def test_a_class_that_train_lacks_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    valid = with_genres(feature_set(12, seed=2), "waltz", "waltz")
    bundle = trained(feature_set(20, seed=1), valid, TAXONOMY, tmp_path)
    assert "genre(s) not in split 'train' are left out: waltz" in caplog.text
    assert bundle.taxonomy.genres == ("high", "low")


@pytest.mark.parametrize("count", [0, 1, 2_000])
def test_no_tag_one_and_two_thousand_go_the_whole_way(tmp_path: Path, count: int) -> None:
    taxonomy = Taxonomy(TAXONOMY.genres, tuple(f"kind{number % 3}:tag{number:04d}" for number in range(count)))

    def tagged(tracks: int, seed: int) -> FeatureSet:
        rng = np.random.default_rng(seed)
        has = rng.random((tracks, count)) < 0.3
        return replace(
            feature_set(tracks, seed),
            tags=[[name for name, there in zip(taxonomy.tags, row, strict=True) if there] for row in has],
        )

    valid = tagged(12, 2)
    bundle = trained(tagged(20, 1), valid, taxonomy, tmp_path)
    assert len(bundle.decision.tag_thresholds) == count
    (first, *_) = Predictor(bundle).predict(valid.log_mels)
    assert first.tag_probabilities.shape == (count,)
    assert set(first.tags) <= set(taxonomy.tags)
    if count == 2_000:  # its evaluation takes seconds: scikit-learn is called for every tag
        return
    evaluation = evaluate(answered(bundle, valid), FEW_SAMPLES)
    assert (evaluation.tag is None) == (count == 0)
    page = evaluation_page(evaluation, ReportContext("c", "b", "f", "g"))
    assert ("kind0" in page) == (count > 0)


def shards_with(folder: Path, damage: str) -> pl.DataFrame:
    """Write shards of four tracks, the last one damaged; return their catalogue."""
    part = feature_part(dict.fromkeys("abcd", "1"), FEATURES)
    column = part.schema.get_field_index("log_mel")
    values = part["log_mel"].to_pylist()
    held = np.frombuffer(values[-1], "<f2").copy()
    if damage == "nan":
        held[7] = np.nan
    values[-1] = (held[:-3] if damage == "cut" else held).tobytes()
    part = part.set_column(column, part.schema.field(column), pa.array(values, part.schema.field(column).type))
    commit_table(OutputDirectory(Store.open(str(folder)), "features"), part, FEATURES.fingerprint())
    tracks = catalogue(dict.fromkeys("abcd", "1"))
    return tracks.with_columns(genre=pl.Series(["high", "low"] * 2), split=pl.Series(["train", "valid"] * 2))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    write_bundle(str(tmp_path / "bundle"), bundle_contents())
    return load_bundle(str(tmp_path / "bundle"))


def test_not_a_number_in_a_shard_names_its_track(tmp_path: Path, bundle: Bundle) -> None:
    tracks = shards_with(tmp_path / "features", "nan")
    named = r"track 'd' has features that are not finite.*\n.*extract it anew"
    with pytest.raises(SchemaError, match=named):
        answers_from_shards(bundle, str(tmp_path / "features"), tracks, "valid")
    with pytest.raises(SchemaError, match=named):
        both_splits(str(tmp_path / "features"), tracks, "valid")


def test_features_cut_short_name_their_track(tmp_path: Path) -> None:
    tracks = shards_with(tmp_path, "cut")
    with pytest.raises(SchemaError, match=r"features of track 'd' hold \d+ values, which are no \(1, 24, 16\)"):
        read_feature_set(str(tmp_path), tracks, "valid")


@pytest.mark.parametrize("how", ["byte", "end", "empty"])
def test_a_damaged_part_is_named(tmp_path: Path, how: str) -> None:
    tracks = shards_with(tmp_path, "none")
    (part,) = [path for path in tmp_path.rglob("*.parquet") if "index" not in path.name]
    data = bytearray(part.read_bytes())
    if how == "byte":
        data[-8:-4] = b"\xff\xff\xff\x7f"  # the footer's length
    part.write_bytes({"byte": bytes(data), "end": bytes(data[:-9]), "empty": b""}[how])
    with pytest.raises(MgcError, match=part.name) as caught:
        read_feature_set(str(tmp_path), tracks, "train")
    assert caught.value.remedy


def test_shards_of_another_fingerprint_are_refused_by_both_names(tmp_path: Path, bundle: Bundle) -> None:
    tracks = shards_with(tmp_path / "features", "none")
    other = replace(bundle, features=FEATURES.model_copy(update={"top_db": 60.0}))
    with pytest.raises(FingerprintError, match=f"{FEATURES.fingerprint()}.*{other.features.fingerprint()}"):
        answers_from_shards(other, str(tmp_path / "features"), tracks, "valid")


def noise_shards(folder: Path, windows: dict[str, int]) -> pl.DataFrame:
    """Write shards of tracks of noise with so many windows each, one part; return their catalogue."""
    rng = np.random.default_rng(0)
    part = feature_part(dict.fromkeys(windows, "1"), FEATURES)
    log_mels = [
        rng.uniform(-80, 0, (count, FEATURES.n_frames, FEATURES.n_mels)).astype("<f2") for count in windows.values()
    ]
    changes = {"n_windows": list(windows.values()), "log_mel": [one.tobytes() for one in log_mels]}
    for name, values in changes.items():
        place = part.schema.get_field_index(name)
        part = part.set_column(place, part.schema.field(place), pa.array(values, part.schema.field(place).type))
    commit_table(OutputDirectory(Store.open(str(folder)), "features"), part, FEATURES.fingerprint())
    tracks = catalogue(dict.fromkeys(windows, "1"))
    return tracks.with_columns(genre=pl.Series([("high", "low")[row % 2] for row in range(tracks.height)]))


def weights_of(train: FeatureSet, on_epoch: Callable[[], object] = lambda: None) -> dict[str, torch.Tensor]:
    taxonomy = Taxonomy(TAXONOMY.genres, ("drums",))
    result = fit(small_model(taxonomy), train, None, taxonomy, QUICK, seed=0, on_epoch=lambda *_: on_epoch())
    return result.best_weights


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_one_track_and_one_window_are_learnt_from_shards(tmp_path: Path) -> None:
    tracks = noise_shards(tmp_path, {"a": 1})
    assert all(
        tensor.isfinite().all() for tensor in weights_of(read_feature_set(str(tmp_path), tracks, "train")).values()
    )


def test_ten_windows_a_track_beside_one_and_more_workers_than_parts(tmp_path: Path) -> None:
    windows = {"a": 10, "b": 1, "c": 3, "d": 1}
    train = read_feature_set(str(tmp_path), noise_shards(tmp_path, windows), "train")
    assert [len(log_mel) for log_mel in train.log_mels] == list(windows.values())
    taxonomy = Taxonomy(TAXONOMY.genres, ("drums",))
    plain = QUICK.model_copy(
        update={"crop_seconds": None, "gain_db": 0.0, "mask_frames": 0, "mask_frequency_bins": 0}
    )
    wanted = sorted(float(window.astype(np.float32).sum()) for log_mel in train.log_mels for window in log_mel)
    for world_size in (1, 3, 5):
        parts = [
            list(TrainingWindows(train, taxonomy, plain).epoch(1, 0, Shard(rank, world_size)))
            for rank in range(world_size)
        ]
        sums = [float(row.sum()) for part in parts for batch in part for row in batch.log_mel]
        np.testing.assert_allclose(sorted(sums), wanted, rtol=1e-5)


def test_shards_that_go_and_a_split_that_changes_in_mid_training_change_nothing(tmp_path: Path) -> None:
    place = tmp_path / "features"
    tracks = noise_shards(place, dict.fromkeys("abcdefgh", 2))
    whole = weights_of(read_feature_set(str(place), tracks, "train"))

    def meanwhile() -> None:
        clear_feature_cache(str(place))
        shutil.rmtree(place, ignore_errors=True)
        noise_shards(place, dict.fromkeys("abc", 1))

    assert equal(weights_of(read_feature_set(str(place), tracks, "train"), meanwhile), whole)
