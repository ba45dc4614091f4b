"""A real local Ray with two workers, one for the whole test run, able to reach the S3 server of the tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import ray
from swift_server import SwiftServer


@pytest.fixture(scope="session")
def ray_two(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ray on two CPUs. Its workers inherit the environment of its start, so the S3 settings come first."""
    with pytest.MonkeyPatch.context() as patch:
        if SwiftServer.unavailable_reason() is None:
            for name, value in request.getfixturevalue("swift").env().items():
                patch.setenv(name, value)
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        yield
        ray.shutdown()
