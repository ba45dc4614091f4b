"""The parts of the CRNN."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mgc.models.crnn import AdditiveAttention, GatedResidual, SqueezeExcitation
from mgc.models.layers import ClassificationHead


def test_squeeze_excitation_scales_each_channel_by_one_gate() -> None:
    block = SqueezeExcitation(6, reduction=2)
    frames = torch.randn(3, 6, 11)
    ratio = block(frames) / frames
    gate = torch.sigmoid(block.excite(torch.relu(block.squeeze(frames.mean(dim=2)))))
    torch.testing.assert_close(ratio, gate.unsqueeze(2).expand(-1, -1, 11))
    assert bool(((gate > 0) & (gate < 1)).all())


@pytest.mark.parametrize(("n_frames", "pooled"), [(1, 1), (2, 1), (7, 4), (8, 4)])
def test_gated_residual_pools_with_a_shorter_last_group(n_frames: int, pooled: int) -> None:
    block = GatedResidual(8, kernel_size=3, se_reduction=2, pool_size=2, dropout=0.0).eval()
    assert block(torch.randn(2, 8, n_frames)).shape == (2, 8, pooled)


def test_gated_residual_is_the_identity_where_its_convolution_is_zero() -> None:
    block = GatedResidual(8, kernel_size=3, se_reduction=2, pool_size=1, dropout=0.5).eval()
    nn.init.zeros_(block.conv.weight)
    frames = torch.randn(2, 8, 5)
    torch.testing.assert_close(block(frames), frames)


def test_attention_is_a_weighted_mean_over_time() -> None:
    attention = AdditiveAttention(5, 3)
    steady = torch.randn(2, 1, 5).expand(-1, 9, -1)
    torch.testing.assert_close(attention(steady), steady[:, 0])
    frames = torch.randn(2, 9, 5)
    answer = attention(frames)
    assert bool((answer <= frames.amax(dim=1) + 1e-6).all())
    assert bool((answer >= frames.amin(dim=1) - 1e-6).all())


def test_attention_follows_its_score() -> None:
    attention = AdditiveAttention(2, 1)
    with torch.no_grad():
        attention.project.weight.copy_(torch.tensor([[1.0, 0.0]]))
        attention.project.bias.zero_()
        attention.score.weight.fill_(50.0)
    frames = torch.tensor([[[-1.0, 7.0], [1.0, 3.0], [-1.0, 9.0]]])
    torch.testing.assert_close(attention(frames), torch.tensor([[1.0, 3.0]]), atol=1e-4, rtol=0)


def test_head_without_labels_has_no_parameters() -> None:
    head = ClassificationHead(4, 0)
    assert head(torch.randn(3, 4)).shape == (3, 0)
    assert list(head.parameters()) == []
