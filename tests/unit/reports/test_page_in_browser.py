"""The tagging page in headless Chromium: it sorts, searches, filters, pages, opens a track, and keeps to itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answer_makers import predictions_of
from browser import Browser
from drift_makers import made_run, make_prediction_summary
from page_checker import HOSTILE

from mgc.reports.tagging_report import PageParts, tagging_page
from mgc.reports.track_map import TrackMap

WHY_NOT = Browser.unavailable_reason()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

READY = "document.documentElement.classList.contains('unpacked')"
GENRES = ("blues", "jazz", "rock")
TRACKS = 240


LOW_CONTRAST = r"""
(() => {
  const numbers = (text) => text.match(/[\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const one of document.querySelectorAll("body *")) {
    const hasText = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!hasText || !one.getClientRects().length || one.disabled || one.closest("svg, option")) continue;
    const found = ratio(numbers(getComputedStyle(one).color), ground(one));
    if (found < 4.5) low.push(`${one.tagName} ${one.className} ${one.textContent.trim().slice(0, 20)} ${found}`);
  }
  const probe = document.createElement("i");
  document.body.append(probe);
  const paint = (name) => {
    probe.style.color = `var(${name})`;
    return numbers(getComputedStyle(probe).color);
  };
  for (let mark = 0; mark < 12; mark += 1) {
    if (ratio(paint(`--mark-${mark}`), paint("--surface")) < 3) low.push(`mark ${mark}`);
  }
  return low;
})()
"""


FEWER_BLUES = """
(() => {
  const { map, tracks } = mgc;
  const all = map.points;
  map.points = all.filter(({ row }, number) => number % 2 || tracks.genreNames[tracks.genre(row)] !== "blues");
  map.rankGenres();
  const names = map.marks.map(([genre]) => tracks.genreNames[genre]);
  map.points = all;
  map.rankGenres();
  return names;
})()
"""


def row(number: int) -> dict[str, Any]:
    sure = 0.51 + 0.48 * (number * 37 % TRACKS) / TRACKS
    first, second = GENRES[number % 3], GENRES[(number + 1) % 3]
    values = {
        "track_id": f"{number:04}",
        "uri": f"/music/Band {number % 7}/Song {number:03}.mp3",
        "genres": {first: sure, second: 1 - sure},
        "tags": {"loud": 0.9, "slow": 0.8 if number % 5 == 0 else 0.1},
        "seconds": 60.0 + number,
    }
    return values if number % 40 else {**values, "error": "T202_NOT_AUDIO", "message": "it is HTML"}


def page_of_rows(rows: list[dict[str, Any]]) -> str:
    predictions = predictions_of(rows)
    rng = np.random.default_rng(0)
    on_map = [one["track_id"] for one in rows if "error" not in one]
    layout = TrackMap("b" * 16, on_map, rng.random(len(on_map)), rng.random(len(on_map)))
    run = made_run(make_prediction_summary(rng, 300), failed={"T202_NOT_AUDIO": 6}, output="/data/out")
    return tagging_page([predictions], run, PageParts(layout=layout, map_text="All tracks.", run_ids=("run",)))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page_of_rows([row(number) for number in range(TRACKS)]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture
def browser(started: Browser, page: Path) -> Iterator[Browser]:
    started.emulate()
    started.open(page, READY)
    yield started
    assert started.problems == [], "what the page threw, was refused, or fetched"


def names(browser: Browser) -> list[str]:
    return texts(browser, "#tracks tbody .name-cell button")


def texts(browser: Browser, selector: str) -> list[str]:
    found = browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)")
    return list(found)


def row_count(browser: Browser) -> str:
    return str(browser.run("document.querySelector('#tracks output').textContent"))


def search(browser: Browser, words: str, expected: int) -> None:
    browser.type("[data-words]", words)
    browser.wait(f"document.querySelector('#tracks output').textContent.includes(' of {expected} tracks')")


def test_it_sorts_by_every_column_both_ways(browser: Browser) -> None:
    assert names(browser)[:2] == ["Song 000.mp3", "Song 007.mp3"], "by folder and name at first"
    assert browser.run("document.querySelectorAll('#tracks th[aria-sort]').length") == 1
    browser.click("th[data-by=seconds] button")
    assert names(browser)[0] == "Song 239.mp3", "numbers fall at first"
    assert browser.run("document.querySelector('th[data-by=seconds]').getAttribute('aria-sort')") == "descending"
    browser.click("th[data-by=seconds] button")
    assert names(browser)[:2] == ["Song 001.mp3", "Song 002.mp3"], "what failed has no length and stays last"
    browser.click("th[data-by=genre] button")
    firsts = browser.run("[...document.querySelectorAll('#tracks .odds')].map((one) => one.firstChild.textContent)")
    assert set(firsts) == {"blues"}
    browser.click("th[data-by=sureness] button")
    shown = texts(browser, "#tracks tbody tr > td:nth-child(4)")
    sure = [int(text.split()[0]) for text in shown]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] == 99


def test_it_searches_and_filters_together(browser: Browser) -> None:
    search(browser, "band 3/", 34)
    search(browser, "BAND 3/ slow", 6)
    jazz = "[...document.querySelectorAll('[data-genre] option')].find((one) => one.text === 'jazz').value"
    browser.choose("[data-genre]", browser.run(jazz))
    assert " of 3 tracks that fit, of 240" in row_count(browser)
    browser.choose("[data-genre]", "")
    search(browser, "", 240)
    browser.choose("[data-state]", "2")
    assert " of 6 tracks" in row_count(browser)
    assert "T202_NOT_AUDIO it is HTML" in browser.run("document.querySelector('#tracks tbody').textContent")
    search(browser, "no such song", 0)
    assert "No track fits" in browser.run("document.querySelector('#tracks tbody').textContent")
    browser.choose("[data-state]", "now")
    search(browser, "", 240)


def test_it_turns_pages(browser: Browser) -> None:
    assert len(names(browser)) == 25
    assert browser.run("document.querySelector('[data-before]').disabled") is True
    first = names(browser)[0]
    browser.click("[data-after]")
    assert row_count(browser) == "26–50 of 240 tracks"
    assert first not in names(browser)
    browser.choose("[data-page]", "10")
    assert row_count(browser) == "226–240 of 240 tracks"
    assert browser.run("document.querySelector('[data-after]').disabled") is True
    browser.choose("[data-page]", "999")
    assert row_count(browser) == "226–240 of 240 tracks"
    browser.choose("[data-rows]", "100")
    assert row_count(browser) == "1–100 of 240 tracks"


def test_it_opens_a_track_by_mouse_and_keyboard(browser: Browser) -> None:
    browser.click("#tracks tbody tr:nth-child(2) button")
    assert browser.run("document.querySelector('dialog').open") is True
    text = browser.run("document.querySelector('dialog').textContent")
    assert "Song 007.mp3" in text
    assert "/music/Band 0/Song 007.mp3" in text
    assert "1:07 long · tagged · in this run" in text
    browser.click("[data-next]")
    assert "Song 014.mp3" in browser.run("document.querySelector('dialog [data-name]').textContent")
    browser.key("Escape")
    assert browser.run("document.querySelector('dialog').open") is False
    browser.run("document.querySelector('#tracks tbody tr button').focus()")
    browser.key("Enter")
    opened = browser.run("document.querySelector('dialog').textContent")
    about = "The bytes are no audio, whatever the name says, or notes that nothing here plays."
    assert f"{about} Replace or remove the file; render notes to FLAC or WAV" in opened
    assert browser.run("document.querySelector('[data-place]').hidden") is True, "what failed is not on the map"


def test_the_map_is_read_by_pointer_and_keyboard(browser: Browser) -> None:
    assert texts(browser, ".legend li") == ["blues78", "jazz78", "rock78"]
    assert browser.run(FEWER_BLUES) == ["blues", "jazz", "rock"], "a genre keeps its mark when it becomes rare"
    browser.run("document.getElementById('map').scrollIntoView()")
    x, y, name = browser.run(
        "(({ x, y, row }, box) => [box.x + x, box.y + y, mgc.tracks.name[row]])"
        "(mgc.map.points[5], mgc.map.canvas.getBoundingClientRect())"
    )
    browser.point_at(x, y)
    browser.wait(f"document.querySelector('[data-tip]').textContent.includes('{name}')")
    browser.press_at(x, y)
    assert name in browser.run("document.querySelector('dialog[open]').textContent")
    browser.key("Escape")
    browser.run("document.querySelector('#map canvas').focus()")
    browser.key("ArrowRight")
    before = browser.run("document.querySelector('[data-status]').textContent")
    browser.key("ArrowRight")
    after = browser.run("document.querySelector('[data-status]').textContent")
    assert before != after
    browser.key("Enter")
    assert after.split(":")[0] in browser.run("document.querySelector('dialog[open] [data-name]').textContent")
    browser.click("[data-place]")
    assert browser.run("document.activeElement === document.querySelector('#map canvas')") is True
    browser.click(".legend li button")
    assert browser.run("document.querySelector('.legend button').getAttribute('aria-pressed')") == "false"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_stand_out_from_their_ground(browser: Browser, dark: bool) -> None:
    """WCAG 2.2: 4.5 to 1 for text; 3 to 1 for the marks of the map."""
    browser.emulate(dark=dark)
    assert browser.run(LOW_CONTRAST) == []


def test_narrow_windows_need_no_sideways_scrolling(browser: Browser) -> None:
    browser.emulate(width=360, height=740)
    assert browser.run("document.documentElement.scrollWidth") <= 360


def test_hostile_names_do_nothing(started: Browser, tmp_path: Path) -> None:
    rows = [
        {"track_id": "a", "uri": f"/m/{HOSTILE}/{HOSTILE}.mp3", "genres": {HOSTILE: 1.0}, "tags": {HOSTILE: 0.9}},
        {"track_id": "b", "uri": "\u202e<img src=x onerror=window.ran=1>", "error": HOSTILE, "message": HOSTILE},
        *(row(number) for number in range(1, 9)),
    ]
    path = tmp_path / "index.html"
    path.write_text(page_of_rows(rows), encoding="utf-8")
    started.open(path, READY)
    started.choose("[data-state]", "2")
    started.click("#tracks tbody tr button")
    assert started.run("window.ran === undefined && document.querySelectorAll('img').length === 0") is True
    assert started.problems == []


def test_without_a_script_the_first_tracks_are_there(started: Browser, page: Path) -> None:
    started.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        started.send("Page.navigate", url=page.resolve().as_uri())
        for _ in range(200):
            if started.run("document.readyState === 'complete' && document.querySelector('footer') !== null"):
                break
            time.sleep(0.05)
        assert started.run("document.querySelectorAll('#tracks tbody tr').length") == 25
        assert started.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    finally:
        started.send("Emulation.setScriptExecutionDisabled", value=False)
