"""Commands in a folder full of modules named like the standard library, dependencies and mgc: none of them runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from audio_samples import music
from hostile_modules import BEFORE_ANY_PROGRAM, write_console_script, write_hostile_modules
from model_makers import bundle_contents

from mgc.audio.decode.sndfile import encode
from mgc.catalogue.index import index_catalogue
from mgc.config import CatalogueConfig
from mgc.models.bundle import write_bundle
from mgc.tables.predictions import read_predictions

HOME = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("bundle"))
    write_bundle(place, bundle_contents(2))
    return place


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "music" / "song.flac"
    path.parent.mkdir()
    path.write_bytes(encode(music(1.5, 16_000, seed=0), 16_000, "flac"))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The current folder of the commands."""
    path = tmp_path / "here"
    path.mkdir()
    return path


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(HOME), "NO_COLOR": "1", "TERM": "dumb"}
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=240, check=False
    )


def marks_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_modules_of_the_test_leave_their_marks(folder: Path, tmp_path: Path) -> None:
    assert write_hostile_modules(folder, tmp_path / "marks") > 300
    done = call(folder, sys.executable, "-c", "import random, soundfile, mgc")
    assert done.returncode == 0, done.stderr
    assert {"random", "soundfile", "mgc"} <= set(marks_in(tmp_path / "marks"))


@pytest.mark.parametrize("command", ["tag", "inspect"])
def test_the_console_script_runs_no_module_of_the_current_folder(
    command: str, song: Path, bundle: str, folder: Path, tmp_path: Path
) -> None:
    write_hostile_modules(folder, tmp_path / "marks")
    page = ["-o", str(tmp_path / "page.html")] if command == "inspect" else []
    done = call(folder, write_console_script(tmp_path), command, str(song), "-b", bundle, *page)
    assert done.returncode == 0, done.stdout + done.stderr
    assert marks_in(tmp_path / "marks") == []


def test_python_m_mgc_runs_no_module_of_the_current_folder(
    song: Path, bundle: str, folder: Path, tmp_path: Path
) -> None:
    write_hostile_modules(folder, tmp_path / "marks", but={"mgc", *BEFORE_ANY_PROGRAM})
    done = call(folder, sys.executable, "-m", "mgc", "tag", str(song), "-b", bundle)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "song.flac" in done.stdout
    assert marks_in(tmp_path / "marks") == []


@pytest.mark.ray
@pytest.mark.slow
def test_a_catalogues_run_runs_no_module_of_the_current_folder_in_any_process(
    song: Path, bundle: str, folder: Path, tmp_path: Path
) -> None:
    write_hostile_modules(folder, tmp_path / "marks")
    index_catalogue(str(song.parent), str(tmp_path / "catalogue.parquet"), CatalogueConfig())
    out = str(tmp_path / "predictions")
    catalogue = ["tag", str(tmp_path / "catalogue.parquet"), "-b", bundle, "-o", out, "--workers", "1"]
    done = call(folder, write_console_script(tmp_path), *catalogue)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_predictions(out)["error_code"].to_list() == [None]
    assert marks_in(tmp_path / "marks") == []
