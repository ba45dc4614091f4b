"""From fitted members to a bundle's contents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_makers import FEATURES, MODEL, TAXONOMY, TRAINING, feature_set, small_model, without_labels

from mgc.config import Config, TrainingConfig
from mgc.config.network_settings import CaoCnnConfig
from mgc.models.bundle import load_bundle, write_bundle
from mgc.models.ensemble import TemperatureScaling
from mgc.training.assemble import assemble
from mgc.training.loop import fit

ALONE = Config(model=MODEL, training=TRAINING.model_copy(update={"members": 1}), features=FEATURES)
VALID = feature_set(12, seed=2)


@pytest.mark.parametrize("temperature", ["member", "fused"])
def test_fitted_members_become_a_bundle(temperature: str, tmp_path: Path) -> None:
    train = feature_set(24, seed=1)
    weights = [
        fit(small_model(seed=seed), train, VALID, TAXONOMY, TRAINING, seed=seed).best_weights for seed in range(2)
    ]
    config = Config(model=MODEL, training=TRAINING.model_copy(update={"temperature": temperature}), features=FEATURES)
    contents = assemble(weights, VALID, TAXONOMY, config, FEATURES, {"tracks": 24})
    ensemble, members = contents.metrics["ensemble"], contents.metrics["members"]
    assert len(members) == len(contents.members) == 2
    assert ensemble.keys() == members[0].keys()
    assert ensemble["genre_accuracy"] >= min(member["genre_accuracy"] for member in members)
    # Jensen: the mean of probabilities never has a worse log-loss than the members' mean.
    assert ensemble["genre_log_loss"] <= np.mean([member["genre_log_loss"] for member in members]) + 1e-6
    # One of the two is fitted, the other left alone.
    scaled = [member.calibration != TemperatureScaling() for member in contents.members]
    assert scaled == [temperature == "member"] * 2
    assert (contents.decision.fusion.genre.temperature != 1.0) == (temperature == "fused")
    write_bundle(str(tmp_path), contents)
    assert load_bundle(str(tmp_path)).metrics == contents.metrics


@pytest.mark.parametrize("valid", [None, without_labels(VALID)])
def test_without_validation_temperatures_stay(valid: object) -> None:
    weights = [dict(small_model().state_dict())]
    contents = assemble(weights, valid, TAXONOMY, ALONE, FEATURES, {})  # type: ignore[arg-type]
    assert contents.metrics == {}
    assert contents.members[0].calibration == TemperatureScaling()


def test_members_of_different_architectures(tmp_path: Path) -> None:
    other = CaoCnnConfig(channels=8)
    config = Config(features=FEATURES, training=TrainingConfig(ensemble=(MODEL, other)))
    weights = [dict(small_model(config=model).state_dict()) for model in (MODEL, other)]
    contents = assemble(weights, VALID, TAXONOMY, config, FEATURES, {})
    write_bundle(str(tmp_path), contents)
    assert [member.config for member in load_bundle(str(tmp_path)).members] == [MODEL, other]
