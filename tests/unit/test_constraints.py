"""constraints.txt pins all that mgc asks for, and nothing that only one machine has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(text for extra in PROJECT["optional-dependencies"].values() for text in extra),
]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LINES)}


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_a_plain_pin(line: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), "no URL, no path, no local version, no range"


def test_the_lines_are_sorted_and_each_name_comes_once() -> None:
    assert sorted(LINES) == LINES
    assert len(PINS) == len(LINES)


@pytest.mark.parametrize("text", REQUIREMENTS)
def test_what_pyproject_asks_for_is_pinned_within_its_range(text: str) -> None:
    requirement = Requirement(text)
    assert Version(PINS[canonicalize_name(requirement.name)]) in requirement.specifier


def test_torch_stays_below_2_14() -> None:
    assert Version(PINS[canonicalize_name("torch")]) < Version("2.14")
