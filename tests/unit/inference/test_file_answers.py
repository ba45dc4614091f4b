"""A few files, decoded and tagged without Ray: the same as the catalogue's job gives."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from audio_samples import music
from model_makers import FEATURES, TAXONOMY, bundle_contents
from tagged_files import job_rows

from mgc.audio.decode.sndfile import encode
from mgc.cli.file_answers import answer_cells, unsure_text
from mgc.config import DecodeConfig, TaggingConfig
from mgc.errors import TrackCode
from mgc.inference.file_reader import FileReader, ReadOptions
from mgc.inference.file_tagger import FileAnswer, FileTagger, json_answer, write_taggram
from mgc.models.bundle import write_bundle
from mgc.models.bundle_files import read_bundle_files
from mgc.tables.schema import require_kind


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("bundle"))
    write_bundle(place, bundle_contents(2, features=FEATURES.model_copy(update={"max_windows": 4})))
    return place


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("songs")
    paths = []
    for seed, (seconds, container) in enumerate([(3.0, "wav"), (0.5, "flac"), (5.0, "ogg"), (9.0, "mp3")]):
        path = folder / f"song{seed}.{container}"
        path.write_bytes(encode(music(seconds, 16_000, seed=seed), 16_000, container))
        paths.append(str(path))
    return paths


@pytest.fixture(scope="module")
def reader(bundle: str) -> Iterator[FileReader]:
    with FileReader(read_bundle_files(bundle).features, DecodeConfig(max_file_bytes=10**6)) as made:
        yield made


@pytest.fixture(scope="module")
def tagger(bundle: str) -> FileTagger:
    return FileTagger(read_bundle_files(bundle), TaggingConfig())


def answered(
    tagger: FileTagger, reader: FileReader, uris: list[str], options: ReadOptions | None = None
) -> list[FileAnswer]:
    return [tagger.answer(file_features.result()) for file_features in reader.begin(uris, options)]


def test_the_answer_is_the_catalogues_row_to_the_last_bit(
    bundle: str, songs: list[str], tagger: FileTagger, reader: FileReader
) -> None:
    table = job_rows(bundle, [*songs, *reversed(songs)]).to_pylist()
    for answer, row in zip(answered(tagger, reader, songs), table, strict=False):
        said = json_answer(answer, tagger.bundle, embedding=True)
        assert row["error_code"] is None
        assert said["predicted_genre"] == row["genre"]
        for name in ("genre_probability", "duration_seconds", "windows", "tags", "embedding", "bundle_fingerprint"):
            assert said[name] == row[name], name
        for name in ("genre_probabilities", "tag_probabilities"):
            assert said[name] == dict(row[name])


def test_failures_have_their_codes_and_cost_the_others_nothing(
    songs: list[str], tagger: FileTagger, reader: FileReader, tmp_path: Path
) -> None:
    (tmp_path / "text.mp3").write_text("no music")
    (tmp_path / "large.wav").write_bytes(bytes(10**6 + 1))
    uris = [
        str(tmp_path / "text.mp3"),
        songs[0],
        str(tmp_path / "none.mp3"),
        str(tmp_path / "large.wav"),
        "ftp://x/y",
    ]
    answers = answered(tagger, reader, uris)
    codes = [answer.error and answer.error.track_code for answer in answers]
    assert codes == [
        TrackCode.NOT_AUDIO,
        None,
        TrackCode.NOT_FOUND,
        TrackCode.TOO_LARGE,
        TrackCode.FETCH_FAILED,
    ]
    said = json_answer(answers[0], tagger.bundle, embedding=True, windows=True)
    assert said["audio_file"] == uris[0]
    assert (said["error_code"], said["error_stage"]) == ("T202_NOT_AUDIO", "decode")
    assert said["predicted_genre"] is said["genre_probabilities"] is said["embedding"] is said["in_time"] is None
    assert list(said) == list(json_answer(answers[1], tagger.bundle, embedding=True, windows=True))
    json.dumps(said, allow_nan=False)


def test_a_guess_is_shown_as_one_and_counted(songs: list[str], tagger: FileTagger, reader: FileReader) -> None:
    sure, other = answered(tagger, reader, songs[:2])
    assert sure.prediction is not None
    guess = replace(sure, prediction=replace(sure.prediction, abstained=True))
    ranked = sorted(zip(sure.prediction.genre_probabilities.tolist(), TAXONOMY.genres, strict=True), reverse=True)
    first = answer_cells(guess, TAXONOMY)[0].plain.splitlines()[0]
    assert first == f"not sure: {ranked[0][1]} {100 * ranked[0][0]:.0f} %"
    assert "not sure" not in answer_cells(sure, TAXONOMY)[0].plain
    assert unsure_text([guess, other]) == "not sure of the genre of 1 of 2 files"
    assert unsure_text([sure, other]) == ""


def test_standard_input_is_a_file(
    songs: list[str], tagger: FileTagger, reader: FileReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = answered(tagger, reader, songs[:1])

    def answer_of(data: bytes) -> FileAnswer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return answered(tagger, reader, ["-"])[0]

    found = answer_of(Path(songs[0]).read_bytes())
    assert found.uri == "-"
    assert found.prediction is not None
    assert expected.prediction is not None
    np.testing.assert_array_equal(found.prediction.tag_probabilities, expected.prediction.tag_probabilities)
    too_long = answer_of(bytes(10**6 + 1)).error
    assert too_long is not None
    assert too_long.track_code is TrackCode.TOO_LARGE


def test_windows_in_time(songs: list[str], tagger: FileTagger, reader: FileReader) -> None:
    (few,) = answered(tagger, reader, songs[3:])
    assert few.in_time is not None
    assert few.prediction is not None
    length = FEATURES.window_seconds
    assert len(few.in_time.start_seconds) == few.prediction.windows == 4
    assert few.in_time.start_seconds[0] == 0.0
    assert few.in_time.end_seconds[-1] == pytest.approx(few.duration_seconds)
    (many,) = answered(tagger, reader, songs[3:], ReadOptions(every_seconds=0.25))
    assert many.in_time is not None
    assert many.prediction is not None
    np.testing.assert_array_equal(many.prediction.genre_probabilities, few.prediction.genre_probabilities)
    starts = np.array(many.in_time.start_seconds)
    np.testing.assert_allclose(starts[:-1], 0.25 * np.arange(len(starts) - 1))
    lengths = np.array(many.in_time.end_seconds) - starts
    np.testing.assert_allclose(lengths[:-1], length)
    assert length - 0.1 < lengths[-1] < length + 1e-9  # an MP3 may end a little before it says
    assert many.in_time.probabilities.tag_probabilities.shape == (len(starts), len(TAXONOMY.tags))
    np.testing.assert_allclose(many.in_time.probabilities.genre_probabilities.sum(axis=1), 1.0, atol=1e-6)


def test_a_short_track_ends_where_it_ends(songs: list[str], tagger: FileTagger, reader: FileReader) -> None:
    (answer,) = answered(tagger, reader, songs[1:2], ReadOptions(every_seconds=0.1))
    assert answer.in_time is not None
    assert (answer.in_time.start_seconds, answer.in_time.end_seconds) == ((0.0,), (0.5,))


def test_a_taggram_is_a_table_of_windows(
    songs: list[str], tagger: FileTagger, reader: FileReader, tmp_path: Path
) -> None:
    answers = answered(tagger, reader, [*songs[:2], str(tmp_path / "none.mp3"), songs[2]])
    written = write_taggram(str(tmp_path / "taggram.parquet"), answers, tagger.bundle)
    table = pq.read_table(tmp_path / "taggram.parquet")
    require_kind(table.schema, "taggram", "here")
    rows = table.to_pylist()
    assert [row["uri"] for row in rows] == [songs[0]] * 4 + [songs[1]] + [songs[2]] * 4
    assert written == len(rows) == 9
    in_time = answers[0].in_time
    assert in_time is not None
    for row, tags in zip(rows, in_time.probabilities.tag_probabilities, strict=False):
        assert dict(row["tag_probabilities"]) == dict(zip(TAXONOMY.tags, tags.tolist(), strict=True))
    assert [row["start_seconds"] for row in rows[:4]] == list(in_time.start_seconds)
    assert {row["track_id"] for row in rows} == {None}
    assert {row["bundle_fingerprint"] for row in rows} == {tagger.bundle.fingerprint}


def test_no_file_with_an_answer_gives_an_empty_taggram(tagger: FileTagger, tmp_path: Path) -> None:
    assert write_taggram(str(tmp_path / "t.parquet"), [FileAnswer("x")], tagger.bundle) == 0
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 0


SPY = (
    "import sys\nfrom mgc.cli.app import main\ntry:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)\n"
)


def test_the_command_answers_without_ray(bundle: str, songs: list[str], tmp_path: Path) -> None:
    """One process for all that the command must do: its start is what takes time."""
    arguments = ["tag", *songs[:2], str(tmp_path / "gone.mp3"), "-b", bundle, "--json", "--windows", "--every", "0.5"]
    command = [sys.executable, "-c", SPY, *arguments, "--taggram", str(tmp_path / "t.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["audio_file"] for one in said] == [*songs[:2], str(tmp_path / "gone.mp3")]
    assert [one["error_code"] for one in said] == [None, None, "T101_NOT_FOUND"]
    assert [window["start_seconds"] for window in said[0]["in_time"]] == [
        0.0,
        0.5,
        1.0,
        1.5,
        2.0,
        pytest.approx(2.264),
    ]
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 7
    imported = set(done.stderr.split())
    assert "torch" in imported
    assert not imported & {"ray", "polars", "matplotlib", "sklearn", "s3fs", "soundfile"}
