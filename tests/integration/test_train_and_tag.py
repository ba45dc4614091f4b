"""Training, tagging and evaluation on a real Ray of two workers."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import ray
import torch
from bundle_fixtures import Trained
from model_makers import write_published
from small_music import OWN_EPOCHS, SETTINGS, TWO_FITS, add_bad_files, write_track
from table_makers import commit_items

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cli.app import console
from mgc.cli.evaluate_command import EvaluationRequest, run_evaluation
from mgc.cluster import statistics
from mgc.cluster.predict import tag_catalogue
from mgc.cluster.run import RunOptions
from mgc.cluster.train import TrainingRequest, train_ensemble
from mgc.config import CatalogueConfig, LogsConfig, load_config
from mgc.errors import BundleError, FailuresError, FingerprintError, TrainingError
from mgc.models.bundle import Bundle, load_bundle, write_bundle
from mgc.storage.store import Store
from mgc.tables.predictions import read_predictions
from mgc.tables.run_log import OutputDirectory
from mgc.tables.schema import CURRENT_PREDICTIONS
from mgc.tables.work_items import clean_items

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_two")]
CONFIG = load_config(None, TWO_FITS)
UNCHANGED = "training = {crop_seconds = 600.0, gain_db = 0.0, mask_frames = 0, mask_frequency_bins = 0, epochs = 3}"
STATISTICS = f"{{name = 'block_level', block_frames = 16, {UNCHANGED}}}"


@pytest.fixture
def music(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the trained catalogue's music that a test may change."""
    shutil.copytree(trained.music, tmp_path / "music")
    return tmp_path / "music"


def indexed(music: Path) -> pl.DataFrame:
    place = music.parent / "catalogue.parquet"
    index_catalogue(str(music), str(place), CatalogueConfig(manifest=str(music / "labels.csv")))
    return read_catalogue(str(place))


def test_the_bundle_holds_two_members_and_what_they_were_made_of(trained: Trained) -> None:
    bundle = load_bundle(str(trained.bundle))
    assert trained.outcome.fingerprint == bundle.fingerprint
    assert len(bundle.members) == 2
    assert bundle.taxonomy.genres == ("drone", "noise", "pulse")
    assert bundle.taxonomy.tags == ("even", "hiss", "odd", "tonal")
    assert bundle.features == CONFIG.features
    assert bundle.metrics["ensemble"]["genre_accuracy"] >= 0.8
    histories = bundle.facts["histories"]
    assert [len(history) for history in histories] == trained.outcome.epochs
    assert trained.outcome.epochs[1] <= OWN_EPOCHS
    rates = [max(epoch["learning_rate"] for epoch in history) for history in histories]
    assert 0.004 < rates[0] < 0.005 < rates[1] < 0.006, "each was fitted in its own way"
    assert sorted(trained.epochs_seen) == [(m, e) for m in (0, 1) for e in range(1, trained.outcome.epochs[m] + 1)]
    card = (trained.bundle / "README.md").read_text()
    assert "drone" in card
    assert "fitted with epochs 14, batch_size 6, learning_rate 0.006" in card
    assert not trained.bundle.with_name("bundle.training").exists()
    drawn = json.loads((trained.bundle / "training.json").read_text())
    assert [len(member["epochs"]) for member in drawn["members"]] == trained.outcome.epochs
    assert (trained.bundle / "training.html").stat().st_size > 10_000


def test_the_same_command_again_does_nothing_and_another_is_refused(trained: Trained) -> None:
    places = (str(trained.catalogue), str(trained.features), str(trained.bundle))
    again = train_ensemble(TrainingRequest(*places, CONFIG))
    assert (again.trained, again.fingerprint) == (False, trained.outcome.fingerprint)
    for setting in (TWO_FITS[-1].replace("0.006", "0.007"), "training.seed=7"):
        other = load_config(None, [*TWO_FITS, setting])
        with pytest.raises(TrainingError, match="bundle of other data or settings"):
            train_ensemble(TrainingRequest(*places, other))


