"""kill -9 of the driver in the middle of a run: the next run ends with the table of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from small_music import SETTINGS, add_bad_files, write_music

from mgc.config import CatalogueConfig
from mgc.data.catalogue import index_catalogue, read_catalogue
from mgc.data.changes import frame_of
from mgc.data.outputs import OutputDirectory
from mgc.data.storage import Store
from mgc.data.view import current_index, current_rows

pytestmark = pytest.mark.ray
JOBS = Path(__file__).parents[2] / "jobs"
FLAGS = [word for setting in [*SETTINGS, "cluster.tracks_per_chunk=2"] for word in ("--set", setting)]


def job(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(JOBS / script), *arguments, *FLAGS]


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kill_in_the_middle(command: list[str], output: Path, parts: int = 4) -> int:
    """Kill the driver once some parts are there; return how many a reader of parts could have seen."""
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(output.glob("runs/*/part-*.parquet"))) < parts:
        assert time.monotonic() < deadline, "no parts came"
        assert driver.poll() is None, "the driver ended by itself"
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    return len(list(output.glob("runs/*/part-*.parquet")))


def table(output: Path, kind: str, tracks: pl.DataFrame, drop: tuple[str, ...] = ()) -> pl.DataFrame:
    directory = OutputDirectory(Store.open(str(output)), kind)
    where = current_index(directory, tracks)
    frames = [frame_of(rows) for rows in current_rows(directory, where)]
    return pl.concat(frames).drop(drop).sort("track_id")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_music(folder / "music", 40)
    add_bad_files(folder / "music")
    index_catalogue(str(folder / "music"), str(folder / "catalogue.parquet"), CatalogueConfig(labels_from="folder"))
    return folder / "catalogue.parquet"


def check_killed_run(
    command_to: Callable[[Path], list[str]], kind: str, catalogue: Path, folder: Path, drop: tuple[str, ...]
) -> None:
    tracks = read_catalogue(str(catalogue))
    whole, killed = folder / "whole", folder / "killed"
    run(command_to(whole))
    kill_in_the_middle(command_to(killed), killed)
    assert list(killed.glob("commits/*")) == [], "killed too late to show anything"
    assert OutputDirectory(Store.open(str(killed)), kind).commits() == []
    said = run(command_to(killed))
    assert "taken up from a killed run" in said
    assert table(killed, kind, tracks, drop).equals(table(whole, kind, tracks, drop))
    assert table(killed, kind, tracks).height == tracks.height
    assert "nothing to do" in run(command_to(killed))


def test_extraction(catalogue: Path, tmp_path: Path) -> None:
    def extract_to(output: Path) -> list[str]:
        return job("extract_features.py", str(catalogue), "--output", str(output))

    check_killed_run(extract_to, "features", catalogue, tmp_path, ())
