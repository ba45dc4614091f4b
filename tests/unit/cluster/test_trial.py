"""A trial's course: what is reported of it over epochs and folds; and the tracks that it is judged on."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from model_makers import FEATURES, MODEL, TAXONOMY, TRAINING, feature_set
from ray import tune
from table_makers import catalogue, commit_table, feature_part

from mgc.cluster.members import data_fingerprint
from mgc.cluster.trial import TrialProgress, TrialSetup, folds_of, run_trial, worst
from mgc.config import Config, SearchConfig
from mgc.storage.store import Store
from mgc.tables.run_log import OutputDirectory


def epoch(number: int, loss: float | None, accuracy: float | None = 0.5, kept: bool = True) -> dict[str, Any]:
    figures = {"valid_accuracy": accuracy, "valid_tag_macro_average_precision": None, "kept": kept}
    return {"epoch": number, "valid_loss": loss, **figures}


def test_the_score_is_that_of_the_weights_that_would_be_kept() -> None:
    progress = TrialProgress()
    for number, (loss, accuracy) in enumerate([(2.0, 0.3), (1.0, 0.6), (1.5, 0.9)], start=1):
        progress = progress.with_epoch(epoch(number, loss, accuracy, kept=number < 3))
    by_loss, by_accuracy = progress.tune_metrics("loss", 10), progress.tune_metrics("accuracy", 10)
    assert (by_loss["score"], by_accuracy["score"]) == (1.0, 0.6), (
        "not the best accuracy, but that of the lowest loss"
    )
    assert (by_loss["progress"], by_loss["epochs"], by_loss["kept_epoch"]) == (3, 3, 2)
    assert progress.tune_metrics("tags", 10)["score"] == -math.inf == worst("tags")


def test_folds_are_averaged_and_progress_jumps_to_the_next() -> None:
    first = TrialProgress().with_epoch(epoch(1, 1.0)).with_epoch(epoch(2, 3.0, kept=False)).with_fold_finished()
    reported = first.with_epoch(epoch(1, 2.0, None)).tune_metrics("loss", 10)
    assert reported["score"] == reported["valid_loss"] == 1.5
    assert reported["valid_accuracy"] == 0.5, "the mean of what is known"
    assert (reported["folds"], reported["progress"], reported["epochs"]) == (2, 11, 3)


def test_without_a_loss_a_trial_is_last() -> None:
    reported = TrialProgress().with_epoch(epoch(1, None)).tune_metrics("loss", 10)
    assert reported["score"] == math.inf


@pytest.mark.parametrize("folds", [0, 3])
def test_folds_are_of_train_alone_with_groups_apart(folds: int) -> None:
    train = catalogue({f"t{number:02d}": "1" for number in range(24)})
    train = train.with_columns(group=pl.col("track_id").str.slice(1).cast(pl.Int64).floordiv(2).cast(pl.String))
    tracks = pl.concat([train, catalogue({"v": "1"}, split="valid")])
    found = folds_of(tracks, Config(search=SearchConfig(folds=folds)))
    assert len(found) == max(1, folds)
    if not folds:
        assert found[0].equals(tracks)
        return
    held_out: list[str] = []
    for fold in found:
        sides = [set(fold.filter(pl.col("split") == name)["group"]) for name in ("train", "valid")]
        assert not sides[0] & sides[1]
        held_out += fold.filter(pl.col("split") == "valid")["track_id"].to_list()
    assert sorted(held_out) == sorted(train["track_id"]), "each track of train is held out once, none of valid"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialSetup:
    """Sixteen tracks of two windows in shards, and three trials: as it is, another rate, a rate that explodes."""
    tracks = feature_set(16, seed=1)
    part = feature_part(dict.fromkeys(tracks.track_ids, "1"), FEATURES)
    for name, values in {
        "log_mel": [log_mel.tobytes() for log_mel in tracks.log_mels],
        "n_windows": [len(log_mel) for log_mel in tracks.log_mels],
    }.items():
        column = part.schema.get_field_index(name)
        part = part.set_column(column, part.schema.field(column), pa.array(values, part.schema.field(column).type))
    commit_table(OutputDirectory(Store.open(str(tmp_path / "f")), "features"), part, FEATURES.fingerprint())
    listed = catalogue(dict.fromkeys(tracks.track_ids, "1"))
    genres = pl.Series("genre", tracks.genres)
    listed = listed.with_columns(genre=genres, tags=pl.Series(tracks.tags))
    monkeypatch.setattr("mgc.cluster.trial.read_catalogue", lambda uri: listed)
    training = TRAINING.model_copy(update={"epochs": 3, "patience": 3})
    config = Config(model=MODEL, training=training, features=FEATURES, search=SearchConfig(folds=2))
    trials = ({}, {"training.learning_rate": 0.02}, {"training.learning_rate": 1e30})
    data = data_fingerprint(str(tmp_path / "f"), listed)
    return TrialSetup("", str(tmp_path / "f"), config, trials, TAXONOMY, 1, 0.0, data)


class Tune:
    """Stands for Ray Tune: keeps what a trial reports, and may hand it one of its checkpoints back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, start: dict[str, bytes] | None = None) -> None:
        self.reported: list[dict[str, Any]] = []
        self.saved: list[dict[str, bytes]] = []
        self._start = start
        monkeypatch.setattr(tune, "report", self.report)
        monkeypatch.setattr(tune, "get_checkpoint", self.get_checkpoint)

    def report(self, reported: dict[str, Any], checkpoint: tune.Checkpoint | None = None) -> None:
        self.reported.append(reported)
        if checkpoint:
            self.saved.append({path.name: path.read_bytes() for path in Path(checkpoint.path).iterdir()})

    def get_checkpoint(self) -> tune.Checkpoint | None:
        if self._start is None:
            return None
        folder = tempfile.mkdtemp()
        for name, data in self._start.items():
            Path(folder, name).write_bytes(data)
        return tune.Checkpoint.from_directory(folder)


def test_a_trial_that_meets_other_data_than_the_search_began_with_fails(
    setup: TrialSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = Tune(monkeypatch)
    run_trial({"number": 0}, replace(setup, data="0" * 16))
    assert [reported["epochs"] for reported in tuned.reported] == [0]
    assert f"they are {setup.data} now, and it began with {'0' * 16}" in tuned.reported[0]["failed"]


@pytest.mark.parametrize("killed_after", [2, 3, 4])
def test_a_trial_goes_on_where_it_was_killed(
    setup: TrialSetup, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    whole = Tune(monkeypatch)
    run_trial({"number": 1}, setup)
    assert [reported["progress"] for reported in whole.reported] == [1, 2, 3, 4, 5, 6]
    assert [reported["folds"] for reported in whole.reported] == [1, 1, 1, 2, 2, 2]
    resumed = Tune(monkeypatch, whole.saved[killed_after - 1])
    run_trial({"number": 1}, setup)
    assert [reported["progress"] for reported in resumed.reported] == list(range(killed_after + 1, 7))
    assert [reported["score"] for reported in resumed.reported] == pytest.approx(
        [reported["score"] for reported in whole.reported[killed_after:]], abs=1e-6
    )


def test_settings_decide_and_a_fault_of_theirs_is_reported(
    setup: TrialSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for number in range(3):
        one = Tune(monkeypatch)
        run_trial({"number": number}, setup)
        seen.append(one.reported[-1])
    assert seen[0]["score"] != seen[1]["score"]
    assert "the training loss became" in seen[2]["failed"]
    assert seen[2]["score"] == math.inf
