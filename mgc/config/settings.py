"""All settings in one, read from TOML and `--set section.key=value`, and written as TOML.

What is wrong with them is explained by the key as it is written, the value, and the nearest valid key.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tomli_w
from pydantic import BaseModel, ValidationError, model_validator

from mgc.config.feature_settings import FeatureConfig, MelsConfig
from mgc.config.job_settings import (
    STUDENT,
    CatalogueConfig,
    ClusterConfig,
    DecodeConfig,
    DistillConfig,
    EvaluationConfig,
    LogsConfig,
    RetryConfig,
    SearchConfig,
    TaggingConfig,
)
from mgc.config.network_settings import CrnnConfig, ModelConfig, model_sections, sections_in
from mgc.config.section import Section
from mgc.config.training_settings import FitConfig, MemberConfig, TrainingConfig
from mgc.config.view_settings import AugmentConfig
from mgc.errors import ConfigError, did_you_mean


class Config(Section):
    """All settings."""

    section_kind: ClassVar[str] = "config"
    catalogue: CatalogueConfig = CatalogueConfig()
    features: FeatureConfig = FeatureConfig()
    augment: AugmentConfig = AugmentConfig()
    mels: MelsConfig = MelsConfig()
    decode: DecodeConfig = DecodeConfig()
    model: ModelConfig = CrnnConfig()
    training: TrainingConfig = TrainingConfig()
    distill: DistillConfig = DistillConfig()
    search: SearchConfig = SearchConfig()
    tagging: TaggingConfig = TaggingConfig()
    retry: RetryConfig = RetryConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    logs: LogsConfig = LogsConfig()

    @model_validator(mode="before")
    @classmethod
    def _names_stand_for_networks(cls, values: Any) -> Any:
        """Let `[model]` go without a name, and the ensemble name networks without their settings."""
        values = networks_by_name(values)
        distill = values.get("distill") if isinstance(values, dict) else None
        if isinstance(distill, dict) and isinstance(distill.get("model"), dict | str):
            values = {**values, "distill": {**distill, "model": _student(distill["model"])}}
        return values

    def member_models(self) -> tuple[ModelConfig, ...]:
        """Return the network of each member of the ensemble."""
        named = tuple(member.model for member in self.training.ensemble)
        return named or (self.model,) * self.training.members

    def student(self) -> Config:
        """Return the settings by which a student is fitted: one network, fitted to soft labels."""
        alone = {"members": 1, "ensemble": (), "label_smoothing": 0.0, "class_weights": False, "promise_folds": 0}
        training = self.training.model_copy(update=alone)
        return self.model_copy(update={"model": self.distill.model, "training": training})


def _student(model: dict[str, Any] | str) -> dict[str, Any]:
    """Return a student's settings with a name, and with the default student's where it is of that kind."""
    given = {"name": model} if isinstance(model, str) else model
    if given.get("name", STUDENT.name) != STUDENT.name:
        return given
    return STUDENT.model_dump() | given


def networks_by_name(values: Any) -> Any:
    """Return raw settings in which names stand for networks: no name means the default, a name its own defaults."""
    if not isinstance(values, dict):
        return values
    model = values.get("model", {})
    if isinstance(model, dict) and model:
        model = values["model"] if "name" in model else {"name": CrnnConfig().name, **model}
        values = {**values, "model": model}
    training = values.get("training")
    if isinstance(training, dict) and isinstance(training.get("ensemble"), list | tuple):
        ensemble = tuple(_named(entry, model) for entry in training["ensemble"])
        values = {**values, "training": {**training, "ensemble": ensemble}}
    return values


def _named(entry: Any, model: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    name = model.get("name", CrnnConfig().name) if isinstance(model, dict) else getattr(model, "name", None)
    return (model or {"name": entry}) if name == entry else {"name": entry}


def cache_folder() -> Path:
    """Return where what can be made or fetched again is kept: `$XDG_CACHE_HOME/mgc` or `~/.cache/mgc`.

    Raises
    ------
    RuntimeError
        There is no home directory.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "mgc"


def load_config(
    path: str | None = None,
    overrides: list[str] | None = None,
    *,
    default_ensemble: Sequence[Mapping[str, Any]] = (),
) -> Config:
    """Return the settings of a TOML file with `section.key=value` overrides on top.

    Parameters
    ----------
    default_ensemble
        What is trained where neither a network nor a number of members is given, such as `DEFAULT_ENSEMBLE`.

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
            training["ensemble"] = list(default_ensemble)
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
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))  # Windows' editors begin it with a mark
    except OSError as error:
        raise ConfigError(f"cannot read the config file '{path}': {error.strerror}", "check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
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
    except (tomllib.TOMLDecodeError, RecursionError):
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


UNSHARED = ("cluster", "logs", "search")
"""Sections that say where and how a job runs, and nothing of what comes out."""


def to_toml(config: Config, comment: str = "") -> str:
    """Return every setting that is not the default, by section, under a comment."""
    dumped = config.model_dump(mode="json", exclude_defaults=True, exclude=set(UNSHARED))
    if "model" in dumped or not config.training.ensemble:
        # Named even where it is the default: `mgc train` trains an ensemble of several kinds where no network is.
        dumped["model"] = {"name": config.model.name, **dumped.get("model", {})}
    if "model" in dumped.get("distill", {}):
        dumped["distill"]["model"] = {"name": config.distill.model.name, **dumped["distill"]["model"]}
    head = [f"# {line}".rstrip() for line in comment.splitlines()]
    # TOML has no null: a setting that is none can only be given on the command line.
    head += [
        f"# unset: --set {section}.{key}=none"
        for section, values in dumped.items()
        for key, value in values.items()
        if value is None
    ]
    return "\n".join([*head, *([""] if head else []), tomli_w.dumps(_without_none(dumped))])


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list) else value
