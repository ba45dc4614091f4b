"""Commands where the terminal's encoding is not UTF-8, output is full, or the settings come from a Windows editor."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from audio_samples import music
from model_makers import bundle_contents

from mgc.audio.decode.sndfile import encode
from mgc.catalogue.index import read_catalogue
from mgc.catalogue.listing import track_id_of
from mgc.config import load_config
from mgc.models.bundle import write_bundle

HOME = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tag_arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("surroundings")
    write_bundle(str(folder / "bundle"), bundle_contents(2))
    (folder / "sóng ♪.flac").write_bytes(encode(music(1.5, 16_000, seed=0), 16_000, "flac"))
    return ["tag", str(folder / "sóng ♪.flac"), "-b", str(folder / "bundle")]


def call(
    arguments: list[str], stdout: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "mgc", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HOME), "NO_COLOR": "1", "TERM": "dumb", **environment},
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize(("encoding", "name"), [("latin1", "sóng ?.flac"), ("ascii", "s?ng ?.flac")])
def test_a_letter_that_the_terminal_lacks_is_a_question_mark(
    tag_arguments: list[str], encoding: str, name: str
) -> None:
    done = call(tag_arguments, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert name in done.stdout.decode(encoding)
    assert "% ###" in done.stdout.decode(encoding), "the bars"


@pytest.mark.parametrize("encoding", ["latin1", "ascii", "utf-8"])
def test_json_lines_are_whole_in_any_encoding(tag_arguments: list[str], encoding: str) -> None:
    done = call([*tag_arguments, "--json"], PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout.decode(encoding))["audio_file"] == tag_arguments[1]


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale that is not UTF-8 and that every machine has."""


def test_a_track_has_one_id_whatever_the_locale(tag_arguments: list[str], tmp_path: Path) -> None:
    for name, environment in (("ascii", ASCII), ("utf8", {"LC_ALL": "C.UTF-8"})):
        done = call(["index", str(Path(tag_arguments[1]).parent), "-o", str(tmp_path / name)], **environment)
        assert (done.returncode, done.stderr) == (0, b"")
    frame = read_catalogue(str(tmp_path / "ascii"))
    assert frame["uri"].to_list() == [tag_arguments[1]]
    assert frame["track_id"].to_list() == [track_id_of("sóng ♪.flac")]
    assert frame.equals(read_catalogue(str(tmp_path / "utf8")))


def test_a_file_is_found_and_shown_in_a_locale_that_lacks_its_letters(tag_arguments: list[str]) -> None:
    done = call(tag_arguments, **ASCII)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "s?ng ?.flac" in done.stdout.decode("ascii")


@pytest.mark.parametrize("option", [["--json"], []])
def test_a_full_output_is_an_error_with_its_code(tag_arguments: list[str], option: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = call([*tag_arguments, *option], stdout=full.fileno())
    assert done.returncode == 2
    message = done.stderr.decode()
    assert message.startswith("error: standard output takes no more: No space left on device [MGC204]\n  → free some")
    assert message.count("\n") == 2


def test_an_output_that_nobody_reads_is_no_traceback() -> None:
    source, sink = os.pipe()
    os.close(source)
    try:
        done = call(["--help"], stdout=sink)
    finally:
        os.close(sink)
    assert (done.returncode, done.stderr) == (1, b"")


def test_settings_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mgc.toml"
    path.write_bytes(codecs.BOM_UTF8 + b"[tagging]\ntag_threshold = 0.25\n")
    assert load_config(str(path)).tagging.tag_threshold == 0.25
