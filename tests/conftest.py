"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says something of the machine's other work, and nothing of the code.
settings.register_profile("mgc", deadline=None)
settings.load_profile("mgc")

pytest_plugins = ["bundle_fixtures", "ray_fixtures", "s3_fixtures"]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests cache goes with their other files; filter banks, which take a second to make, are taken over."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "mgc"
    folder = tmp_path_factory.mktemp("cache") / "mgc"
    folder.mkdir()
    for banks in kept.glob("filter-banks-*"):
        (folder / banks.name).symlink_to(banks)
    os.environ["XDG_CACHE_HOME"] = str(folder.parent)


@pytest.fixture(autouse=True)
def _environment_put_back() -> Iterator[None]:
    """What a test (or a command that it calls) sets in the environment decides nothing in the tests after it."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings outside the repository; tests on it are skipped where there is none."""
    named = os.environ.get("MGC_SHARED_DATA")
    if not named:
        pytest.skip("MGC_SHARED_DATA is not set: no real recordings to test on")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"MGC_SHARED_DATA={named} is not a folder")
    return folder
