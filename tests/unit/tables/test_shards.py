from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from table_makers import TINY, catalogue, commit_items, commit_part

from mgc.config import AugmentConfig
from mgc.errors import SchemaError, SplitError
from mgc.storage.store import Store
from mgc.tables.feature_shards import read_feature_set, require_views, shard_facts
from mgc.tables.run_log import OutputDirectory
from mgc.tables.work_items import plan_items


def features_at(path: Path) -> OutputDirectory:
    return OutputDirectory(Store.open(str(path)), "features")


def test_features_come_back_with_the_catalogues_labels(tmp_path: Path) -> None:
    commit_part(features_at(tmp_path), {"b": "1", "a": "1"})
    tracks = pl.concat([catalogue({"a": "1"}, genre="rock"), catalogue({"b": "1"}, genre="jazz")])
    found = read_feature_set(str(tmp_path), tracks, "train")
    assert found.track_ids == ["a", "b"]
    assert found.genres == ["rock", "jazz"]
    assert found.tags == [["drums"], ["drums"]]
    assert found.features == TINY
    assert found.log_mels[0].shape == (1, TINY.n_frames, TINY.n_mels)
    assert np.all(found.log_mels[0] == -1)
    assert np.all(found.log_mels[1] == 0)


def test_a_row_of_other_content_is_left_out(tmp_path: Path) -> None:
    commit_part(features_at(tmp_path), {"a": "1", "b": "1"})
    found = read_feature_set(str(tmp_path), catalogue({"a": "changed", "b": "1"}), "train")
    assert found.track_ids == ["b"]


def test_only_the_newest_fingerprint_counts(tmp_path: Path) -> None:
    output = features_at(tmp_path)
    commit_part(output, {"a": "1", "b": "1"})
    other = TINY.model_copy(update={"n_mels": 10})
    commit_part(output, {"a": "1"}, other)
    assert shard_facts(str(tmp_path)).features == other
    assert read_feature_set(str(tmp_path), catalogue({"a": "1", "b": "1"}), "train").track_ids == ["a"]


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    commit_part(features_at(tmp_path), {"a": "1"})
    with pytest.raises(SplitError, match="no track of split 'valid'"):
        read_feature_set(str(tmp_path), catalogue({"a": "1"}), "valid")


def test_no_shards_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no finished feature shards"):
        shard_facts(str(tmp_path / "nothing"))


VIEWS = AugmentConfig(views=("tempo", "overlay"))


def tagged() -> pl.DataFrame:
    tracks = catalogue({"a": "1", "b": "1", "c": "1"})
    return tracks.with_columns(
        tags=pl.Series([["drums"], ["piano"], []], dtype=pl.List(pl.String)),
        tags_known=pl.Series([True, True, False]),
    )


def test_training_reads_the_wanted_views_and_evaluation_the_clean_ones(tmp_path: Path) -> None:
    tracks = tagged()
    commit_items(features_at(tmp_path), plan_items(tracks, AugmentConfig(views=("tempo", "overlay", "gain"))))
    clean = read_feature_set(str(tmp_path), tracks, "train")
    assert (clean.track_ids, clean.views) == (["a", "b", "c"], ["clean"] * 3)
    found = read_feature_set(str(tmp_path), tracks, "train", VIEWS)
    assert found.track_ids == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert found.views == ["clean", "overlay", "tempo"] * 3
    assert len({float(log_mel[0, 0, 0]) for log_mel in found.log_mels}) == 9


def test_an_overlay_has_the_tags_of_both_where_both_are_known(tmp_path: Path) -> None:
    tracks = tagged()
    items = plan_items(tracks, VIEWS)
    commit_items(features_at(tmp_path), items)
    found = read_feature_set(str(tmp_path), tracks, "train", VIEWS)
    tags = dict(tracks.select("track_id", "tags").rows())
    partners = {row[0]: row[1] for row in items.filter(view="overlay").select("track_id", "partner_id").rows()}
    for row, (track_id, view) in enumerate(zip(found.track_ids, found.views, strict=True)):
        both = (track_id, partners[track_id]) if view == "overlay" else (track_id,)
        assert found.tags[row] == sorted({tag for one in both for tag in tags[one]})
        assert found.tags_known[row] == ("c" not in both)


def test_views_drawn_otherwise_are_not_trained_on(tmp_path: Path) -> None:
    tracks = tagged()
    commit_items(features_at(tmp_path), plan_items(tracks, VIEWS))
    require_views(str(tmp_path), tracks, VIEWS)
    other = VIEWS.model_copy(update={"tempo_ratio": (0.9, 1.0)})
    with pytest.raises(SchemaError, match=r"wants tempo, but .* has none made with these settings"):
        require_views(str(tmp_path), tracks, other)
    assert read_feature_set(str(tmp_path), tracks, "train", other).views == ["clean", "overlay"] * 3
