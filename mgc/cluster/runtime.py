"""Ray, joined or started: where an address is given it connects, else it starts Ray in this process."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray._private.state
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mgc.config import ClusterConfig
from mgc.errors import ClusterError, MgcError
from mgc.storage.store import AWS_VARIABLES, Store
from mgc.tables.lease import release_held

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
CREDENTIALS_SECONDS = 10.0
NODE_SECONDS = 10.0
CREDENTIALS_NAMESPACE = b"mgc"
SECRET_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
PUBLIC_VARIABLES = tuple(
    # Not those that name files and profiles: they are of this machine.
    name
    for name in AWS_VARIABLES
    if name not in SECRET_VARIABLES and not name.endswith(("FILE", "BUNDLE", "PROFILE"))
)

LOOK_SECONDS = 2.0
LOST_SECONDS = 2 / 3 * float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", "60"))  # noqa: SIM112
"""For so long Ray's control store may be away, to be restarted elsewhere. After half as long again, Ray's own limit,
Ray's C++ core ends the process silently."""
UNWIND_SECONDS = 12.0
"""For so long a run may put things in order once Ray is lost: calls of Ray may hang then."""

SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the process of a job that `ray job submit` started."""


Resources = dict[str, float]
"""Amounts by Ray's names: CPU, GPU."""


@dataclass(frozen=True)
class RaySession:
    """The nodes of a cluster, as they are at the start of a run.

    Parameters
    ----------
    nodes
        Resources of each node that is alive.
    joined
        Whether a running cluster was joined rather than Ray started here.
    growing
        Resources of each kind of node that the cluster's autoscaler may still add.
    """

    nodes: tuple[Resources, ...]
    joined: bool
    growing: tuple[Resources, ...] = ()

    @property
    def n_cpus(self) -> int:
        """CPUs of all nodes, at least 1."""
        return max(1, int(self._total("CPU")))

    @property
    def n_gpus(self) -> int:
        """GPUs of all nodes."""
        return int(self._total("GPU"))

    def _total(self, name: str) -> float:
        return sum(node.get(name, 0.0) for node in self.nodes)

    def refreshed(self) -> RaySession:
        """Return the cluster as it is now."""
        return replace(self, nodes=_nodes())

    def n_placed(self, worker: Resources) -> int:
        """Return how many such workers the nodes hold at once; no worker is split over nodes."""
        return sum(_n_on(node, worker) for node in self.nodes)

    def require_placement(self, worker: Resources, count: int, purpose: str) -> None:
        """Raise where neither the nodes nor what an autoscaler may add hold `count` such workers at once.

        Ray itself would wait for ever, silently.

        Raises
        ------
        ClusterError
            Names what is wanted, and what there is.
        """
        if self.n_placed(worker) >= count:
            return
        if any(_n_on(node, worker) for node in self.growing) or (self.joined and not self._total("CPU")):
            # A cluster without any CPU is one whose workers come when there is work.
            logger.warning(
                "waiting for nodes: %s needs %s, the cluster has %s", purpose, _workers(worker, count), self
            )
            return
        raise ClusterError(
            f"{purpose} needs {_workers(worker, count)}, and the cluster has {self}",
            "ask for less (training.threads, training.workers_per_member, --workers), or add larger nodes",
        )

    def __str__(self) -> str:
        kinds = Counter(_amounts(node) for node in self.nodes)
        return ", ".join(f"{count} node{'s' if count > 1 else ''} of {kind}" for kind, count in kinds.items())


def _n_on(node: Resources, worker: Resources) -> int:
    return min((_times(name, node.get(name, 0.0), amount) for name, amount in worker.items() if amount), default=0)


def _times(name: str, there: float, amount: float) -> int:
    """Return how often an amount is there: a share of a GPU is of one GPU, two halves of two are none."""
    if name == "GPU" and amount < 1.0:
        return int(there) * int(1.0 / amount + 1e-9)
    return int(there / amount)


def _workers(worker: Resources, count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''} of {_amounts(worker)}, each on one node"


def _amounts(resources: Resources) -> str:
    return " and ".join(f"{resources[name]:g} {name}" for name in ("CPU", "GPU") if resources.get(name)) or "no CPU"


