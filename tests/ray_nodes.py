"""A local Ray cluster of several nodes, each a process of `ray start`, which join and leave while jobs run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ray._raylet import GcsClient
from ray.core.generated.gcs_pb2 import GcsNodeInfo

HOME = Path(__file__).parents[1]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Nodes:
    """A head and what joined it. The nodes know of no S3: their environment has no AWS variable."""

    address: str
    dashboard: str  # empty: there is none
    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *command: str, seconds: float = 600.0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `more` is added to the nodes' environment."""
        environment = {**self.environment, **more}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=HOME, timeout=seconds, check=False
        )

    def add(self, cpus: int) -> subprocess.Popen[bytes]:
        """Let a node join; returns once it is alive."""
        start = [*RAY, "start", "--block", f"--num-cpus={cpus}", "--num-gpus=0", "--node-ip-address=127.0.0.1"]
        command = [*start, f"--address={self.address}", f"--dashboard-agent-listen-port={free_port()}"]
        return self._started(command)

    def add_head(self, cpus: int) -> None:
        """Start the cluster."""
        port = self.address.rpartition(":")[2]
        start = [*RAY, "start", "--block", f"--num-cpus={cpus}", "--num-gpus=0", "--node-ip-address=127.0.0.1"]
        more = ["--head", f"--port={port}", f"--temp-dir={self.folder}"]
        more += (
            [f"--dashboard-port={self.dashboard.rpartition(':')[2]}"]
            if self.dashboard
            else ["--include-dashboard=false"]
        )
        self._started([*start, *more, f"--dashboard-agent-listen-port={free_port()}"])

    def _started(self, command: list[str]) -> subprocess.Popen[bytes]:
        before = self.alive()
        # A group of its own: what a node started dies with it.
        process = subprocess.Popen(command, env=self.environment, start_new_session=True, **QUIET)  # type: ignore[call-overload]
        self.processes.append(process)
        end = time.monotonic() + 120.0
        while time.monotonic() < end:
            if self.alive() == before + 1:
                return process
            time.sleep(0.2)
        raise AssertionError("a node did not come up")

    def alive(self) -> int:
        """Return how many nodes the cluster has."""
        # Asked of the control store itself: `ray list nodes` costs seconds of a core. Its client waits 45 s for a
        # store that does not listen yet; whether it does is seen at once.
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), 2.0).close()
            nodes = GcsClient(address=self.address).get_all_node_info(timeout=2.0)
        except Exception:  # it is not up yet, which Ray says in several ways
            return 0
        return sum(node.state == GcsNodeInfo.ALIVE for node in nodes.values())

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Take a node away at once, with all that runs on it, as a spot instance goes."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Stop all nodes."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def local_nodes(*cpus: int, dashboard: bool = False, **more: str) -> Iterator[Nodes]:
    """Start a head and further nodes with so many CPUs each; stop them at the end. `more` is their environment."""
    # Short: Ray's sockets lie in it.
    folder = Path(tempfile.mkdtemp(prefix="mgc2n", dir="/tmp"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    environment["PYTHONPATH"] = f"{HOME}{os.pathsep}{HOME / 'tests'}"
    environment |= {"RAY_AUTH_MODE": "disabled", **more}
    shown = f"http://127.0.0.1:{free_port()}" if dashboard else ""
    nodes = Nodes(f"127.0.0.1:{free_port()}", shown, folder, environment)
    try:
        nodes.add_head(cpus[0])
        for number in cpus[1:]:
            nodes.add(number)
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)
