"""The statistics of the block-level network, beside numpy and beside sounds that differ in one of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mgc.config.network_settings import BlockLevelConfig
from mgc.models.block_level import BlockLevel, BlockStatistics
from mgc.models.layers import CENTRE_DB, SPREAD_DB, RunningScaling

N_MELS, BLOCK, FRAMES = 16, 32, 96
GROUPS = ("quantiles", "deltas", "fluctuation", "correlation", "contrast", "peaks")


def statistics(log_mel: torch.Tensor) -> dict[str, torch.Tensor]:
    module = BlockStatistics(N_MELS, BLOCK)
    return dict(zip(GROUPS, module(log_mel).split(module.sizes, dim=1), strict=True))


def windows(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, FRAMES, N_MELS, generator=torch.Generator().manual_seed(seed)) * -80


def test_quantiles_deltas_and_correlation_are_those_of_numpy() -> None:
    log_mel = windows()
    found = statistics(log_mel)
    frames = (log_mel.numpy()[0].astype(np.float64) - CENTRE_DB) / SPREAD_DB
    median = found["quantiles"].reshape(2, 5, N_MELS)[0, 2]
    np.testing.assert_allclose(median, np.sort(frames, axis=0)[round(0.5 * (FRAMES - 1))], atol=1e-5)
    change = np.diff(frames, axis=0)
    np.testing.assert_allclose(found["deltas"][0, :N_MELS], change.std(axis=0), atol=1e-5)
    np.testing.assert_allclose(found["deltas"][0, N_MELS : 2 * N_MELS], np.abs(change).mean(axis=0), atol=1e-5)
    correlation = np.corrcoef(frames.T)[np.triu_indices(N_MELS, 1)]
    np.testing.assert_allclose(found["correlation"][0], correlation, atol=0.1)


def test_fluctuation_finds_the_rate_at_which_a_band_beats() -> None:
    log_mel = torch.full((1, FRAMES, N_MELS), -40.0)
    log_mel[0, :, 3] += 20 * torch.sin(2 * torch.pi * 4 * torch.arange(FRAMES) / BLOCK)
    module = BlockStatistics(N_MELS, BLOCK)
    rates = statistics(log_mel)["fluctuation"].reshape(-1, N_MELS)
    low, high = module.edges[int(rates[:, 3].argmax())], module.edges[int(rates[:, 3].argmax()) + 1]
    assert low <= 4 < high
    assert rates[:, 3].max() > rates[:, 4].max() + 3


def test_a_level_change_moves_quantiles_alone() -> None:
    quiet, loud = (statistics(windows() + gain) for gain in (0.0, 6.0))
    np.testing.assert_allclose(loud["quantiles"] - quiet["quantiles"], 6.0 / SPREAD_DB, atol=1e-5)
    for group in ("deltas", "fluctuation", "correlation", "contrast", "peaks"):
        torch.testing.assert_close(loud[group], quiet[group], atol=1e-3, rtol=1e-3)


def test_scaling_learns_mean_and_deviation_over_batches_of_any_size() -> None:
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 7
    scaling = RunningScaling(3)
    for part in values.split([1, 15, 24]):
        scaling(part)
    torch.testing.assert_close(scaling.mean, values.mean(dim=0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scaling.variance, values.var(dim=0, correction=0), atol=1e-4, rtol=1e-4)
    before = scaling.n_seen.clone()
    scaled = scaling.eval()(values)
    assert scaling.n_seen == before
    assert scaled.std(dim=0).tolist() == pytest.approx([1.0, 1.0, 1.0], abs=0.05)


def test_size_is_that_of_the_docstring_and_a_window_of_one_is_enough_to_train_on() -> None:
    model = BlockLevel(BlockLevelConfig(), 128, 10, 25).train()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(0.4e6, rel=0.05)
    output = model(torch.rand(1, 129, 128) * -80)
    output.genre_logits.sum().backward()
    assert bool(torch.isfinite(output.genre_logits).all())
