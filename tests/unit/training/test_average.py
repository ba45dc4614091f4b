"""Averaged weights."""

from __future__ import annotations

import pytest
import torch
from model_makers import TAXONOMY, TRAINING, feature_set, small_model
from torch import Tensor, nn

from mgc.config import TrainingConfig
from mgc.training.loop import EpochReport, FitResult, fit
from mgc.training.optim import WeightAverage, averaged_weights
from mgc.training.state import TrainingState, copy_weights

TRAIN, VALID = feature_set(12, seed=1), feature_set(6, seed=2)


def numbered(value: float) -> nn.Module:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def after(average: WeightAverage) -> float:
    return float(average.weights["weight"])


def test_swa_is_the_mean_of_the_later_epochs() -> None:
    config = TrainingConfig(averaging="swa", epochs=4, swa_start=0.5)
    average = WeightAverage(config, copy_weights(numbered(0.0)), 0)
    for epoch, value in enumerate([1.0, 5.0, 7.0, 12.0], start=1):
        average.after_step(numbered(99.0))
        average.after_epoch(numbered(value), epoch)
        assert after(average) == pytest.approx({1: 1.0, 2: 5.0, 3: 7.0, 4: 9.5}[epoch])


def test_ema_follows_and_forgets_where_it_began() -> None:
    config = TrainingConfig(averaging="ema", ema_decay=0.9)
    average = WeightAverage(config, copy_weights(numbered(-100.0)), 0)
    average.after_step(numbered(1.0))
    assert after(average) == pytest.approx(1.0)
    average.after_step(numbered(2.0))
    assert after(average) == pytest.approx(1.5)
    for _ in range(200):
        average.after_step(numbered(3.0))
    assert after(average) == pytest.approx(3.0, abs=1e-3)


def test_whole_numbers_are_not_averaged() -> None:
    norm = nn.BatchNorm1d(2)
    average = WeightAverage(TrainingConfig(averaging="ema"), copy_weights(norm), 0)
    norm.num_batches_tracked += 7  # type: ignore[operator]
    average.after_step(norm)
    assert int(average.weights["num_batches_tracked"]) == 7


def test_the_network_gets_its_own_weights_back() -> None:
    layer = numbered(1.0)
    with averaged_weights(layer, {"weight": torch.full((1, 1), 4.0)}):
        assert copy_weights(layer)["weight"].item() == 4.0
    assert copy_weights(layer)["weight"].item() == 1.0


def run(config: TrainingConfig, **options: object) -> FitResult:
    return fit(small_model(), TRAIN, VALID, TAXONOMY, config, seed=5, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_it_does_not_change_the_way_and_is_what_is_kept(averaging: str) -> None:
    config = TRAINING.model_copy(update={"averaging": averaging, "epochs": 4, "swa_start": 0.25})
    plain, averaged = run(config.model_copy(update={"averaging": "none"})), run(config)
    assert all(torch.equal(plain.state.weights[name], averaged.state.weights[name]) for name in plain.state.weights)
    assert plain.reports[-1].train_loss == averaged.reports[-1].train_loss
    name = "genre_head.linear.weight"
    assert not torch.equal(averaged.state.weights[name], averaged.state.average[name])
    if averaged.state.best_epoch == 4:
        assert torch.equal(averaged.best_weights[name], averaged.state.average[name])


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_a_resumed_average_is_the_one_that_never_stopped(averaging: str) -> None:
    config = TRAINING.model_copy(update={"averaging": averaging, "swa_start": 0.3})
    saved: dict[int, bytes] = {}

    def keep(report: EpochReport, state: TrainingState) -> None:
        saved[report.epoch] = state.to_bytes()

    straight = run(config, on_epoch=keep)
    resumed = run(config, start=TrainingState.from_bytes(saved[3]))
    found: dict[str, Tensor] = resumed.state.average
    for name, tensor in straight.state.average.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)
    assert resumed.state.averaged == straight.state.averaged
