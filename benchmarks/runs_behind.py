"""A run with nothing to do over 100,000 tracks on a distant S3: with a year of daily runs behind it, and with one.

Each request is answered after 30 ms, by OpenStack Swift behind a proxy that counts them. The whole command is timed,
the start of Python and its imports included. The number of requests depends on no machine. The first run, which is no
part of the medians, finds no checkpoint, as where an mgc without one wrote all the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.diff_million import timed_run
from benchmarks.made_history import make_history
from benchmarks.material import figure
from benchmarks.untrained import write_untrained_bundle
from mgc.models.bundle import load_bundle
from mgc.storage.store import Store

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from faulty_s3 import Fault, FaultyS3, faulty_s3
from swift_server import SwiftServer

TRACKS = 100_000
RUNS = (1, 365)
ANSWER_SECONDS = 0.03


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print seconds and requests after one run and after a year of them, and the ratios."""
    del clips
    if reason := SwiftServer.unavailable_reason():
        print(f"runs_behind is left out: {reason}")
        return
    bundle = folder / "behind-bundle"
    write_untrained_bundle(str(bundle))
    fingerprint = load_bundle(str(bundle)).fingerprint
    seconds: dict[int, list[float]] = {}
    requests: dict[int, list[float]] = {}
    with SwiftServer() as server, _distant(server) as distant:
        for runs in RUNS:
            place = make_history(folder / f"behind-{runs}", TRACKS, fingerprint, runs)
            server.make_bucket(f"runs-{runs}")
            output = f"s3://runs-{runs}/predictions"
            _upload(place / "predictions", output)
            distant.inject = lambda request: Fault(delay_seconds=ANSWER_SECONDS)
            timed = [_counted_run(distant, place / "catalogue.parquet", bundle, output) for _ in range(rounds + 1)]
            distant.inject = lambda request: None
            (first_seconds, first_requests), *others = timed
            print(f"{runs:>4} runs behind: the first {first_seconds:.1f} s, {first_requests:,} requests", flush=True)
            seconds[runs], requests[runs] = (list(map(float, values)) for values in zip(*others, strict=True))
    for runs in RUNS:
        figure(f"noop_seconds_after_{runs}", seconds[runs], "s")
        figure(f"noop_requests_after_{runs}", requests[runs], "requests")
    few, many = RUNS
    figure(f"noop_seconds_{many}_runs", _ratios(seconds[many], seconds[few]), f"× of {few}")
    figure(f"noop_requests_{many}_runs", _ratios(requests[many], requests[few]), f"× of {few}")


@contextmanager
def _distant(server: SwiftServer) -> Iterator[FaultyS3]:
    with faulty_s3(server.endpoint_url) as distant:
        os.environ.update(server.env() | {"AWS_ENDPOINT_URL": distant.endpoint_url})
        yield distant


def _upload(folder: Path, output: str) -> None:
    store, paths = Store.open(output), [path for path in folder.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(8) as pool:
        keys = [str(path.relative_to(folder)) for path in paths]
        list(pool.map(lambda key: store.write_atomic(key, (folder / key).read_bytes()), keys))


def _counted_run(distant: FaultyS3, catalogue: Path, bundle: Path, output: str) -> tuple[float, int]:
    before = distant.requests
    return timed_run(catalogue, bundle, output).seconds, distant.requests - before


def _ratios(of: list[float], over: list[float]) -> list[float]:
    return [one / other for one, other in zip(of, over, strict=True)]
