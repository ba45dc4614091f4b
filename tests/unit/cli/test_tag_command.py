"""`mgc tag`: what it is given decides what it does; answers as a table."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import typer
from rich.console import Console

from mgc.audio.decode.sndfile import encode
from mgc.cli import file_answers
from mgc.cli.compare_command import show_compared
from mgc.cli.file_answers import BundleAnswers, answer_table, audio_of, bar
from mgc.cli.tag_command import is_catalogue, tag
from mgc.config.taxonomy import Taxonomy
from mgc.errors import ConfigError, Stage, TrackCode, TrackError
from mgc.inference.file_tagger import FileAnswer
from mgc.inference.predictor import TrackPrediction
from mgc.models.bundle import Bundle

GTZAN_GENRES = {"blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"}
TAXONOMY = Taxonomy(("jazz", "rock", "polka"), ("piano", "loud", "slow"))


def prediction(genres: list[float], tags: list[float], named: list[str]) -> TrackPrediction:
    best = TAXONOMY.genres[int(np.argmax(genres))]
    arrays = (np.array(genres, np.float32), np.array(tags, np.float32))
    return TrackPrediction(best, max(genres), *arrays, named, np.ones(1, np.float32), 6)


def test_a_catalogue_is_known_by_its_name_or_its_first_bytes(tmp_path: Path) -> None:
    table, song = tmp_path / "tracks", tmp_path / "song.mp3"
    table.write_bytes(b"PAR1....")
    song.write_bytes(b"ID3")
    assert is_catalogue([str(table)])
    assert is_catalogue(["s3://bucket/catalogue.parquet"])
    assert is_catalogue(["missing.Parquet"])
    assert not is_catalogue([str(song)])
    assert not is_catalogue([str(tmp_path)])
    assert not is_catalogue(["-"])
    assert not is_catalogue([str(song), "s3://bucket/other.mp3", "missing.mp3"])
    with pytest.raises(ConfigError, match="is a table, and there are 1 more"):
        is_catalogue([str(song), str(table)])


def test_options_of_the_other_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="--output is for a catalogue"):
        tag(["song.mp3"], "bundle", output="out")
    with pytest.raises(ConfigError, match="--workers is for a catalogue"):
        tag(["song.mp3"], "bundle", workers=2)
    with pytest.raises(ConfigError, match="--json is for audio files"):
        tag(["catalogue.parquet"], "bundle", output="out", json=True)
    with pytest.raises(ConfigError, match="need a place"):
        tag(["catalogue.parquet"], "bundle")


def test_a_folder_stands_for_the_audio_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.mp3", "b/c.ogg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    folder = str(tmp_path)
    assert audio_of(["-", f"{folder}/", "x.wav"]) == ["-", f"{folder}/a.mp3", f"{folder}/b/c.ogg", "x.wav"]
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"{folder}/: 2 audio files; skipped: 1 not audio (.txt 1)\n")
    monkeypatch.setattr(file_answers, "FEW_FILES", 1)
    with pytest.raises(ConfigError, match="more than 1 audio files"):
        audio_of([folder])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no audio"):
        audio_of([f"{folder}/empty"])


def table_text(*answers: FileAnswer, taxonomy: Taxonomy = TAXONOMY) -> list[str]:
    screen = Console(width=110, force_terminal=False)
    with screen.capture() as caught:
        screen.print(answer_table(answers, taxonomy))
    return [line.strip() for line in caught.get().splitlines() if line.strip()]


def test_the_table_shows_answers_and_failures() -> None:
    good = FileAnswer("in/a.mp3", 241.2, prediction([0.7, 0.1, 0.2], [0.97, 0.2, 0.55], ["piano", "slow"]))
    bad = FileAnswer("in/b.mp3", error=TrackError(TrackCode.NOT_AUDIO, Stage.DECODE, "the file is text"))
    lines = table_text(good, bad)
    assert lines[0].split() == ["track", "genre", "tags", "length", "windows"]
    first = next(line for line in lines if line.startswith("a.mp3"))
    assert first.split() == ["a.mp3", "jazz", "70%", "█████▋", "piano", "97%", "███████▊", "4:01", "6"]
    assert lines[lines.index(first) + 1].split() == ["polka", "20%", "█▋", "slow", "55%", "████▍"]
    assert "failed T202_NOT_AUDIO" in lines
    assert "the file is text" in lines


def test_no_tag_at_the_threshold_shows_the_likeliest() -> None:
    lines = table_text(FileAnswer("a.mp3", 3.0, prediction([1, 0, 0], [0.1, 0.3, 0.2], [])))
    text = " ".join(" ".join(lines).split())
    assert "none; the likeliest:" in text
    assert "loud 30%" in text
    assert "slow 20%" in text
    assert "piano" not in text


def test_names_that_are_not_unique_keep_their_folders_and_markup_is_plain() -> None:
    lines = table_text(FileAnswer("x/[red]a.mp3"), FileAnswer("y/[red]a.mp3"))
    assert [line.split()[0] for line in lines if "a.mp3" in line] == ["x/[red]a.mp3", "y/[red]a.mp3"]


def test_two_bundles_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    other = Taxonomy(("jazz",), ("piano", "yodel"))
    a = FileAnswer("in/a.mp3", 3.0, prediction([0.7, 0.1, 0.2], [0.97, 0.2, 0.55], ["piano", "slow"]))
    arrays = (np.ones(1, np.float32), np.array([0.4, 0.9], np.float32))
    b = FileAnswer("in/a.mp3", 3.0, TrackPrediction("jazz", 1.0, *arrays, ["yodel"], np.ones(1, np.float32), 6))
    bad = FileAnswer("in/b.mp3", error=TrackError(TrackCode.NOT_AUDIO, Stage.DECODE, "the file is text"))
    bundles = [
        cast(Bundle, SimpleNamespace(taxonomy=names, uri=f"/{number}", fingerprint="f" * number))
        for number, names in enumerate((TAXONOMY, other))
    ]
    with pytest.raises(typer.Exit) as end:
        show_compared(
            BundleAnswers(bundles[0], iter([a, bad])), BundleAnswers(bundles[1], iter([b, bad])), as_json=False
        )
    assert end.value.exit_code == 1
    text = " ".join(capsys.readouterr().out.split())
    for part in ("only A: piano, slow", "only B: yodel", "piano -57 points", "tags that only B knows: yodel"):
        assert part in text
    assert "genres that only A knows: rock, polka" in text
    assert "same genre in 1 of 1 file; listed tags differ in 1 of 1 file" in text


def test_bars_in_eighths_of_a_cell() -> None:
    assert [bar(share) for share in (0.0, 1 / 64, 0.5, 1.0)] == ["", "▏", "████", "████████"]


def test_without_a_bundle_the_starter_answers_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = np.sin(np.arange(22_050 * 4) / 20).astype(np.float32)
    (tmp_path / "song.flac").write_bytes(encode(samples, 22_050, "flac"))
    tag([str(tmp_path)], json=True)
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["predicted_genre"] in GTZAN_GENRES
    assert set(answer["genre_probabilities"]) == GTZAN_GENRES
    assert "no --bundle: the starter bundle" in printed.err
    assert answer["bundle_fingerprint"] in printed.err


def test_the_starter_has_no_student() -> None:
    with pytest.raises(ConfigError, match="has no student"):
        tag(["song.mp3"], fast=True)
