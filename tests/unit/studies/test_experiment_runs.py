from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from experiment_makers import TRACKS, small_experiment, write_data

from mgc.cluster.experiment import RunProgress, RunSettings, Step, run_experiment
from mgc.config import AugmentConfig, TrainingConfig
from mgc.errors import ConfigError, SplitError
from mgc.evaluation.baselines import OneVersusRest
from mgc.evaluation.protocols import Fold, SegmentFold
from mgc.storage.store import Store
from mgc.studies.experiment_data import Material, folds_of, read_fold, read_material
from mgc.studies.experiment_settings import DataSettings, SystemSettings, experiment_of
from mgc.studies.runs import ExperimentRun, RunResult, code_fingerprint, finished_runs, plan_runs
from mgc.studies.systems import run_system

HERE = RunSettings(here=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def material(data: dict[str, str]) -> Material:
    return read_material(DataSettings(min_tag_positives=2, **data))


def run_of(material: Material, data: dict[str, str], system: str, protocol: str) -> ExperimentRun:
    runs = plan_runs(experiment_of(small_experiment(data)), material)
    return next(one for one in runs if (one.system.name, one.protocol.name) == (system, protocol))


def test_material_is_what_is_labelled_and_has_features(material: Material) -> None:
    assert (material.catalogue.height, material.labelled, len(material.tracks)) == (TRACKS, TRACKS, TRACKS)
    assert material.taxonomy.genres == ("high", "low")
    assert material.taxonomy.tags == ("buzz", "hum", "still")
    assert material.seconds_a_window == pytest.approx(24 * 256 / 8_000)


def test_windows_are_cut_into_whole_segments(data: dict[str, str], material: Material) -> None:
    # 8,000 / 256 = 31.25 frames a second: 0.3 s are 9 frames, of which a window of 24 holds two.
    cut = read_material(DataSettings(segment_seconds=0.3, **data))
    whole, pieces = material.tracks.log_mels[0], cut.tracks.log_mels[0]
    assert pieces.shape == (4, 9, 16)
    assert np.array_equal(pieces[1], whole[0, 9:18])
    assert np.array_equal(pieces[2], whole[1, :9])
    assert cut.fingerprint != material.fingerprint
    with pytest.raises(ConfigError, match="31 frames, but windows have 24"):
        read_material(DataSettings(segment_seconds=1.0, **data))


def test_data_that_is_not_named_or_not_labelled_is_refused(data: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no data"):
        read_material(DataSettings())
    bare = pl.read_parquet(data["catalogue"])
    place = tmp_path / "catalogue.parquet"
    table = bare.with_columns(genre=pl.lit(None, pl.String), tags_known=pl.lit(False)).to_arrow()
    schema = pq.read_schema(data["catalogue"])
    pq.write_table(table.cast(schema).replace_schema_metadata(schema.metadata), place)
    with pytest.raises(SplitError, match="no labelled track"):
        read_material(DataSettings(catalogue=str(place), features=data["features"]))


def test_sides_hold_the_windows_that_the_protocol_gives_them(material: Material, data: dict[str, str]) -> None:
    segments, artists = experiment_of(small_experiment(data)).protocols
    fold = folds_of(segments, material, 0)[0]
    assert isinstance(fold, SegmentFold)
    sides = read_fold(fold, material, ("clean",), AugmentConfig())
    windows = sum(map(len, sides.train.log_mels)) + sum(map(len, sides.held_out.log_mels))
    assert windows == 2 * TRACKS, "every window on one side"
    assert set(sides.train.track_ids) & set(sides.held_out.track_ids), "and tracks on both"
    apart = folds_of(artists, material, 0)
    assert len(apart) == 2
    assert isinstance(apart[0], Fold)
    assert read_fold(apart[0], material, ("clean",), AugmentConfig()).groups_across == 0


def test_a_networks_run_runs_all_epochs_and_predicts_every_held_out_track(
    material: Material, data: dict[str, str]
) -> None:
    run = run_of(material, data, "net", "artists")
    reported: list[tuple[int, int]] = []
    result = run_system(run, material, lambda done, total: reported.append((done, total)))
    assert reported == [(1, 2), (2, 2)]
    assert [epoch["epoch"] for epoch in result.curves[0]] == [1, 2]
    assert set(result.answers) == {"", "svm"}
    n = len(result.tracks)
    assert n == result.facts["held_out_tracks"] == TRACKS // 2
    assert result.windows == [2] * n
    for answered in result.answers.values():
        assert np.array(answered.genre).shape == (n, 2)
        assert np.allclose(np.sum(answered.genre, axis=1), 1.0, atol=1e-4)
        assert np.array(answered.tags).shape == (n, 3)
        assert all(0 <= right <= 2 for right in answered.windows_right)
    assert result.facts["parameters"] > 500
    assert result.facts["groups_across"] == 0
    again = run_system(run, material)
    assert (again.answers, again.tracks) == (result.answers, result.tracks)
    assert RunResult.from_bytes(result.to_bytes()) == result


def test_an_ensemble_is_another_run_whose_epochs_are_counted_through(
    material: Material, data: dict[str, str]
) -> None:
    run = run_of(material, data, "net", "artists")
    training = run.system.training.model_copy(update={"members": 2})
    both = replace(run, system=run.system.model_copy(update={"training": training, "heads": ()}))
    assert both.system.deciding() != run.system.deciding()
    reported: list[tuple[int, int]] = []
    result = run_system(both, material, lambda done, total: reported.append((done, total)))
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(result.curves) == 2


@pytest.mark.parametrize(
    ("kind", "segment_seconds"),
    # Twelve tracks are too few for the leaves of a tree: its segments are not.
    [*product(("knn", "svm", "random_forest"), (None, 0.3)), ("decision_tree", 0.3)],
)
def test_classical_systems_learn_what_is_plain(
    data: dict[str, str], kind: str, segment_seconds: float | None
) -> None:
    values = small_experiment({**data, "segment_seconds": segment_seconds} if segment_seconds else data)
    values["systems"] = [{"name": "it", "kind": kind, **({"penalty": 10.0} if kind == "svm" else {})}]
    experiment = experiment_of(values)
    material = read_material(experiment.data)
    result = run_system(plan_runs(experiment, material)[-1], material)
    truth = dict(zip(material.tracks.track_ids, material.tracks.genres, strict=True))
    predicted = [material.taxonomy.genres[int(np.argmax(row))] for row in result.answers[""].genre]
    assert predicted == [truth[track] for track in result.tracks]
    assert result.answers[""].windows_right == result.windows
    buzz = material.taxonomy.tags.index("buzz")
    tags = dict(zip(material.tracks.track_ids, material.tracks.tags, strict=True))
    has = np.array(["buzz" in tags[track] for track in result.tracks])
    scores = np.array(result.answers[""].tags)[:, buzz]
    assert scores[has].min() > scores[~has].max()


def test_a_classical_system_learns_from_the_statistics_in_the_shards(tmp_path: Path) -> None:
    data = write_data(tmp_path, statistics=True)
    values = small_experiment(data, systems=[{"name": "it", "kind": "random_forest", "statistics": "shards"}])
    with pytest.raises(ConfigError, match="'it' learns from statistics of whole tracks"):
        experiment_of(values)
    values["protocols"] = values["protocols"][1:]
    experiment = experiment_of(values)
    material = read_material(experiment.data)
    run = plan_runs(experiment, material)[0]
    result = run_system(run, material)
    truth = dict(zip(material.tracks.track_ids, material.tracks.genres, strict=True))
    predicted = [material.taxonomy.genres[int(np.argmax(row))] for row in result.answers[""].genre]
    assert predicted == [truth[track] for track in result.tracks]
    other = plan_runs(experiment, replace(material, shards_fingerprint="of other statistics"))[0]
    assert other.key != run.key
    bare = write_data(tmp_path / "bare")
    without = experiment_of({**values, "data": {"min_tag_positives": 2, **bare}})
    with pytest.raises(ConfigError, match="hold no statistics"):
        plan_runs(without, read_material(without.data))


def test_members_that_vote_are_another_run_than_their_mean(material: Material, data: dict[str, str]) -> None:
    run = run_of(material, data, "net", "artists")
    both = [
        replace(run, system=run.system.model_copy(update={"training": training, "heads": ()}))
        for training in (
            run.system.training.model_copy(update={"members": 3, "fusion": how}) for how in ("mean", "vote")
        )
    ]
    assert both[0].system.deciding() != both[1].system.deciding()
    mean, vote = (np.array(run_system(one, material).answers[""].genre) for one in both)
    np.testing.assert_allclose(4 * vote - mean, np.round(4 * vote - mean), atol=1e-3)  # what is left are whole votes


def test_keys_follow_what_decides_and_nothing_else(material: Material, data: dict[str, str]) -> None:
    def keys(**changes: Any) -> dict[tuple[str, str, int, int], str]:
        runs = plan_runs(experiment_of(small_experiment(data, **changes)), material)
        return {(one.system.name, one.protocol.name, one.fold, one.seed): one.key for one in runs}

    plain = keys()
    assert len(plain) == len(set(plain.values())) == 9
    assert keys(evaluation={"bootstrap_samples": 20}, about="another word", primary="segments") == plain
    renamed = small_experiment(data)["protocols"]
    renamed[0]["name"] = "windows"
    assert set(keys(protocols=renamed).values()) == set(plain.values())
    longer = keys(training={"epochs": 3})
    assert {name for name in plain if plain[name] == longer[name]} == {name for name in plain if name[0] == "nearest"}
    assert set(keys(seeds=[0, 1]).values()) > set(plain.values())


def test_a_run_goes_on_where_it_was_stopped(data: dict[str, str], tmp_path: Path) -> None:
    experiment = experiment_of(small_experiment(data))

    class StoppedError(Exception):
        pass

    def stop(step: Step) -> None:
        if step.finished == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        run_experiment(experiment, str(tmp_path), HERE, on_step=stop)
    there = sorted((tmp_path / "runs").iterdir())
    assert len(there) == 4
    before = {path.name: path.read_bytes() for path in there}
    plans: list[tuple[int, int, int]] = []
    outcome = run_experiment(experiment, str(tmp_path), HERE, lambda *plan: plans.append(plan))
    assert plans == [(9, 4, 5)]
    assert (len(outcome.results), outcome.run_now, outcome.failures) == (9, 5, {})
    assert {name: (tmp_path / "runs" / name).read_bytes() for name in before} == before
    assert run_experiment(experiment, str(tmp_path), HERE).run_now == 0
    # A changed label makes all of it anew; the old runs are left alone and not counted.
    other = experiment_of(small_experiment({**data, "min_tag_positives": 9}))
    assert run_experiment(other, str(tmp_path), HERE, execute=False).results == {}


def test_runs_of_other_code_are_run_again_unless_wanted(data: dict[str, str], tmp_path: Path) -> None:
    values = small_experiment(data)
    values["systems"] = values["systems"][:1]
    experiment = experiment_of(values)
    outcome = run_experiment(experiment, str(tmp_path), HERE)
    run = outcome.runs[0]
    old = replace(outcome.results[run.key], code="0" * 16)
    (tmp_path / run.file).write_bytes(old.to_bytes())
    store = Store.open(str(tmp_path))
    assert len(finished_runs(store, outcome.runs, any_code=True)) == 3
    assert run.key not in finished_runs(store, outcome.runs, any_code=False)
    again = run_experiment(experiment, str(tmp_path), HERE)
    assert again.run_now == 1
    assert again.results[run.key].code == code_fingerprint()


def test_members_of_a_system_run_their_own_epochs(material: Material, data: dict[str, str]) -> None:
    run = run_of(material, data, "net", "artists")
    model = run.system.model.model_dump()
    training = run.system.training.model_dump()

    def system(own: dict[str, Any]) -> SystemSettings:
        ensemble = [model, {**model, "training": own}]
        return run.system.model_copy(
            update={"training": TrainingConfig.model_validate({**training, "ensemble": ensemble}), "heads": ()}
        )

    plain, three, four, patient = (
        system(own).deciding() for own in ({}, {"epochs": 3}, {"epochs": 4}, {"patience": 1})
    )
    assert plain == patient, "nothing stops early here"
    assert plain != three != four != plain
    reported: list[tuple[int, int]] = []
    both = replace(run, system=system({"epochs": 3, "patience": 1}))
    result = run_system(both, material, lambda done, total: reported.append((done, total)))
    assert reported == [(epoch, 5) for epoch in range(1, 6)]
    assert [len(curve) for curve in result.curves] == [2, 3]
    assert result.facts["epochs"] == 3


def test_a_run_that_fails_stops_no_other(data: dict[str, str], tmp_path: Path) -> None:
    values = small_experiment(data)
    values["systems"] = [
        {"name": "views", "views": ["clean", "tempo"], "protocols": ["artists"]},
        {
            "name": "wild",
            "model": values["systems"][1]["model"],
            "training": {"learning_rate": 1e30, "optimizer": "sgd"},
        },
        values["systems"][0],
    ]
    outcome = run_experiment(experiment_of(values), str(tmp_path), HERE)
    failed = {run.system.name for run in outcome.runs if run.key in outcome.failures}
    assert failed == {"views", "wild"}
    messages = " ".join(outcome.failures.values())
    assert "the training loss became" in messages
    assert "has none made with these settings" in messages
    assert sum(run.system.name == "nearest" for run in outcome.runs if run.key in outcome.results) == 3


def test_a_protocol_that_cannot_part_the_tracks_is_named_before_work(data: dict[str, str], tmp_path: Path) -> None:
    values = small_experiment(data, protocols=[{"name": "p", "kind": "group_k_fold", "folds": 40}])
    with pytest.raises(SplitError, match="40 folds of 12 groups"):
        run_experiment(experiment_of(values), str(tmp_path), HERE)


def test_the_time_left_goes_by_what_each_system_took(material: Material, data: dict[str, str]) -> None:
    near, net = (run_of(material, data, name, "artists") for name in ("nearest", "net"))
    steps: list[Step] = []

    def after(todo: list[ExperimentRun], *reports: tuple[int, dict[str, Any]]) -> tuple[float, float]:
        progress = RunProgress(todo, [], steps.append)
        progress.slots = 2
        for number, reported in reports:
            progress.update(number, reported)
        return steps[-1].seconds_left

    begun = {"epoch": 0, "epochs": 0}
    assert after([near], (0, begun)) == (0.0, math.inf)
    took_2 = (0, {"seconds": 2.0})
    assert after([near, near, net], took_2) == (1.0, math.inf), "what a network takes is not known by a kNN"
    took_100 = (1, {"seconds": 100.0})
    assert after([near, net, near, net], took_2, took_100) == pytest.approx((51.0, 51.0))
    quarter = (2, {"epoch": 1, "epochs": 4})
    assert after([near, net, net], took_2, took_100, quarter) == pytest.approx((75.0, 75.0)), "one slot is idle"
    assert steps[-1].running == ((net.label, 1, 4),)
    assert after([near, net], took_2, (1, begun), (1, {"failed": "it would not"})) == (0.0, 0.0)
    assert (steps[-1].finished, steps[-1].failed, steps[-1].total, steps[-1].running) == (1, 1, 2, ())


def test_a_network_not_yet_run_takes_what_an_epoch_of_the_others_cost(
    material: Material, data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = run_of(material, data, "net", "artists")

    def named(name: str, epochs: int) -> ExperimentRun:
        training = net.system.training.model_copy(update={"epochs": epochs})
        return replace(net, key=name, system=net.system.model_copy(update={"name": name, "training": training}))

    clock = [0.0]
    monkeypatch.setattr("mgc.cluster.experiment.time.perf_counter", lambda: clock[0])
    steps: list[Step] = []
    progress = RunProgress([named("fast", 10), named("slow", 5), named("new", 20)], [], steps.append)
    progress.update(0, {"seconds": 10.0})
    assert steps[-1].seconds_left == pytest.approx((5.0 + 20.0, 5.0 + 20.0)), "a second an epoch is all that is known"
    progress.update(1, {"epoch": 0, "epochs": 5})
    clock[0] = 60.0
    progress.update(1, {"epoch": 1, "epochs": 5})
    # The slow one shows a minute an epoch: four to go; the new one, 20 epochs, lies between both.
    assert steps[-1].seconds_left == pytest.approx((240.0 + 20.0, 240.0 + 1_200.0))


def test_systems_that_differ_by_name_are_run_and_counted_once(data: dict[str, str], tmp_path: Path) -> None:
    values = small_experiment(data)
    values["systems"] = [values["systems"][0], {**values["systems"][0], "name": "nearest again"}]
    plans: list[tuple[int, int, int]] = []
    outcome = run_experiment(experiment_of(values), str(tmp_path), HERE, lambda *plan: plans.append(plan))
    assert plans == [(3, 0, 3)]
    assert (outcome.planned, len(outcome.results), len(list((tmp_path / "runs").iterdir()))) == (3, 3, 3)
    assert {run.system.name for run in outcome.runs} == {"nearest", "nearest again"}


def test_tags_are_learnt_from_wide_embeddings_too() -> None:
    rng = np.random.default_rng(0)
    values, tag = rng.normal(size=(120, 600)), np.arange(120)[:, np.newaxis] % 2
    values[:, :40] += 1.5 * tag
    scores = OneVersusRest(0.03).fit(values[:80], tag[:80]).predict(values[80:])
    assert np.mean((scores > 0.5) == tag[80:]) > 0.9
