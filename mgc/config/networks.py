"""The networks' settings by name."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import (
    TypeAdapter,
)

from mgc.config.network_settings import ModelConfig
from mgc.config.section import Section

_MODEL_CONFIG: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)


def read_model_config(value: Any) -> ModelConfig:
    """Return a network's settings from their JSON form.

    Raises
    ------
    pydantic.ValidationError
        The name or a setting is not known.
    """
    return _MODEL_CONFIG.validate_python(value)


def model_sections() -> dict[str, type[Section]]:
    """Return the settings of every network by its name."""
    return {section.model_fields["name"].default: section for section in sections_in(ModelConfig)}


def sections_in(annotation: Any) -> list[type[Section]]:
    """Return the sections that an annotation is made of: itself, or those of a union or a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_in(part)]
