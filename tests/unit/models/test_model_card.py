"""The model card."""

from __future__ import annotations

from dataclasses import replace

from model_makers import MODEL, TRAINING, bundle_contents

from mgc.config import TrainingConfig
from mgc.models.bundle import describe
from mgc.models.model_card import behind_its_best_member, model_card, published_line


def test_card_says_what_the_bundle_is() -> None:
    card = model_card(describe(bundle_contents(), "0123456789abcdef", "2025-01-01T00:00:00+00:00"))
    assert card.startswith("# mgc model bundle 0123456789abcdef\n")
    assert "\n## Input features\n\nLog-mel spectrograms of at most" in card
    assert "- 2 genres: high, low" in card
    assert "- 3 tags: buzz, hum, still" in card
    assert "| genre accuracy | 0.900 | 0.850 | 0.850 |" in card
    assert "| tag macro average precision | – | – | – |" in card
    assert "- train genres: high 3, low 4" in card
    assert "these figures flatter" in card


def test_an_ensemble_behind_its_best_member_is_named() -> None:
    members = [{"genre_accuracy": accuracy} for accuracy in (0.61, 0.67, 0.64)]
    metrics = {"ensemble": {"genre_accuracy": 0.65, "tag_macro_average_precision": None}, "members": members}
    found = behind_its_best_member(metrics)
    assert "genre accuracy 0.670 of member 1 alone, 0.650 of the ensemble" in found
    card = model_card(describe(bundle_contents(3, metrics=metrics), "0" * 16, "2025-01-01T00:00:00+00:00"))
    assert found in card
    assert not behind_its_best_member({**metrics, "ensemble": {"genre_accuracy": 0.67}})
    assert not behind_its_best_member({"ensemble": {"genre_accuracy": 0.5}, "members": members[:1]})
    assert not behind_its_best_member({})


def test_card_without_figures() -> None:
    contents = replace(bundle_contents(), metrics={}, facts={})
    card = model_card(describe(contents, "0" * 16, "2025-01-01T00:00:00+00:00"))
    assert "None: there was no labelled validation split." in card
    assert "Not recorded." in card


def test_card_leads_to_the_curves_where_there_are_any() -> None:
    contents = bundle_contents(1, facts={"histories": [[{"epoch": 1, "train_loss": 1.0}]]})
    assert "`training.html`" in model_card(describe(contents, "0" * 16, "2025-01-01T00:00:00+00:00"))
    assert "training.html" not in model_card(describe(bundle_contents(), "0" * 16, "2025-01-01T00:00:00+00:00"))


def test_card_says_how_each_member_was_fitted() -> None:
    ensemble = [MODEL, {**MODEL.model_dump(), "training": {"epochs": 3, "crop_seconds": None}}]
    training = TrainingConfig.model_validate({**TRAINING.model_dump(), "ensemble": ensemble, "seed": 11})
    description = describe(bundle_contents(training=training), "0" * 16, "2025-01-01T00:00:00+00:00")
    lines = model_card(description).splitlines()
    first, second = (line for line in lines if line.startswith("- member "))
    assert first.endswith("; fitted with epochs 6, crop_seconds 0.5")
    assert second.endswith("; fitted with epochs 3, crop_seconds none")
    (alike,) = (line for line in lines if line.startswith("Fitted with "))
    assert "batch_size 8" in alike
    assert "class_weights yes" in alike
    assert alike.endswith(", seed 11.")
    assert "epochs 6" not in alike.replace("warmup_epochs", "")
    assert description["members"][1]["training"]["epochs"] == 3


def test_card_of_published_weights_says_nothing_of_a_fit() -> None:
    contents = bundle_contents(facts={"published": "musicnn.pth"})
    card = model_card(describe(contents, "0" * 16, "2025-01-01T00:00:00+00:00"))
    assert "Fitted with" not in card
    assert "epochs" not in card


def test_the_card_says_what_published_weights_bring() -> None:
    joined = {"genre_accuracy": 0.65, "tag_macro_average_precision": None}
    metrics = {
        "fusion": {"mean": {"genre_accuracy": 0.1}, "weighted": joined},
        "without_published": {"method": "weighted", "genre_accuracy": 0.6, "tag_macro_average_precision": None},
    }
    line = published_line(metrics)
    assert line.endswith("joined by weights of other groups: genre accuracy 0.650 with them, 0.600 without.")
    assert published_line({"fusion": metrics["fusion"]}) == ""
