"""The optimizer and its schedule."""

from __future__ import annotations

import math

import pytest
import torch
from model_makers import TAXONOMY, TRAINING, feature_set, small_model

from mgc.config import TrainingConfig
from mgc.training.loop import EpochReport, fit
from mgc.training.optim import learning_rate_at, make_optimizer, set_learning_rate
from mgc.training.state import TrainingState

CONFIG = TrainingConfig(epochs=10, warmup_epochs=2, learning_rate=0.1)


def test_warm_up_then_half_a_cosine() -> None:
    rates = [learning_rate_at(step, 5, CONFIG) for step in range(50)]
    assert rates[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.1)
    assert rates[30] == pytest.approx(0.05)
    assert rates[49] == pytest.approx(0.05 * (1 + math.cos(math.pi * 39 / 40)))
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_no_warm_up_and_one_that_would_fill_everything() -> None:
    without = CONFIG.model_copy(update={"warmup_epochs": 0})
    assert learning_rate_at(0, 5, without) == pytest.approx(0.1)
    short = CONFIG.model_copy(update={"epochs": 2, "warmup_epochs": 9})
    assert [learning_rate_at(step, 2, short) for step in range(4)] == pytest.approx([0.05, 0.1, 0.1, 0.05])
    single = CONFIG.model_copy(update={"epochs": 1})
    assert learning_rate_at(0, 1, single) == pytest.approx(0.1)


def test_weight_decay_spares_biases_and_norms() -> None:
    model = small_model()
    decayed, spared = make_optimizer(model, CONFIG).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == CONFIG.weight_decay
    assert spared["weight_decay"] == 0.0
    assert all("bias" in names[id(one)] or "norm" in names[id(one)] or one.ndim == 1 for one in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_learning_rate_is_set_for_all_groups() -> None:
    optimizer = make_optimizer(small_model(), CONFIG)
    set_learning_rate(optimizer, 0.003)
    assert [group["lr"] for group in optimizer.param_groups] == [0.003, 0.003]


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("linear", [1.0, 0.75, 0.5, 0.25]), ("step", [1.0, 1.0, 0.1, 0.01]), ("constant", [1.0, 1.0, 1.0, 1.0])],
)
def test_other_schedules(schedule: str, shares: list[float]) -> None:
    config = CONFIG.model_copy(update={"schedule": schedule, "warmup_epochs": 0, "epochs": 4})
    assert [learning_rate_at(5 * epoch, 5, config) for epoch in range(4)] == pytest.approx([0.1 * x for x in shares])


RATES = {"sgd": 0.05, "adagrad": 0.02, "adadelta": 1.0, "adam": 5e-3, "adamw": 5e-3}


@pytest.mark.parametrize(("optimizer", "momentum"), [*((name, 0.9) for name in RATES), ("sgd", 0.0)])
def test_each_learns_and_resumes_where_it_stopped(optimizer: str, momentum: float) -> None:
    update = {"optimizer": optimizer, "learning_rate": RATES[optimizer], "epochs": 6, "momentum": momentum}
    config = TRAINING.model_copy(update=update)
    train, saved = feature_set(12, seed=1), {}

    def keep(report: EpochReport, state: TrainingState) -> None:
        saved[report.epoch] = state.to_bytes()

    straight = fit(small_model(), train, None, TAXONOMY, config, seed=5, on_epoch=keep)
    assert straight.reports[-1].train_loss < straight.reports[0].train_loss
    resumed = fit(small_model(), train, None, TAXONOMY, config, seed=5, start=TrainingState.from_bytes(saved[3]))
    for name, tensor in straight.state.weights.items():
        torch.testing.assert_close(resumed.state.weights[name], tensor, atol=1e-5, rtol=0)
