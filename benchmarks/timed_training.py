"""Fit one network as a program and print how long an epoch takes, and where it ended.

    python -m benchmarks.timed_training bare|ray CATALOGUE FEATURES BUNDLE EPOCHS

`bare` is `mgc.training.loop.fit` in this process, with no checkpoint; `ray` is what `mgc train` does.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import torch

from mgc.catalogue.index import read_catalogue
from mgc.cluster import members as ensemble
from mgc.cluster.train import TrainingRequest, taxonomy_of, train_ensemble
from mgc.config import Config, TrainingConfig
from mgc.models.network_registry import build_model
from mgc.tables.feature_shards import read_feature_set
from mgc.training.loop import fit

OnLoss = Callable[[float], None]


def main() -> None:
    how, catalogue, features, bundle, epochs = sys.argv[1:]
    training = TrainingConfig(members=1, epochs=int(epochs), patience=int(epochs), threads=1)
    request = TrainingRequest(catalogue, features, bundle, Config(training=training))
    ends: list[float] = []
    losses: list[float] = []

    def on_loss(loss: float) -> None:
        ends.append(time.perf_counter())
        losses.append(loss)

    {"bare": _bare, "ray": _ray}[how](request, on_loss)
    # The first epoch has no beginning that both could tell: all is loaded before it.
    print(f"epoch {statistics.median(late - early for early, late in pairwise(ends)):.4f}")
    print(f"loss {losses[-1]:.6f}")


def _bare(request: TrainingRequest, on_loss: OnLoss) -> None:
    config, catalogue = request.config, read_catalogue(request.catalogue_uri)
    train, valid = (read_feature_set(request.features_uri, catalogue, split) for split in ("train", "valid"))
    taxonomy = taxonomy_of(catalogue, config)
    torch.set_num_threads(1)
    torch.manual_seed(config.training.seed)
    model = build_model(config.model, train.features.n_mels, len(taxonomy.genres), len(taxonomy.tags))
    seed = config.training.seed
    fit(
        model,
        train,
        valid,
        taxonomy,
        config.training,
        seed=seed,
        on_epoch=lambda report, _: on_loss(report.train_loss),
    )


def _ray(request: TrainingRequest, on_loss: OnLoss) -> None:
    # The driver looks for news once a second, which is no part of an epoch: here it looks without pause.
    ensemble.POLL_SECONDS = 0.02
    train_ensemble(request, lambda member, epoch: on_loss(epoch["train_loss"]))


if __name__ == "__main__":
    main()
