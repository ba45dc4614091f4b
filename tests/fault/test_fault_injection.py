"""Whole jobs with a Ray of their own over an S3 that is unwell and on a disk that fills: what a user sees then."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from faulty_s3 import FaultyS3, faulty_s3, nothing
from in_process import without_ray
from killing import job
from model_makers import bundle_contents
from small_music import write_music
from swift_server import SwiftServer

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cluster.predict import tag_catalogue
from mgc.cluster.run import RunOptions
from mgc.config import CatalogueConfig, load_config
from mgc.models.bundle import write_bundle
from mgc.storage.store import Store
from mgc.tables.predictions import read_predictions

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TRACKS = 36
SETTINGS = ["cluster.tracks_per_chunk=2", "cluster.workers=2", "cluster.lease_seconds=5"]
IMPATIENT = {"AWS_RETRY_MODE": "standard", "AWS_MAX_ATTEMPTS": "2"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 tracks, and a bundle with random weights."""
    folder = tmp_path_factory.mktemp("unwell")
    write_music(folder / "music", TRACKS // 3)
    write_bundle(str(folder / "bundle"), bundle_contents(2))
    return folder


@pytest.fixture(scope="module")
def well(folder: Path) -> pl.DataFrame:
    """What each track is answered where nothing goes wrong, without Ray and S3."""
    catalogue = str(folder / "catalogue.parquet")
    index_catalogue(str(folder / "music"), catalogue, CatalogueConfig())
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        config = load_config(None, SETTINGS)
        tag_catalogue(read_catalogue(catalogue), str(folder / "bundle"), str(folder / "out"), config, RunOptions())
    return answers(str(folder / "out"))


def said_by(command: list[str], status: int, **environment: str) -> str:
    """Run a command to its end, which must be this exit status, and return what it said."""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, **both, timeout=600, check=False, env={**os.environ, **environment})
    assert done.returncode == status, done.stdout
    return str(done.stdout)


def answers(uri: str) -> pl.DataFrame:
    """What must not depend on what went wrong on the way."""
    return read_predictions(uri).select("track_id", "genre_probabilities", "windows", "error_code").sort("track_id")


@dataclass(frozen=True)
class Patient:
    """A catalogue in a bucket, the proxy before it, and the command that tags it into that bucket."""

    proxy: FaultyS3
    bucket: str
    folder: Path
    catalogue: Path

    def command(self, name: str) -> list[str]:
        return job(
            "tag_catalogue.py",
            str(self.catalogue),
            "-b",
            str(self.folder / "bundle"),
            "-o",
            self.output(name),
            settings=SETTINGS,
        )

    def said(self, name: str, status: int = 0, **environment: str) -> str:
        return said_by(self.command(name), status, AWS_ENDPOINT_URL=self.proxy.endpoint_url, **environment)

    def output(self, name: str) -> str:
        return f"s3://{self.bucket}/{name}"

    def n_commits(self, name: str) -> int:
        return len(list(Store.open(self.output(name)).list("commits/")))


@pytest.fixture
def patient(folder: Path, swift: SwiftServer, bucket: str, tmp_path: Path) -> Iterator[Patient]:
    store = Store.open(f"s3://{bucket}/music")
    for path in (folder / "music").rglob("*.*"):
        store.write_atomic(path.relative_to(folder / "music").as_posix(), path.read_bytes())
    index_catalogue(store.uri(), str(tmp_path / "catalogue.parquet"), CatalogueConfig())
    with faulty_s3(swift.endpoint_url) as proxy:
        yield Patient(proxy, bucket, folder, tmp_path / "catalogue.parquet")


class Spell:
    """Refuses what it is told to, from the n-th part that is written on, for some seconds or for good."""

    def __init__(self, parts: int, seconds: float = math.inf, *, parts_only: bool = False) -> None:
        self.parts_left, self.seconds, self.parts_only = parts, seconds, parts_only
        self.ends: float | None = None

    def __call__(self, method: str, key: str) -> bool:
        is_part = method == "PUT" and "/part-" in key
        self.parts_left -= is_part
        if self.ends is None and self.parts_left <= 0:
            self.ends = time.monotonic() + self.seconds
        return self.ends is not None and time.monotonic() < self.ends and (is_part or not self.parts_only)


