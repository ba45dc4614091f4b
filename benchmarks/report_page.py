"""The page of 100,000 tracks: how long it takes to make, its size, and how fast it answers in a browser.

Times in the browser are of headless Chromium, from an action until the next picture is on its way; left out, and said
so, where there is none.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.material import figure
from benchmarks.process import run_module

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from browser import Browser

TRACKS = 100_000
READY = "document.documentElement.classList.contains('unpacked')"

DRAWN = "await new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
ACTIONS = {
    "search": "document.querySelector('[data-words]').value = 'artist title {n} tag'; mgc.table.refresh()",
    "sort": "mgc.table.sortBy(document.querySelector('th[data-by=sureness]'))",
    "filter": "document.querySelector('[data-genre]').selectedIndex = {n} + 1; mgc.table.refresh()",
    "turn": "document.querySelector('[data-after]').click()",
    "track": "mgc.open({n}); document.querySelector('dialog').close()",
}


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print build seconds, peak memory and size of the page; then milliseconds of each action in the browser."""
    del clips
    place = str(folder / "page")
    run_module("benchmarks.made_page", place, str(TRACKS))
    first = run_module("benchmarks.made_page", place, str(TRACKS)).values
    # The map of the first time is kept: what a scheduled run pays is the second.
    made = [run_module("benchmarks.made_page", place, str(TRACKS)).values for _ in range(rounds)]
    figure("report_first_seconds", [first["seconds"]], "s")
    figure("report_seconds", [one["seconds"] for one in made], "s")
    figure("report_peak_mb", [one["peak_mb"] for one in made], "MB")
    figure("report_page_mb", [one["page_mb"] for one in made], "MB")
    if reason := Browser.unavailable_reason():
        print(f"the browser's part is left out: {reason}")
        return
    in_browser(folder / "page" / "predictions" / "report" / "index.html", rounds)


def in_browser(page: Path, rounds: int) -> None:
    """Print how long a page takes to open, and to answer."""
    with Browser() as browser:
        opened = []
        for _ in range(rounds):
            browser.open(page, READY)
            opened.append(browser.run("performance.getEntriesByName('mgc-unpacked')[0].startTime"))
        figure("report_open_ms", opened, "ms")
        for name, action in ACTIONS.items():
            times = []
            for n in range(max(3, rounds)):
                timed = f"const t = performance.now(); {action.replace('{n}', str(n))}; {DRAWN}"
                times.append(browser.run(f"(async () => {{ {timed}; return performance.now() - t; }})()"))
            figure(f"report_{name}_ms", times, "ms")
        heap = browser.run("performance.memory.usedJSHeapSize / 1e6")
        figure("report_heap_mb", [heap], "MB")
        assert not browser.problems, browser.problems


if __name__ == "__main__":
    in_browser(Path(sys.argv[1]), 3)
