"""Ray's control store or raylet is killed under a run: it ends soon and says why, and the next goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_fixtures import Trained
from killing import descendants, job, run, wait_until
from small_music import SETTINGS, TWO_FITS, write_music

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.config import CatalogueConfig
from mgc.tables.predictions import read_predictions

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
SMALL_CHUNKS = [*SETTINGS, "cluster.tracks_per_chunk=1", "cluster.workers=1"]


def lose(command: list[str], part_of_ray: str, is_time: Callable[[], bool]) -> str:
    """Start a command, kill a process of its Ray as soon as it is time, and return what it says; its status is 2."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(is_time, 200.0, lambda: process.poll() is None)
        (pid,) = descendants(process.pid, part_of_ray)
        os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        _, printed = process.communicate(timeout=90.0)
        assert time.monotonic() - begun < 75.0
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 2, printed
    assert printed.count("[MGC501]") == 1, printed
    assert "resumed" in printed
    assert "Traceback" not in printed
    return " ".join(printed.split())


def n_parts(output: Path) -> int:
    return len(list(output.glob("runs/*/part-*.parquet")))


@pytest.mark.parametrize(
    ("part_of_ray", "what"), [("gcs/gcs_server", "its control store (GCS) at"), ("raylet/raylet", "raylet has ended")]
)
def test_a_tagging_run_says_that_ray_is_lost(trained: Trained, tmp_path: Path, part_of_ray: str, what: str) -> None:
    write_music(tmp_path / "music", 80)
    catalogue, output = str(tmp_path / "catalogue.parquet"), tmp_path / "out"
    index_catalogue(str(tmp_path / "music"), catalogue, CatalogueConfig(labels_from="folder"))
    slow = [*SMALL_CHUNKS, "cluster.fetch_threads=1"]
    command = job("tag_catalogue.py", catalogue, "-b", str(trained.bundle), "-o", str(output), settings=slow)
    said = lose(command, part_of_ray, lambda: n_parts(output) >= 3)
    assert what in said
    assert list((output / "leases").glob("*")) == []
    assert not (output / "commits").exists()
    assert "resumed from a killed run" in run(command)
    assert read_predictions(str(output)).height == read_catalogue(catalogue).height


def test_a_training_says_that_ray_is_lost(trained: Trained, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    places = [str(trained.catalogue), "--features", str(trained.features), "--bundle", str(bundle)]
    command = job("train_ensemble.py", *places, settings=[*TWO_FITS, "training.epochs=2000"])
    progress = Path(f"{bundle}.training") / "progress"
    said = lose(command, "gcs/gcs_server", lambda: any(progress.glob("*.json")))
    assert "its control store (GCS) at" in said
    assert not bundle.exists()
