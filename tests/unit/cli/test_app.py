"""`mgc`: a command imports only what it works with."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = {
    "app": {"ray", "torch", "polars", "pyarrow"},
    "tag_command": {"ray", "torch", "polars"},
    "compare_command": {"ray", "torch", "polars"},
    "inspect_command": {"ray", "torch", "polars", "matplotlib"},
    "index_command": {"ray", "torch"},
    "similar_command": {"ray", "torch"},
    "status_command": {"ray", "torch"},
}
"""Module of a command → what its start must not wait for."""


@pytest.mark.parametrize("module", LIGHT)
def test_a_command_starts_without_what_it_does_not_need(module: str) -> None:
    code = f"import sys, mgc.cli.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & LIGHT[module] == set()
