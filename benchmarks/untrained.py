"""A bundle of the default architecture with random weights: as slow, or as fast, as a trained one."""

from __future__ import annotations

import torch

from mgc.config import Config, ModelConfig
from mgc.config.taxonomy import Taxonomy
from mgc.models.bundle import BundleContents, Member, write_bundle
from mgc.models.ensemble import TemperatureScaling
from mgc.models.network_registry import build_model

GENRES = tuple(f"genre {number}" for number in range(10))
TAGS = tuple(f"tag {number}" for number in range(50))


def write_untrained_bundle(uri: str, members: int = 2, model: ModelConfig | None = None) -> None:
    """Write an ensemble for ten genres and fifty tags."""
    config = Config() if model is None else Config(model=model)
    made = []
    for seed in range(members):
        torch.manual_seed(seed)
        network = build_model(config.model, config.features.n_mels, len(GENRES), len(TAGS))
        made.append(Member(config.model, dict(network.state_dict()), TemperatureScaling()))
    contents = BundleContents(tuple(made), config.features, Taxonomy(GENRES, TAGS), config.training, {}, {})
    write_bundle(uri, contents)
