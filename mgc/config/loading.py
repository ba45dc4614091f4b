"""Settings from a TOML file and `--set section.key=value`; what is wrong, in plain words."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import (
    BaseModel,
    ValidationError,
)

from mgc.config.networks import model_sections, sections_in
from mgc.config.root import Config
from mgc.errors import ConfigError, did_you_mean
from mgc.settings import Section


def load_config(path: str | None = None, overrides: list[str] | None = None) -> Config:
    """Return the settings of a TOML file with `section.key=value` overrides on top.

    Raises
    ------
    ConfigError
        The file is missing or no TOML, a key is unknown, or a value is out of range.
    """
    values = _read_toml(path) if path else {}
    for override in overrides or []:
        _apply_override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _as_config_error(error, path) from error


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file '{path}': {error.strerror}", "check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not valid TOML: {error}", "see docs/configuration.md") from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign:
        raise ConfigError(f"--set {override!r} is not of the form section.key=value", "e.g. --set training.epochs=20")
    *parents, leaf = key.strip().split(".")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: '{parent}' is a value, not a section")
    place[leaf] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    """Read a value as TOML would; what is no TOML value is a plain string; `none` unsets."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _as_config_error(error: ValidationError, path: str | None) -> ConfigError:
    lines = [_problem(problem["type"], problem["loc"], problem) for problem in error.errors()]
    where = f" in {path}" if path else ""
    return ConfigError(f"bad settings{where}:\n  " + "\n  ".join(lines), "docs/configuration.md lists every setting")


def _problem(kind: str, location: tuple[int | str, ...], problem: Any) -> str:
    place = _walk(location)
    if kind == "extra_forbidden":
        return f"unknown setting '{place.key}': {did_you_mean(str(location[-1]), place.valid)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = problem["input"].get("name") if isinstance(problem["input"], dict) else problem["input"]
        hint = did_you_mean(str(given), list(model_sections()))
        return f"{place.key}.name = {given!r}: no such network; {hint}"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{place.key or 'settings'} = {_shown(problem['input'])}: {reason}"


def _shown(value: Any) -> str:
    return "{…}" if isinstance(value, dict | BaseModel) else repr(value)


class _Place(NamedTuple):
    """Where in the settings something is wrong: the key as a reader writes it, and what is valid there."""

    key: str
    valid: list[str]


def _walk(location: tuple[int | str, ...]) -> _Place:
    """Follow pydantic's location, in which the name of a network stands between its section and its key."""
    words: list[str] = []
    sections: list[type[Section]] = [Config]
    for part in location:
        by_name = {section.model_fields["name"].default: section for section in sections if len(sections) > 1}
        if part in by_name:
            sections = [by_name[part]]
            continue
        words.append(str(part))
        field = sections[0].model_fields.get(str(part)) if len(sections) == 1 else None
        if field is not None:
            below = sections_in(field.annotation)
            sections = below or sections
    return _Place(".".join(words), [name for section in sections for name in section.model_fields])
