"""SIGTERM, as every scheduler sends it: a command ends cleanly, and the next one resumes what was finished."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import job, wait_until
from model_makers import bundle_contents
from small_music import SETTINGS, write_music

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cluster.extract import extract_features
from mgc.cluster.run import RunOptions
from mgc.config import CatalogueConfig, load_config
from mgc.models.bundle import write_bundle

SMALL_CHUNKS = [*SETTINGS, "cluster.tracks_per_chunk=1", "cluster.workers=1"]
LINE = "terminated (SIGTERM); the next run resumes what was finished"


def terminate_when(command: list[str], is_time: Callable[[], bool], *, group: bool = False) -> str:
    """Start a command, SIGTERM it as soon as it is time, and return its stderr: it ends within 10 s, with 143."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(is_time, 90.0, lambda: process.poll() is None)
        begun = time.monotonic()
        (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
        _, printed = process.communicate(timeout=30.0)
        assert time.monotonic() - begun < 10.0
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 143, printed
    return printed


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks enough that a command is in the middle of them."""
    folder = tmp_path_factory.mktemp("terminated")
    write_music(folder / "music", 60)
    index_catalogue(str(folder / "music"), str(folder / "catalogue.parquet"), CatalogueConfig(labels_from="folder"))
    return folder / "catalogue.parquet"


def n_parts(output: Path) -> int:
    return len(list(output.glob("runs/*/part-*.parquet")))


def require_resumable(output: Path, printed: str) -> None:
    assert printed.splitlines() == [LINE]
    assert n_parts(output) >= 3
    assert not list(output.glob("commits/*"))
    assert not list(output.glob("leases/*")), "the lease was not released"


@pytest.mark.ray
@pytest.mark.parametrize("group", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["driver", "group"])
def test_extraction(catalogue: Path, tmp_path: Path, group: bool) -> None:
    output = tmp_path / "features"
    command = job("extract_features.py", str(catalogue), "--output", str(output), settings=SMALL_CHUNKS)
    require_resumable(output, terminate_when(command, lambda: n_parts(output) >= 3, group=group))


@pytest.mark.ray
@pytest.mark.slow
def test_tagging(catalogue: Path, tmp_path: Path) -> None:
    write_bundle(str(tmp_path / "bundle"), bundle_contents(1))
    output, bundle = tmp_path / "predictions", str(tmp_path / "bundle")
    command = job("tag_catalogue.py", str(catalogue), "-b", bundle, "-o", str(output), settings=SMALL_CHUNKS)
    require_resumable(output, terminate_when(command, lambda: n_parts(output) >= 3))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_two")
@pytest.mark.slow
def test_training(catalogue: Path, tmp_path: Path) -> None:
    features, bundle = str(tmp_path / "features"), tmp_path / "bundle"
    extract_features(read_catalogue(str(catalogue)), features, load_config(None, SETTINGS), RunOptions())
    settings = [*SETTINGS, "training.epochs=400", "training.patience=400"]
    command = job("train_ensemble.py", str(catalogue), "-f", features, "-b", str(bundle), settings=settings)
    printed = terminate_when(command, lambda: bool(list(tmp_path.glob("**/progress*.json"))))
    assert printed.splitlines() == [LINE]
    assert not (bundle / "bundle.json").exists()


WITHOUT_RAY = """
import sys, time
from mgc.cli import app
from mgc.storage.store import Store
from mgc.tables.lease import run_lease
app.UNWIND_SECONDS = 1.0
def command():
    with run_lease(Store.open(sys.argv[1]), 60.0):
        print("at work", flush=True)
        while True:
            try:
                time.sleep(60)
            except SystemExit:
                if sys.argv[2] == "ends":
                    raise
app.guarded(command)
"""


@pytest.mark.parametrize("how", ["ends", "hangs"])
def test_the_lease_is_released_even_where_a_library_swallows_the_end(how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_RAY, str(tmp_path), how]
    printed = terminate_when(command, lambda: bool(re.search(r'"ticket": 1', _leases(tmp_path))))
    assert printed.splitlines() == [LINE]
    assert _leases(tmp_path) == ""


def _leases(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("leases/*.json"))
