"""The page of one track in headless Chromium: it plays the file beside it from a moment, or says that it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from audio_samples import music
from browser import Browser
from test_track_report import OCCLUSION, view

from mgc.audio.decode.sndfile import encode
from mgc.reports.track_report import track_page

WHY_NOT = Browser.unavailable_reason()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "pages" / "track.html"
    path.parent.mkdir()
    path.write_text(track_page(view(occlusion=OCCLUSION, audio_url="./../a%20song%231.wav")), encoding="utf-8")
    return path


def test_a_moment_plays_the_file_from_there(browser: Browser, page: Path, tmp_path: Path) -> None:
    (tmp_path / "a song#1.wav").write_bytes(encode(music(3.0, 22_050), 22_050, "wav"))
    browser.open(page, "document.querySelector('audio').readyState > 0")
    assert browser.run("document.querySelector('audio').duration") == pytest.approx(3.0, abs=0.01)
    assert browser.run("document.getElementById('silent').hidden") is True
    browser.run("document.querySelector('audio').play = () => {}")
    browser.click("#spoke [data-from='0.5'] button")
    assert browser.run("document.querySelector('audio').currentTime") == pytest.approx(0.5)
    browser.click("#windows [data-from='2.0'] button")
    assert browser.run("document.querySelector('audio').currentTime") == pytest.approx(2.0)
    browser.emulate(width=360, height=740)
    assert browser.run("document.documentElement.scrollWidth") <= 360


def test_a_file_that_is_not_there_is_named_and_moments_are_text(browser: Browser, page: Path) -> None:
    browser.open(page, "!document.getElementById('silent').hidden")
    assert browser.run("document.querySelector('audio').hidden") is True
    assert browser.run("document.querySelectorAll('[data-from] button').length") == 0
    assert browser.run("document.querySelector('#spoke [data-from]').textContent") == "0:00.0 – 0:01.0"
