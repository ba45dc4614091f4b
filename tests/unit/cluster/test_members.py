"""Members of an ensemble: what their workers read is what the driver decided by."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from table_makers import catalogue, commit_part

from mgc.cluster.members import data_fingerprint, require_same_data
from mgc.config import fingerprint_of, fingerprint_of_rows
from mgc.errors import FingerprintError
from mgc.storage.store import Store
from mgc.tables.compact import plan_prune, prune
from mgc.tables.run_log import OutputDirectory

CONTENTS = {"a": "1", "b": "1", "c": "1"}


@pytest.fixture
def shards(tmp_path: Path) -> OutputDirectory:
    output = OutputDirectory(Store.open(str(tmp_path)), "features")
    commit_part(output, CONTENTS)
    return output


@pytest.mark.parametrize("rows", [0, 1, 10_000, 10_001, 25_000])
def test_rows_in_batches_have_the_fingerprint_of_all_rows(rows: int) -> None:
    columns = {"n": range(rows), "text": ["ä"] * rows, "tags": [["a", "b"]] * rows, "known": [True] * rows}
    types = {"n": pl.Int64, "text": pl.String, "tags": pl.List(pl.String), "known": pl.Boolean}
    table = pl.DataFrame(columns, schema=types).with_columns(nothing=pl.lit(None, pl.String))
    assert fingerprint_of_rows(table) == fingerprint_of(table.rows())


def test_data_that_changed_are_refused_with_both_fingerprints(shards: OutputDirectory) -> None:
    uri, tracks = shards.store.uri(), catalogue(CONTENTS)
    began = data_fingerprint(uri, tracks)
    require_same_data(uri, tracks, began)
    require_same_data(uri, tracks.reverse(), began)
    for changed in (
        tracks.with_columns(genre=pl.lit("rock")),
        tracks.with_columns(split=pl.lit("valid")),
        tracks.head(2),
        tracks.with_columns(content_id=pl.lit("2")),
    ):
        found = data_fingerprint(uri, changed)
        with pytest.raises(FingerprintError, match=rf"they are {found} now, and it began with {began}.*MGC304"):
            require_same_data(uri, changed, began)


def test_features_that_were_extracted_anew_are_other_ones_and_compacted_ones_are_not(shards: OutputDirectory) -> None:
    uri, tracks = shards.store.uri(), catalogue(CONTENTS)
    began = data_fingerprint(uri, tracks)
    commit_part(shards, {"of another catalogue": "1"})
    require_same_data(uri, tracks, began)
    commit_part(shards, {"b": "1"})
    with pytest.raises(FingerprintError):
        require_same_data(uri, tracks, began)
    began = data_fingerprint(uri, tracks)
    prune(shards, plan_prune(shards, keep_days=-1.0))
    require_same_data(uri, tracks, began)
