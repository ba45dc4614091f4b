"""Fixtures around the real S3 server of `swift_server`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from swift_server import SwiftServer


@pytest.fixture(scope="session")
def swift() -> Iterator[SwiftServer]:
    """The S3 server, one for the whole test run; the test is skipped where it cannot run."""
    reason = SwiftServer.unavailable_reason()
    if reason:
        pytest.skip(reason)
    with SwiftServer() as server:
        yield server


@pytest.fixture
def swift_env(swift: SwiftServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The AWS variables of the server's owner, set in this process; the user's own AWS settings are hidden."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "no-such-aws-file"))
    env = swift.env()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def bucket(swift: SwiftServer, swift_env: dict[str, str]) -> str:
    """A new, empty bucket; its name."""
    return swift.make_bucket(f"mgc-{uuid.uuid4().hex[:12]}")
