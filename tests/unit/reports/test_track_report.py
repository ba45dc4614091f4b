"""The page and the picture of one track: what they show is what was decoded, and nothing in a name is believed."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from page_checker import HOSTILE, checked
from PIL import Image

from mgc.audio.track_features import Outline
from mgc.config import FeatureConfig
from mgc.inference.occlusion import Occlusion
from mgc.reports.page import clock_tenths
from mgc.reports.svg import VARIABLES
from mgc.reports.track_look import (
    FEWEST_ROWS,
    MOST_COLUMNS,
    Neighbour,
    TrackView,
    drops_in_columns,
    in_columns,
    in_time_columns,
    strongest,
    window_edges,
)
from mgc.reports.track_report import PROBABILITY, SOUND, coloured, heading, track_page, track_png, window_summaries

FEATURES = FeatureConfig(sample_rate=8_000, n_fft=256, hop_length=200, n_mels=16, window_seconds=1.0)
GENRES, TAGS = ("jazz", "rock"), ("piano", "loud", "slow")


def view(**more: Any) -> TrackView:
    """Return 3 s in windows of 1 s, every half second: rock for the first three windows, then jazz."""
    rng = np.random.default_rng(0)
    jazz = np.array([0.1, 0.2, 0.3, 0.8, 0.9], np.float32)
    values: dict[str, Any] = {
        "uri": "/music/songs/a song.mp3",
        "genres": [("jazz", 0.6), ("rock", 0.4)],
        "tags": [("piano", 0.9), ("slow", 0.5), ("loud", 0.01)],
        "tag_thresholds": np.full(len(TAGS), 0.5),
        "windows": 3,
        "outline": Outline(*(rng.uniform(-1, 1, (3, 300)).astype(np.float32)), 3.0, 0.01),
        "features": FEATURES,
        "log_mel": rng.uniform(-80, 0, (5, FEATURES.n_frames, 16)).astype(np.float16),
        "start_seconds": (0.0, 0.5, 1.0, 1.5, 2.0),
        "end_seconds": (1.0, 1.5, 2.0, 2.5, 3.0),
        "genre_names": GENRES,
        "tag_names": TAGS,
        "genre_in_time": np.stack([jazz, 1 - jazz], axis=1),
        "tag_in_time": np.tile(np.array([0.9, 0.01, 0.5], np.float32), (5, 1)),
        "nearest": [Neighbour("/music/songs/b.mp3", 0.987, "jazz", 0.7)],
        "bundle_uri": "/bundle",
        "bundle_fingerprint": "b" * 16,
    }
    values |= more
    return TrackView(**{"cepstrum": rng.normal(size=values["log_mel"].shape).astype(np.float32), **values})


def test_the_page_is_whole_and_shows_the_predictions() -> None:
    page = track_page(view())
    checked(page)
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Sounds like jazz (60 %; next rock , 40 %), with piano , slow" in text
    assert "It is 0:03 long; the answer is made from 3 windows of 1 s." in text
    assert "begin 0.5 s apart" in text
    assert "0.987" in text
    assert "Mel filters, MFCC over time and real cepstrum over time of a song.mp3" in page
    assert "b.mp3" in text
    # A table in words stands for the picture: five windows, rock in three of them.
    windows = page[page.index('<section id="windows">') : page.index('<section id="provenance">')]
    assert windows.count("<tr><td") == 5
    assert windows.count("<td>rock</td>") == 3
    assert windows.count("piano") == 5
    assert "loud" not in windows


OCCLUSION = Occlusion(
    "jazz",
    0.6,
    np.array([0.0, 0.5, 2.0]),
    np.array([1.0, 1.5, 3.0]),
    np.array([0.2, 0.1, -0.05]),
    np.array([0.0, 500.0, 2_000.0, 4_000.0]),
    np.array([0.3, -0.004, 0.0]),
)


def test_what_spoke_for_the_answer_is_drawn_and_in_words() -> None:
    drops = drops_in_columns(view(), OCCLUSION)
    times = (np.arange(MOST_COLUMNS) + 0.5) / MOST_COLUMNS * 3.0
    for time, drop in ((0.2, 0.2), (0.7, 0.15), (1.2, 0.1), (1.7, np.nan), (2.5, -0.05)):
        np.testing.assert_allclose(drops[np.searchsorted(times, time)], drop, atol=1e-6)
    page = track_page(view(occlusion=OCCLUSION))
    checked(page)
    part = page[page.index('<section id="spoke">') : page.index('<section id="answer">')]
    text = " ".join(re.sub(r"<[^>]+>", " ", part).split())
    assert "jazz (60.0 %)" in text
    assert "0:00.0 – 0:01.0 20.0 pt 0:00.5 – 0:01.5 10.0 pt 0:02.0 – 0:03.0 \u22125.0 pt" in text
    assert "2 000 – 4 000 Hz 0.0 pt 500 – 2 000 Hz \u22120.4 pt 0 – 500 Hz 30.0 pt" in text
    assert part.count('class="bar against"') == 2
    assert "what spoke for jazz" in page
    assert 'id="spoke"' not in track_page(view())
    assert track_png(view(occlusion=OCCLUSION)).startswith(b"\x89PNG")
    nothing = replace(OCCLUSION, slice_drops=np.zeros(3), band_drops=np.zeros(3))
    checked(track_page(view(occlusion=nothing)))


def test_only_a_page_that_plays_may_load_a_file() -> None:
    silent = track_page(view())
    assert "media-src" not in silent
    assert checked(silent).played == []
    page = track_page(view(audio_url="./a%20song.mp3"))
    assert checked(page).played == ["./a%20song.mp3"]
    assert "media-src 'self' file:;" in page
    assert "loads nothing but the audio file" in page
    assert page.count("data-from=") - silent.count("data-from=") == 0


def test_a_guess_is_shown_as_one() -> None:
    unsure = Neighbour("/music/songs/c.mp3", 0.9, "rock", 0.41, abstained=True)
    shown = view(abstained=True, nearest=[unsure])
    text = " ".join(re.sub(r"<[^>]+>", " ", track_page(shown)).split())
    assert "Not sure of the genre: perhaps jazz (60 %" in text
    assert "Sounds like" not in text
    assert "not sure: rock 41 %" in text
    assert "not sure: jazz 60 %: piano" in heading(shown)


def test_the_picture_follows_light_and_dark() -> None:
    page = track_page(view())
    # Log-mel, genres, tags, MFCC and cepstrum: one image for light pages and one for dark ones each.
    assert page.count('class="only-light"') == page.count('class="only-dark"') == 5
    assert not [marker for marker in VARIABLES if marker in page]
    images = [
        Image.open(io.BytesIO(base64.b64decode("".join(data.split()))))
        for data in re.findall(r'href="data:image/png;base64,([^"]+)"', page)
    ]
    assert len(images) == 10
    assert images[0].size == (3 * 8_000 // 200, 16)
    assert images[2].width == MOST_COLUMNS


def test_names_from_files_are_text() -> None:
    hostile = view(
        uri=f"/music/{HOSTILE}",
        genres=[(HOSTILE, 1.0)],
        genre_names=(HOSTILE,),
        genre_in_time=np.ones((5, 1), np.float32),
        nearest=[Neighbour(HOSTILE, 0.5, HOSTILE, None)],
    )
    page = track_page(hostile)
    checked(page)
    assert HOSTILE not in page
    assert track_png(hostile).startswith(b"\x89PNG")


def test_a_bundle_without_genres_or_tags_and_no_predictions() -> None:
    no_genres = view(genres=[], genre_names=(), genre_in_time=np.zeros((5, 0), np.float32), nearest=None)
    page = track_page(no_genres)
    checked(page)
    assert "Has <strong><bdi>piano" in page
    assert 'id="nearest"' not in page
    no_tags = view(
        tags=[], tag_names=(), tag_thresholds=np.zeros(0), tag_in_time=np.zeros((5, 0), np.float32), nearest=[]
    )
    page = track_page(no_tags)
    checked(page)
    assert "Sounds like" in page
    assert "no other track" in page


def test_no_tag_at_the_threshold_shows_the_likeliest() -> None:
    page = track_page(view(tag_thresholds=np.full(len(TAGS), 0.95)))
    assert "Tags: none at 95 %; the likeliest" in page
    assert window_summaries(view(tag_thresholds=np.full(len(TAGS), 0.95)))[0].tags == []


def test_each_tag_has_a_threshold_of_its_own() -> None:
    page = view(tag_thresholds=np.array([0.95, 0.005, 0.5]))
    assert page.listed_tags == [("slow", 0.5), ("loud", 0.01)]
    assert [name for name, _ in window_summaries(page)[0].tags] == ["slow", "loud"]
    assert "Tags at their own thresholds or more" in track_page(page)


def test_the_picture_alone_is_a_png_that_names_its_track() -> None:
    shown = view()
    assert heading(shown) == "a song.mp3   0:03   jazz 60 %: piano, slow"
    with Image.open(io.BytesIO(track_png(shown))) as image:
        assert image.width == 1_920
        assert np.asarray(image.convert("L")).std() > 20


def test_the_spectrogram_is_the_mean_of_the_frames_of_all_windows() -> None:
    shown = view(log_mel=np.zeros((5, FEATURES.n_frames, 16), np.float16))
    shown.log_mel[2] = -40.0
    found = in_time_columns(shown, shown.log_mel)
    assert found.shape == (120, 16)
    # The third window is 1 to 2 s. The second and the fourth overlap half of it each.
    np.testing.assert_allclose(found[[10, 50, 70, 110], 0], [0.0, -20.0, -20.0, 0.0])


def test_what_was_not_decoded_is_empty_and_padding_is_left_out() -> None:
    gap = view(start_seconds=(0.0, 0.1, 0.2, 0.3, 2.0), end_seconds=(1.0, 1.1, 1.2, 1.3, 3.0))
    found = in_time_columns(gap, gap.log_mel)
    assert np.isnan(found[60]).all()
    assert not np.isnan(found[[0, 110]]).any()
    short = replace(
        view(),
        outline=Outline(*np.zeros((3, 5), np.float32), 0.5, 0.1),
        start_seconds=(0.0,),
        end_seconds=(0.5,),
        log_mel=view().log_mel[:1],
        cepstrum=view().cepstrum[:1],
        genre_in_time=view().genre_in_time[:1],
        tag_in_time=view().tag_in_time[:1],
    )
    assert in_time_columns(short, short.log_mel).shape == (20, 16)
    np.testing.assert_allclose(in_time_columns(short, short.log_mel), short.log_mel[0, :20], atol=1e-6)
    checked(track_page(short))


@pytest.mark.parametrize(("stride", "phase"), [(1.0, 0.0), (2.0, 0.0), (3.33678, 1.666), (7.5, 0.4)])
def test_thinned_frames_fill_the_picture_to_its_end(stride: float, phase: float) -> None:
    thinned = FEATURES.model_copy(update={"frame_stride": stride, "frame_phase": phase})
    log_mel = np.zeros((5, thinned.n_frames, 16), np.float16)
    log_mel[4] = -40.0
    found = in_time_columns(view(features=thinned, log_mel=log_mel), log_mel)
    assert found.shape == (int(3.0 * thinned.frames_per_second + 1e-6), 16)
    assert not np.isnan(found).any()
    np.testing.assert_allclose([found[0, 0], found[-1, 0]], [0.0, -40.0])


def test_moments_end_between_the_middles_of_windows() -> None:
    np.testing.assert_allclose(window_edges(view()), [0.0, 0.75, 1.25, 1.75, 2.25, 3.0])
    columns = in_columns(view(), view().genre_in_time)[:, 0]
    assert columns.shape == (MOST_COLUMNS,)
    np.testing.assert_allclose(columns[[0, 274, 276, -1]], [0.1, 0.1, 0.2, 0.9])
    last = window_summaries(view())[-1]
    assert (last.start_seconds, last.end_seconds, last.genre) == (2.0, 3.0, "jazz")
    assert last.genre_probability == pytest.approx(0.9)


def test_rows_are_what_was_likely_at_any_moment() -> None:
    names = [f"n{number}" for number in range(8)]
    whole = [(name, 0.8 - 0.1 * number) for number, name in enumerate(names[:3])] + [
        (name, 0.01) for name in names[3:]
    ]
    in_time = np.full((2, 8), 0.02, np.float32)
    in_time[1, 7] = 0.9
    assert strongest(names, whole, in_time, 16) == [0, 1, 2, 7]
    assert strongest(names, whole, in_time, 2) == [0, 7]
    assert len(strongest(names, [(name, 0.0) for name in names], 0 * in_time, 16)) == FEWEST_ROWS


@pytest.mark.parametrize("ramp", [*SOUND, *PROBABILITY])
def test_more_is_further_from_the_page_in_lightness(ramp: tuple[str, ...]) -> None:
    colours = coloured(np.linspace(0, 1, 101), ramp).astype(float)
    lightness = colours[:, :3] @ [0.2126, 0.7152, 0.0722]
    steps = np.diff(lightness)
    assert (steps < 1).all() or (steps > -1).all()
    assert abs(lightness[-1] - lightness[0]) > 100
    assert coloured(np.array([np.nan]), ramp)[0, 3] == 0


def test_a_place_in_a_track() -> None:
    assert [clock_tenths(seconds) for seconds in (0.0, 61.26, 59.96)] == ["0:00.0", "1:01.3", "1:00.0"]
