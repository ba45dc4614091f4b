"""kill -9 of the driver in the middle of a run: the next run ends with the table of an uninterrupted one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundle_fixtures import Trained
from killing import features_of, job, kill_driver_when, run
from small_music import SETTINGS, add_bad_files, write_music

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cluster.extract import extract_features
from mgc.cluster.predict import tag_catalogue
from mgc.cluster.run import RunOptions
from mgc.config import CatalogueConfig, load_config
from mgc.tables.predictions import read_predictions

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_two")]
SMALL_CHUNKS = [*SETTINGS, "cluster.tracks_per_chunk=2"]
CONFIG = load_config(None, SMALL_CHUNKS)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 good tracks and every bad file."""
    folder = tmp_path_factory.mktemp("killed")
    write_music(folder / "music", 40)
    add_bad_files(folder / "music")
    index_catalogue(str(folder / "music"), str(folder / "catalogue.parquet"), CatalogueConfig(labels_from="folder"))
    return folder / "catalogue.parquet"


def n_parts(output: Path) -> int:
    return len(list(output.glob("runs/*/part-*.parquet")))


def n_commits(output: Path) -> int:
    return len(list(output.glob("commits/*")))


@pytest.mark.slow
def test_extraction(catalogue: Path, tmp_path: Path) -> None:
    tracks = read_catalogue(str(catalogue))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = job("extract_features.py", str(catalogue), "--output", str(killed), settings=SMALL_CHUNKS)
    kill_driver_when(command, lambda: n_parts(killed) >= 4)
    assert n_commits(killed) == 0, "killed too late to show anything"
    said = run(command)
    assert "resumed from a killed run" in said
    extract_features(tracks, str(whole), CONFIG, RunOptions())
    after = features_of(killed, tracks)
    assert after.equals(features_of(whole, tracks))
    assert after["track_id"].to_list() == tracks["track_id"].to_list()
    assert extract_features(tracks, str(killed), CONFIG, RunOptions()).run_id is None


OF_THE_RUN = ("run_id", "sequence", "tagged_at")


@pytest.mark.slow
def test_tagging(catalogue: Path, trained: Trained, tmp_path: Path) -> None:
    tracks, bundle = read_catalogue(str(catalogue)), str(trained.bundle)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    one_worker = load_config(None, [*SMALL_CHUNKS, "cluster.workers=1"])
    tag_catalogue(tracks, bundle, str(killed), one_worker, RunOptions(limit=12))
    old_view, had_parts = published(killed), n_parts(killed)
    command = job("tag_catalogue.py", str(catalogue), "-b", bundle, "-o", str(killed), settings=SMALL_CHUNKS)
    kill_driver_when(command, lambda: n_parts(killed) >= had_parts + 4)
    assert n_commits(killed) == 1, "killed too late to show anything"
    assert published(killed) == old_view
    assert read_predictions(str(killed)).height == 12
    said = run(command)
    assert "resumed from a killed run" in said
    tag_catalogue(tracks, bundle, str(whole), CONFIG, RunOptions())
    after = read_predictions(str(killed)).drop(OF_THE_RUN)
    assert after.equals(read_predictions(str(whole)).drop(OF_THE_RUN))
    assert after["track_id"].to_list() == tracks["track_id"].to_list()
    # What a kill between the commit and the view leaves: the next run has nothing to do but the view.
    for name in ("current", "history"):
        shutil.rmtree(killed / name)
    for name, data in old_view.items():
        (killed / name).parent.mkdir(parents=True, exist_ok=True)
        (killed / name).write_bytes(data)
    assert read_predictions(str(killed)).height == 12
    assert tag_catalogue(tracks, bundle, str(killed), CONFIG, RunOptions()).run_id is None
    assert read_predictions(str(killed)).drop(OF_THE_RUN).equals(after)


def published(folder: Path) -> dict[str, bytes]:
    """Return the bytes of what readers open, and of what says which commits it shows."""
    files = [path for name in ("current", "history") for path in (folder / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
