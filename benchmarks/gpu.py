"""Networks alone on a GPU, without Ray: fits, and windows a second, × realtime per GPU, and the cores that feed it.

Log-mels lie in memory as an actor has them (float16); what is timed of inference is stacking, the way to the device,
the networks and the way back. A core's part, fetching apart, is timed beside it: decoding and log-mels of one
4-minute MP3. Of training: the loop of `mgc train`, batches made ahead from float16 windows, in float32, in bfloat16
and with `torch.compile`; then several members at once, a process each.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.material import SONG_SECONDS, figure, make_song
from benchmarks.untrained import write_untrained_bundle
from mgc.audio.extraction import extract
from mgc.config import Config, read_model_config
from mgc.config.taxonomy import Taxonomy
from mgc.config.training_settings import Precision
from mgc.inference.predictor import Predictor
from mgc.models.bundle import load_bundle
from mgc.models.network_registry import build_model
from mgc.tables.feature_shards import FeatureSet
from mgc.training.loop import EpochReport, fit

TRACKS = 256
BATCHES = (64, 256, 1_024)
TRAINED_ON = 2_000
"""Windows of 10 s."""
NETWORKS = ("crnn", "cp_resnet")
AT_ONCE = (1, 2, 4)


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


def run_training(
    clips: Path, folder: Path, rounds: int, device: str = "cuda", windows: int = TRAINED_ON, epochs: int = 4
) -> None:
    """Print `gpu_train_windows_per_second_*` and `gpu_train_busy_*`, of the last epoch; one line without a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        print("# gpu_train: left out, torch finds no GPU on this machine")
        return
    ways: tuple[tuple[Precision, bool], ...] = (("float32", False), ("bfloat16", False), ("bfloat16", True))
    for network in NETWORKS:
        for at_once in AT_ONCE:
            spawn = multiprocessing.get_context("spawn")
            with spawn.Manager() as manager, ProcessPoolExecutor(at_once, spawn) as pool:
                ready = manager.Barrier(at_once)
                jobs = [pool.submit(_beside_others, network, device, windows, epochs, ready) for _ in range(at_once)]
                spans = [job.result() for job in jobs]
            seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
            figure(
                f"gpu_train_windows_per_second_{network}_{at_once}_at_once",
                [at_once * windows * epochs / seconds],
                "windows/s",
            )
        for precision, compiled in ways:
            name = f"{network}_{precision}{'_compiled' if compiled else ''}"
            try:
                made = [_train(network, precision, compiled, device, windows, epochs) for _ in range(rounds)]
            except Exception as error:
                if not compiled:  # which wants a C compiler and Triton
                    raise
                print(f"# gpu_train {name}: left out, {type(error).__name__}: {str(error).splitlines()[:1]}")
                continue
            figure(f"gpu_train_windows_per_second_{name}", [one.windows_per_second for one in made], "windows/s")
            figure(f"gpu_train_busy_{name}", [one.busy_share for one in made], "share")


def _beside_others(
    network: str, device: str, windows: int, epochs: int, ready: threading.Barrier
) -> tuple[float, float]:
    """Fit when all are ready; return when it began and ended, by the clock that processes share."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // ready.parties))
    _train(network, "bfloat16", False, device, min(windows, 128), 1)  # makes the GPU's context, chooses kernels
    ready.wait()
    began = time.monotonic()
    _train(network, "bfloat16", False, device, windows, epochs)
    return began, time.monotonic()


def _train(network: str, precision: Precision, compiled: bool, device: str, windows: int, epochs: int) -> EpochReport:
    """Return the last epoch of a fit on made windows."""
    features = Config().features.model_copy(update={"window_seconds": 10.0, "max_windows": 1})
    rng, genres = np.random.default_rng(0), [f"genre {number}" for number in range(10)]
    drawn = rng.random((windows, 1, features.n_frames, features.n_mels), dtype=np.float32)
    log_mels = (-80 * drawn).astype(np.float16)
    names = [str(number) for number in range(windows)]
    train = FeatureSet(
        track_ids=names,
        log_mels=list(log_mels),
        genres=[genres[number % 10] for number in range(windows)],
        tags=[[] for _ in names],
        tags_known=[False] * windows,
        groups=names,
        features=features,
        feature_fingerprint=features.fingerprint(),
        views=[""] * windows,
    )
    config = Config().training.model_copy(
        update={"epochs": epochs, "keep": "last", "precision": precision, "batch_size": 64}
    )
    model = build_model(read_model_config({"name": network}), features.n_mels, 10, 0)
    options: dict[str, Any] = {"wrap": torch.compile} if compiled else {}
    result = fit(model, train, None, Taxonomy(tuple(genres), ()), config, seed=0, device=device, **options)
    return result.reports[-1]


def _forward(predictor: Predictor, log_mels: list[np.ndarray], device: str) -> None:
    predictor.predict(log_mels)
    if device == "cuda":
        torch.cuda.synchronize()


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
