"""The search for settings without its engine: the space, the trials drawn from it, the table of results.

A space is read from a TOML file, drawn from reproducibly, and every corner of it is checked as a setting.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mgc.config.job_settings import SearchConfig
from mgc.config.section import json_object
from mgc.config.settings import Config, read_toml, to_toml, with_settings
from mgc.errors import ConfigError, SchemaError
from mgc.storage.objects import ObjectNotFoundError
from mgc.storage.store import Store
from mgc.tables.csv_cells import csv_of_rows

JSON_FILE, TABLE_FILE, BEST_FILE = "tuning.json", "trials.csv", "best.toml"
SCALES = ("log", "uniform", "integer")
LOSS_SETTINGS = ("training.tag_loss_weight",)
"""Settings that change what the validation loss means: by it trials of different ones cannot be compared."""


@dataclass(frozen=True)
class Dimension:
    """One setting and its values.

    Parameters
    ----------
    key
        As after `--set`.
    scale
        `choice`, or what lies between two bounds: `uniform`, `log` (uniform in the logarithm), `integer`.
    values
        All choices, or both bounds.
    """

    key: str
    scale: str
    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """Return one value."""
        low, high = self.values[0], self.values[-1]
        if self.scale == "choice":
            return self.values[int(rng.integers(len(self.values)))]
        if self.scale == "integer":
            return int(rng.integers(low, high + 1))
        if self.scale == "log":
            return _rounded(math.exp(rng.uniform(math.log(low), math.log(high))))
        return _rounded(rng.uniform(low, high))


Settings = dict[str, Any]
"""Key → value of what a trial changes."""

DEFAULT_SPACE = (
    Dimension("training.learning_rate", "log", (3e-4, 1e-2)),
    Dimension("training.batch_size", "choice", (16, 32, 64)),
    Dimension("training.weight_decay", "log", (1e-4, 1e-1)),
    Dimension("model.dropout", "uniform", (0.1, 0.5)),
)
CRNN_SPACE = (
    Dimension("model.blocks", "choice", (2, 3, 4)),
    Dimension("model.channels", "choice", (64, 96, 128, 192)),
)
"""Depth and width of the default network; those of others a space file names."""


def read_space(path: str | None, config: Config) -> tuple[Dimension, ...]:
    """Return the space of a TOML file, or the default one: learning rate, batch size, decay, dropout, depth, width.

    Parameters
    ----------
    path
        Keys as in a settings file; a value is a list of choices, or a table `{log = [low, high]}`, `uniform` or
        `integer`.

    Raises
    ------
    ConfigError
        The file is no space, a key is unknown, or a value of it would be refused as a setting.
    """
    if path is None:
        space = DEFAULT_SPACE + (CRNN_SPACE if config.model.name == "crnn" else ())
    else:
        space = tuple(_dimension(key, value) for key, value in _leaves(read_toml(path)))
        if not space:
            raise ConfigError(f"'{path}' names no setting to search", "e.g. training.batch_size = [16, 32, 64]")
    for dimension in space:
        _check(dimension, config)
    return space


def draw_trials(space: tuple[Dimension, ...], search: SearchConfig) -> list[Settings]:
    """Return what each trial changes; the first changes nothing. A longer search begins as a shorter one does."""
    rng = np.random.default_rng(search.seed)
    drawn = [{dimension.key: dimension.draw(rng) for dimension in space} for _ in range(search.trials - 1)]
    return [{}, *drawn]


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        nested = isinstance(value, dict) and not set(value) & set(SCALES)
        found += _leaves(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return found


def _dimension(key: str, value: Any) -> Dimension:
    if isinstance(value, list) and value:
        return Dimension(key, "choice", tuple(value))
    if isinstance(value, dict) and len(value) == 1:
        scale, bounds = next(iter(value.items()))
        if scale in SCALES and _are_bounds(bounds, scale):
            return Dimension(key, scale, tuple(bounds))
    raise ConfigError(
        f"{key} = {value!r} is no range of values",
        "a list of choices, or {log = [low, high]}, {uniform = [low, high]}, {integer = [low, high]}",
    )


def _are_bounds(bounds: Any, scale: str) -> bool:
    kinds = int if scale == "integer" else (int, float)
    if not (isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(one, kinds) for one in bounds)):
        return False
    return bool(bounds[0] < bounds[1] and (scale != "log" or bounds[0] > 0))


def _check(dimension: Dimension, config: Config) -> None:
    section = dimension.key.partition(".")[0]
    if section not in ("training", "model"):
        raise ConfigError(
            f"{dimension.key} cannot be searched: trials differ in [training] and [model] alone",
            "shards are made once; extract with other [features] or [augment] to compare those",
        )
    if dimension.key in LOSS_SETTINGS and config.search.metric == "loss":
        raise ConfigError(
            f"trials of different {dimension.key} cannot be compared by their loss", "--set search.metric=accuracy"
        )
    for value in dimension.values:
        with_settings(config, {dimension.key: value})


def _rounded(value: float) -> float:
    """Return the value with four digits: what a table shows is what was tried."""
    return float(f"{value:.4g}")


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
        Over all folds; each one looked at the tracks that trials are judged on.
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
    store.write_atomic(TABLE_FILE, _table(result))
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
        value = json_object(store.read_bytes(JSON_FILE))
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


def _table(result: SearchResult) -> bytes:
    keys = sorted({key for trial in result.trials for key in trial.settings})
    figures = ("loss", "accuracy", "tags", "epochs", "folds", "seconds", "failed")
    header = ["trial", *keys, *figures]
    trials = ({"trial": trial.number, **trial.settings, **vars(trial)} for trial in result.trials)
    return csv_of_rows(header, ([trial.get(name) for name in header] for trial in trials))
