"""The package as others install it: what the wheel holds, and that its command works away from the source."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from model_makers import bundle_contents

from mgc import __version__
from mgc.audio.decode.sndfile import encode
from mgc.models.bundle import write_bundle

ROOT = Path(__file__).parents[2]
NAME = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
SDIST = "from setuptools import build_meta; build_meta.build_sdist('dist')"


def run(*command: str | Path, folder: Path) -> str:
    """Run a command in a folder, without this checkout on its path, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wheel_of(source: Path, folder: Path) -> Path:
    """Build the wheel of a source tree or a source distribution into a folder of its own."""
    build = ("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(sys.executable, "-m", *build, "--wheel-dir", folder, source, folder=source.parent)
    (wheel,) = folder.iterdir()
    return wheel


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the package is built from: building leaves folders behind."""
    folder = tmp_path_factory.mktemp("source") / "checkout"
    shutil.copytree(ROOT / "mgc", folder / "mgc", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that the source distribution gives."""
    run(sys.executable, "-c", SDIST, folder=source)
    (sdist,) = (source / "dist").glob("*.tar.gz")
    return wheel_of(sdist, tmp_path_factory.mktemp("sdist-wheel"))


def test_the_wheel_holds_every_file_of_the_package(source: Path, wheel: Path, tmp_path: Path) -> None:
    files = {str(path.relative_to(source)) for path in (source / "mgc").rglob("*") if path.is_file()}
    assert {"mgc/py.typed", "mgc/reports/templates/base.html", "mgc/reports/templates/page.css"} <= files
    assert contents(wheel) == files
    assert contents(wheel_of(source, tmp_path / "wheel")) == files, "the wheel of the checkout is the sdist's"


def test_the_installed_command_tags_a_file_elsewhere(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, symlinks=True, with_pip=False)
    python = place / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, folder=tmp_path)
    # The dependencies are those of this environment; a path file found there is not read, so no editable mgc is.
    (site_packages,) = place.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    assert run(place / "bin" / "mgc", "--version", folder=tmp_path) == f"mgc {__version__}\n"
    where = "import mgc, importlib.metadata as m; print(mgc.__file__, m.version({!r}))"
    assert (
        run(python, "-c", where.format(NAME), folder=tmp_path) == f"{site_packages}/mgc/__init__.py {__version__}\n"
    )

    write_bundle(str(tmp_path / "bundle"), bundle_contents())
    samples = np.sin(np.arange(32_000) / 20).astype(np.float32)
    (tmp_path / "song.flac").write_bytes(encode(samples, 16_000, "flac"))
    answer = json.loads(run(place / "bin" / "mgc", "tag", "song.flac", "-b", "bundle", "--json", folder=tmp_path))
    assert (answer["predicted_genre"] in ("low", "high"), answer["error_code"]) == (True, None)
