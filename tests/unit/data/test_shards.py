from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from table_makers import TINY, catalogue, commit_part

from mgc.data.outputs import OutputDirectory
from mgc.data.shards import read_feature_set, shard_facts
from mgc.data.storage import Store
from mgc.errors import SchemaError, SplitError


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
