"""The recipes of docs/recipes are settings that load, of networks that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgc.config import load_config
from mgc.models.network_registry import build_model

RECIPES = sorted((Path(__file__).parents[3] / "docs" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads_and_builds(recipe: Path) -> None:
    config = load_config(str(recipe), ["training.seed=3"])
    assert config.training.seed == 3
    assert len(config.member_models()) >= 2
    for model in config.member_models():
        build_model(model, config.features.n_mels, 10, 25)


def test_each_kind_of_network_is_fitted_in_its_own_way() -> None:
    config = load_config(str(next(path for path in RECIPES if path.stem == "gtzan")))
    fits = {
        model.name: config.training.for_member(number).learning_rate
        for number, model in enumerate(config.member_models())
    }
    assert fits["block_level"] < fits["crnn"]


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} >= {"gtzan", "midi"}
