"""Names on disk, and fingerprints, as golden files: `python tests/golden/frozen_names.py` writes them anew."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from mgc.config import Config, Section, load_config

FOLDER = Path(__file__).parent
RECIPES = FOLDER.parents[1] / "docs" / "recipes"


def fingerprints() -> str:
    """Return the fingerprint of each section of the default settings, and of each recipe's."""
    with contextlib.chdir("/"):  # the path of a published bundle is made absolute
        recipes = {path.stem: load_config(str(path)) for path in sorted(RECIPES.glob("*.toml"))}
    configs = {"default": Config(), **recipes}
    found = {
        name: {key: value.fingerprint() for key, value in config if isinstance(value, Section)}
        | {"members": [model.fingerprint() for model in config.member_models()]}
        for name, config in configs.items()
    }
    default = found["default"]
    changed = {
        name: {key: value for key, value in sections.items() if name == "default" or value != default[key]}
        for name, sections in found.items()
    }
    return json.dumps(changed, indent=1) + "\n"


FROZEN: dict[str, Callable[[], str]] = {"fingerprints.json": fingerprints}
"""Golden file → what makes its text."""


def main() -> None:
    for name, made in FROZEN.items():
        (FOLDER / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
