"""Names of views, and the settings that name them."""

from __future__ import annotations

import pytest

from mgc.config import load_config
from mgc.config.view_settings import View, parse_view
from mgc.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("clean", "clean"),
        ("tempo", "tempo"),
        ("tempo#1", "tempo"),
        ("tempo#12", "tempo#12"),
        ("tempo+loudness+pitch", "pitch+loudness+tempo"),
        ("noise+overlay#3", "overlay+noise#3"),
    ],
)
def test_a_name_has_one_canonical_form(name: str, canonical: str) -> None:
    assert parse_view(name).name == canonical
    assert parse_view(canonical) == parse_view(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tenpo", "unknown view 'tenpo': did you mean 'tempo'?"),
        ("pitch+loudnes", "unknown view 'loudnes' in 'pitch+loudnes': did you mean 'loudness'?"),
        ("vocal", "did you mean 'loudness'?"),
        ("tempo+clean", "unknown view 'clean' in 'tempo+clean'"),
        ("tempo+tempo", "names 'tempo' twice"),
        ("tempo#0", "is no view: after '#' comes a number"),
        ("clean#2", "there is but one clean view"),
        ("", "unknown view ''"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?").replace("+", r"\+")):
        parse_view(name)


def test_numbered_views_are_other_draws() -> None:
    assert View(("tempo",)).numbered(2).name == "tempo#2"


def test_settings_hold_canonical_names_and_always_the_clean_view() -> None:
    assert load_config().augment.views == ("clean",)
    chosen = load_config(None, ['augment.views=["tempo+pitch", "noise"]'])
    assert chosen.augment.views == ("clean", "pitch+tempo", "noise")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('augment.views=["clean", "temp"]', "did you mean 'tempo'"),
        ('augment.views=["pitch+tempo", "tempo+pitch"]', r"are the same view; a second draw is 'pitch\+tempo#2'"),
        ('augment.views=["tempo", "tempo"]', "comes twice"),
        ("augment.tempo_ratio=[1.2, 0.8]", r"a range is \[lowest, highest\], within \[0.5, 2\]"),
        ("augment.overlay_alpha=[0.5, 1.5]", r"within \[0, 1\]"),
        ("augment.balance_to_share=0.5", "needs views besides 'clean'"),
        ("augment.view=1", "did you mean 'views'"),
    ],
)
def test_wrong_settings_are_named_before_any_work(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [setting])
