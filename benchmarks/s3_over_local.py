"""The same catalogue from S3 and from a folder, in turn: OpenStack Swift on loopback, on the cores that mgc works on.

Audio and shards are both in S3 then, or both in folders. What the server takes of the processors is printed too: on a
machine of two cores it is taken from mgc, which a store elsewhere would not do. `s3_over_local_server_elsewhere` is
the pace on S3 over what the folder's would be on the cores that the server leaves: an estimate of such a store.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.material import figure
from benchmarks.process import Timed, cpu_seconds, run_module
from mgc.catalogue.index import index_catalogue
from mgc.config import CatalogueConfig
from mgc.storage.store import Store

sys.path.append(str(Path(__file__).parents[1] / "tests"))

BUCKET = "s3://music"
UPLOADS_AT_ONCE = 4


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print `s3_over_local` (steady state), the same of whole runs, and the server's share of the processors."""
    try:
        from swift_server import SwiftServer
    except ImportError:
        print("# OpenStack Swift is not installed (pip install 'mgc[test]'): s3_over_local is left out", flush=True)
        return
    if reason := SwiftServer.unavailable_reason():
        print(f"# {reason}: s3_over_local is left out", flush=True)
        return
    with SwiftServer() as server:
        server.make_bucket("music")
        os.environ.update(server.env())
        _upload(clips)
        places = {"local": (str(clips), str(folder)), "s3": (f"{BUCKET}/clips", BUCKET)}
        for name, (source, _) in places.items():
            index_catalogue(source, str(folder / f"{name}.parquet"), CatalogueConfig())
        steady, whole, elsewhere, server_ms = [], [], [], []
        tracks = sum(1 for _ in clips.iterdir())
        for number in range(rounds):
            local = _extract("local", places["local"][1], folder, number)
            before = cpu_seconds(server.pids)
            s3 = _extract("s3", places["s3"][1], folder, number)
            seconds_a_track = (cpu_seconds(server.pids) - before) / tracks
            server_ms.append(1_000 * seconds_a_track)
            steady.append(s3.values["steady"] / local.values["steady"])
            server_share = s3.values["steady"] * seconds_a_track / (os.cpu_count() or 1)
            elsewhere.append(steady[-1] / (1 - server_share))
            whole.append(local.seconds / s3.seconds)
    figure("s3_over_local", steady, "ratio")
    figure("s3_over_local_whole", whole, "ratio")
    figure("s3_over_local_server_elsewhere", elsewhere, "ratio")
    figure("s3_server_ms", server_ms, "CPU-ms/track")


def _upload(clips: Path) -> None:
    store = Store.open(f"{BUCKET}/clips")
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
        list(threads.map(lambda path: store.write_atomic(path.name, path.read_bytes()), sorted(clips.iterdir())))


def _extract(name: str, output: str, folder: Path, number: int) -> Timed:
    catalogue = str(folder / f"{name}.parquet")
    return run_module("benchmarks.timed_job", "extract", catalogue, f"{output}/s3-shards-{name}-{number}")
