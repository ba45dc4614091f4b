"""The model card."""

from __future__ import annotations

from dataclasses import replace

from model_makers import bundle_contents

from mgc.models.card import model_card
from mgc.models.contents import describe


def test_card_says_what_the_bundle_is() -> None:
    card = model_card(describe(bundle_contents(), "0123456789abcdef", "2025-01-01T00:00:00+00:00"))
    assert card.startswith("# mgc model bundle 0123456789abcdef\n")
    assert "- 2 genres: high, low" in card
    assert "- 3 tags: buzz, hum, still" in card
    assert "| genre accuracy | 0.900 | 0.850 | 0.850 |" in card
    assert "| tag macro average precision | – | – | – |" in card
    assert "- train genres: high 3, low 4" in card
    assert "these figures flatter" in card


def test_card_without_figures() -> None:
    contents = replace(bundle_contents(), metrics={}, facts={})
    card = model_card(describe(contents, "0" * 16, "2025-01-01T00:00:00+00:00"))
    assert "None: there was no labelled validation split." in card
    assert "Not recorded." in card


def test_card_leads_to_the_curves_where_there_are_any() -> None:
    contents = bundle_contents(1, facts={"histories": [[{"epoch": 1, "train_loss": 1.0}]]})
    assert "`training.html`" in model_card(describe(contents, "0" * 16, "2025-01-01T00:00:00+00:00"))
    assert "training.html" not in model_card(describe(bundle_contents(), "0" * 16, "2025-01-01T00:00:00+00:00"))
