"""Settings of networks: known by name, strict, and named in errors as a reader writes them."""

from __future__ import annotations

import pytest

from mgc.config import Config, load_config
from mgc.errors import ConfigError
from mgc.model_config import CaoCnnConfig, CpResnetConfig, CrnnConfig, JainMlpConfig


def test_without_a_name_it_is_the_crnn() -> None:
    assert load_config(None, ["model.channels=64"]).model == CrnnConfig(channels=64)
    assert Config().model == CrnnConfig()


def test_a_name_chooses_the_settings() -> None:
    assert load_config(None, ["model.name=cao_cnn"]).model == CaoCnnConfig()
    assert load_config(None, ["model.name=jain_mlp", "model.n_mfcc=20"]).model == JainMlpConfig(n_mfcc=20)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.chanels=3", r"unknown setting 'model\.chanels': did you mean 'channels'"),
        ("model.name=cao_cn", r"model\.name = 'cao_cn': no such network; did you mean 'cao_cnn'"),
        ('model={name="cao_cnn", rnn="gru"}', r"unknown setting 'model\.rnn': valid: .*kernel_size"),
        ("model.channels=1", r"model\.channels = 1: Input should be greater"),
        ('training.ensemble=["cp_resne"]', r"training\.ensemble\.0\.name = 'cp_resne': .* 'cp_resnet'"),
        (
            'training.ensemble=["crnn", {name="cp_resnet", roh=2}]',
            r"'training\.ensemble\.1\.roh': did you mean 'rho'",
        ),
        ("model=3", r"model = 3"),
        ("training.ensemble=3", r"training\.ensemble = 3"),
    ],
)
def test_errors_name_the_key_and_the_nearest_valid_one(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_members_are_equal_or_named() -> None:
    equal = load_config(None, ["training.members=3", "model.name=guo_cnn"])
    assert [model.name for model in equal.member_models()] == ["guo_cnn"] * 3
    named = load_config(None, ['training.ensemble=["crnn", {name="cp_resnet", rho=2}]', "model.channels=64"])
    assert named.member_models() == (CrnnConfig(channels=64), CpResnetConfig(rho=2))


def test_fingerprints_tell_networks_apart() -> None:
    prints = {model.fingerprint() for model in (CrnnConfig(), CrnnConfig(channels=64), CpResnetConfig())}
    assert len(prints) == 3
