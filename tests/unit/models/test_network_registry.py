"""Every architecture of the registry keeps the common bargain: windows in, logits and an embedding out."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from model_makers import FEATURES, N_MELS, TAXONOMY, TRAINING, bundle_contents, feature_set, small_model
from pydantic.fields import FieldInfo
from torch import nn

from mgc.config import ModelConfig, model_sections, read_model_config
from mgc.errors import BundleError, ConfigError
from mgc.models.bundle import Member, load_bundle, write_bundle
from mgc.models.crnn import served
from mgc.models.ensemble import TemperatureScaling
from mgc.models.forward import member_outputs
from mgc.models.layers import ModelOutput
from mgc.models.network_registry import MODELS, build_model, count_parameters
from mgc.training.device import forward_precision
from mgc.training.loop import fit

SMALL: dict[str, dict[str, object]] = {
    "crnn": {"channels": 8, "rnn_units": 4, "embedding_size": 8},
    "cp_resnet": {"channels": 8, "embedding_size": 8},
    "block_level": {"block_frames": 16, "timbre": True, "input_dropout": 0.0, "embedding_size": 8},
    "cao_cnn": {"channels": 8},
    "guo_cnn": {"channels": 8, "embedding_size": 8},
    "guo_rnn": {"units": 8},
    "guo_hybrid": {"channels": 8, "units": 8},
    "jain_mlp": {"segment_frames": 9},
    "jain_lstm": {"segment_frames": 9},
    "jain_cnn": {"segment_frames": 9},
    "zhang_cnn": {"channels": 4, "embedding_size": 8},
    "transformer": {"heads": 2, "embedding_size": 8},
    "choi_fcn": {},
    "choi_crnn": {},
    "musicnn": {"backend_channels": 4, "dense_units": 8},
    "transfer": {"input_dropout": 0.0, "embedding_size": 8},
}
NAMES = sorted(SMALL)


def small(name: str, **changes: object) -> ModelConfig:
    return read_model_config({"name": name, **SMALL[name], **changes})


def answer(model: torch.nn.Module, log_mel: torch.Tensor) -> ModelOutput:
    output: ModelOutput = model(log_mel)
    return output


def test_every_network_has_settings_and_a_test() -> None:
    assert sorted(MODELS) == sorted(model_sections()) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_frames", [1, 24, 130])
def test_windows_of_any_length(name: str, n_frames: int) -> None:
    model = small_model(config=small(name)).eval()
    output = answer(model, torch.rand(3, n_frames, N_MELS) * -80)
    assert (output.genre_logits.shape, output.tag_logits.shape) == ((3, 2), (3, 3))
    assert output.embedding.shape[0] == 3
    assert all(bool(torch.isfinite(part).all()) for part in output)


def others(field: FieldInfo, value: object) -> list[object]:
    """Return some other values of a setting."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [2 * value, value + 1, value // 2, value + 2, 1]
    if isinstance(value, float):
        return [value / 2, 0.3]
    if isinstance(value, tuple):
        return [tuple(2 * one for one in value)]
    return [2, *get_args(field.annotation)]


def outcome(config: ModelConfig) -> list[object]:
    """Return a network's size, and what it answers while it trains and after."""
    torch.manual_seed(0)
    model = build_model(config, N_MELS, 3, 4)
    log_mel = torch.rand(4, 40, N_MELS) * -80
    with torch.no_grad():
        parts = [part.tolist() for mode in (True, False) for part in answer(model.train(mode), log_mel)]
    return [count_parameters(model), *parts]


