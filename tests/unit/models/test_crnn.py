"""The CRNN and its registry."""

from __future__ import annotations

import pytest
import torch

from mgc.config.network_settings import CrnnConfig
from mgc.models.network_registry import build_model


@pytest.mark.parametrize("rnn", ["gru", "lstm"])
@pytest.mark.parametrize(("n_genres", "n_tags"), [(4, 7), (0, 7), (4, 0)])
def test_output_shapes(rnn: str, n_genres: int, n_tags: int) -> None:
    config = CrnnConfig.model_validate(
        {"channels": 16, "blocks": 2, "rnn": rnn, "rnn_units": 8, "embedding_size": 12}
    )
    model = build_model(config, 20, n_genres, n_tags)
    output = model(torch.rand(3, 37, 20) * -80)
    assert output.genre_logits.shape == (3, n_genres)
    assert output.tag_logits.shape == (3, n_tags)
    assert output.embedding.shape == (3, 12)


@pytest.mark.parametrize("n_frames", [1, 2, 5, 16, 431])
def test_any_number_of_frames(n_frames: int) -> None:
    model = build_model(CrnnConfig(channels=8, rnn_units=4, embedding_size=8), 16, 3, 2).eval()
    output = model(torch.rand(2, n_frames, 16) * -80)
    assert output.genre_logits.shape == (2, 3)
    assert bool(torch.isfinite(output.genre_logits).all())


def test_windows_do_not_affect_each_other_in_evaluation() -> None:
    model = build_model(CrnnConfig(channels=8, rnn_units=4, embedding_size=8), 16, 3, 2).eval()
    log_mel = torch.rand(4, 50, 16) * -80
    together, alone = model(log_mel), model(log_mel[2:3])
    torch.testing.assert_close(together.tag_logits[2:3], alone.tag_logits, atol=1e-5, rtol=1e-5)


def test_same_seed_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = build_model(CrnnConfig(channels=8, rnn_units=4, embedding_size=8), 16, 3, 2)
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_every_parameter_learns_from_both_heads() -> None:
    # DistributedDataParallel waits for ever for a parameter that gets no gradient.
    model = build_model(CrnnConfig(channels=8, rnn_units=4, embedding_size=8), 16, 3, 2)
    output = model(torch.rand(4, 40, 16) * -80)
    (output.genre_logits.square().sum() + output.tag_logits.square().sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