@pytest.mark.s3
def test_an_s3_that_refuses_all_for_five_seconds_costs_five_seconds_and_no_track(
    patient: Patient, well: pl.DataFrame
) -> None:
    patient.proxy.refuses = Spell(4, seconds=5.0)
    said = patient.said("ill")
    assert patient.proxy.refused >= 2, "an actor asked, was refused, and asked again"
    assert "failed" not in said
    assert answers(patient.output("ill")).equals(well)
    assert answers(patient.output("ill"))["error_code"].null_count() == TRACKS


@pytest.mark.s3
def test_tracks_that_s3_refuses_are_rows_with_the_reason_and_the_next_run_has_them(
    patient: Patient, well: pl.DataFrame
) -> None:
    patient.proxy.refuses = lambda method, key: method == "GET" and "/music/drone/" in key
    said = patient.said("tags", **IMPATIENT)
    assert "T103_FETCH_FAILED" in said
    rows = read_predictions(patient.output("tags"))
    failed = rows.filter(pl.col("error_code").is_not_null())
    assert set(failed["error_code"]) == {"T103_FETCH_FAILED"}
    assert failed.height == TRACKS // 3
    assert all("/drone/" in uri for uri in failed["uri"])
    assert all("SlowDown" in message or "reduce your request rate" in message for message in failed["error_message"])
    patient.proxy.refuses = nothing
    assert f"{TRACKS // 3} to retry, {TRACKS - TRACKS // 3} unchanged" in patient.said("tags", **IMPATIENT)
    assert answers(patient.output("tags")).equals(well)


@pytest.mark.s3
def test_an_s3_that_takes_no_more_ends_the_run_with_its_reason_and_nothing_is_lost(
    patient: Patient, well: pl.DataFrame
) -> None:
    patient.proxy.refuses = Spell(4, parts_only=True)
    said = patient.said("tags", 2, **IMPATIENT)
    assert "MGC2" in said
    assert "reduce your request rate" in said
    assert patient.n_commits("tags") == 0, "half a run is visible"
    patient.proxy.refuses = nothing
    assert "resumed from a killed run" in patient.said("tags", **IMPATIENT)
    assert answers(patient.output("tags")).equals(well)


FULL_DISK = """
set -eu
mount -t tmpfs -o size={small} none {disk}
set +e
{command}; echo "ended with $?"
ls -A {disk}/commits {disk}/current
find {disk} -name '.mgc-tmp*'
mount -o remount,size=100m {disk}
{command}; echo "ended with $?"
cp -a {disk}/. {kept}
"""
"""A disk of its own, in a mount namespace of its own, that is too small, and then is not."""


def test_a_disk_that_fills_in_mid_run_ends_it_with_its_reason_and_more_room_ends_it_well(
    folder: Path, well: pl.DataFrame, tmp_path: Path
) -> None:
    can = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    if can.returncode:
        pytest.skip(f"no file system of its own can be mounted here: {can.stderr.decode().strip()}")
    disk, kept, catalogue = tmp_path / "disk", tmp_path / "kept", tmp_path / "catalogue.parquet"
    for place in (disk, kept):
        place.mkdir()
    index_catalogue(str(folder / "music"), str(catalogue), CatalogueConfig())
    command = job(
        "tag_catalogue.py", str(catalogue), "-b", str(folder / "bundle"), "-o", str(disk), settings=SETTINGS
    )
    script = FULL_DISK.format(small="120k", disk=disk, kept=kept, command=" ".join(command))
    said = said_by(["unshare", "-rm", shutil.which("bash") or "bash", "-c", script], 0)
    print(said)
    first, second = said.split("ended with 2", 1)
    assert "MGC204" in first
    assert "no room to write" in first
    assert ".mgc-tmp" not in second
    assert "resumed from a killed run" in second
    assert "ended with 0" in second
    assert answers(str(kept)).equals(well)
