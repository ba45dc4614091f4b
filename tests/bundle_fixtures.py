"""A small catalogue, its shards and a bundle trained on them, made once for the whole test run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from small_music import TWO_FITS, write_music

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cluster.extract import extract_features
from mgc.cluster.run import RunOptions
from mgc.cluster.train import TrainingRequest, TrainOutcome, train_ensemble
from mgc.config import CatalogueConfig, load_config


@dataclass(frozen=True)
class Trained:
    """Where things are, and what training said."""

    music: Path
    catalogue: Path
    features: Path
    bundle: Path
    outcome: TrainOutcome
    epochs_seen: list[tuple[int, int]]


@pytest.fixture(scope="session")
def trained(ray_two: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three genres, two tags by two, twelve tracks a genre; two members of a few thousand weights."""
    folder = tmp_path_factory.mktemp("trained")
    music, catalogue = write_music(folder / "music", 12), folder / "catalogue.parquet"
    settings = CatalogueConfig(manifest=str(music / "labels.csv"), valid_fraction=0.34)
    index_catalogue(str(music), str(catalogue), settings)
    config = load_config(None, TWO_FITS)
    extract_features(read_catalogue(str(catalogue)), str(folder / "features"), config, RunOptions())
    seen: list[tuple[int, int]] = []
    request = TrainingRequest(str(catalogue), str(folder / "features"), str(folder / "bundle"), config)
    outcome = train_ensemble(request, lambda member, epoch: seen.append((member, epoch["epoch"])))
    return Trained(music, catalogue, folder / "features", folder / "bundle", outcome, seen)
