"""Extract one file as an actor of the pool does, and print its time and the actor's peak memory.

    python -m benchmarks.one_actor PATH

The peak is that of the worker and of its child, added (each process's own highest resident set, shared libraries
counted twice): never less than what the two took together at any moment.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pyarrow as pa

# What an actor of extraction has in memory, Ray included.
from mgc.cluster.extract import extract_features
from mgc.cluster.reader import AudioFeatureReader
from mgc.config import Config
from mgc.errors import TrackError
from mgc.storage.store import Store
from mgc.tables.schema import PLAN

assert extract_features


def main() -> None:
    path = Path(sys.argv[1]).resolve()
    config = Config()
    reader = AudioFeatureReader(config)
    content_id = Store.open(str(path.parent)).stat(path.name).content_id
    list(reader.read(_plan("/nowhere", "0-0")))
    started = time.perf_counter()
    (extracted,) = reader.read(_plan(str(path), content_id))
    seconds = time.perf_counter() - started
    if isinstance(extracted, TrackError):
        raise SystemExit(f"{path.name}: {extracted}")
    child = reader._extractor.child_pid
    print(f"seconds {seconds:.3f}")
    print(f"duration {extracted.duration_seconds:.3f}")
    print(f"peak_mb {(_peak_bytes('self') + _peak_bytes(str(child))) / 1e6:.1f}")


def _plan(uri: str, content_id: str) -> pa.Table:
    """Return the plan of one clean track."""
    item = dict.fromkeys(PLAN.names) | {"track_id": "one", "uri": uri, "content_id": content_id, "recipe": ""}
    return pa.table({name: [value] for name, value in item.items()})


def _peak_bytes(process: str) -> int:
    lines = Path("/proc", process, "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
