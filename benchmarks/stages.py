"""Where a track's time goes: processor milliseconds of each stage of tagging one whole 4-minute MP3, in turn.

In this process, one thread, an ensemble of five; what the supervised child and Ray add is measured by `supervise` and
`tag`.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from threadpoolctl import threadpool_limits

from benchmarks.material import SONG_SECONDS, figure, make_song
from benchmarks.untrained import write_untrained_bundle
from mgc.audio.decode.audio_reader import open_audio
from mgc.audio.features.analysis import Analysis
from mgc.audio.windows import resample, window_starts
from mgc.config import Config
from mgc.config.taxonomy import Taxonomy
from mgc.inference.predictor import Predictor, TrackPrediction, answer_columns
from mgc.models.bundle import load_bundle
from mgc.storage.store import fetch_track
from mgc.tables.schema import marked

TRACKS_TOGETHER = 8
"""Tracks that share a call of the networks, as those of a chunk do."""

Result = TypeVar("Result")


class Clock:
    """Processor milliseconds by stage."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)

    def time(self, stage: str, work: Callable[[], Result], tracks: int = 1) -> Result:
        started = time.process_time()
        result = work()
        self.spent[stage].append(1e3 * (time.process_time() - started) / tracks)
        return result


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print `tag_stage_ms_*`, a line a stage, and their sum."""
    path, config = make_song(folder / "stages.mp3", SONG_SECONDS), Config()
    write_untrained_bundle(str(folder / "stages"), members=5)
    bundle = load_bundle(str(folder / "stages"))
    torch.set_num_threads(1)
    predictor, clock = Predictor(bundle), Clock()
    with threadpool_limits(1):
        for turn in range(3 * rounds + 1):
            if turn == 1:
                clock = Clock()  # the first turn filled caches
            log_mel = _extract(str(path), config, clock)
            tracks = [log_mel] * TRACKS_TOGETHER
            answers = clock.time("networks", lambda log_mels=tracks: predictor.predict(log_mels), TRACKS_TOGETHER)
            clock.time("write", lambda made=answers: _write(made, bundle.taxonomy), TRACKS_TOGETHER)
    for stage, spent in clock.spent.items():
        figure(f"tag_stage_ms_{stage}", spent, "CPU-ms/track")
    figure("tag_stage_ms_sum", [sum(turn) for turn in zip(*clock.spent.values(), strict=True)], "CPU-ms/track")


def _extract(path: str, config: Config, clock: Clock) -> np.ndarray:
    features = config.features
    data = clock.time("fetch", lambda: fetch_track(path, config.decode))
    assert isinstance(data, bytes), "songs that are read whole"
    reader = clock.time("open", lambda: open_audio(data, config.decode))
    rate = reader.info.sample_rate
    starts = [round(start * rate) for start in window_starts(SONG_SECONDS, features)]
    length = round(features.window_seconds * rate)
    samples = clock.time("decode", lambda: [reader.read_mono(start, length) for start in starts])
    windows = clock.time("resample", lambda: [resample(one, rate, features.sample_rate) for one in samples])
    analysis = Analysis(features)
    track = clock.time("features", lambda: analysis.track([analysis.window(one) for one in windows]))
    return track["log_mel"].astype(np.float16)


def _write(answers: list[TrackPrediction], taxonomy: Taxonomy) -> None:
    schema = marked("predictions")
    rows = [{**dict.fromkeys(schema.names, None), **answer_columns(one, taxonomy)} for one in answers]
    texts = {field.name: "" for field in schema if field.type == pa.string() and not field.nullable}
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    table = pa.Table.from_pylist([{**texts, **row} for row in rows], schema=nullable)
    pq.write_table(table, io.BytesIO(), compression="lz4", use_dictionary=False)
