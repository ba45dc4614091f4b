"""A fit's state as bytes."""

from __future__ import annotations

import pickle

import pytest
import torch
from model_makers import TRAINING, small_model
from safetensors.torch import save

from mgc.errors import TrainingError
from mgc.training.optim import make_optimizer
from mgc.training.state import TrainingState, copy_optimizer, copy_weights, restore_optimizer


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = small_model()
    optimizer = make_optimizer(model, TRAINING)
    for _ in range(3):
        optimizer.zero_grad()
        output = model(torch.rand(4, 24, 16) * -80)
        (output.genre_logits.square().sum() + output.tag_logits.square().sum()).backward()
        optimizer.step()
    return model, optimizer


def test_bytes_and_back() -> None:
    model, optimizer = trained()
    weights = copy_weights(model)
    state = TrainingState(3, 17, weights, weights, 0.5, 2, copy_optimizer(optimizer))
    found = TrainingState.from_bytes(state.to_bytes())
    assert (found.epoch, found.seed, found.best_score, found.best_epoch) == (3, 17, 0.5, 2)
    for name in ("weights", "best_weights", "optimizer"):
        given, read = getattr(state, name), getattr(found, name)
        assert given.keys() == read.keys()
        assert all(torch.equal(given[key], read[key]) for key in given)


def test_no_score_yet() -> None:
    weights = copy_weights(small_model())
    found = TrainingState.from_bytes(TrainingState(0, 0, weights, weights, None, 0, {}).to_bytes())
    assert found.best_score is None
    assert found.optimizer == {}


def test_copies_do_not_follow_the_network() -> None:
    model, optimizer = trained()
    weights, moments = copy_weights(model), copy_optimizer(optimizer)
    before = {name: tensor.clone() for name, tensor in (weights | moments).items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    optimizer.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in (weights | moments).items())


def test_a_restored_optimizer_takes_the_same_step() -> None:
    model, optimizer = trained()
    weights, moments = copy_weights(model), copy_optimizer(optimizer)
    other = small_model(seed=9)
    other.load_state_dict(weights)
    resumed = make_optimizer(other, TRAINING)
    restore_optimizer(resumed, moments)
    log_mel = torch.rand(4, 24, 16) * -80
    for network, steps in ((model, optimizer), (other, resumed)):
        network.eval()
        steps.zero_grad()
        network(log_mel).genre_logits.square().sum().backward()
        steps.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    "data",
    [b"", b"short", pickle.dumps({"epoch": 1}), save({"a": torch.zeros(1)}), save({"a": torch.zeros(1)}, {"x": "y"})],
)
def test_what_is_no_state_is_refused(data: bytes) -> None:
    with pytest.raises(TrainingError, match="a checkpoint cannot be read"):
        TrainingState.from_bytes(data)


def test_a_cut_state_and_one_of_another_version() -> None:
    weights = copy_weights(small_model())
    data = TrainingState(1, 0, weights, weights, None, 1, {}).to_bytes()
    with pytest.raises(TrainingError, match="a checkpoint cannot be read"):
        TrainingState.from_bytes(data[:-10])
    with pytest.raises(TrainingError, match="another version of mgc"):
        TrainingState.from_bytes(data.replace(b"mgc-training-state-3", b"mgc-training-state-9"))
