"""Every command against an S3 that is slow, wrong, or refuses: which rows are lost, doubled, torn or wrong.

    PYTHONPATH=tests:. python tests/fault/store_faults.py              # all faults, all commands: some minutes
    PYTHONPATH=tests:. python tests/fault/store_faults.py --fault "500 for every third request" --command tag

Extraction and tagging do their chunks in this process, by the code of the actors; training is on Ray.
A proxy before a real S3 server (OpenStack Swift) injects one fault into the requests of one command: all of them,
its listings, music, tables, bundles and checkpoints alike. What readers see afterwards is compared with what the same
command made without a fault; then the command is given once more, without the fault, and must end with all of it. The
table is Markdown; the exit status is 1 where a row was lost, doubled, torn or wrong, or the next run ended otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import faulty_s3 as faults
import polars as pl
import pytest
import ray
from faulty_s3 import Fault, FaultyS3, Request, faulty_s3
from in_process import without_ray
from small_music import SETTINGS, write_music
from swift_server import SwiftServer

from mgc.catalogue.index import read_catalogue
from mgc.cli.app import main as mgc
from mgc.models.bundle import load_bundle
from mgc.storage.store import Store
from mgc.tables.parquet_batches import frame_of
from mgc.tables.predictions import read_predictions
from mgc.tables.run_index import current_index, current_rows
from mgc.tables.run_log import OutputDirectory

TRACKS_A_GENRE = 4
HUNG_SECONDS = 900
SET = [
    *SETTINGS,
    "catalogue.valid_fraction=0.34",
    "training.members=1",
    "training.epochs=2",
    "cluster.tracks_per_chunk=2",
    "cluster.lease_seconds=6",
]
COMMANDS = ("index", "extract", "train", "tag", "evaluate")

_TRAINED = ("extract", "train")
INPUTS = {"index": (), "extract": (), "train": ("extract",), "tag": _TRAINED, "evaluate": _TRAINED}

Inject = Callable[[Request], Fault | None]


def every(nth: int, fault: Fault, wanted: Callable[[Request], bool]) -> Inject:
    """Hurt every n-th of the wanted requests."""
    count = itertools.count(1)
    return lambda request: fault if wanted(request) and next(count) % nth == 0 else None


def always(fault: Fault, wanted: Callable[[Request], bool]) -> Inject:
    return every(1, fault, wanted)


def spell(fault: Fault, seconds: float, after: int) -> Inject:
    """Hurt all requests for some seconds, from the n-th on."""
    count, ends = itertools.count(1), [0.0]

    def inject(request: Request) -> Fault | None:
        if next(count) == after:
            ends[0] = time.monotonic() + seconds
        return fault if time.monotonic() < ends[0] else None

    return inject


def from_the(nth: int, fault: Fault, wanted: Callable[[Request], bool]) -> Inject:
    """Hurt the n-th of the wanted requests, and all after it."""
    count = itertools.count(1)
    return lambda request: fault if wanted(request) and next(count) >= nth else None


def first_of_each_key(fault: Fault, wanted: Callable[[Request], bool]) -> Inject:
    seen: set[str] = set()

    def inject(request: Request) -> Fault | None:
        if not wanted(request) or request.key in seen:
            return None
        seen.add(request.key)
        return fault

    return inject


def anything(request: Request) -> bool:
    return True


def bodies(request: Request) -> bool:
    return request.method == "GET" and not request.is_listing


def one_song(request: Request) -> bool:
    return bodies(request) and "/drone/drone001" in request.key


def listings(request: Request) -> bool:
    return request.is_listing


def both(one: Inject, other: Inject) -> Inject:
    return lambda request: one(request) or other(request)


def data(request: Request) -> bool:
    """Reads of what a command works on: its music, or its features."""
    return bodies(request) and ("/music/" in request.key or "/part-" in request.key)


FAULTS: dict[str, Callable[[], Inject]] = {
    "none": lambda: lambda request: None,
    "each answer 0.3 s late": lambda: always(Fault(delay_seconds=0.3), anything),
    "500 for every third request": lambda: every(3, faults.FAILED, anything),
    "503 for all, 5 s long": lambda: spell(faults.REFUSED, 5.0, 6),
    "reset in mid-body, every third": lambda: every(3, faults.RESET, bodies),
    "reset in mid-body, one song always": lambda: always(faults.RESET, one_song),
    "half a body, every third": lambda: every(3, faults.SHORT, bodies),
    "half a body, one song always": lambda: always(faults.SHORT, one_song),
    "flipped bit, every third": lambda: every(3, faults.FLIPPED, bodies),
    "flipped bit, one song always": lambda: always(faults.FLIPPED, one_song),
    "a byte a second, every seventh": lambda: every(7, faults.TRICKLE, data),
    "a byte a second, one song always": lambda: always(faults.TRICKLE, one_song),
    "403 for all data from the third": lambda: from_the(3, faults.DENIED, data),
    "token expired from the fourth song on": lambda: from_the(4, faults.EXPIRED, data),
    "PUT answered 500 after success": lambda: first_of_each_key(
        faults.FAILED_AFTER_SUCCESS, lambda request: request.method == "PUT"
    ),
    "DELETE always refused (403)": lambda: always(faults.DENIED, lambda request: request.method == "DELETE"),
    "listing repeats its keys": lambda: always(faults.REPEATED_LISTING, listings),
    "listing that never ends": lambda: always(faults.ENDLESS_LISTING, listings),
}
"""What is injected; `both` and the like make others."""


class HungError(BaseException):
    """The command did not end."""


@dataclass
class Seen:
    """What readers see of a command's output, against the truth."""

    rows: int = 0
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    wrong: int = 0
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def is_whole(self) -> bool:
        return not (self.lost or self.doubled or self.torn or self.wrong or self.codes)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status (None: it hung), seconds, code, and all it printed."""

    status: int | None
    seconds: float
    printed: str

    @property
    def code(self) -> str:
        return next(iter(re.findall(r"\[(MGC\d+)\]", self.printed)), "")


class Bench:
    """One bucket, with the music and what each command made of it without a fault."""

    def __init__(self, proxy: FaultyS3, bucket: str, commands: Sequence[str]) -> None:
        self.proxy, self.root = proxy, f"s3://{bucket}"
        with tempfile.TemporaryDirectory() as folder:
            music = write_music(Path(folder), TRACKS_A_GENRE)
            for path in music.rglob("*.*"):
                Store(f"{self.root}/music").write_atomic(path.relative_to(music).as_posix(), path.read_bytes())
        self.truths: dict[str, pl.DataFrame] = {}
        needed = {"index", *commands, *(name for command in commands for name in INPUTS[command])}
        for command in filter(needed.__contains__, COMMANDS):
            ended = self.run(command, "truth", lambda request: None)
            if ended.status:
                raise SystemExit(f"{command} fails without any fault:\n{ended.printed}")
            self.truths[command] = self.table(command, "truth")

    def arguments(self, command: str, name: str) -> list[str]:
        """Return a command line: it reads what was made without a fault, and writes below `name`."""
        truth, out = f"{self.root}/truth", f"{self.root}/{name}"
        features, bundle = f"{truth}/features", f"{truth}/bundle"
        catalogue = f"{out if command == 'index' else truth}/catalogue.parquet"
        lines = {
            "index": [f"{self.root}/music", "--manifest", f"{self.root}/music/labels.csv", "-o", catalogue],
            "extract": [catalogue, "-o", f"{out}/features"],
            "tag": [catalogue, "-b", bundle, "-o", f"{out}/tags"],
            "train": [catalogue, "-f", features, "-b", f"{out}/bundle"],
            "evaluate": [catalogue, "-f", features, "-b", bundle, "-o", f"{out}/report", "--no-baseline"],
        }
        return ["mgc", command, *lines[command], *(word for setting in SET for word in ("--set", setting))]

    def run(self, command: str, name: str, inject: Inject) -> Ended:
        """Run a command under a fault, as the console script does."""
        printed, status, begun = io.StringIO(), None, time.monotonic()
        sys.argv = self.arguments(command, name)
        self.proxy.inject = inject
        signal.signal(signal.SIGALRM, _hung)
        signal.alarm(HUNG_SECONDS)
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                mgc()
                status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except HungError:
            printed.write("hung")
        except Exception as error:  # a traceback: what must not be
            status = 1
            printed.write(f"Traceback: {type(error).__name__}: {error}")
        finally:
            signal.alarm(0)
            self.proxy.inject = lambda request: None
        return Ended(status, time.monotonic() - begun, printed.getvalue())

    def seen(self, command: str, name: str, status: int | None) -> Seen:
        """Return what readers find; a command that failed may have shown nothing, but no part of it."""
        truth = self.truths[command]
        try:
            found = self.table(command, name)
        except Exception as error:  # whatever a reader would meet
            return Seen(torn=0 if _is_absence(error) and status != 0 else 1)
        key = truth.columns[0]
        seen = Seen(rows=found.height, doubled=found.height - found[key].n_unique())
        if "error_code" in found.columns:
            failed = found.filter(pl.col("error_code").is_not_null())
            seen.codes = Counter(code.partition("_")[0] for code in failed["error_code"])
            found = found.filter(pl.col("error_code").is_null())
            # A row that says why it failed is there, and is neither lost nor wrong.
            truth = truth.join(failed.select(key), on=key, how="anti")
        seen.lost = 0 if status and not found.height else truth.join(found, on=key, how="anti").height
        right = found.select(truth.columns).join(truth, on=truth.columns, how="semi", nulls_equal=True)
        seen.wrong = found.height - right.height
        return seen

    def table(self, command: str, name: str) -> pl.DataFrame:
        """Return what a command wrote, as its readers read it: a row a track, bundle or figure, the key first."""
        out = f"{self.root}/{name}"
        if command == "index":
            return read_catalogue(f"{out}/catalogue.parquet").with_columns(pl.col("tags").list.join("|"))
        if command == "extract":
            directory = OutputDirectory(Store(f"{out}/features"), "features")
            index = current_index(directory, read_catalogue(f"{self.root}/truth/catalogue.parquet"))
            columns = ("track_id", "content_id", "duration_seconds", "n_windows", "log_mel", "error_code")
            rows = [frame_of(part).select(columns) for part in current_rows(directory, index)]
            return pl.concat(rows) if rows else self.truths["extract"].clear()
        if command == "tag":
            columns = ["track_id", "content_id", "genre", "genre_probability", "embedding", "error_code"]
            rows_ = read_predictions(f"{out}/tags", columns)
            return rows_.with_columns(pl.col("embedding").cast(pl.List(pl.String)).list.join(" "))
        if command == "train":
            return pl.DataFrame({"fingerprint": [load_bundle(f"{out}/bundle").fingerprint]})
        report = json.loads(Store(f"{out}/report").read_bytes("evaluation.json"))
        return pl.DataFrame({"figure": list(map(str, _figures(report)))}).unique()


def _figures(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the numbers of a report with their names; what takes seconds and where things lie is no figure."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _figures(each, f"{path}/{name}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _figures(each, f"{path}/{number}")
    elif isinstance(value, int | float) and "seconds" not in path:
        yield path, value


def _hung(*_: object) -> None:
    raise HungError


def _is_absence(error: Exception) -> bool:
    """Return whether a reader is told that there is nothing, which is true of a command that failed."""
    words = ("no finished", "no model bundle", "does not exist", "no predictions", "nothing is under", "no run")
    return any(word in str(error) for word in words)


@contextlib.contextmanager
def bench(commands: Sequence[str]) -> Iterator[Bench]:
    """Start the server, the proxy and Ray, and make the truth of these commands and of what they read."""
    with SwiftServer() as swift, faulty_s3(swift.endpoint_url) as proxy:
        bucket = swift.make_bucket(f"mgc-{uuid.uuid4().hex[:12]}")
        os.environ |= {**swift.env(), "AWS_ENDPOINT_URL": proxy.endpoint_url}
        os.environ |= {"RAY_BACKEND_LOG_LEVEL": "fatal"}
        os.environ |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        # One for all commands; its workers inherit this environment.
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        with pytest.MonkeyPatch.context() as patch:
            without_ray(patch)
            yield Bench(proxy, bucket, commands)
        ray.shutdown()


HEAD = "| fault | command | lost | doubled | torn | wrong | rows with a code | seconds | status | next run |"


def measured(made: Bench, fault: str, command: str) -> tuple[str, bool]:
    """Return a line of the table, and whether all is as it must be."""
    name = f"{fault}-{command}".replace(" ", "-")
    ended = made.run(command, name, FAULTS[fault]())
    seen = made.seen(command, name, ended.status)
    again = made.run(command, name, lambda request: None)
    after = made.seen(command, name, again.status)
    codes = ", ".join(f"{count} {code}" for code, count in sorted(seen.codes.items())) or "–"
    status = "hung" if ended.status is None else f"{ended.status} {ended.code}".strip()
    is_good = not (seen.lost or seen.doubled or seen.torn or seen.wrong)
    is_good &= ended.status in (0, 2) and bool(ended.code) == (ended.status == 2)
    # A bundle that is there is not made twice without --overwrite.
    is_good &= again.status == 0 or (command == "train" and not ended.status and "--overwrite" in again.printed)
    is_whole = after.is_whole and after.rows == made.truths[command].height
    is_good &= is_whole
    cells = (fault, command, seen.lost, seen.doubled, seen.torn, seen.wrong, codes, f"{ended.seconds:.0f}", status)
    line = f"| {' | '.join(map(str, cells))} | {'whole' if is_whole else after} |"
    if ended.status or not is_good:
        print(f"---- {fault}, {command}", ended.printed, sep="\n", file=sys.stderr, flush=True)
    if not is_good:
        print("---- next run", again.printed, sep="\n", file=sys.stderr, flush=True)
    return line, is_good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only these faults")
    parser.add_argument("--command", action="append", choices=COMMANDS, help="only these commands")
    wanted = parser.parse_args()
    all_good, commands = True, wanted.command or COMMANDS
    with bench(commands) as made:
        print(HEAD, "|---" * HEAD.count(" |") + "|", sep="\n", flush=True)
        for fault, command in itertools.product(wanted.fault or FAULTS, commands):
            if "song" in fault and command in ("index", "train", "evaluate"):
                continue  # they read no song
            line, is_good = measured(made, fault, command)
            all_good &= is_good
            print(line, flush=True)
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
