"""Settings from a TOML file and `--set section.key=value`; what is wrong, in plain words."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import (
    BaseModel,
    ValidationError,
)

from mgc.config.networks import model_sections, sections_in
from mgc.config.section import Section
from mgc.config.settings import Config
from mgc.config.training_settings import DEFAULT_ENSEMBLE, FitConfig, MemberConfig, TrainingConfig
from mgc.errors import ConfigError, did_you_mean


def load_config(
    path: str | None = None, overrides: list[str] | None = None, *, default_ensemble: bool = False
) -> Config:
    """Return the settings of a TOML file with `section.key=value` overrides on top.

    Parameters
    ----------
    default_ensemble
        Let `DEFAULT_ENSEMBLE` be trained where neither a network nor a number of members is said.

    Raises
    ------
    ConfigError
        The file is missing or no TOML, a key is unknown, or a value is out of range.
    """
    values = read_toml(path) if path else {}
    for override in overrides or []:
        apply_override(values, override)
    if default_ensemble and "model" not in values:
        training = values.setdefault("training", {})
        if isinstance(training, dict) and not {"members", "ensemble"} & training.keys():
            training["ensemble"] = list(DEFAULT_ENSEMBLE)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise explained(error, f" in {path}" if path else "") from error


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return the settings with some of them changed, each by its key as after `--set`.

    Raises
    ------
    ConfigError
        A key is unknown, or a value is out of range.
    """
    values = config.model_dump()
    for key, value in settings.items():
        _put(values, key, value)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise explained(error, "") from error


def read_toml(path: str) -> dict[str, Any]:
    """Return the values of a TOML file.

    Raises
    ------
    ConfigError
        It is missing or no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file '{path}': {error.strerror}", "check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not valid TOML: {error}", "see docs/configuration.md") from error


def apply_override(values: dict[str, Any], override: str) -> None:
    """Put `section.key=value` over raw values.

    Raises
    ------
    ConfigError
        It is not of that form, or leads through a value.
    """
    key, sign, text = override.partition("=")
    if not sign:
        raise ConfigError(f"--set {override!r} is not of the form section.key=value", "e.g. --set training.epochs=20")
    _put(values, key.strip(), _parse_value(text.strip()))


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: '{parent}' is a value, not a section")
    place[leaf] = value


def _parse_value(text: str) -> Any:
    """Read a value as TOML would; what is no TOML value is a plain string; `none` unsets."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def explained(
    error: ValidationError,
    where: str,
    root: type[Section] = Config,
    remedy: str = "docs/configuration.md lists every setting",
) -> ConfigError:
    """Return what is wrong with settings in words: the key as it is written, the value, the nearest valid key.

    Parameters
    ----------
    where
        Of what file, to stand after "bad settings".
    root
        What was validated.
    """
    lines = [_problem(problem["type"], _walk(problem["loc"], root), problem) for problem in error.errors()]
    return ConfigError(f"bad settings{where}:\n  " + "\n  ".join(lines), remedy)


def _problem(kind: str, place: _SettingLocation, problem: Any) -> str:
    if kind == "extra_forbidden":
        return f"unknown setting '{place.key}': {_elsewhere(place) or did_you_mean(place.name, place.valid)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = problem["input"].get("name") if isinstance(problem["input"], dict) else problem["input"]
        hint = did_you_mean(str(given), list(model_sections()))
        return f"{place.key}.name = {given!r}: no such network; {hint}"
    reason = problem["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return f"{place.key} is missing"
    return f"{place.key or 'settings'} = {_shown(problem['input'])}: {reason}"


def _shown(value: Any) -> str:
    return "{…}" if isinstance(value, dict | BaseModel) else repr(value)


class _SettingLocation(NamedTuple):
    """Where in the settings something is wrong: the key as a reader writes it, and what is valid there.

    `member` says whether that is in an entry of `training.ensemble`.
    """

    key: str
    valid: list[str]
    member: bool

    @property
    def name(self) -> str:
        """The key's last word."""
        return self.key.rpartition(".")[2]


def _elsewhere(place: _SettingLocation) -> str:
    """Return where a setting belongs that is one, but not of a member's network or of its fit; else nothing."""
    if not place.member:
        return ""
    if place.name not in place.valid and place.name in FitConfig.model_fields:
        return f"a member's own settings of training stand in a table, training = {{ {place.name} = … }}"
    if place.name in TrainingConfig.model_fields:
        return f"it is the whole ensemble's, set training.{place.name}"
    return ""


def _walk(location: tuple[int | str, ...], root: type[Section]) -> _SettingLocation:
    """Follow pydantic's location, in which the name of a network stands between its section and its key."""
    words: list[str] = []
    sections: list[type[Section]] = [root]
    member = False
    for part in location:
        by_name = {section.model_fields["name"].default: section for section in sections if len(sections) > 1}
        if part in by_name:
            sections = [by_name[part]]
            continue
        if sections != [MemberConfig] or part != "model":  # whose settings stand beside `training`, not in a table
            words.append(str(part))
        field = sections[0].model_fields.get(str(part)) if len(sections) == 1 else None
        if field is not None:
            below = sections_in(field.annotation)
            sections = below or sections
            member = member or below == [MemberConfig]
    valid = [name for section in sections for name in section.model_fields]
    if member and sections != [FitConfig]:
        valid.append("training")
    return _SettingLocation(".".join(words), valid, member)
