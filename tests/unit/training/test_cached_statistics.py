"""Cached statistics: a fit with them is the fit without, and only where chance changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model_makers import N_MELS, TAXONOMY, TRAINING, feature_set, small_model

from mgc.config import TrainingConfig
from mgc.config.network_settings import BlockLevelConfig, CrnnConfig
from mgc.errors import TrainingError
from mgc.models.network_registry import build_model
from mgc.training import loop
from mgc.training.cached_statistics import can_cache_statistics
from mgc.training.loop import FitResult, fit

MODEL = BlockLevelConfig(block_frames=16, embedding_size=8)
STILL = TRAINING.model_copy(
    update={"crop_seconds": None, "mask_frequency_bins": 0, "mask_frames": 0, "gain_db": 0.0, "averaging": "ema"}
)
TRAIN, VALID = feature_set(24), feature_set(12, seed=5)


def fitted(config: TrainingConfig = STILL, **more: Any) -> FitResult:
    torch.manual_seed(1)
    return fit(small_model(config=MODEL), TRAIN, VALID, TAXONOMY, config, seed=1, **more)


def test_weights_and_figures_are_those_of_a_fit_that_computes_them_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = fitted()
    monkeypatch.setattr(loop, "can_cache_statistics", lambda model, train, config: False)
    anew = fitted()
    assert kept.state.weights.keys() == anew.state.weights.keys()
    for name, tensor in kept.state.weights.items():
        torch.testing.assert_close(tensor, anew.state.weights[name], atol=1e-4, rtol=1e-3)
    losses = [[report.valid_loss for report in result.reports] for result in (kept, anew)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_resumed_fit_gives_the_weights_of_one_that_never_stopped() -> None:
    states = []
    whole = fitted(on_epoch=lambda report, state: states.append(state))
    rest = fitted(start=states[2])
    for name, tensor in whole.state.weights.items():
        torch.testing.assert_close(rest.state.weights[name], tensor, atol=0.0, rtol=0.0)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"crop_seconds": 100.0}, True),
        ({"crop_seconds": 0.5}, False),
        ({"gain_db": 3.0}, False),
        ({"mask_frames": 1}, False),
        ({"mask_frequency_bins": 1}, False),
        ({"equaliser_db": 1.0}, False),
        ({"shift_mel_bins": 1}, False),
        ({"mixup_alpha": 0.2}, False),
        ({"overlay_probability": 0.5}, False),
        ({"blend_probability": 0.5}, False),
    ],
)
def test_only_where_chance_leaves_windows_as_they_are(changes: dict[str, Any], kept: bool) -> None:
    model = build_model(MODEL, N_MELS, 2, 3)
    assert can_cache_statistics(model, TRAIN, STILL.model_copy(update=changes)) is kept
    assert not can_cache_statistics(build_model(CrnnConfig(channels=8), N_MELS, 2, 3), TRAIN, STILL)


def test_features_that_are_not_finite_are_named() -> None:
    broken = replace(TRAIN, log_mels=[np.full_like(TRAIN.log_mels[0], np.nan), *TRAIN.log_mels[1:]])
    with pytest.raises(TrainingError, match="track 't0000' has features that are not finite"):
        fit(small_model(config=MODEL), broken, VALID, TAXONOMY, STILL, seed=1)