def cluster_address(config: ClusterConfig) -> str | None:
    """Return the address of the cluster to join; None: Ray is started here."""
    return config.address or os.environ.get("RAY_ADDRESS") or None


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[RaySession]:
    """Join the cluster of `config.address` or `RAY_ADDRESS`, else start Ray here; leave it at the end.

    Raises
    ------
    ClusterError
        The address cannot be reached, the token is refused, or Ray does not start.
    """
    address = cluster_address(config)
    _refuse_http(address)
    _quieten()
    if ray.is_initialized():
        yield _session(joined=address is not None)
        return
    _require_reachable(address)
    # A client of a cluster (ray://) sends no path.
    path: dict[str, Any] = {} if (address or "").startswith("ray://") else {"job_config": _PathOfMgc()}
    try:
        with _silenced_stderr(), _own_sigterm_kept():
            # "local" rather than nothing: with nothing Ray would join any cluster it finds on this machine.
            ray.init(
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=_runtime_env(address, config),
                **path,
            )
    except Exception as error:  # a bare one where Ray's own processes do not come up in time
        raise _cluster_error(address, error) from error
    try:
        with _ended_when_lost(), _credentials_handed_on(address, config):
            yield _session(joined=address is not None)
    finally:
        ray.shutdown()


@contextmanager
def _ended_when_lost() -> Iterator[None]:
    """End the block by a `ClusterError` where Ray's control store, or this node's raylet, is gone for good.

    Where the store is gone Ray ends the process silently; where the raylet is, the run would wait for ever.
    """
    node = ray._private.worker.global_worker.node
    if node is None or threading.current_thread() is not threading.main_thread():  # a client (ray://) has no node
        yield
        return
    lost: list[ClusterError] = []
    over = threading.Event()

    def end(number: int, frame: object) -> None:
        raise lost[0]

    before = signal.signal(signal.SIGUSR2, end)
    watch = (node.gcs_address, node.raylet_socket_name, over, lost)
    threading.Thread(target=_end_when_lost, args=watch, name="watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGUSR2, signal.SIG_IGN if lost else before)


def _end_when_lost(store: str, raylet: str, over: threading.Event, lost: list[ClusterError]) -> None:
    seen = time.monotonic()
    has_raylet = _is_served(raylet)
    while not over.wait(LOOK_SECONDS):
        if has_raylet and not _is_served(raylet):
            lost.append(_lost_error("this node's raylet has ended", "raylet.out"))
        elif _answers(store):
            seen = time.monotonic()
        elif time.monotonic() - seen > LOST_SECONDS:
            what = f"its control store (GCS) at {store} does not answer any more, for {LOST_SECONDS:g} s"
            lost.append(_lost_error(what, "gcs_server.out"))
        if lost:
            break
    else:
        return
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
    time.sleep(UNWIND_SECONDS)
    release_held()
    os.write(2, f"error: {lost[0]}\n".encode())
    os._exit(2)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), LOOK_SECONDS).close()
    except OSError:
        return False
    return True


def _is_served(path: str) -> bool:
    """Return whether a socket of this machine is served, without a request, which it would log."""
    try:
        return path in Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux
        return False


def _lost_error(what: str, log_file: str) -> ClusterError:
    return ClusterError(
        f"Ray is lost: {what}",
        f"look at the memory of its machine and at {log_file} in Ray's logs there; then start the command again: "
        "what was finished is resumed",
    )


class _PathOfMgc(JobConfig):
    """Sends workers where mgc was imported from, and to no other folder of the driver.

    Ray puts the folders of the driver's script and the current one first in their path, where a `random.py` would be
    run in place of the library's.
    """

    def _serialize(self) -> str:
        home = Path(__file__).parents[2]
        self._py_driver_sys_path = [path for path in self._py_driver_sys_path if Path(path) == home]
        return super()._serialize()


def metrics_address() -> str:
    """Return where Ray has the metrics of its first node for Prometheus."""
    node = ray.nodes()[0]  # type: ignore[no-untyped-call]
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"


def _session(*, joined: bool) -> RaySession:
    return RaySession(_nodes(), joined, _growing() if joined else ())


def _nodes() -> tuple[Resources, ...]:
    return tuple(node["Resources"] for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]


def _growing() -> tuple[Resources, ...]:
    """Return the kinds of node that the autoscaler may add (KubeRay's; Ray's own launcher does not list them)."""
    config = ray._private.state.state.get_cluster_config()
    groups = config.node_group_configs if config else ()
    return tuple(dict(group.resources) for group in groups if group.max_count)


def _refuse_http(address: str | None) -> None:
    if address and address.startswith(("http://", "https://")):
        raise ClusterError(
            f"'{address}' is the address of Ray's dashboard, not of a cluster",
            "submit through it: RAY_ADDRESS=… ray job submit --working-dir . -- python jobs/….py; "
            "or give host:6379 or 'auto' as --address",
        )


