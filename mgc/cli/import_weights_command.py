"""`mgc import-weights`: published FCN, CRNN or musicnn weights, as a model bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mgc.cli.options import console
from mgc.cli.tables import facts
from mgc.errors import ConfigError
from mgc.models.bundle import write_bundle
from mgc.models.published_weights import published_bundle


def import_weights(
    weights: Annotated[Path, typer.Argument(help="the .pth file that Won et al. published")],
    tags: Annotated[
        Path, typer.Option("--tags", help="JSON: the tags in the order of the outputs, or lists by name")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the bundle")],
    tag_set: Annotated[str | None, typer.Option(help="which list of --tags, e.g. mtat")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace another bundle")] = False,
) -> None:
    """Turn WEIGHTS into a bundle of safetensors that tags and embeds; nothing in the file is executed."""
    contents = published_bundle(_read(weights), _tags(tags, tag_set), weights.name)
    fingerprint = write_bundle(output, contents, overwrite=overwrite)
    member = contents.members[0]
    rows = {
        "network": member.config.name,
        "tags": str(len(contents.taxonomy.tags)),
        "features": f"{contents.features.fingerprint()}, windows of {contents.features.window_seconds:g} s",
        "bundle": f"{output} ({fingerprint})",
    }
    facts(console(), "Import of weights", rows)


def _tags(path: Path, name: str | None) -> tuple[str, ...]:
    try:
        value: Any = json.loads(_read(path))
    except ValueError as error:
        raise ConfigError(f"'{path}' is not valid JSON: {error}", "give a list of tags, or lists by name") from error
    if isinstance(value, dict):
        if name not in value:
            raise ConfigError(f"'{path}' holds several lists: {', '.join(value)}", "say which with --tag-set")
        value = value[name]
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise ConfigError(f"'{path}' holds no list of tags", 'e.g. ["guitar", "slow"]')
    return tuple(value)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror}", "check the path") from error
