"""Write docs/configuration.md from the models of mgc.config: `python docs/generate_configuration.py`.

`--check` writes nothing and exits with 1 if the page is not up to date.
"""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from mgc.config import Config, FitConfig, MemberConfig, Section, model_sections

PAGE = Path(__file__).with_name("configuration.md")
BOUNDS = {
    annotated_types.Ge: ("ge", "≥"),
    annotated_types.Gt: ("gt", ">"),
    annotated_types.Le: ("le", "≤"),
    annotated_types.Lt: ("lt", "<"),
}

HEAD = """\
# Configuration

<!-- Written by docs/generate_configuration.py from mgc/config: do not edit by hand. -->

Every job reads the same settings, each later source on top of the earlier:

1. the defaults below,
2. one TOML file, `--config mgc.toml`,
3. `--set section.key=value`, as often as needed (`none` unsets a value that may be none),
4. the job's own flags.

All of it is checked before any work starts; an unknown key names the nearest valid one. Changing a setting of
`[features]` changes the feature fingerprint: shards and bundles of other settings are then refused, not mixed.

```toml
# mgc.toml
[catalogue]
labels_from = "folder"

[training]
epochs = 60
members = 4
```
"""


def page() -> str:
    """Return the whole page."""
    sections = [_section(name, field) for name, field in Config.model_fields.items()]
    return "\n".join([HEAD, *sections])


def _section(name: str, field: FieldInfo) -> str:
    model = field.annotation
    if isinstance(model, type) and issubclass(model, FitConfig):
        return "\n".join([_table(f"## `[{name}]`", model, FitConfig), _table(f"### `[{name}]`: a fit", FitConfig)])
    if isinstance(model, type) and issubclass(model, Section):
        return _table(f"## `[{name}]`", model)
    networks = model_sections()
    if not set(networks.values()) <= set(get_args(model)):
        raise TypeError(f"Config.{name} is no section")
    head = [
        f"## `[{name}]`",
        "",
        f"`name` says which network, `{field.default.name}` where it is not given; each has its own settings:",
        ", ".join(f"[`{network}`](#{name}-{network})" for network in networks) + ".",
        "[models.md](models.md) says where each comes from and what it is worth.",
        "",
    ]
    tables = [
        f'<a id="{name}-{network}"></a>\n\n' + _table(f'### `{name}.name = "{network}"`', section)
        for network, section in networks.items()
    ]
    return "\n".join([*head, *tables])


def _table(title: str, model: type[Section], but: type[Section] | None = None) -> str:
    """Return a section's settings as a table, less those of a section that has one of its own."""
    lines = [title, "", _prose(model), "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for key, setting in model.model_fields.items():
        if but is not None and key in but.model_fields:
            continue
        if not setting.description:
            raise ValueError(f"{model.__name__}.{key} has no description in mgc/config")
        cells = (f"`{key}`", _type(setting), f"`{_toml(setting.default)}`", setting.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _prose(model: type[Section]) -> str:
    text = " ".join((model.__doc__ or "").split())
    return text[:1].upper() + text[1:]


def _type(setting: FieldInfo) -> str:
    """Return the type as a reader calls it, with its range."""
    name = _type_name(setting.annotation)
    bounds = []
    for limit in setting.metadata:
        if type(limit) in BOUNDS:
            attribute, sign = BOUNDS[type(limit)]
            bounds.append(f"{sign} {_number(getattr(limit, attribute))}")
    return f"{name}, {', '.join(bounds)}" if bounds else name


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{_toml(value)}`" for value in arguments)
    if origin in (Union, types.UnionType):
        if all(isinstance(argument, type) and issubclass(argument, Section) for argument in arguments):
            return "a network, as `[model]`"
        return " or ".join(_type_name(argument) for argument in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"list of {len(arguments)} {_type_name(arguments[0])}s"
    if origin is tuple:
        return "list of networks" if arguments[0] is MemberConfig else f"list of {_type_name(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "settings"
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", type(None): "none"}
    return names[annotation]


def _toml(value: object) -> str:
    """Return a value as it is written after `--set key=`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Section):
        own = {"name": value.name, **value.model_dump(exclude_defaults=True)}
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in own.items()) + "}"
    if isinstance(value, str):
        return f'"{value}"'
    return _number(value) if isinstance(value, int | float) else str(value)


def _number(value: float) -> str:
    return f"{value:_}" if isinstance(value, int) else f"{value:g}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/configuration.md from mgc/config.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    if parser.parse_args().check:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        return 0 if current == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