def _require_reachable(address: str | None) -> None:
    """Raise a `ClusterError` where nothing answers at host:port: Ray itself would try for ever, silently."""
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
    if address is None and "AF_UNIX" in reason:
        return ClusterError(
            f"Ray did not start in this process: the path of its folder for temporary files is too long: {reason}",
            "give it a short one: RAY_TMPDIR=/tmp in the environment",
        )
    if isinstance(error, UnicodeEncodeError):
        return ClusterError(
            "Ray takes no command line that is not UTF-8",
            "give such a path as a URI: file:///music/caf%E9 for its byte",
        )
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
def _own_sigterm_kept() -> Iterator[None]:
    """Keep the handler of SIGTERM that a command has: Ray's waits, and its C++ core aborts with a stack trace."""
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # by Ray's handler, while it starts
        if callable(own):
            own(signal.SIGTERM, None)
        raise
    finally:
        if callable(own) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, own)


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


def _hands_on(address: str | None, config: ClusterConfig) -> bool:
    return config.forward_credentials and address is not None and SUBMITTED_JOB not in os.environ


def _runtime_env(address: str | None, config: ClusterConfig) -> dict[str, Any] | None:
    """Return which S3 the workers of a joined cluster use, and no secret: a runtime environment is public.

    Ray shows it in its API and dashboard, and writes it to its logs. Workers of a Ray started here inherit this
    process's environment; inside a submitted job the job's own `--runtime-env` counts.
    """
    if address is None or SUBMITTED_JOB in os.environ:
        return None
    env_vars = {name: os.environ[name] for name in PUBLIC_VARIABLES if name in os.environ}
    env_vars |= {"PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}  # no code of the current folder; names of files are UTF-8
    hook = {"worker_process_setup_hook": f"{__name__}.take_credentials"} if _hands_on(address, config) else {}
    return {"env_vars": env_vars, **hook}


@contextmanager
def _credentials_handed_on(address: str | None, config: ClusterConfig) -> Iterator[None]:
    """Where the settings want it, keep this process's AWS keys in the cluster's control store while the run lasts.

    The key-value store of Ray's control store (GCS) is in no log and no API; any code on the cluster can read it.
    """
    if not _hands_on(address, config):
        yield
        return
    keys = {name: os.environ[name] for name in SECRET_VARIABLES if name in os.environ}
    _internal_kv_put(_credentials_key(), json.dumps(keys).encode(), namespace=CREDENTIALS_NAMESPACE)
    try:
        yield
    finally:
        _internal_kv_del(_credentials_key(), namespace=CREDENTIALS_NAMESPACE)


def take_credentials() -> None:
    """Put the AWS keys of the run's driver into this worker process: Ray calls it as the process starts."""
    end = time.monotonic() + CREDENTIALS_SECONDS
    while (kept := _internal_kv_get(_credentials_key(), namespace=CREDENTIALS_NAMESPACE)) is None:
        if time.monotonic() > end:
            return  # the run has ended
        time.sleep(0.05)
    os.environ.update(json.loads(kept))


def _credentials_key() -> str:
    return f"aws-{ray.get_runtime_context().get_job_id()}"


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
    """Return whether a record is about another error than one of mgc's, which the command prints itself."""
    error = record.exc_info[1] if record.exc_info else sys.exception()
    return not isinstance(error, MgcError)


# What commands hand to workers, and get back from them.


def absolute_uris(request: object, *names: str) -> dict[str, Any]:
    """Return the absolute form of the named URIs of a request, those that are given.

    Workers have a working directory of their own.
    """
    given = {name: getattr(request, name) for name in names}
    return {name: Store.open(uri).uri().rstrip("/") for name, uri in given.items() if uri}


def on_every_node(function: Callable[[str], None], argument: str, session: RaySession) -> None:
    """Call a function once on each node, this one included, and wait some seconds for all."""
    function(argument)
    if not session.joined:
        return
    task = ray.remote(num_cpus=0)(function)
    alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    calls = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(argument)
        for node in alive
    ]
    ray.wait(calls, num_returns=len(calls), timeout=NODE_SECONDS)


def root_cause(error: BaseException) -> str:
    """Return the message of ours inside what Ray wrapped around it, else Ray's last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if re.match(r"mgc\.[\w.]+: ", line)]
    return (ours or lines or [type(error).__name__])[-1].removeprefix("mgc.errors.")
