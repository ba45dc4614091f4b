"""An experiment from its file: `like` and the common `[training]` filled in, then all of it checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from mgc.config.settings import apply_override, explained, read_toml
from mgc.errors import ConfigError
from mgc.studies.study_settings import Experiment

REMEDY = (
    "docs/reproduce.md describes the experiment file, docs/configuration.md the settings of networks and training"
)
OWN = ("name", "like", "claims", "heads", "protocols")
"""What a system does not take over from the one it is like."""


def load_experiment(path: str, overrides: Sequence[str] | None = None) -> Experiment:
    """Return the experiment of a TOML file, with `section.key=value` overrides on top.

    Raises
    ------
    ConfigError
        The file is missing or no TOML, a key is unknown, a value is out of range, or a name leads nowhere.
    """
    values = read_toml(path)
    for override in overrides or ():
        apply_override(values, override)
    return experiment_of(values, f" in {path}")


def experiment_of(values: Mapping[str, Any], where: str = "") -> Experiment:
    """Return the experiment that raw values describe; `where` stands in messages.

    Raises
    ------
    ConfigError
        As `load_experiment`.
    """
    filled = {key: value for key, value in values.items() if key != "training"}
    systems = filled.get("systems")
    if isinstance(systems, list):
        filled["systems"] = _filled_in(systems, values.get("training", {}), where)
    try:
        return Experiment.model_validate(filled)
    except ValidationError as error:
        raise _by_name(explained(error, where, Experiment, REMEDY), filled) from error


def _filled_in(systems: list[Any], training: Any, where: str) -> list[Any]:
    """Return the systems with the settings of those they are like below their own, and `[training]` below these."""
    if not isinstance(training, dict):
        raise ConfigError(f"bad settings{where}:\n  training = {training!r}: not a section", REMEDY)
    made: dict[str, dict[str, Any]] = {}
    filled: list[Any] = []
    for system in systems:
        if not isinstance(system, dict):
            filled.append(system)
            continue
        like = made.get(str(system.get("like")), {})
        below = {key: value for key, value in like.items() if key not in OWN} or {
            "training": {"members": 1, **training}
        }
        whole = {**below, **system}
        own = system.get("training", {})
        whole["training"] = {**below["training"], **own} if isinstance(own, dict) else own
        if isinstance(below.get("model"), dict) and isinstance(system.get("model"), dict):
            whole["model"] = {**below["model"], **system["model"]}
        made[str(system.get("name"))] = whole
        filled.append(whole)
    return filled


def _by_name(error: ConfigError, values: Mapping[str, Any]) -> ConfigError:
    """Return the error with the names of systems and protocols where their numbers stand."""

    def named(found: re.Match[str]) -> str:
        entry = values[found[1]][int(found[2])]
        name = entry.get("name") if isinstance(entry, dict) else None
        return f"{found[1]} '{name}'" if name else f"{found[1]}, entry {int(found[2]) + 1}"

    return ConfigError(re.sub(r"\b(systems|protocols)\.(\d+)", named, error.message), error.remedy)