def test_a_student_is_a_bundle_like_any_other(trained: Trained, tmp_path: Path) -> None:
    config = load_config(
        None,
        [*SETTINGS, "training.epochs=10", "distill.model={channels=16, blocks=1, rnn_units=8, embedding_size=16}"],
    )
    places = (str(trained.catalogue), str(trained.features), str(tmp_path / "student"))
    watched = config.model_copy(update={"logs": LogsConfig(tensorboard_dir=str(tmp_path / "runs"))})
    outcome = train_ensemble(TrainingRequest(*places, watched, teacher_uri=str(trained.bundle)))
    assert len(list((tmp_path / "runs").glob("*-member-0/events*"))) == 1
    student = load_bundle(str(tmp_path / "student"))
    assert outcome.fingerprint == student.fingerprint
    assert student.taxonomy == load_bundle(str(trained.bundle)).taxonomy
    assert [member.config for member in student.members] == [config.distill.model]
    assert student.facts["teacher"] == trained.outcome.fingerprint
    assert student.metrics["fidelity"]["same_genre"] >= 0.8
    promise = student.metrics["promise"]["genre"]
    assert promise["target"] == config.training.abstain_precision
    assert student.decision.abstain_precision == promise["precision"]
    again = train_ensemble(TrainingRequest(*places, config, teacher_uri=str(trained.bundle)))
    assert not again.trained
    with pytest.raises(TrainingError, match="a bundle of other data or settings"):
        train_ensemble(TrainingRequest(*places, config))


@pytest.mark.slow
def test_precision_is_promised_on_folds_whose_artists_no_member_saw(trained: Trained, tmp_path: Path) -> None:
    config = load_config(None, [*TWO_FITS, "training.promise_folds=3", "training.exclusive_tags=[['even', 'odd']]"])
    places = (str(trained.catalogue), str(trained.features), str(tmp_path / "bundle"))
    outcome = train_ensemble(TrainingRequest(*places, config))
    bundle = load_bundle(str(tmp_path / "bundle"))
    promise = outcome.metrics["promise"]
    assert promise["on"] == "3 folds of train and valid, groups apart"
    labelled = read_catalogue(str(trained.catalogue)).filter(pl.col("split").is_in(["train", "valid"]))
    assert promise["genre"]["tracks"] == labelled["genre"].drop_nulls().len()
    assert promise["genre"]["groups"] == labelled["group"].n_unique()
    assert bundle.decision.abstain_precision == promise["genre"]["precision"]
    assert bundle.decision.exclusive_tags == (
        (bundle.taxonomy.tags.index("even"), bundle.taxonomy.tags.index("odd")),
    )
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "Promised on 3 folds of train and valid, groups apart." in card
    assert "At most one is listed of: even, odd." in card
    assert not (tmp_path / "bundle.training").exists()


@pytest.mark.slow
def test_where_nothing_stops_by_valid_the_bundle_learns_from_it_too(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "WORTH_A_POOL", 1)
    ensemble = f"training.ensemble=['jain_mlp', {STATISTICS}]"
    config = load_config(
        None, [*SETTINGS, ensemble, "training.epochs=3", "training.promise_folds=3", "training.keep=last"]
    )
    place = str(tmp_path / "bundle")
    outcome = train_ensemble(TrainingRequest(str(trained.catalogue), str(trained.features), place, config))
    labelled = read_catalogue(str(trained.catalogue)).filter(pl.col("split").is_in(["train", "valid"]))
    facts = load_bundle(place).facts
    assert facts["learnt_splits"] == ["train", "valid"]
    assert facts["tracks"]["train"] == labelled.height
    assert outcome.metrics["on"] == "3 folds of train and valid, groups apart"
    assert outcome.metrics["promise"]["genre"]["tracks"] == labelled["genre"].drop_nulls().len()
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "## Figures on 3 folds of train and valid, groups apart" in card
    report = str(tmp_path / "report")
    request = EvaluationRequest(str(trained.catalogue), place, report, config, "valid", str(trained.features))
    page = Path(run_evaluation(console(), request).removeprefix("file://")).read_text()
    assert "These tracks were trained on" in page
    assert "evaluate on split test" in page


