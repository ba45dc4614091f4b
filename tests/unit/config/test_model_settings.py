"""Settings of networks: known by name, strict, and named in errors as a reader writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from mgc.config import Config, FeatureConfig, TrainingConfig, load_config, model_sections, with_settings
from mgc.config.network_settings import BlockLevelConfig, CaoCnnConfig, CpResnetConfig, CrnnConfig, JainMlpConfig
from mgc.config.settings import to_toml
from mgc.config.training_settings import DEFAULT_ENSEMBLE
from mgc.errors import ConfigError


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


def test_without_a_word_about_networks_three_kinds_are_trained(tmp_path: Path) -> None:
    def names(*overrides: str) -> list[str]:
        config = load_config(None, list(overrides), default_ensemble=DEFAULT_ENSEMBLE)
        return [model.name for model in config.member_models()]

    assert names() == names("training.epochs=3") == ["crnn", "cp_resnet", "block_level"]
    assert names("training.members=2") == names("model.channels=64") == ["crnn", "crnn"]
    assert names("model.name=zhang_cnn", "training.members=1") == ["zhang_cnn"]
    assert names('training.ensemble=["jain_cnn"]') == ["jain_cnn"]
    (tmp_path / "found.toml").write_text(to_toml(load_config(None, ["training.epochs=3"])))
    found = load_config(str(tmp_path / "found.toml"), default_ensemble=DEFAULT_ENSEMBLE)
    assert [model.name for model in found.member_models()] == ["crnn", "crnn"], (
        "what a search found is what is trained"
    )


def test_statistics_of_the_default_ensemble_are_of_windows_as_they_are() -> None:
    config = load_config(None, [], default_ensemble=DEFAULT_ENSEMBLE)
    fit = config.training.for_member(2)
    assert (fit.gain_db, fit.mask_frames, fit.mask_frequency_bins) == (0.0, 0, 0)
    assert fit.crop_seconds is not None
    with pytest.raises(ValidationError):  # no window is longer
        FeatureConfig(window_seconds=1.001 * fit.crop_seconds)


OWN = 'training.ensemble=["crnn", {name="block_level", block_frames=64, training={epochs=7, learning_rate=1e-3}}]'


def test_a_member_is_fitted_by_its_own_settings_over_those_of_all() -> None:
    config = load_config(None, [OWN, "training.epochs=30", "training.mask_frames=3", "training.seed=5"])
    assert config.member_models() == (CrnnConfig(), BlockLevelConfig(block_frames=64))
    first, second = (config.training.for_member(number) for number in (0, 1))
    assert (first.epochs, first.learning_rate, first.mask_frames) == (30, 2e-3, 3)
    assert (second.epochs, second.learning_rate, second.mask_frames) == (7, 1e-3, 3)
    assert Config().training.for_member(1) == Config().training, "all alike where nothing is said"
    assert config.student().training.for_member(0).epochs == 30, "a student is no member of the ensemble"


def test_a_setting_of_a_members_own_is_kept_though_it_is_the_default_or_said_again() -> None:
    config = load_config(None, ['training.ensemble=[{name="crnn", training={epochs=40}}]', "training.epochs=9"])
    assert config.training.for_member(0).epochs == 40
    again = with_settings(config, {"training.epochs": 3})
    assert (again.training.epochs, again.training.for_member(0).epochs) == (3, 40)
    assert TrainingConfig.model_validate(json.loads(again.training.model_dump_json())) == again.training


def test_the_longest_fit_is_limited_for_all() -> None:
    training = load_config(None, [OWN, "training.epochs=30"]).training.at_most(10)
    assert [training.for_member(number).epochs for number in (0, 1)] == [10, 7]
    assert [training.at_most(2).for_member(number).epochs for number in (0, 1)] == [2, 2]
    assert training.at_most(2).for_member(1).learning_rate == 1e-3


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("training={epoch=3}", r"'training\.ensemble\.0\.training\.epoch': did you mean 'epochs'"),
        ("training={epochs=0}", r"training\.ensemble\.0\.training\.epochs = 0: Input should be greater"),
        ("training={seed=3}", r"ensemble\.0\.training\.seed': it is the whole ensemble's, set training\.seed"),
        ("training={ensemble=[]}", r"it is the whole ensemble's, set training\.ensemble"),
        ("training=3", r"training\.ensemble\.0\.training = 3: Input should be a valid dictionary"),
        ("trainin={epochs=3}", r"'training\.ensemble\.0\.trainin': did you mean 'training'"),
        ("epochs=3", r"'training\.ensemble\.0\.epochs': .* stand in a table, training = \{ epochs = … \}"),
        ("fusion=3", r"'training\.ensemble\.0\.fusion': it is the whole ensemble's, set training\.fusion"),
    ],
)
def test_what_is_wrong_with_a_members_own_settings_is_named(entry: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [f'training.ensemble=[{{name="crnn", {entry}}}]'])


@pytest.mark.parametrize("entry", ["{}", "3", '{model={name="crnn"}}', "{training={epochs=3}}"])
def test_an_entry_without_a_network_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"training\.ensemble\.0"):
        load_config(None, [f"training.ensemble=[{entry}]"])


def test_fingerprints_know_a_members_own_settings_and_are_as_before_without() -> None:
    plain = load_config(None, ['training.ensemble=["crnn", "block_level"]']).training
    own = load_config(None, ['training.ensemble=["crnn", {name="block_level", training={epochs=7}}]']).training
    other = load_config(None, ['training.ensemble=["crnn", {name="block_level", training={epochs=8}}]']).training
    assert len({plain.fingerprint(), own.fingerprint(), other.fingerprint()}) == 3
    entries = plain.model_dump(mode="json")["ensemble"]
    assert entries == [CrnnConfig().model_dump(mode="json"), BlockLevelConfig().model_dump(mode="json")]


def test_each_section_is_fingerprinted_by_the_name_it_has_in_a_file() -> None:
    kinds = {key: section.section_kind for key, section in Config() if key != "model"}
    assert kinds == {key: key for key in kinds}
    assert {section.section_kind for section in model_sections().values()} == {"network"}
