"""Four scheduled runs over a catalogue on S3, by the commands of a cron job: what each did, and how long it took.

    python -m benchmarks.scheduled_runs --catalogue FOLDER [--tracks 300] [--bundle DIR --new-bundle DIR]
        [--pages DIR]

FOLDER holds audio, and is copied to OpenStack Swift on loopback. Run 1 tags all, run 2 finds nothing to do,
run 3 has new, changed, broken and deleted files, run 4 a new bundle. Counts are read from `history` and
`current`, as any reader would; where one is not what it should be the exit status is 1. Without bundles two with
random weights are made: their answers mean nothing, and take as long. `--pages` keeps each run's report.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import polars as pl

from benchmarks.untrained import write_untrained_bundle
from mgc.storage.store import Store
from mgc.tables.predictions import read_predictions

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from swift_server import SwiftServer

ROOT = "s3://music/catalogue"
OUTPUT = "s3://music/predictions"
NEW, CHANGED, DELETED = 8, 5, 6
BROKEN = {
    "a page.mp3": b"<html><body>404 Not Found</body></html>" * 20,
    "nothing.flac": b"",
    "noise.ogg": b"OggS" * 500,
}
AUDIO = {".mp3", ".flac", ".ogg", ".wav", ".au", ".m4a", ".opus"}


@dataclass(frozen=True)
class Counts:
    """Of a run: rows it tagged, of them failed, rows that mark deletions, and the tracks of `current` after it."""

    tagged: int
    failed: int
    deleted: int
    current: int


@dataclass(frozen=True)
class StoryRun:
    """What a run did, against what it should."""

    name: str
    index_seconds: float
    tag_seconds: float
    found: Counts
    expected: Counts

    @property
    def is_right(self) -> bool:
        return self.found == self.expected


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduled_runs")
    parser.add_argument("--catalogue", type=Path, required=True, help="folder of audio, copied to S3")
    parser.add_argument("--tracks", type=int, default=300, help="at most so many of its files (default 300)")
    parser.add_argument("--bundle", type=Path, help="of runs 1 to 3")
    parser.add_argument("--new-bundle", type=Path, help="of run 4")
    parser.add_argument("--pages", type=Path, help="folder for the report of each run")
    wanted = parser.parse_args()
    files = sorted(path for path in wanted.catalogue.rglob("*") if path.suffix.lower() in AUDIO)[: wanted.tracks]
    if len(files) < NEW + CHANGED + DELETED + 1:
        raise SystemExit(f"'{wanted.catalogue}' has {len(files)} audio files, too few for the story")
    if reason := SwiftServer.unavailable_reason():
        raise SystemExit(reason)
    with SwiftServer() as server, tempfile.TemporaryDirectory(prefix="mgc-runs-") as folder:
        server.make_bucket("music")
        os.environ.update(server.env())
        bundles = [wanted.bundle or _made(Path(folder, "old"), 2), wanted.new_bundle or _made(Path(folder, "new"), 1)]
        runs = story(files, Path(folder), bundles, wanted.pages)
    show(runs)
    sys.exit(0 if all(run.is_right for run in runs) else 1)


def _made(folder: Path, members: int) -> Path:
    write_untrained_bundle(str(folder), members)
    return folder


def story(files: list[Path], folder: Path, bundles: list[Path], pages: Path | None = None) -> list[StoryRun]:
    """Do the four runs, and return what each did."""

    def run(name: str, bundle: Path, expected: Counts) -> StoryRun:
        done = _run(name, folder, bundle, expected)
        if pages is not None:
            pages.mkdir(parents=True, exist_ok=True)
            page = Store.open(OUTPUT).read_bytes("report/index.html")
            (pages / f"run-{name.partition(':')[0]}.html").write_bytes(page)
        return done

    store = Store.open(ROOT)
    later, first = files[:NEW], files[NEW:]
    _put(store, first)
    n = len(first)
    runs = [run("1: all", bundles[0], Counts(n, 0, 0, n))]
    runs.append(run("2: nothing changed", bundles[0], Counts(0, 0, 0, n)))
    _put(store, later)
    for path, other in zip(first[:CHANGED], first[-CHANGED:], strict=True):
        store.write_atomic(path.name, other.read_bytes())
    for path in first[CHANGED : CHANGED + DELETED]:
        store.delete(path.name)
    for name, data in BROKEN.items():
        store.write_atomic(name, data)
    work, left = NEW + CHANGED + len(BROKEN), n + NEW + len(BROKEN) - DELETED
    what = f"3: {NEW} new, {CHANGED} changed, {len(BROKEN)} broken, {DELETED} deleted"
    runs.append(run(what, bundles[0], Counts(work, len(BROKEN), DELETED, left)))
    runs.append(run("4: a new bundle", bundles[1], Counts(left, len(BROKEN), 0, left)))
    return runs


def _put(store: Store, files: list[Path]) -> None:
    for path in files:
        store.write_atomic(path.name, path.read_bytes())


def _run(name: str, folder: Path, bundle: Path, expected: Counts) -> StoryRun:
    catalogue, before = str(folder / "catalogue.parquet"), _last_sequence()
    index_seconds = _mgc("index", ROOT, "-o", catalogue)
    tag_seconds = _mgc("tag", catalogue, "-b", str(bundle), "-o", OUTPUT)
    rows = _history().filter(pl.col("sequence") > before)
    deleted = int(rows["deleted_at"].is_not_null().sum())
    live = rows.filter(pl.col("deleted_at").is_null())
    failed = int(live["error_code"].is_not_null().sum())
    current = read_predictions(OUTPUT, ["track_id"])["track_id"].n_unique()
    return StoryRun(name, index_seconds, tag_seconds, Counts(live.height, failed, deleted, current), expected)


def _mgc(*arguments: str) -> float:
    """Run a command of mgc, show it and its output, and return its seconds."""
    print(f"$ mgc {' '.join(arguments)}", flush=True)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "mgc", *arguments], check=False)
    if done.returncode:
        raise SystemExit(f"mgc {arguments[0]} ended with status {done.returncode}")
    return time.perf_counter() - started


def _history() -> pl.DataFrame:
    store = Store.open(OUTPUT)
    columns = ["track_id", "sequence", "error_code", "deleted_at"]
    tables = [pl.read_parquet(store.read_bytes(item.key), columns=columns) for item in store.list("history/")]
    return pl.concat(tables) if tables else pl.DataFrame(schema={"sequence": pl.Int64})


def _last_sequence() -> int:
    return max(_history()["sequence"].to_list(), default=0)


def show(runs: list[StoryRun]) -> None:
    """Print a row a run."""
    head = ("run", "index s", "tag s", "tagged", "failed", "deleted", "current", "")
    rows = [head, *map(_row, runs)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    for row in rows:
        name, *figures, verdict = row
        numbers = [figure.rjust(width) for figure, width in zip(figures, widths[1:-1], strict=True)]
        print("  ".join([name.ljust(widths[0]), *numbers, verdict]).rstrip())


def _row(run: StoryRun) -> tuple[str, ...]:
    seconds = (f"{run.index_seconds:.1f}", f"{run.tag_seconds:.1f}")
    verdict = "as it should" if run.is_right else f"WRONG, should be {astuple(run.expected)}"
    return (run.name, *seconds, *map(str, astuple(run.found)), verdict)


if __name__ == "__main__":
    main()
