"""Ray that does not start, and what Ray says of errors that mgc says itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from mgc.cluster.runtime import _not_own, ray_session
from mgc.config import ClusterConfig
from mgc.errors import ClusterError
from mgc.storage.objects import DiskFullError


def test_a_ray_that_does_not_come_up_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def init(**_: Any) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr(ray, "init", init)
    with (
        pytest.raises(ClusterError, match=r"did not start.*timed out during startup") as caught,
        ray_session(ClusterConfig()),
    ):
        pytest.fail("it has not started")
    assert "what else the machine is busy with" in caught.value.remedy


@pytest.mark.parametrize("as_exc_info", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_rays_records_of_mgcs_own_errors_are_dropped(own: bool, as_exc_info: bool) -> None:
    error: Exception = DiskFullError("no room", "free some") if own else ValueError("a bug")
    raised = RayTaskError("process", "traceback", error).as_instanceof_cause()
    record = logging.LogRecord("ray.data.exceptions", logging.ERROR, "", 0, "aborted", None, None)
    try:
        raise raised
    except Exception:
        if as_exc_info:
            record.exc_info = (type(raised), raised, None)
        assert _not_own(record) is not own
    assert as_exc_info or _not_own(record)
