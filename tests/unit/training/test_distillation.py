"""A student learns the ensemble's predictions, with labels and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_makers import (
    FEATURES,
    MODEL,
    TAXONOMY,
    TRAINING,
    bundle_contents,
    feature_set,
    small_model,
    without_labels,
)

from mgc.cluster.train import TrainingRequest, train_ensemble
from mgc.config import Config, DistillConfig, load_config
from mgc.config.network_settings import JainMlpConfig
from mgc.errors import ConfigError, TrainingError
from mgc.inference.predictor import windows_per_second
from mgc.models.bundle import Bundle, describe, load_bundle, write_bundle
from mgc.models.model_card import model_card
from mgc.training.assemble import assemble, distillation_labels, ensemble_predictions, fidelity_metrics
from mgc.training.loop import fit
from mgc.training.losses import encode_labels, weigh_labels

TRAIN, VALID = feature_set(24, seed=1), feature_set(12, seed=2)
STUDENT = MODEL.model_copy(update={"channels": 8, "blocks": 1})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An ensemble of two that was fitted well."""
    config = TRAINING.model_copy(update={"epochs": 25, "learning_rate": 2e-2, "patience": 25})
    weights = [fit(small_model(seed=n), TRAIN, VALID, TAXONOMY, config, seed=n).best_weights for n in range(2)]
    place = str(tmp_path_factory.mktemp("teacher"))
    whole = Config(model=MODEL, training=config, features=FEATURES)
    write_bundle(place, assemble(weights, VALID, TAXONOMY, whole, FEATURES, {}))
    return load_bundle(place)


def test_every_window_has_the_ensembles_prediction(teacher: Bundle) -> None:
    label_weights = distillation_labels(teacher, TRAIN, TRAINING, share=1.0)
    predicted = ensemble_predictions(teacher, TRAIN.log_mels, by_window=True)
    np.testing.assert_array_equal(label_weights.genre, predicted.genre_probabilities)
    np.testing.assert_array_equal(label_weights.tag_positive, predicted.tag_probabilities)
    np.testing.assert_allclose(label_weights.tag_positive + label_weights.tag_negative, 1.0, atol=1e-6)
    assert label_weights.genre.shape == (48, 2)
    np.testing.assert_allclose(label_weights.genre.sum(axis=1), 1.0, atol=1e-5)


def test_labels_weigh_what_the_teacher_does_not(teacher: Bundle) -> None:
    plain = TRAINING.model_copy(update={"class_weights": False})
    labels = weigh_labels(encode_labels(TRAIN, TAXONOMY), 2, False).rows(np.repeat(np.arange(24), 2))
    alone, half, none = (distillation_labels(teacher, TRAIN, plain, share) for share in (1.0, 0.5, 0.0))
    for name in ("genre", "tag_positive", "tag_negative"):
        soft, hard = getattr(alone, name), getattr(labels, name)
        np.testing.assert_allclose(getattr(half, name), 0.5 * (soft + hard), atol=1e-6)
        np.testing.assert_array_equal(getattr(none, name), hard)


def test_what_has_no_label_is_learnt_from_the_teacher_alone(teacher: Bundle) -> None:
    unlabelled = distillation_labels(teacher, without_labels(TRAIN), TRAINING, share=0.3)
    np.testing.assert_array_equal(unlabelled.genre, distillation_labels(teacher, TRAIN, TRAINING, share=1.0).genre)


def test_a_student_learns_from_tracks_without_labels(teacher: Bundle) -> None:
    config = Config(model=MODEL, training=TRAINING, features=FEATURES, distill=DistillConfig(model=STUDENT)).student()
    training = config.training.model_copy(update={"epochs": 40, "learning_rate": 2e-2, "patience": 40})
    config = config.model_copy(update={"training": training})
    unlabelled_tracks = without_labels(TRAIN)
    soft_labels = distillation_labels(teacher, unlabelled_tracks, training, share=1.0)
    fitted = fit(
        small_model(config=STUDENT), unlabelled_tracks, VALID, TAXONOMY, training, seed=0, soft_labels=soft_labels
    )
    student = assemble([fitted.best_weights], VALID, TAXONOMY, config, FEATURES, {})
    comparison = fidelity_metrics(student, teacher, VALID)
    assert comparison["fidelity"]["same_genre"] >= 0.9
    assert comparison["fidelity"]["tag_distance"] < 0.25
    assert comparison["teacher"].keys() == student.metrics["ensemble"].keys()


def test_one_head_alone_predicts_nothing_of_the_other(teacher: Bundle) -> None:
    taxonomy = type(TAXONOMY)((), TAXONOMY.tags)
    student = bundle_contents(1, taxonomy)
    tags_alone = replace(teacher, **vars(student))
    comparison = fidelity_metrics(student, tags_alone, VALID)
    assert comparison["fidelity"]["same_genre"] is None
    assert comparison["fidelity"]["tag_distance"] == 0.0


def test_features_that_are_not_finite_are_named(teacher: Bundle) -> None:
    broken = replace(TRAIN, log_mels=[*TRAIN.log_mels[:-1], np.full_like(TRAIN.log_mels[-1], np.nan)])
    with pytest.raises(TrainingError, match="'t0023' has features that are not finite"):
        distillation_labels(teacher, broken, TRAINING, share=1.0)


def test_settings_of_the_student() -> None:
    default = Config().student()
    assert default.member_models() == (DistillConfig().model,)
    assert (default.training.label_smoothing, default.training.class_weights) == (0.0, False)
    assert default.student() == default
    wider = load_config(None, ["distill.model.channels=48", "training.members=5"]).student()
    assert wider.member_models() == (DistillConfig().model.model_copy(update={"channels": 48}),)
    assert load_config(None, ["distill.model=jain_mlp"]).distill.model == JainMlpConfig()
    with pytest.raises(ConfigError, match=r"distill\.model\.chanels': did you mean 'channels'"):
        load_config(None, ["distill.model.chanels=48"])
    with pytest.raises(ConfigError, match=r"distill\.model\.name = 'cao_cn': no such network"):
        load_config(None, ["distill.model=cao_cn"])


def test_the_card_says_whose_student_it_is() -> None:
    facts = {"teacher": "0123456789abcdef", "teacher_share": 0.75}
    metrics = {"ensemble": {"genre_accuracy": 0.7}, "teacher": {"genre_accuracy": 0.8}}
    card = model_card(describe(bundle_contents(1, facts=facts, metrics=metrics), "f" * 16, "2025-01-01T00:00:00"))
    assert (
        "It learnt the predictions of the bundle `0123456789abcdef` for the training tracks; labels weigh 25%."
        in card
    )
    assert "| figure | ensemble | its teacher |" in card
    assert "| genre accuracy | 0.700 | 0.800 |" in card


def test_pace_is_measured_for_each(teacher: Bundle) -> None:
    paces = windows_per_second([teacher, teacher], rounds=1)
    assert len(paces) == 2
    assert min(paces) > 0


def test_a_bundle_is_not_its_own_teacher(teacher: Bundle, tmp_path: Path) -> None:
    request = TrainingRequest(
        str(tmp_path / "c"), str(tmp_path / "f"), teacher.uri, Config(), teacher_uri=teacher.uri
    )
    with pytest.raises(ConfigError, match="the student would replace its teacher"):
        train_ensemble(request)
