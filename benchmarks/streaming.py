"""Memory of a training worker and of an evaluation as the catalogue grows, and the speed of features from disk.

Made shards: noise of two windows a track, 10 KB in place of the 660 KB of the default settings, so that 100,000
tracks fit a small disk. What must not grow is anonymous memory (`RssAnon` of /proc, sampled): pages of the feature
cache are the kernel's, which it takes back where memory is short.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from rich.console import Console

from benchmarks.material import figure
from benchmarks.process import run_module
from mgc.catalogue.index import read_catalogue
from mgc.cli.evaluate_command import EvaluationRequest, run_evaluation
from mgc.cluster.train import TrainingRequest, train_ensemble
from mgc.config import Config, FeatureConfig, TrainingConfig
from mgc.config.network_settings import JainMlpConfig
from mgc.config.taxonomy import Taxonomy
from mgc.models.network_registry import build_model
from mgc.storage.store import Store
from mgc.tables.feature_shards import feature_schema, read_feature_set
from mgc.tables.parquet_batches import frame_of, parquet_bytes
from mgc.tables.run_index import index_rows, run_part_refs, write_index
from mgc.tables.run_log import Commit, OutputDirectory
from mgc.tables.schema import marked
from mgc.training.loop import fit

PROGRAM = "benchmarks.streaming"
SIZES = (10_000, 100_000)
SPEED_TRACKS = 1_000
FEATURES = FeatureConfig(sample_rate=8_000, n_fft=256, hop_length=256, n_mels=32, window_seconds=2.5, max_windows=2)
NETWORK = JainMlpConfig(segment_frames=64)
"""Quick: what a batch costs before it comes to the network shows the more."""
TRAINING = TrainingConfig(members=1, epochs=1, batch_size=256, threads=1)
GENRES, TAGS = 20, 50
PART_BYTES = 20_000_000
"""Of a part of shards, as 32 tracks of the default settings are."""
SECONDS_BETWEEN_SAMPLES = 0.02


def make_shards(folder: Path, features: FeatureConfig, tracks: int) -> Path:
    """Write a labelled catalogue, a tenth of it in split 'valid', and shards of noise; return their folder."""
    rng = np.random.default_rng(0)
    numbers = np.arange(tracks)
    rows = {
        "track_id": [f"{number:032x}" for number in numbers],
        "uri": [f"s3://catalogue/albums/{number // 10:08d}/tracks/{number:010d}.mp3" for number in numbers],
        "content_id": [f"{number * 7919:032x}-1" for number in numbers],
        "size_bytes": numbers + 4_000_000,
        "genre": [f"genre {number % GENRES:02d}" for number in numbers],
        "tags": [[f"tag {tag:02d}" for tag in sorted({number % TAGS, number * 7 % TAGS})] for number in numbers],
        "tags_known": np.ones(tracks, dtype=bool),
        "group": [f"artist {number // 5:08d}" for number in numbers],
        "split": np.where(numbers % 11 == 0, "valid", "train").tolist(),
    }
    catalogue = folder / "catalogue.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(rows, schema=marked("catalogue"))
    catalogue.write_bytes(parquet_bytes(table, rows_a_group=100_000))
    output = OutputDirectory(Store.open(str(folder / "features")), "features")
    run = output.start_run(features.fingerprint(), {})
    frames = []
    rows_a_part = PART_BYTES // _window_bytes(features) // features.max_windows
    for chunk, start in enumerate(range(0, tracks, rows_a_part)):
        part = _part(table.slice(start, rows_a_part), features, rng)
        output.store.write_atomic(run.part_key(chunk), parquet_bytes(part))
        frames.append(frame_of(index_rows(part, run.part_key(chunk), run.sequence, run.fingerprint)))
    index = pl.concat(frames)
    write_index(output, f"{run.folder}/index.parquet", index)
    output.commit(Commit(run.run_id, run.sequence, f"{run.folder}/index.parquet", run_part_refs(run, index), {}))
    return folder


def _window_bytes(features: FeatureConfig) -> int:
    return 2 * features.n_frames * features.n_mels


def _part(rows: pa.Table, features: FeatureConfig, rng: np.random.Generator) -> pa.Table:
    n, shape = rows.num_rows, (features.max_windows, features.n_frames, features.n_mels)
    noise = (-80 * rng.random((n, *shape), np.float32)).astype("<f2")
    columns = {name: rows[name] for name in ("track_id", "uri", "content_id")}
    columns |= {"view": ["clean"] * n, "recipe": [""] * n, "duration_seconds": [5.0] * n}
    columns |= dict(zip(("n_windows", "n_frames", "n_mels"), ([size] * n for size in shape), strict=True))
    columns |= {"log_mel": [one.tobytes() for one in noise]}
    schema = feature_schema(features)
    return pa.table({field.name: columns.get(field.name, pa.nulls(n, field.type)) for field in schema}, schema=schema)


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print the peaks at 10,000 and 100,000 tracks, and what reading from disk costs where memory would do."""
    small, large = (make_shards(folder / f"made-{tracks}", FEATURES, tracks) for tracks in SIZES)
    _fit_peaks(small, large, folder, rounds)
    peaks = [_peak("evaluate", large, folder / "small-0", folder / f"report-{number}") for number in range(rounds)]
    figure("evaluate_peak_mb", peaks, "MB_anonymous")
    default = make_shards(folder / "made-default", FeatureConfig(), SPEED_TRACKS)
    ratios = []
    for _ in range(rounds):
        speed = run_module(PROGRAM, "speed", str(default), "", "").values
        ratios.append(speed["disk"] / speed["memory"])
    figure("train_stream_over_memory", ratios, "ratio_of_windows_per_second")


