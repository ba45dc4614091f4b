"""A cluster of `ray start --head` with token authentication, and jobs submitted to it as a data engineer does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from bundle_fixtures import Trained
from small_music import SETTINGS

from mgc.catalogue.index import read_catalogue
from mgc.tables.predictions import read_predictions

pytestmark = [pytest.mark.ray, pytest.mark.slow]
HOME = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
FLAGS = [word for setting in SETTINGS for word in ("--set", setting)]


@dataclass(frozen=True)
class Cluster:
    """A running head: its address, its dashboard, and the environment that knows its token."""

    address: str
    dashboard: str
    environment: dict[str, str]
    metrics: str

    def call(self, *command: str, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, cwd=HOME, timeout=seconds, check=False
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head node on two CPUs; it dies with `--block`, so that no other Ray on the machine is touched."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("6d67632d746573742d746f6b656e2d6d67632d746573742d746f6b656e2d3031")
    port, dashboard, metrics = free_port(), free_port(), free_port()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # `python` in an entrypoint is the cluster's: the one of this virtual environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**plain, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}"]
    ports.append(f"--metrics-export-port={metrics}")
    command = [*RAY, "start", "--head", "--block", "--num-cpus=2", *ports]
    head = subprocess.Popen(
        [*command, "--node-ip-address=127.0.0.1"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    addresses = (f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}")
    made = Cluster(*addresses, environment, f"http://127.0.0.1:{metrics}/metrics")
    try:
        for _ in range(30):
            if made.call(*RAY, "job", "list", f"--address={made.dashboard}").returncode == 0:
                break
            assert head.poll() is None, "the head node did not start"
        yield made
    finally:
        head.terminate()
        try:
            head.wait(90)
        except subprocess.TimeoutExpired:
            head.kill()
            head.wait()


def test_a_submitted_job_tags_the_catalogue(cluster: Cluster, trained: Trained, tmp_path: Path) -> None:
    job = ["python", "jobs/tag_catalogue.py", str(trained.catalogue), "-b", str(trained.bundle), "-o", str(tmp_path)]
    submit = [*RAY, "job", "submit", f"--address={cluster.dashboard}", "--working-dir=.", "--", *job, *FLAGS]
    done = cluster.call(*submit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tagging: 36/36 tracks" in done.stdout
    assert f'polars.scan_delta("{tmp_path}/current")' in done.stdout
    rows = read_predictions(str(tmp_path))
    assert rows["track_id"].sort().to_list() == read_catalogue(str(trained.catalogue))["track_id"].to_list()
    assert (tmp_path / "report" / "index.html").exists()
    assert "Nothing was compared: there is no earlier run" in done.stdout
    # Ray sends its metrics every ten seconds.
    counted = scraped(cluster, "ray_mgc_tracks_total{", seconds=40)
    assert counted == 36.0
    assert scraped(cluster, "ray_mgc_audio_seconds_total{") == pytest.approx(rows["duration_seconds"].sum(), rel=1e-3)
    assert scraped(cluster, "ray_mgc_chunk_seconds_count{") >= 2


def scraped(cluster: Cluster, start: str, seconds: float = 0.0) -> float | None:
    """Return the sum of a metric's samples of the job `predictions`, waiting for it to appear."""
    end = time.monotonic() + seconds
    while True:
        with urllib.request.urlopen(cluster.metrics, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith(start) and 'job="predictions"' in line]
        if found or time.monotonic() > end:
            return sum(float(line.rpartition(" ")[2]) for line in found) if found else None
        time.sleep(1.0)


def test_an_address_is_joined(cluster: Cluster, trained: Trained, tmp_path: Path) -> None:
    command = [sys.executable, "jobs/extract_features.py", str(trained.catalogue), "-o", str(tmp_path / "features")]
    done = cluster.call(*command, "--address", cluster.address, *FLAGS)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = cluster.call(*RAY, "job", "list", f"--address={cluster.dashboard}").stdout
    assert "extract_features.py" in jobs


def test_a_wrong_token_is_refused(cluster: Cluster, trained: Trained, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    command = [sys.executable, "jobs/extract_features.py", str(trained.catalogue), "-o", str(tmp_path / "features")]
    stranger = replace(cluster, environment={**cluster.environment, "RAY_AUTH_TOKEN_PATH": str(wrong)})
    done = stranger.call(*command, "--address", cluster.address, *FLAGS)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "token" in done.stderr
    assert "MGC501" in done.stderr