@pytest.mark.slow
def test_statistics_from_the_pool_give_the_weights_of_those_that_each_fit_makes(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = write_published(tmp_path / "published", "choi_fcn")
    frozen = f"{{name = 'transfer', network = 'choi_fcn', published = '{published}', {UNCHANGED}}}"
    config = load_config(None, [*SETTINGS, f"training.ensemble=[{STATISTICS}, {frozen}]"])
    notes: list[str] = []

    def train_at(worth_tracks: int) -> Bundle:
        monkeypatch.setattr(statistics, "WORTH_A_POOL", worth_tracks)
        place = str(tmp_path / f"bundle-{worth_tracks}")
        train_ensemble(
            TrainingRequest(str(trained.catalogue), str(trained.features), place, config), on_note=notes.append
        )
        return load_bundle(place)

    by_fit = train_at(10**9)
    assert not notes, "few tracks start no pool"
    by_pool = train_at(1)
    used = read_catalogue(str(trained.catalogue)).filter(pl.col("split").is_in(["train", "valid"])).height
    assert notes[-1] == f"statistics of member 2: {used} of {used} tracks"
    for one, other in zip(by_fit.members, by_pool.members, strict=True):
        assert one.weights.keys() == other.weights.keys()
        for name, values in one.weights.items():
            np.testing.assert_allclose(other.weights[name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    own, theirs = by_pool.members[1].weights, load_bundle(published).members[0].weights
    assert torch.equal(own["statistics.network.layer1.conv.weight"], theirs["layer1.conv.weight"])
    norm = "layer1.bn.running_mean"
    assert not torch.equal(own[f"statistics.network.{norm}"], theirs[norm]), "the norms are the catalogue's"
    assert not (tmp_path / "bundle-1.training").exists()


@pytest.mark.slow
def test_features_extracted_anew_while_members_are_fitted_make_no_bundle(trained: Trained, tmp_path: Path) -> None:
    shards = tmp_path / "features"
    shutil.copytree(trained.features, shards)
    begun: list[int] = []

    def extract_anew(member: int, epoch: dict[str, object]) -> None:
        if not begun:
            begun.append(member)
            output = OutputDirectory(Store.open(str(shards)), "features")
            first = read_catalogue(str(trained.catalogue)).filter(split="train").head(1)
            commit_items(output, clean_items(first), CONFIG.features)

    request = TrainingRequest(str(trained.catalogue), str(shards), str(tmp_path / "bundle"), CONFIG)
    with pytest.raises(FingerprintError, match="changed during the run"):
        train_ensemble(request, extract_anew)
    assert begun
    assert not (tmp_path / "bundle" / "manifest.json").exists()


def test_every_track_has_one_prediction(trained: Trained, music: Path, tmp_path: Path) -> None:
    codes = add_bad_files(music)
    tracks = indexed(music)
    outcome = tag_catalogue(tracks, str(trained.bundle), str(tmp_path / "tags"), CONFIG, RunOptions())
    rows = read_predictions(str(tmp_path / "tags"))
    by_ray = ray.data.read_delta(str(tmp_path / "tags" / "current")).take_all()
    assert sorted(row["track_id"] for row in by_ray) == rows["track_id"].sort().to_list()
    assert rows.columns == CURRENT_PREDICTIONS.names
    assert rows["track_id"].sort().to_list() == tracks["track_id"].to_list()
    failed = rows.filter(pl.col("error_code").is_not_null())
    assert {Path(uri).name: code for uri, code in failed.select("uri", "error_code").iter_rows()} == codes
    assert rows["abstained"].null_count() == failed.height
    assert failed["genre"].null_count() == failed.height == len(codes)
    good = rows.filter(pl.col("error_code").is_null())
    assert good.height == 36
    probabilities = np.array([list(row.values()) for row in good["genre_probabilities"]])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(probabilities.max(axis=1), good["genre_probability"], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(np.array(good["embedding"].to_list()), axis=1), 1.0, atol=1e-5)
    truth = {Path(uri).name.rstrip("0123456789.wavflcog") for uri in good["uri"]}
    assert truth == {"drone", "noise", "pulse"}
    right = sum(Path(uri).parent.name == genre for uri, genre in good.select("uri", "genre").iter_rows())
    assert right >= 30
    assert set(good["run_id"]) == {outcome.run_id}
    assert set(good["bundle_fingerprint"]) == {trained.outcome.fingerprint}


def test_the_second_run_does_only_what_changed(trained: Trained, music: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "tags")
    first = tag_catalogue(indexed(music), str(trained.bundle), out, CONFIG, RunOptions())
    before = read_predictions(out)
    second = tag_catalogue(indexed(music), str(trained.bundle), out, CONFIG, RunOptions())
    assert (first.rows, second.run_id, second.plan.unchanged) == (36, None, 36)
    assert read_predictions(out).equals(before)
    for seed in (70, 71, 72):
        write_track(music, "noise", seed)
    changed = music / "drone" / "drone000.wav"
    changed.write_bytes((music / "noise" / "noise000.wav").read_bytes())
    os.utime(changed, ns=(5, 5))
    (music / "pulse" / "pulse001.flac").unlink()
    third = tag_catalogue(indexed(music), str(trained.bundle), out, CONFIG, RunOptions())
    assert (third.plan.new, third.plan.changed, third.plan.unchanged, third.plan.removed) == (3, 1, 35 - 1, 1)
    after = read_predictions(out)
    assert after.height == 38
    assert after.filter(pl.col("run_id") == third.run_id).height == 4
    kept = after.join(before.select("track_id", "content_id"), on=["track_id", "content_id"], how="semi")
    assert kept.equals(before.join(kept.select("track_id"), on="track_id", how="semi"))


def test_a_bundle_replaced_after_the_run_began_ends_it(trained: Trained, music: Path, tmp_path: Path) -> None:
    place, out = tmp_path / "bundle", tmp_path / "tags"
    shutil.copytree(trained.bundle, place)
    one = replace(load_bundle(str(place)), members=load_bundle(str(place)).members[:1])
    options = RunOptions(on_plan=lambda plan, resumed: write_bundle(str(place), one, overwrite=True))
    with pytest.raises(FingerprintError, match=f"the run began with {trained.outcome.fingerprint}"):
        tag_catalogue(indexed(music), str(place), str(out), CONFIG, options)
    assert not (out / "current").exists()
    assert not (out / "commits").exists()


def test_music_that_cannot_be_read_ends_the_run_before_it_commits(
    trained: Trained, music: Path, tmp_path: Path
) -> None:
    tracks, out = indexed(music), tmp_path / "tags"
    music.rename(tmp_path / "elsewhere")
    with pytest.raises(FailuresError, match=r"of 36 items failed \(T101_NOT_FOUND"):
        tag_catalogue(tracks, str(trained.bundle), str(out), CONFIG, RunOptions())
    assert not (out / "commits").exists()
    (tmp_path / "elsewhere").rename(music)
    after = tag_catalogue(tracks, str(trained.bundle), str(out), CONFIG, RunOptions())
    assert (after.rows, after.failed_by_code) == (36, {})
    assert read_predictions(str(out))["error_code"].null_count() == 36


def test_a_changed_bundle_is_refused(trained: Trained, music: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bundle"
    shutil.copytree(trained.bundle, broken)
    weights = bytearray((broken / "member-0.safetensors").read_bytes())
    weights[-1] ^= 1
    (broken / "member-0.safetensors").write_bytes(weights)
    with pytest.raises(BundleError, match=r"member-0\.safetensors"):
        tag_catalogue(indexed(music), str(broken), str(tmp_path / "tags"), CONFIG, RunOptions())
    assert not (tmp_path / "tags").exists()


def test_evaluation_from_shards_and_from_predictions_agree(trained: Trained, tmp_path: Path) -> None:
    tag_catalogue(
        read_catalogue(str(trained.catalogue)), str(trained.bundle), str(tmp_path / "tags"), CONFIG, RunOptions()
    )
    figures = {}
    for name, source in (
        ("shards", {"features": str(trained.features)}),
        ("tags", {"predictions": str(tmp_path / "tags")}),
    ):
        place = tmp_path / name
        request = EvaluationRequest(str(trained.catalogue), str(trained.bundle), str(place), CONFIG, **source)
        page = Path(run_evaluation(console(), request)).read_text()
        assert "Confusion" in page or "confusion" in page
        figures[name] = json.loads((place / "evaluation.json").read_text())
    assert figures["shards"]["genre"] == figures["tags"]["genre"]
    assert figures["shards"]["genre"]["accuracy"]["value"] >= 0.8
    assert figures["shards"]["comparison"]["evaluation"]["genre"]["accuracy"]["value"] >= 0.5
    assert figures["shards"]["split"] == "valid"


def test_shards_of_other_features_are_refused(trained: Trained, tmp_path: Path) -> None:
    other = load_config(None, [*SETTINGS, "features.n_mels=24"])
    from mgc.cluster.extract import extract_features

    extract_features(read_catalogue(str(trained.catalogue)), str(tmp_path / "f"), other, RunOptions(limit=12))
    request = EvaluationRequest(
        str(trained.catalogue),
        str(trained.bundle),
        str(tmp_path / "e"),
        CONFIG,
        split="train",
        features=str(tmp_path / "f"),
    )
    with pytest.raises(FingerprintError, match=other.features.fingerprint()):
        run_evaluation(console(), request)