def _fit_peaks(small: Path, large: Path, folder: Path, rounds: int) -> None:
    found: dict[str, list[float]] = {"small": [], "large": []}
    for number in range(rounds):
        for name, made in (("small", small), ("large", large)):
            found[name].append(_peak("fit", made, folder / f"{name}-{number}", folder))
    figure(f"train_peak_mb_{SIZES[0] // 1000}k", found["small"], "MB_anonymous")
    figure(f"train_peak_mb_{SIZES[1] // 1000}k", found["large"], "MB_anonymous")
    ratios = [many / few for few, many in zip(found["small"], found["large"], strict=True)]
    figure("train_peak_mb_100k_over_10k", ratios, "ratio")


def _peak(how: str, made: Path, bundle: Path, output: Path) -> float:
    """Return the highest anonymous memory of a training worker, or of the program where it has none, in MB."""
    # A cache of its own: that shards are read is part of what is measured.
    cache = tempfile.mkdtemp(dir=made.parent)
    command = [sys.executable, "-m", PROGRAM, how, str(made), str(bundle), str(output)]
    highest = 0
    with (
        Path(cache, "log").open("w+") as log,
        subprocess.Popen(command, env=os.environ | {"XDG_CACHE_HOME": cache}, stdout=log, stderr=log) as program,
    ):
        while program.poll() is None:
            pids = _workers(program.pid) if how == "fit" else [program.pid]
            highest = max([highest, *(_anonymous_kb(pid) for pid in pids)])
            time.sleep(SECONDS_BETWEEN_SAMPLES)
        if program.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{Path(log.name).read_text(encoding='utf-8')}")
    shutil.rmtree(cache)
    return highest / 1024


def _workers(pid: int) -> list[int]:
    """Return the training workers under a process: Ray names them by what they are."""
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            children = [int(child) for task in Path(f"/proc/{parent}/task").iterdir() for child in _children(task)]
            waiting += children
            found += [child for child in children if _named_worker(child)]
    return found


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


def _named_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::RayTrainWorker")
    return False


def _anonymous_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    return 0


# What is measured, each in a program of its own.


def main() -> None:
    how, made, bundle, output = sys.argv[1:]
    {"fit": _fit, "evaluate": _evaluate, "speed": _speed}[how](made, bundle, output)


def _fit(made: str, bundle: str, _: str) -> None:
    config = Config(model=NETWORK, training=TRAINING)
    train_ensemble(TrainingRequest(f"{made}/catalogue.parquet", f"{made}/features", bundle, config))


def _evaluate(made: str, bundle: str, output: str) -> None:
    """Evaluate on all tracks; without the baseline, whose support vector machine takes hours for so many."""
    catalogue, features = f"{made}/catalogue.parquet", f"{made}/features"
    run_evaluation(Console(), EvaluationRequest(catalogue, bundle, output, Config(), "all", features, baseline=False))


def _speed(made: str, _: str, __: str) -> None:
    """Fit twice, on features from disk and on the same in memory; print windows a second of each."""
    torch.set_num_threads(2)
    catalogue = read_catalogue(f"{made}/catalogue.parquet")
    mapped = read_feature_set(f"{made}/features", catalogue, "train")
    held = replace(mapped, log_mels=[np.array(log_mel) for log_mel in mapped.log_mels])
    for name, features in (("disk", mapped), ("memory", held), ("disk", mapped), ("memory", held)):
        torch.manual_seed(0)
        network = build_model(NETWORK, mapped.features.n_mels, GENRES, TAGS)
        result = fit(network, features, None, taxonomy(), TRAINING, seed=0)
        # The first of each is for the machine to warm up: the later line counts.
        print(name, result.reports[-1].windows_per_second)


def taxonomy() -> Taxonomy:
    """Return the vocabularies of made catalogues."""
    return Taxonomy(tuple(map("genre {:02d}".format, range(GENRES))), tuple(map("tag {:02d}".format, range(TAGS))))


if __name__ == "__main__":
    main()
