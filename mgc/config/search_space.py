"""A space of settings to search in: read from a TOML file, drawn from reproducibly, every corner of it checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgc.config.job_settings import SearchConfig
from mgc.config.settings import Config, read_toml, with_settings
from mgc.errors import ConfigError

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
"""Depth and width of the default network; of others the space file says what they are called."""


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
