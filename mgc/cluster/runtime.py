"""Ray, joined or started: where an address is given it connects, else it starts Ray in this process."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from mgc.config import ClusterConfig
from mgc.errors import ClusterError, MgcError
from mgc.storage.store import AWS_VARIABLES, Store

CONNECT_SECONDS = 10.0

SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the process of a job that `ray job submit` started."""


@dataclass(frozen=True)
class RaySession:
    """What there is to work with.

    Parameters
    ----------
    n_cpus, n_gpus
        Of the whole cluster, at the start.
    joined
        Whether a running cluster was joined rather than Ray started here.
    """

    n_cpus: int
    n_gpus: int
    joined: bool


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[RaySession]:
    """Join the cluster of `config.address` or `RAY_ADDRESS`, else start Ray here; leave it at the end.

    Raises
    ------
    ClusterError
        The address cannot be reached, the token is refused, or Ray does not start.
    """
    address = config.address or os.environ.get("RAY_ADDRESS") or None
    _refuse_http(address)
    _quieten()
    if ray.is_initialized():
        yield _session(joined=address is not None)
        return
    _require_reachable(address)
    try:
        with _silenced_stderr():
            # "local" rather than nothing: with nothing Ray would join any cluster it finds on this machine.
            ray.init(
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=_runtime_env(address),
            )
    except Exception as error:  # a bare one where Ray's own processes do not come up in time
        raise _cluster_error(address, error) from error
    try:
        yield _session(joined=address is not None)
    finally:
        ray.shutdown()


def _session(*, joined: bool) -> RaySession:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return RaySession(max(1, int(resources.get("CPU", 1))), int(resources.get("GPU", 0)), joined)


def _refuse_http(address: str | None) -> None:
    if address and address.startswith(("http://", "https://")):
        raise ClusterError(
            f"'{address}' is the address of Ray's dashboard, not of a cluster",
            "submit through it: RAY_ADDRESS=… ray job submit --working-dir . -- python jobs/….py; "
            "or give host:6379 or 'auto' as --address",
        )


def _require_reachable(address: str | None) -> None:
    """Raise a `ClusterError` where nothing listens at host:port: Ray itself would try for ever, and say nothing."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _cluster_error(address, error) from error


def _cluster_error(address: str | None, error: Exception) -> ClusterError:
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    reason = message.splitlines()[0] if message else type(error).__name__
    if address is None:
        return ClusterError(
            f"Ray did not start in this process: {reason}",
            "check memory, free space in /tmp, and what else the machine is busy with; then start the command again",
        )
    # Ray says no more than "Failed to connect" where the token is missing or wrong.
    remedy = (
        "check the address, that the cluster runs (`ray status`), and that this process has its token: "
        "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
    )
    return ClusterError(f"cannot join the Ray cluster at '{address}': {reason}", remedy)


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Keep the C++ core's greeting off the terminal; what fails is raised as an exception all the same."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _runtime_env(address: str | None) -> dict[str, dict[str, str]] | None:
    """Return the S3 settings of this process for the workers of a cluster that it joins.

    Workers of a Ray started here inherit them; inside a submitted job the job's own `--runtime-env` counts.
    """
    if address is None or SUBMITTED_JOB in os.environ:
        return None
    # Not the variables that name files and profiles: those are of this machine.
    names = [name for name in AWS_VARIABLES if not name.endswith(("FILE", "BUNDLE", "PROFILE"))]
    return {"env_vars": {name: os.environ[name] for name in names if name in os.environ}}


def _quieten() -> None:
    # Ray Data prints its plan and progress; mgc shows its own. Warnings and errors stay.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    for name in ("ray.data._internal.progress", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("ray.data.exceptions", "ray.data._internal.execution.streaming_executor_state"):
        logging.getLogger(name).addFilter(_not_own)
    # The C++ core prints an error line for each actor pool (ray issue #53727); it is in Ray's own logs too.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def _not_own(record: logging.LogRecord) -> bool:
    """Return whether a record tells of another error than one of mgc's, which the command says in its own words."""
    error = record.exc_info[1] if record.exc_info else sys.exception()
    return not isinstance(error, MgcError)


# What commands hand to workers, and get back from them.


def absolute_uris(request: object, *names: str) -> dict[str, Any]:
    """Return the absolute form of the named URIs of a request, those that are given.

    Workers have a working directory of their own.
    """
    given = {name: getattr(request, name) for name in names}
    return {name: Store.open(uri).uri().rstrip("/") for name, uri in given.items() if uri}


def root_cause(error: BaseException) -> str:
    """Return the message of ours inside what Ray wrapped around it, else Ray's last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if re.match(r"mgc\.[\w.]+: ", line)]
    return (ours or lines or [type(error).__name__])[-1].removeprefix("mgc.errors.")