@pytest.mark.parametrize("name", sorted({*NAMES} - {"transfer"}))
def test_every_setting_of_a_network_decides_something(name: str) -> None:
    plain = small(name, **({"channels": 32} if name == "crnn" else {}))  # 8 channels cannot be squeezed further
    expected = outcome(plain)
    for setting, field in type(plain).model_fields.items():
        if setting != "name":
            tried = []
            for value in others(field, getattr(plain, setting)):
                with suppress(ConfigError, ValueError, RuntimeError):  # out of its range, or does not fit the others
                    tried.append(outcome(read_model_config({**plain.model_dump(), setting: value})))
                if any(one != expected for one in tried):
                    break
            assert any(one != expected for one in tried), setting


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n_genres", "n_tags"), [(0, 3), (2, 0)])
def test_one_head_is_enough(name: str, n_genres: int, n_tags: int) -> None:
    output = answer(build_model(small(name), N_MELS, n_genres, n_tags), torch.rand(2, 24, N_MELS) * -80)
    assert (output.genre_logits.shape[1], output.tag_logits.shape[1]) == (n_genres, n_tags)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    # DistributedDataParallel waits for ever for a parameter that gets no gradient.
    model = small_model(config=small(name))
    output = answer(model, torch.rand(4, 40, N_MELS) * -80)
    (output.genre_logits.square().sum() + output.tag_logits.square().sum()).backward()  # type: ignore[no-untyped-call]
    learnt = [(key, parameter.grad) for key, parameter in model.named_parameters() if parameter.requires_grad]
    assert learnt
    assert [key for key, grad in learnt if grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_network_trains_in_half_precision(name: str) -> None:
    model = small_model(config=small(name))
    recurrent: list[torch.dtype] = []
    for layer in model.modules():
        if isinstance(layer, nn.RNNBase):
            layer.register_forward_pre_hook(lambda _, inputs: recurrent.append(inputs[0].dtype))
    log_mel = torch.rand(4, 40, N_MELS) * -80
    with forward_precision("cpu", "bfloat16"):
        half = answer(model, log_mel)
    assert half.genre_logits.dtype == torch.bfloat16
    assert set(recurrent) <= {torch.float32}, "cuDNN would make them float16"
    (half.genre_logits.float().square().sum() + half.tag_logits.float().square().sum()).backward()  # type: ignore[no-untyped-call]
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(one.grad is not None and one.grad.dtype == torch.float32 for one in learnt)
    assert all(bool(torch.isfinite(one.grad).all()) for one in learnt if one.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_answers_and_windows_do_not_affect_each_other(name: str) -> None:
    log_mel = torch.rand(4, 40, N_MELS) * -80
    one, two = (small_model(config=small(name), seed=3).eval() for _ in range(2))
    together = answer(one, log_mel)
    assert all(torch.equal(*pair) for pair in zip(together, answer(two, log_mel), strict=True))
    torch.testing.assert_close(together.tag_logits[2:3], answer(one, log_mel[2:3]).tag_logits, atol=1e-5, rtol=1e-5)
    other = answer(small_model(config=small(name), seed=4).eval(), log_mel)
    assert not torch.equal(together.tag_logits, other.tag_logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_brings_it_back(name: str, tmp_path: Path) -> None:
    config = small(name)
    model = small_model(config=config).eval()
    member = Member(config, dict(model.state_dict()), TemperatureScaling())
    write_bundle(str(tmp_path), bundle_contents(members=(member,)))
    bundle = load_bundle(str(tmp_path))
    assert bundle.members[0].config == config
    tracks = feature_set(3).log_mels
    found, given = member_outputs(bundle.build_members()[0], tracks), member_outputs(served(model), tracks)
    np.testing.assert_array_equal(found.genre_logits, given.genre_logits)
    np.testing.assert_array_equal(found.embeddings, given.embeddings)
    assert name in (tmp_path / "README.md").read_text()


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    wrong = Member(small("guo_cnn"), dict(small_model(config=small("guo_rnn")).state_dict()), TemperatureScaling())
    with pytest.raises(BundleError, match="does not fit its architecture"):
        write_bundle(str(tmp_path), bundle_contents(members=(wrong,)))


LEARNING_RATES = {"guo_rnn": 2e-2, "jain_lstm": 2e-2, "choi_crnn": 5e-3, "cao_cnn": 5e-3, "choi_fcn": 5e-3}


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_a_few_tracks_by_heart(name: str) -> None:
    config = TRAINING.model_copy(
        update={
            "epochs": 25,
            "batch_size": 8,
            "crop_seconds": None,
            "mask_frequency_bins": 0,
            "mask_frames": 0,
            "gain_db": 0.0,
            "label_smoothing": 0.0,
            "warmup_epochs": 0,
            "learning_rate": LEARNING_RATES.get(name, 1e-2),
        }
    )
    tracks = replace(feature_set(8, seed=1), tags_known=[False] * 8)
    model = small_model(config=small(name, dropout=0.0))
    result = fit(model, tracks, tracks, TAXONOMY, config, seed=0)
    assert result.reports[-1].train_loss < 0.3 * result.reports[0].train_loss
    assert max(report.valid_accuracy or 0.0 for report in result.reports) == 1.0


def test_sizes_are_those_that_the_docstrings_state() -> None:
    stated = {"jain_mlp": 1.03e6, "cao_cnn": 0.67e6, "guo_cnn": 0.17e6, "guo_rnn": 0.40e6, "guo_hybrid": 0.35e6}
    stated |= {"jain_lstm": 57e3, "jain_cnn": 25e3, "zhang_cnn": 0.23e6}
    for name, size in stated.items():
        model = build_model(model_sections()[name](), 128, 4, 0)
        assert count_parameters(model) == pytest.approx(size, rel=0.03), name


def test_leaky_relu_lets_the_negative_through() -> None:
    leaky = build_model(small("guo_cnn", activation="leaky_relu"), N_MELS, 2, 0)
    assert any(isinstance(part, torch.nn.LeakyReLU) for part in leaky.modules())
    assert not any(isinstance(part, torch.nn.ReLU) for part in leaky.modules())
    assert FEATURES.n_mels == N_MELS
