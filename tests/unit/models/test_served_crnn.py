"""Networks in the form that answers: the trained form's output, in whatever company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_makers import MODEL, N_MELS, small_model
from torch import nn

from mgc.config.network_settings import CrnnConfig, GuoCnnConfig
from mgc.models.crnn import ServedCrnn, served
from mgc.models.forward import ensemble_window_outputs, window_outputs
from mgc.models.network_registry import build_model

TOLERANCE = 1e-5
"""Of logits whose spread is about 1: what single precision leaves after the order of sums has changed."""


def trained(config: CrnnConfig) -> nn.Module:
    """Return a network whose batch norms have statistics of their own, as training leaves them."""
    model = small_model(config=config)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm1d):
                for values in (norm.weight, norm.running_var):
                    values.copy_(torch.rand(values.shape, generator=random) + 0.5)
                for values in (norm.bias, norm.running_mean):
                    values.copy_(torch.randn(values.shape, generator=random))
    return model.eval()


def log_mels(tracks: int, n_mels: int = N_MELS, frames: int = 24) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.uniform(-80, 0, (1 + number % 6, frames, n_mels)).astype(np.float16) for number in range(tracks)]


@pytest.mark.parametrize(
    "config",
    [
        MODEL,
        MODEL.model_copy(update={"kernel_size": 4, "pool_size": 3}),
        MODEL.model_copy(update={"kernel_size": 1, "pool_size": 1, "rnn": "lstm", "activation": "leaky_relu"}),
    ],
    ids=["default", "even kernel, pool of 3", "kernel of 1, LSTM, leaky"],
)
@pytest.mark.parametrize("frames", [1, 7, 24])
def test_says_what_the_trained_form_says(config: CrnnConfig, frames: int) -> None:
    model = trained(config)
    tracks = log_mels(5, frames=frames)
    expected = window_outputs(model, tracks)
    found = window_outputs(served(model), tracks)
    assert expected.tag_logits.std() > 0.05
    np.testing.assert_allclose(found.genre_logits, expected.genre_logits, atol=TOLERANCE)
    np.testing.assert_allclose(found.tag_logits, expected.tag_logits, atol=TOLERANCE)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=TOLERANCE)


def test_at_full_size_company_does_not_change_the_last_bit() -> None:
    """Kernels are chosen by size: what holds for a small network need not hold for the default one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = served(build_model(CrnnConfig(), 128, 10, 50).eval())
    tracks = log_mels(12, n_mels=128, frames=431)
    together = window_outputs(model, tracks, batch_windows=32)
    start = 0
    for track in tracks:
        alone = window_outputs(model, [track], batch_windows=32)
        rows = slice(start, start + len(track))
        np.testing.assert_array_equal(alone.genre_logits, together.genre_logits[rows])
        np.testing.assert_array_equal(alone.tag_logits, together.tag_logits[rows])
        np.testing.assert_array_equal(alone.embeddings, together.embeddings[rows])
        start = rows.stop


def test_a_network_without_another_form_is_left_as_it_is() -> None:
    model = small_model(config=GuoCnnConfig(channels=8, embedding_size=8))
    assert served(model) is model
    assert isinstance(served(small_model()), ServedCrnn)


def test_members_that_share_batches_answer_as_each_alone() -> None:
    models = [served(small_model(seed=seed)) for seed in range(3)]
    tracks = log_mels(7)
    for model, found in zip(models, ensemble_window_outputs(models, tracks, batch_windows=8), strict=True):
        alone = window_outputs(model, tracks, batch_windows=8)
        np.testing.assert_array_equal(found.tag_logits, alone.tag_logits)
        np.testing.assert_array_equal(found.embeddings, alone.embeddings)
