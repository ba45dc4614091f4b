"""`import mgc`: three functions for programs, and an import that takes milliseconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from audio_samples import music
from curation_makers import tagged_folder
from model_makers import TAXONOMY, bundle_contents
from tagged_files import job_rows

import mgc
from mgc.audio.decode.sndfile import encode
from mgc.errors import BundleError, MgcError, SchemaError, TrackCode
from mgc.models.bundle import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bundle")
    write_bundle(str(place), bundle_contents(2))
    return place


def test_files_have_the_answers_of_the_catalogues_job(bundle: Path, tmp_path: Path) -> None:
    song, text = tmp_path / "song.flac", tmp_path / "text.mp3"
    song.write_bytes(encode(music(3.0, 16_000), 16_000, "flac"))
    text.write_text("no music")
    good, bad = mgc.tag_files([song, str(text)], bundle)
    [row] = job_rows(str(bundle), [str(song)]).to_pylist()
    assert good.uri == row["uri"] == str(song)
    assert good.prediction is not None
    assert (good.prediction.genre, good.duration_seconds) == (row["genre"], 3.0)
    assert good.prediction.embedding.tolist() == row["embedding"]
    assert good.prediction.tag_probabilities.tolist() == [value for _, value in row["tag_probabilities"]]
    assert bad.prediction is None
    assert bad.error is not None
    assert bad.error.track_code is TrackCode.NOT_AUDIO


def test_a_bundle_is_loaded(bundle: Path) -> None:
    loaded = mgc.load_bundle(bundle)
    assert (loaded.taxonomy, len(loaded.members)) == (TAXONOMY, 2)


def test_predictions_are_a_frame_of_the_newest_rows(tmp_path: Path) -> None:
    tagged = tagged_folder(tmp_path, {"a.wav": b"a", "b.wav": b"b"}, b={"genre": "rock"})
    frame = mgc.read_predictions(tagged.predictions, ["uri", "genre"])
    assert frame.sort("uri")["genre"].to_list() == ["jazz", "rock"]
    assert mgc.read_predictions(tagged.predictions)["embedding"].to_list() == [[1.0, 0.0]] * 2


def test_what_is_missing_is_an_error_of_mgc(tmp_path: Path) -> None:
    for function, kind in ((mgc.load_bundle, BundleError), (mgc.read_predictions, SchemaError)):
        with pytest.raises(MgcError, match="missing") as raised:
            function(tmp_path / "missing")
        assert type(raised.value) is kind
    with pytest.raises(BundleError, match="missing"):
        mgc.tag_files(["song.mp3"], tmp_path / "missing")


def test_the_import_brings_neither_numpy_nor_any_other_module_of_mgc() -> None:
    code = "import sys, mgc; print(*(name for name in sys.modules if name.startswith('mgc.') or name == 'numpy'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
