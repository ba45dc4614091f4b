"""Networks alone on a GPU, without Ray: windows a second, × realtime per GPU, and the cores it takes to feed it.

Log-mels lie in memory as an actor has them (float16); what is timed is stacking, the way to the device, the networks
and the way back. A core's part, fetching apart, is timed beside it: decoding and log-mels of one 4-minute MP3.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.material import SONG_SECONDS, figure, make_song
from benchmarks.untrained import write_untrained_bundle
from mgc.audio.extraction import extract
from mgc.config import Config
from mgc.inference.predictor import Predictor
from mgc.models.bundle import load_bundle

TRACKS = 256
BATCHES = (64, 256, 1_024)


def run(clips: Path, folder: Path, rounds: int, device: str = "cuda", tracks: int = TRACKS) -> None:
    """Print `gpu_xrealtime_*` and `gpu_decode_cores_*`; one line where there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        print("# gpu: left out, torch finds no GPU on this machine")
        return
    config = Config()
    song = make_song(folder / "gpu-song.mp3", SONG_SECONDS).read_bytes()
    with threadpool_limits(1):
        decoding = [_seconds(lambda: extract(song, config.features, config.decode)) for _ in range(2 * rounds)]
    per_core = SONG_SECONDS / float(np.median(decoding))
    noise = np.random.default_rng(0).uniform(-80, 0, (config.features.max_windows, config.features.n_frames, 128))
    log_mels = [noise.astype(np.float16)] * tracks
    figure("gpu_extract_xrealtime_per_core", [per_core], "×realtime/core")
    for name, members, model in (("ensemble", 5, None), ("student", 1, config.distill.model)):
        uri = str(folder / f"gpu-{name}")
        write_untrained_bundle(uri, members, model)
        bundle = load_bundle(uri)
        best = 0.0
        for batch in BATCHES:
            predictor = Predictor(bundle, device, batch)
            _forward(predictor, log_mels, device)  # chooses kernels, takes memory
            seconds = [_seconds(lambda one=predictor: _forward(one, log_mels, device)) for _ in range(rounds)]
            windows = [tracks * config.features.max_windows / taken for taken in seconds]
            figure(f"gpu_windows_per_second_{name}_{batch}", windows, "windows/s")
            best = max(best, float(np.median([tracks * SONG_SECONDS / taken for taken in seconds])))
        figure(f"gpu_xrealtime_{name}", [best], "×realtime/GPU")
        figure(f"gpu_decode_cores_{name}", [best / per_core], "cores")


def _forward(predictor: Predictor, log_mels: list[np.ndarray], device: str) -> None:
    predictor.predict(log_mels)
    if device == "cuda":
        torch.cuda.synchronize()


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
