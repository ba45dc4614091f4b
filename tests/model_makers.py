"""Small networks, feature sets and bundles for the tests of models, training and inference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mgc.config import FeatureConfig, ModelConfig, TrainingConfig, read_model_config
from mgc.config.network_settings import CrnnConfig
from mgc.config.taxonomy import Taxonomy
from mgc.models.bundle import BundleContents, Member, write_bundle
from mgc.models.ensemble import TemperatureScaling
from mgc.models.network_registry import build_model
from mgc.models.published_weights import PUBLISHED_FEATURES
from mgc.tables.feature_shards import FeatureSet

# Networks this small only wait for each other's threads.
torch.set_num_threads(1)

N_MELS = 16
FEATURES = FeatureConfig(sample_rate=8_000, n_fft=256, hop_length=256, n_mels=N_MELS, window_seconds=0.736)
"""Windows of 24 frames of 16 mel bins."""

TAXONOMY = Taxonomy(("high", "low"), ("buzz", "hum", "still"))
MODEL = CrnnConfig(channels=8, blocks=2, rnn_units=6, embedding_size=8, dropout=0.1)
TRAINING = TrainingConfig(
    epochs=6, batch_size=8, crop_seconds=0.5, mask_frequency_bins=2, mask_frames=3, gain_db=2.0, learning_rate=5e-3
)


def small_model(taxonomy: Taxonomy = TAXONOMY, seed: int = 0, config: ModelConfig = MODEL) -> torch.nn.Module:
    """Return a network of fixed weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_model(config, N_MELS, len(taxonomy.genres), len(taxonomy.tags))


def feature_set(n_tracks: int, seed: int = 0, n_windows: int = 2) -> FeatureSet:
    """Return tracks whose genre is the half of the spectrum that sounds, with tags that sound elsewhere.

    Track 3k has tag "buzz" (bin 2 loud), 3k + 1 has "hum" (bin 13 loud), others "still".
    """
    rng = np.random.default_rng(seed)
    log_mels, genres, tags = [], [], []
    for track in range(n_tracks):
        high = track % 2 == 0
        log_mel = rng.uniform(-70, -50, (n_windows, FEATURES.n_frames, N_MELS))
        log_mel[:, :, (9 if high else 5) : (12 if high else 8)] += 45
        if track % 3 == 0:
            log_mel[:, :, 2] = -5
        if track % 3 == 1:
            log_mel[:, :, 13] = -5
        log_mels.append(log_mel.astype(np.float16))
        genres.append("high" if high else "low")
        tags.append([["buzz"], ["hum"], ["still"]][track % 3])
    return FeatureSet(
        track_ids=[f"t{track:04d}" for track in range(n_tracks)],
        log_mels=log_mels,
        genres=list(genres),
        tags=tags,
        tags_known=[True] * n_tracks,
        groups=[f"g{track}" for track in range(n_tracks)],
        features=FEATURES,
        feature_fingerprint=FEATURES.fingerprint(),
        views=["clean"] * n_tracks,
    )


def without_labels(features: FeatureSet) -> FeatureSet:
    """Return the same tracks, of which nothing is known."""
    n_tracks = len(features)
    return replace(features, genres=[None] * n_tracks, tags=[[]] * n_tracks, tags_known=[False] * n_tracks)


def bundle_contents(n_members: int = 2, taxonomy: Taxonomy = TAXONOMY, **changes: object) -> BundleContents:
    """Return a bundle of untrained members."""
    members = tuple(
        Member(MODEL, dict(small_model(taxonomy, seed).state_dict()), TemperatureScaling(1.0 + seed, 2.0 + seed))
        for seed in range(n_members)
    )
    metrics = {
        "ensemble": {"genre_accuracy": 0.9, "tag_macro_average_precision": None},
        "members": [{"genre_accuracy": 0.85, "tag_macro_average_precision": None}] * n_members,
    }
    facts = {"train_genres": {"high": 3, "low": 4}, "train_groups": 7}
    contents = BundleContents(members, FEATURES, taxonomy, TRAINING, metrics, facts)
    return replace(contents, **changes)  # type: ignore[arg-type]


def write_published(folder: Path, network: str, facts: dict[str, str] | None = None) -> str:
    """Write a bundle as `mgc import-weights` does, of random weights."""
    torch.manual_seed(7)
    config = read_model_config({"name": network})
    weights = dict(build_model(config, 96, 0, 2).state_dict())
    member = Member(config, weights, TemperatureScaling())
    contents = BundleContents(
        (member,), PUBLISHED_FEATURES, Taxonomy((), ("guitar", "slow")), TrainingConfig(members=1), {}, facts or {}
    )
    write_bundle(str(folder), contents)
    return str(folder)
