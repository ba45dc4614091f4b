"""`mgc inspect`: from a file to its page, in one process."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import typer
from audio_samples import music
from model_makers import FEATURES, bundle_contents
from tagged_files import job_rows

from mgc.audio.decode.sndfile import encode
from mgc.cli.inspect_command import _audio_url, inspect
from mgc.errors import ConfigError, FingerprintError
from mgc.models.bundle import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("bundle"))
    write_bundle(place, bundle_contents(2))
    return place


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("songs")
    paths = [folder / f"song{seed}.flac" for seed in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(encode(music(3.0, 16_000, seed=seed), 16_000, "flac"))
    return [str(path) for path in paths]


def test_a_page_names_the_nearest_tracks_but_not_the_track_itself(
    bundle: str, songs: list[str], tmp_path: Path
) -> None:
    predictions = str(tmp_path / "predictions.parquet")
    pq.write_table(job_rows(bundle, songs), predictions)
    inspect(songs[0], bundle, str(tmp_path / "page.html"), predictions)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    nearest = page[page.index('<section id="nearest">') : page.index('<section id="windows">')]
    assert "song1.flac" in nearest
    assert "song2.flac" in nearest
    assert "song0.flac" not in nearest
    vectors = pl.read_parquet(predictions)["embedding"].list.to_array(16).to_numpy()
    best = int((vectors[1:] @ vectors[0]).argmax()) + 1
    assert nearest.index(f"song{best}.flac") < nearest.index(f"song{3 - best}.flac")
    # Windows of 0.736 s, a quarter of that apart: from 0 s to 2.264 s.
    assert page[page.index('<section id="windows">') :].count("<tr><td") == 14


def test_the_page_finds_the_file_from_where_it_lies(bundle: str, songs: list[str], tmp_path: Path) -> None:
    song = tmp_path / "music" / "a: 50% #1\udce9?.flac"
    song.parent.mkdir()
    song.write_bytes(Path(songs[0]).read_bytes())
    inspect(str(song), bundle, str(tmp_path / "pages" / "page.html"))
    page = (tmp_path / "pages" / "page.html").read_text(encoding="utf-8")
    assert 'src="./../music/a%3A%2050%25%20%231%E9%3F.flac"' in page
    assert '<section id="spoke">' in page


@pytest.mark.parametrize(("track", "root"), [("-", "/pages"), ("s3://b/a.mp3", "/pages"), ("/a.mp3", "s3://b/pages")])
def test_what_no_browser_reaches_is_not_played(track: str, root: str) -> None:
    assert _audio_url(track, root, "page.html") is None


def test_a_picture_and_windows_as_wished(bundle: str, songs: list[str], tmp_path: Path) -> None:
    inspect(songs[1], bundle, str(tmp_path / "picture.png"), every=1.0)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_shown_leaves_nothing(bundle: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a page nor a picture"):
        inspect("x.mp3", bundle, str(tmp_path / "page.pdf"))
    (tmp_path / "text.mp3").write_text("no music")
    with pytest.raises(typer.Exit) as end:
        inspect(str(tmp_path / "text.mp3"), bundle, str(tmp_path / "page.html"))
    assert end.value.exit_code == 1
    assert not (tmp_path / "page.html").exists()


def test_a_bundle_of_others_features_takes_no_audio(tmp_path: Path) -> None:
    others = FEATURES.model_copy(update={"source": "others"})
    write_bundle(str(tmp_path / "bundle"), bundle_contents(1, features=others))
    with pytest.raises(FingerprintError, match="which are not those that mgc computes"):
        inspect("x.mp3", str(tmp_path / "bundle"), str(tmp_path / "page.html"))
