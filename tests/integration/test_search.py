"""A search for settings on a real Ray of two workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bundle_fixtures import Trained
from small_music import SETTINGS

from mgc.cluster.tune import SearchRequest, search_settings
from mgc.config import Config, load_config
from mgc.errors import ConfigError, SplitError
from mgc.training.search import Dimension, draw_trials

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_two")]
SPACE = (Dimension("training.learning_rate", "choice", (0.01, 1e30)),)


def config(*more: str) -> Config:
    few = ["training.epochs=2", "search.trials=3", "search.folds=2", "search.grace_epochs=4", "search.seed=2", *more]
    return load_config(None, [*SETTINGS, *few])


def request(trained: Trained, output: Path, chosen: Config) -> SearchRequest:
    return SearchRequest(str(trained.catalogue), str(trained.features), str(output), chosen, SPACE)


@pytest.mark.slow
def test_trials_on_folds_are_reported_compared_and_kept(trained: Trained, tmp_path: Path) -> None:
    chosen = config()
    drawn = draw_trials(SPACE, chosen.search)
    assert [one.get("training.learning_rate") for one in drawn] == [None, 1e30, 0.01], "what the test is about"
    reported: list[tuple[int, dict[str, Any]]] = []
    result = search_settings(
        request(trained, tmp_path, chosen), lambda number, epoch: reported.append((number, epoch))
    )
    assert result.judged_on == "2 folds of split 'train', groups apart"
    best, other, failed = result.trials
    assert {best.number, other.number} == {0, 2}
    assert (best.epochs, best.folds) == (other.epochs, other.folds) == (4, 2)
    assert best.loss is not None
    assert other.loss is not None
    assert best.loss <= other.loss
    assert failed.number == 1
    assert "the training loss became nan" in failed.failed
    assert result.looks == 8
    assert len([number for number, _ in reported if number != 1]) == 8
    assert load_config(str(tmp_path / "best.toml")).training.epochs == 2
    assert not (tmp_path / "run").exists()
    again = search_settings(request(trained, tmp_path, chosen))
    assert not again.searched
    assert again == result
    with pytest.raises(ConfigError, match="holds a search of other data or settings"):
        search_settings(request(trained, tmp_path, config("training.epochs=3")))


@pytest.mark.parametrize(
    ("setting", "kind", "message"),
    [
        ("search.folds=1", SplitError, "1 folds of"),
        ('training.ensemble=["crnn", "cao_cnn"]', ConfigError, "a search is for one network"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_ray_works(
    trained: Trained, tmp_path: Path, setting: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        search_settings(request(trained, tmp_path, config(setting)))
