"""What a search found: its table, its JSON, and the settings of its best trial."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from mgc.config import Config, with_settings
from mgc.config.search_space import Settings
from mgc.config.settings import to_toml
from mgc.errors import SchemaError
from mgc.storage.objects import ObjectNotFoundError
from mgc.storage.store import Store

JSON_FILE, TABLE_FILE, BEST_FILE = "tuning.json", "trials.csv", "best.toml"


@dataclass(frozen=True)
class Trial:
    """One trial, at its end or where it was stopped.

    Parameters
    ----------
    number
        0 is the settings as they were.
    settings
        What it changed.
    loss, accuracy, tags
        Validation loss, genre accuracy and tag PR-AUC at the epoch kept, means over the folds that it came to.
    epochs
        Over all folds; after each the tracks that trials are judged on were looked at.
    failed
        Why it has no figures; empty where it has.
    """

    number: int
    settings: Settings
    loss: float | None
    accuracy: float | None
    tags: float | None
    epochs: int
    folds: int
    seconds: float
    failed: str = ""

    def rank(self, metric: str) -> tuple[float, ...]:
        """Return what sorts trials, the best first: a mean over more folds before one over fewer, then the figure."""
        value: float | None = getattr(self, metric)
        if value is None or not math.isfinite(value) or self.failed:
            return (1.0, 0.0, 0.0, float(self.number))
        return (0.0, -float(self.folds), value if metric == "loss" else -value, float(self.number))


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Parameters
    ----------
    key
        Of the data, the settings and the space.
    judged_on
        In words.
    trials
        The best first.
    searched
        False where it was there already.
    """

    key: str
    metric: str
    judged_on: str
    trials: list[Trial]
    searched: bool = field(default=True, compare=False)

    @property
    def best(self) -> Trial:
        """The best trial."""
        return self.trials[0]

    @property
    def looks(self) -> int:
        """How often the tracks judged on were looked at."""
        return sum(trial.epochs for trial in self.trials)

    @property
    def caution(self) -> str:
        """What a reader of the figures must know."""
        return (
            f"The best of {len(self.trials)} trials by {self.metric}, judged on {self.judged_on}, "
            f"which was looked at {self.looks} times: its figure flatters. "
            "Only a split that no search saw says how good it is."
        )


def write_result(store: Store, result: SearchResult, config: Config) -> None:
    """Write the table, the best trial's settings, and, last, the JSON by which a finished search is known."""
    store.write_atomic(TABLE_FILE, _table(result).encode())
    store.write_atomic(BEST_FILE, best_toml(result, config).encode())
    value = {**asdict(result), "looks": result.looks, "caution": result.caution}
    del value["searched"]
    store.write_atomic(JSON_FILE, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_result(store: Store) -> SearchResult | None:
    """Return the search that was finished here, None where there is none.

    Raises
    ------
    SchemaError
        `tuning.json` is something else.
    """
    try:
        value = json.loads(store.read_bytes(JSON_FILE))
        trials = [Trial(**trial) for trial in value["trials"]]
        return SearchResult(value["key"], value["metric"], value["judged_on"], trials, searched=False)
    except ObjectNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(
            f"'{store.uri(JSON_FILE)}' is not what `mgc tune` writes", "give another directory as --output"
        ) from error


def best_toml(result: SearchResult, config: Config) -> str:
    """Return the settings of the best trial, all that are not the default ones, for `mgc train --config`."""
    best = result.best
    head = [f"Written by `mgc tune`, trial {best.number}. Use: mgc train … --config {BEST_FILE}", result.caution]
    return to_toml(with_settings(config, best.settings), "\n".join(head))


def _table(result: SearchResult) -> str:
    keys = sorted({key for trial in result.trials for key in trial.settings})
    figures = ("loss", "accuracy", "tags", "epochs", "folds", "seconds", "failed")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", *keys, *figures])
    for trial in result.trials:
        values: list[Any] = [trial.settings.get(key, "") for key in keys]
        rows.writerow([trial.number, *values, *(getattr(trial, name) for name in figures)])
    return text.getvalue()
