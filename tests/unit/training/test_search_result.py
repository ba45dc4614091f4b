"""What a search leaves behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mgc.config import Config, load_config
from mgc.errors import SchemaError
from mgc.storage.store import Store
from mgc.training.search import SearchResult, Trial, read_result, write_result


def trial(number: int, **figures: Any) -> Trial:
    values = {"loss": 1.0, "accuracy": 0.5, "tags": None, "epochs": 4, "folds": 1, "seconds": 2.0} | figures
    return Trial(number, {"training.batch_size": 16 * number} if number else {}, **values)


def test_trials_are_ranked_by_folds_then_by_the_figure() -> None:
    trials = [
        trial(0, loss=0.5),
        trial(1, loss=0.9, folds=3, accuracy=0.4),
        trial(2, loss=0.8, folds=3, accuracy=0.3),
        trial(3, loss=None, failed="the loss became nan"),
        trial(4, loss=0.4, accuracy=0.6),
    ]
    by_loss = sorted(trials, key=lambda one: one.rank("loss"))
    assert [one.number for one in by_loss] == [2, 1, 4, 0, 3]
    by_accuracy = sorted(trials, key=lambda one: one.rank("accuracy"))
    assert [one.number for one in by_accuracy] == [1, 2, 4, 0, 3]


def test_the_table_the_json_and_the_best_settings(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    assert read_result(store) is None
    result = SearchResult(
        "key", "loss", "split 'valid'", [trial(2), trial(0, loss=1.5), trial(1, failed="nan, alas")]
    )
    write_result(store, result, Config())
    found = read_result(store)
    assert found == result
    assert found is not None
    assert not found.searched
    assert found.looks == 12
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert [row["trial"] for row in rows] == ["2", "0", "1"]
    assert rows[0]["training.batch_size"] == "32"
    assert rows[1]["training.batch_size"] == ""
    assert rows[2]["failed"] == "nan, alas"
    assert json.loads((tmp_path / "tuning.json").read_text())["looks"] == 12
    text = (tmp_path / "best.toml").read_text()
    assert "looked at 12 times: its figure flatters" in text
    assert load_config(str(tmp_path / "best.toml")).training.batch_size == 32


@pytest.mark.parametrize(
    "content", ["no json", "{}", '{"trials": [{"x": 1}], "key": "", "metric": "", "judged_on": ""}']
)
def test_a_file_that_is_no_search_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tuning.json").write_text(content)
    with pytest.raises(SchemaError, match=r"tuning\.json' is not what `mgc tune` writes"):
        read_result(Store.open(str(tmp_path)))
