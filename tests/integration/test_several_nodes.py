"""Runs on a cluster of two nodes of two CPUs each, joined by address: placement, and which secrets reach it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bundle_fixtures import Trained
from small_music import SETTINGS, write_music
from swift_server import SwiftServer

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.config import CatalogueConfig
from mgc.errors import TrackCode
from mgc.storage.store import Store
from mgc.tables.predictions import read_predictions

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
HOME = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
FLAGS = [word for setting in SETTINGS if "threads" not in setting for word in ("--set", setting)]


@dataclass(frozen=True)
class TwoNodes:
    """A head and another node, each with two CPUs; neither knows of S3."""

    address: str
    dashboard: str
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, seconds: float = 600.0, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **more}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=HOME, timeout=seconds, check=False
        )

    def job(self, name: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, f"jobs/{name}.py", *arguments, "--address", self.address, *FLAGS, **more)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    # Short: Ray's sockets lie in it. The nodes' environment has no AWS variable: what they know, they were given.
    folder = Path(tempfile.mkdtemp(prefix="mgc2n", dir="/tmp"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    environment["PYTHONPATH"] = str(HOME)
    environment["RAY_AUTH_MODE"] = "disabled"
    port, dashboard = free_port(), free_port()
    address = f"127.0.0.1:{port}"
    start = [*RAY, "start", "--block", "--num-cpus=2", "--num-gpus=0", "--node-ip-address=127.0.0.1"]
    head = [*start, "--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"]
    head.append(f"--dashboard-agent-listen-port={free_port()}")
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(head, **quiet)]  # type: ignore[call-overload]
    made = TwoNodes(address, f"http://127.0.0.1:{dashboard}", folder, environment)
    try:
        wait_for(made, nodes=1)
        more = [*start, f"--address={address}", f"--dashboard-agent-listen-port={free_port()}"]
        processes.append(subprocess.Popen(more, **quiet))  # type: ignore[call-overload]
        wait_for(made, nodes=2)
        yield made
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(made: TwoNodes, nodes: int) -> None:
    for _ in range(60):
        listed = made.run(*RAY, "list", "nodes", f"--address={made.dashboard}", seconds=60.0)
        if listed.stdout.count("ALIVE") == nodes:
            return
        time.sleep(1.0)
    raise AssertionError(f"{nodes} nodes did not come up: {listed.stdout} {listed.stderr}")


def test_members_are_fitted_where_no_node_has_the_cpus_of_all(
    nodes: TwoNodes, trained: Trained, tmp_path: Path
) -> None:
    places = [str(trained.catalogue), "-f", str(trained.features), "-b", str(tmp_path / "bundle")]
    done = nodes.job("train_ensemble", *places, "--set", "training.members=1", "--set", "training.epochs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "bundle" / "manifest.json").exists()


def test_a_member_that_no_node_holds_is_an_error_at_once(nodes: TwoNodes, trained: Trained, tmp_path: Path) -> None:
    places = [str(trained.catalogue), "-f", str(trained.features), "-b", str(tmp_path / "bundle")]
    started = time.monotonic()
    done = nodes.job("train_ensemble", *places, "--set", "training.threads=4")
    assert time.monotonic() - started < 60.0
    assert done.returncode == 2, done.stdout + done.stderr
    assert "MGC501" in done.stderr
    assert "1 worker of 4 CPU, each on one node, and the cluster has 2 nodes of 2 CPU" in " ".join(
        done.stderr.split()
    )


@pytest.fixture
def music_on_s3(bucket: str, tmp_path: Path) -> str:
    """A small catalogue with its music in a bucket; its URI."""
    music, root = write_music(tmp_path / "music", 2), f"s3://{bucket}/music"
    for path in music.rglob("*.*"):
        Store.open(root).write_atomic(path.relative_to(music).as_posix(), path.read_bytes())
    catalogue = f"s3://{bucket}/catalogue.parquet"
    index_catalogue(root, catalogue, CatalogueConfig(manifest=f"{root}/labels.csv"))
    return catalogue


def exposed(nodes: TwoNodes, secret: str) -> list[str]:
    """Return every log of the cluster, and every answer of its API, in which the secret stands."""
    logs = [path for path in nodes.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    found = [str(path) for path in logs if secret.encode() in path.read_bytes()]
    for kind in ("jobs", "actors", "tasks", "workers", "runtime-envs", "placement-groups", "objects"):
        listing = ["list", kind, "--detail", "--format=json", "--limit=1000", f"--address={nodes.dashboard}"]
        found += [kind] if secret in nodes.run(*RAY, *listing).stdout else []
    submitted = nodes.run(*RAY, "job", "list", f"--address={nodes.dashboard}")
    return found + (["job list"] if secret in submitted.stdout + submitted.stderr else [])


@pytest.mark.s3
def test_keys_are_not_handed_on_unless_told_and_stand_nowhere(
    nodes: TwoNodes, trained: Trained, swift: SwiftServer, music_on_s3: str, tmp_path: Path
) -> None:
    keys = swift.env()
    secret = keys["AWS_SECRET_ACCESS_KEY"]
    tag = ["tag_catalogue", music_on_s3, "-b", str(trained.bundle), "-o"]
    refused = nodes.job(*tag, str(tmp_path / "refused"), **keys)
    rows = read_predictions(str(tmp_path / "refused"))
    assert set(rows["error_code"]) == {TrackCode.ACCESS_DENIED}, refused.stdout + refused.stderr
    assert exposed(nodes, secret) == []
    handed = nodes.job(*tag, str(tmp_path / "handed"), "--set", "cluster.forward_credentials=true", **keys)
    assert handed.returncode == 0, handed.stdout + handed.stderr
    rows = read_predictions(str(tmp_path / "handed"))
    assert rows.height == read_catalogue(music_on_s3).height
    assert rows["error_code"].null_count() == rows.height
    assert exposed(nodes, secret) == []
