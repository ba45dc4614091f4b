"""Networks of others through the whole way on Ray: published weights under a member, and ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from bundle_fixtures import Trained
from onnx_makers import (
    SOUND_NETWORK,
    WAVEFORM,
    OfSound,
    contract_of,
    exported,
    imported,
)
from small_music import SETTINGS
from typer.testing import CliRunner

from mgc.cli.app import build_app
from mgc.config import TrainingConfig, read_model_config
from mgc.config.taxonomy import Taxonomy
from mgc.models.bundle import BundleContents, Member, write_bundle
from mgc.models.ensemble import TemperatureScaling
from mgc.models.network_registry import build_model
from mgc.models.published_weights import PUBLISHED_FEATURES

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ENSEMBLE = (
    'training.ensemble=["crnn", {name="transfer", network="choi_crnn", published="peers/crnn", embedding_size=8}]'
)


def test_the_whole_way(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_model_config({"name": "choi_crnn"})
    member = Member(config, dict(build_model(config, 96, 0, 2).state_dict()), TemperatureScaling())
    published = BundleContents(
        (member,), PUBLISHED_FEATURES, Taxonomy((), ("a", "b")), TrainingConfig(members=1), {}, {}
    )
    fingerprint = write_bundle("peers/crnn", published)
    catalogue, features = str(trained.catalogue), str(trained.features)
    own = [part for setting in [*SETTINGS, ENSEMBLE] for part in ("--set", setting)]
    _run("train", catalogue, "-f", features, "-b", "bundle", *own)
    facts = json.loads(Path("bundle/bundle.json").read_text())["facts"]
    assert facts["published_weights"] == [{"network": "choi_crnn", "bundle": fingerprint}]
    assert "from bundle" in Path("bundle/README.md").read_text()
    Path("peers").rename("gone")
    _run("evaluate", catalogue, "-f", features, "-b", "bundle", "-o", "report")
    _run("tag", catalogue, "-b", "bundle", "-o", "predictions")
    rows = pl.read_delta("predictions/current")
    assert len(rows) == len(pl.read_parquet(catalogue))
    assert rows["error_code"].null_count() == len(rows)
    assert rows["genre"].null_count() == 0
    lost = CliRunner().invoke(build_app("train"), ["train", catalogue, "-f", features, "-b", "other", *own])
    assert "peers/crnn" in str(lost.exception)


def test_a_network_as_onnx_tags_a_catalogue_and_is_probed(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    catalogue = str(trained.catalogue)
    n_tracks = len(pl.read_parquet(catalogue))
    short = {"window_seconds": 0.5, "max_windows": 2}
    sound = exported(OfSound(), torch.zeros(2, 8_000))
    terms = contract_of(sound, WAVEFORM | short, SOUND_NETWORK, genres=["a", "b", "c"])
    write_bundle("sound", imported(sound, terms))
    _run("tag", catalogue, "-b", "sound", "-o", "predictions")
    rows = pl.read_delta("predictions/current")
    assert (len(rows), rows["genre"].null_count(), rows["error_code"].null_count()) == (n_tracks, 0, n_tracks)
    first = rows.sort("track_id").row(0, named=True)
    alone = CliRunner().invoke(build_app("tag"), ["tag", first["uri"], "-b", "sound", "--json", "--embedding"])
    answer = json.loads(alone.output.splitlines()[-1])
    assert answer["embedding"] == first["embedding"], "to the last bit what the catalogue's job gives"

    _run("extract", catalogue, "-b", "sound", "-o", "waveforms")
    _run("probe", catalogue, "-b", "sound", "-f", "waveforms", "-o", "probe.json")
    assert list(json.loads(Path("probe.json").read_text())) == ["SVM on the embedding of sound"]


def _run(*arguments: str) -> None:
    result = CliRunner().invoke(build_app(arguments[0]), list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
