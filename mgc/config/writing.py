"""Settings as the TOML that `load_config` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mgc.config.settings import Config

UNSHARED = ("cluster", "logs", "search")
"""Sections that say where and how a job runs, and nothing of what comes out."""


def to_toml(config: Config, comment: str = "") -> str:
    """Return every setting that is not the default, by section, under a comment."""
    dumped = config.model_dump(mode="json", exclude_defaults=True, exclude=set(UNSHARED))
    if not config.training.ensemble:
        # Said even where it is the default: `mgc train` trains an ensemble of several kinds where no network is.
        dumped = {**dumped, "model": dumped.get("model", {})}
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    for section, values in dumped.items():
        if section == "model":
            values = {"name": config.model.name, **values}
        if section == "distill" and "model" in values:
            values["model"] = {"name": config.distill.model.name, **values["model"]}
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {_value(value)}" for key, value in values.items() if value is not None]
        # TOML has no null: what is unset can only be said on the command line.
        lines += [f"# unset: --set {section}.{key}=none" for key, value in values.items() if value is None]
    return "\n".join(lines).lstrip("\n") + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_value(one)}" for key, one in value.items() if one is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    # JSON's strings, numbers and booleans are TOML's too.
    return json.dumps(value, ensure_ascii=False)
