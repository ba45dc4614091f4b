"""A peer: a bare two-process pool doing the same decoding and log-mels, writing the same Parquet.

    python -m benchmarks.bare_pool CLIPS OUTPUT [PROCESSES] [CLIPS_A_PART]

No Ray, no child, no identity, no resume, no error rows: the least that could do the work.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

# As mgc's workers: one thread each, before any library counts the cores. With more the pool is slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig

FEATURES = FeatureConfig()
LIMITS = DecodeConfig()


def part(job: tuple[int, list[str], str]) -> int:
    number, paths, output = job
    rows = []
    for path in paths:
        track = extract(Path(path).read_bytes(), FEATURES, LIMITS)
        log_mel = np.ascontiguousarray(track.log_mel, dtype="<f2")
        rows.append({"path": path, "duration_seconds": track.duration_seconds, "log_mel": log_mel.tobytes()})
    schema = pa.schema([("path", pa.string()), ("duration_seconds", pa.float64()), ("log_mel", pa.large_binary())])
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, Path(output, f"part-{number:05d}.parquet"), compression="lz4", use_dictionary=False)
    return len(rows)


def main() -> None:
    clips, output = Path(sys.argv[1]), Path(sys.argv[2])
    processes = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    size = int(sys.argv[4]) if len(sys.argv) > 4 else 32
    output.mkdir(parents=True)
    paths = sorted(str(path) for path in clips.iterdir())
    jobs = [(n, paths[i : i + size], str(output)) for n, i in enumerate(range(0, len(paths), size))]
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        arrivals = [(time.perf_counter(), done) for done in pool.imap_unordered(part, jobs)]
    assert sum(done for _, done in arrivals) == len(paths)
    print(f"total {time.perf_counter() - started:.3f}")
    first, last = arrivals[0], arrivals[-1]
    print(f"steady {(len(paths) - first[1]) / max(last[0] - first[0], 1e-9):.3f}")


if __name__ == "__main__":
    main()
