"""A member on published weights through the whole way on Ray: trained, its weights gone, evaluated, tags."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from bundle_fixtures import Trained
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


def _run(*arguments: str) -> None:
    result = CliRunner().invoke(build_app(arguments[0]), list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
