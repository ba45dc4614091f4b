"""Runs on a cluster of two nodes of two CPUs each, joined by address: placement, and which secrets reach it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundle_fixtures import Trained
from ray_nodes import RAY, Nodes, local_nodes
from small_music import SETTINGS, write_music
from swift_server import SwiftServer

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.config import CatalogueConfig
from mgc.errors import TrackCode
from mgc.storage.store import Store
from mgc.tables.predictions import read_predictions

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
FLAGS = [word for setting in SETTINGS if "threads" not in setting for word in ("--set", setting)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with local_nodes(2, 2, dashboard=True) as made:
        yield made


def job(nodes: Nodes, name: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return nodes.run(sys.executable, f"jobs/{name}.py", *arguments, "--address", nodes.address, *FLAGS, **more)


def test_members_are_fitted_where_no_node_has_the_cpus_of_all(nodes: Nodes, trained: Trained, tmp_path: Path) -> None:
    places = [str(trained.catalogue), "-f", str(trained.features), "-b", str(tmp_path / "bundle")]
    done = job(nodes, "train_ensemble", *places, "--set", "training.members=1", "--set", "training.epochs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "bundle" / "manifest.json").exists()


def test_a_member_that_no_node_holds_is_an_error_at_once(nodes: Nodes, trained: Trained, tmp_path: Path) -> None:
    places = [str(trained.catalogue), "-f", str(trained.features), "-b", str(tmp_path / "bundle")]
    started = time.monotonic()
    done = job(nodes, "train_ensemble", *places, "--set", "training.threads=4")
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


def exposed(nodes: Nodes, secret: str) -> list[str]:
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
    nodes: Nodes, trained: Trained, swift: SwiftServer, music_on_s3: str, tmp_path: Path
) -> None:
    keys = swift.env()
    secret = keys["AWS_SECRET_ACCESS_KEY"]
    tag = ["tag_catalogue", music_on_s3, "-b", str(trained.bundle), "-o"]
    refused = job(nodes, *tag, str(tmp_path / "refused"), **keys)
    rows = read_predictions(str(tmp_path / "refused"))
    assert set(rows["error_code"]) == {TrackCode.ACCESS_DENIED}, refused.stdout + refused.stderr
    assert exposed(nodes, secret) == []
    handed = job(nodes, *tag, str(tmp_path / "handed"), "--set", "cluster.forward_credentials=true", **keys)
    assert handed.returncode == 0, handed.stdout + handed.stderr
    rows = read_predictions(str(tmp_path / "handed"))
    assert rows.height == read_catalogue(music_on_s3).height
    assert rows["error_code"].null_count() == rows.height
    assert exposed(nodes, secret) == []
