"""`mgc probe`: frozen embeddings under an SVM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_makers import FEATURES, bundle_contents, feature_set
from typer.testing import CliRunner

from mgc.cli import evaluate_command, extract_command
from mgc.cli.app import build_app
from mgc.config import Config
from mgc.errors import ConfigError
from mgc.evaluation.baselines import NAME
from mgc.models.bundle import write_bundle

QUICK = ["--set", "evaluation.bootstrap_samples=20"]


def test_each_embedding_stands_beside_the_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = [str(tmp_path / name) for name in ("one", "two")]
    write_bundle(bundles[0], bundle_contents(1))
    write_bundle(bundles[1], bundle_contents(2))
    monkeypatch.setattr(evaluate_command, "read_catalogue", lambda uri: None)
    monkeypatch.setattr(
        evaluate_command, "both_splits", lambda *_: (feature_set(24, seed=1), feature_set(18, seed=2))
    )
    places = [word for bundle in bundles for word in ("-b", bundle, "-f", "features")]
    figures = tmp_path / "figures.json"
    app = build_app("probe")
    done = CliRunner().invoke(app, ["probe", "catalogue", *places, "-o", str(figures), *QUICK])
    assert done.exit_code == 0, done.output
    found = json.loads(figures.read_text())
    assert list(found) == [NAME, *(f"SVM on the embedding of {bundle}" for bundle in bundles)]
    # The genre is which half of the spectrum sounds: any weights keep that, and an SVM finds it.
    assert all(one["genre"]["accuracy"]["value"] > 0.9 for one in found.values())
    assert "tag PR-AUC" in done.output


def test_extraction_takes_a_bundles_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(str(tmp_path / "bundle"), bundle_contents(1))
    seen: list[Config] = []

    def stop(tracks: object, output: str, config: Config, *_: object) -> None:
        seen.append(config)
        raise ConfigError("far enough")

    monkeypatch.setattr(extract_command, "read_catalogue", lambda uri: None)
    monkeypatch.setattr(extract_command, "extract_features", stop)
    CliRunner().invoke(build_app("extract"), ["extract", "c", "-o", "o", "-b", str(tmp_path / "bundle")])
    assert [config.features for config in seen] == [FEATURES]


def test_a_bundle_without_its_shards_is_an_error() -> None:
    done = CliRunner().invoke(build_app("probe"), ["probe", "catalogue", "-b", "x", "-b", "y", "-f", "features"])
    assert isinstance(done.exception, ConfigError)
    assert "2 --bundle and 1 --features" in str(done.exception)
