"""All of mgc with everything on a real S3 server: audio, catalogue, shards, checkpoints, bundle, predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from bundle_fixtures import Trained
from small_music import SETTINGS, write_music, write_track

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cli.app import console
from mgc.cli.evaluate_command import EvaluationRequest, run_evaluation
from mgc.cluster.extract import extract_features
from mgc.cluster.predict import tag_catalogue
from mgc.cluster.run import RunOptions, RunOutcome
from mgc.cluster.train import TrainingRequest, train_ensemble
from mgc.config import CatalogueConfig, load_config
from mgc.storage.store import Store
from mgc.tables.predictions import read_predictions

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.usefixtures("ray_two", "swift_env")]
CONFIG = load_config(None, SETTINGS)


def upload(folder: Path, uri: str) -> None:
    store = Store.open(uri)
    for path in folder.rglob("*"):
        if path.is_file():
            store.write_atomic(path.relative_to(folder).as_posix(), path.read_bytes())


def index(root: str, place: str) -> pl.DataFrame:
    index_catalogue(root, place, CatalogueConfig(manifest=f"{root}/labels.csv", valid_fraction=0.34))
    return read_catalogue(place)


def tag(root: str, catalogue: str, bundle: str, output: str) -> RunOutcome:
    return tag_catalogue(index(root, catalogue), bundle, output, CONFIG, RunOptions())


def answers(uri: str) -> pl.DataFrame:
    """What must not depend on where the music lies."""
    return read_predictions(uri).drop("uri", "content_id", "run_id", "sequence", "tagged_at").sort("track_id")


def change(folder: Path) -> None:
    """Add three tracks, give one other content, and take one away."""
    for seed in (60, 61, 62):
        write_track(folder, "pulse", seed)
    (folder / "drone" / "drone000.wav").write_bytes((folder / "noise" / "noise000.wav").read_bytes())
    (folder / "drone" / "drone001.flac").unlink()


def test_a_scheduled_run_on_s3(trained: Trained, bucket: str, tmp_path: Path) -> None:
    """In short: a few tracks and a bundle that is there are tagged as in a folder; then nothing is to do."""
    here, root, place = tmp_path / "music", f"s3://{bucket}/music", f"s3://{bucket}/catalogue.parquet"
    write_music(here, 1)
    (here / "noise" / "broken.mp3").write_bytes(b"no music at all\n" * 99)
    upload(here, root)
    upload(trained.bundle, f"s3://{bucket}/bundle")
    bundle, tags = f"s3://{bucket}/bundle", f"s3://{bucket}/tags"
    first = tag(root, place, bundle, tags)
    assert (first.plan.new, first.failed_by_code) == (4, {"T202_NOT_AUDIO": 1})
    assert tag(root, place, bundle, tags).run_id is None
    tag(str(here), str(tmp_path / "catalogue.parquet"), str(trained.bundle), str(tmp_path / "tags"))
    assert answers(tags).equals(answers(str(tmp_path / "tags")))


@pytest.mark.slow
def test_everything_on_s3(trained: Trained, bucket: str, tmp_path: Path) -> None:
    here = tmp_path / "music"
    shutil.copytree(trained.music, here)
    (here / "noise" / "broken.mp3").write_bytes(b"no music at all\n" * 99)
    root, place = f"s3://{bucket}/music", f"s3://{bucket}/catalogue.parquet"
    features, bundle, tags = (f"s3://{bucket}/{name}" for name in ("features", "bundle", "tags"))
    upload(here, root)

    tracks = index(root, place)
    extracted = extract_features(tracks, features, CONFIG, RunOptions())
    assert (extracted.rows, extracted.failed_by_code) == (37, {"T202_NOT_AUDIO": 1})

    outcome = train_ensemble(TrainingRequest(place, features, bundle, CONFIG))
    assert outcome.fingerprint == trained.outcome.fingerprint, "training from S3 is training from a folder"
    request = EvaluationRequest(place, bundle, f"s3://{bucket}/report", CONFIG, features=features, baseline=False)
    page = run_evaluation(console(), request)
    assert page == f"s3://{bucket}/report/index.html"
    report = json.loads(Store.open(f"s3://{bucket}/report").read_bytes("evaluation.json"))
    assert (report["split"], report["tracks"]) == ("valid", tracks.filter(pl.col("split") == "valid").height)

    first = tag(root, place, bundle, tags)
    assert (first.plan.new, first.failed_by_code) == (37, {"T202_NOT_AUDIO": 1})
    assert tag(root, place, bundle, tags).run_id is None

    change(here)
    store = Store.open(root)
    store.delete("drone/drone001.flac")
    for path in [*here.glob("pulse/pulse06*"), here / "drone" / "drone000.wav"]:
        store.write_atomic(path.relative_to(here).as_posix(), path.read_bytes())
    again = tag(root, place, bundle, tags)
    assert (again.plan.new, again.plan.changed, again.plan.removed, again.rows) == (3, 1, 1, 4)
    rows = read_predictions(tags)
    assert rows["track_id"].sort().to_list() == read_catalogue(place)["track_id"].to_list()
    assert rows.filter(pl.col("run_id") == again.run_id).height == 4

    tag(str(here), str(tmp_path / "catalogue.parquet"), str(trained.bundle), str(tmp_path / "tags"))
    assert answers(tags).equals(answers(str(tmp_path / "tags")))
