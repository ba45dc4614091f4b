"""The masked losses, against torch's own where those are defined."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mgc.training.losses import genre_loss, tag_loss

LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
GENRES = torch.tensor([0, 3, 1, 1, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_genre_loss_is_cross_entropy(smoothing: float) -> None:
    genre_weight = F.one_hot(GENRES, 4).float()
    expected = F.cross_entropy(LOGITS, GENRES, label_smoothing=smoothing)
    torch.testing.assert_close(genre_loss(LOGITS, genre_weight, 5.0, smoothing), expected)


def test_class_weights_are_those_of_torch() -> None:
    weights = torch.tensor([0.5, 2.0, 1.0, 4.0])
    genre_weight = F.one_hot(GENRES, 4) * weights
    expected = F.cross_entropy(LOGITS, GENRES, weight=weights)
    torch.testing.assert_close(genre_loss(LOGITS, genre_weight, float(genre_weight.sum())), expected)


def test_squared_error_is_half_the_squared_distance_to_the_labels() -> None:
    weight = F.one_hot(GENRES, 4).float()
    expected = 0.5 * (weight - LOGITS.softmax(dim=1)).square().sum(dim=1)
    torch.testing.assert_close(genre_loss(LOGITS, weight, 5.0, kind="squared_error"), expected.mean())
    # Smoothed or mixed labels: as near a minimum at the mixture, the mean over the labels.
    mixed = 0.6 * weight + 0.4 * weight.flip(0)
    whole = 0.6 * expected + 0.4 * 0.5 * (weight.flip(0) - LOGITS.softmax(dim=1)).square().sum(dim=1)
    torch.testing.assert_close(genre_loss(LOGITS, mixed, 5.0, kind="squared_error"), whole.mean())
    tags = (torch.arange(20).reshape(5, 4) % 3 == 0).float()
    loss = tag_loss(LOGITS, tags, 1 - tags, 20.0, "squared_error")
    torch.testing.assert_close(loss, 0.5 * (tags - torch.sigmoid(LOGITS)).square().mean())


def test_unknown_genres_contribute_nothing() -> None:
    genre_weight = F.one_hot(GENRES, 4).float()
    genre_weight[[1, 4]] = 0
    known = torch.tensor([0, 2, 3])
    expected = F.cross_entropy(LOGITS[known], GENRES[known], label_smoothing=0.1)
    torch.testing.assert_close(genre_loss(LOGITS, genre_weight, 3.0, 0.1), expected)
    logits = LOGITS.clone().requires_grad_()
    genre_loss(logits, genre_weight, 3.0, 0.1).backward()
    assert logits.grad is not None
    assert logits.grad[[1, 4]].abs().max() == 0
    assert logits.grad[known].abs().min() > 0


def test_tag_loss_is_binary_cross_entropy_of_what_is_known() -> None:
    tags = (torch.arange(20).reshape(5, 4) % 3 == 0).float()
    known = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])[:, None]
    loss = tag_loss(LOGITS, tags * known, (1 - tags) * known, 12.0)
    rows = torch.tensor([0, 2, 3])
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(LOGITS[rows], tags[rows]))


def test_a_batch_that_knows_nothing_gives_zero_with_a_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    nothing = torch.zeros(5, 4)
    loss = genre_loss(logits, nothing, 0.0, 0.1) + tag_loss(logits, nothing, nothing, 0.0)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_no_labels_at_all() -> None:
    logits = torch.zeros(5, 0, requires_grad=True)
    nothing = torch.zeros(5, 0)
    loss = genre_loss(logits, nothing, 0.0) + tag_loss(logits, nothing, nothing, 0.0)
    loss.backward()
    assert loss.item() == 0.0


def test_losses_of_parts_add_up_to_that_of_the_whole() -> None:
    genre_weight = F.one_hot(GENRES, 4).float()
    whole = genre_loss(LOGITS, genre_weight, 5.0)
    parts = [genre_loss(LOGITS[rank::2], genre_weight[rank::2], 5.0 / 2) for rank in range(2)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_mixture_of_labels_is_the_mixture_of_losses() -> None:
    genre_weight = F.one_hot(GENRES, 4).float()
    mixed = genre_loss(LOGITS, 0.7 * genre_weight + 0.3 * genre_weight.flip(0), 5.0)
    torch.testing.assert_close(
        mixed, 0.7 * genre_loss(LOGITS, genre_weight, 5.0) + 0.3 * genre_loss(LOGITS, genre_weight.flip(0), 5.0)
    )
