"""Ten features of a 30 s clip on one thread: mgc's one pass, librosa called ten times, in turn.

    python -m benchmarks.timed_features CLIP ROUNDS

Prints medians in milliseconds, the ratio (median of each round's own), the whole set beside it, and Essentia's
MusicExtractor where it is installed (`pip install essentia`). Samples are decoded before the clock starts, except for
Essentia, which takes a file.
"""

from __future__ import annotations

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import statistics
import sys
import time
from collections.abc import Callable

import librosa
import numpy as np

from mgc.audio.features.analysis import Analysis
from mgc.config import FeatureConfig

RATE = 22_050
N_MFCC = 13


def librosa_calls(y: np.ndarray, tuning: float | None = 0.0) -> list[Callable[[], object]]:
    """Return the ten calls, with their defaults; the tuning is given, as in mgc, unless it is None."""
    feature = librosa.feature
    return [
        lambda: librosa.power_to_db(feature.melspectrogram(y=y, sr=RATE), ref=np.max),
        lambda: feature.mfcc(y=y, sr=RATE, n_mfcc=N_MFCC),
        lambda: feature.chroma_stft(y=y, sr=RATE, tuning=tuning),
        lambda: feature.spectral_centroid(y=y, sr=RATE),
        lambda: feature.spectral_bandwidth(y=y, sr=RATE),
        lambda: feature.spectral_rolloff(y=y, sr=RATE),
        lambda: feature.spectral_contrast(y=y, sr=RATE),
        lambda: feature.spectral_flatness(y=y),
        lambda: feature.zero_crossing_rate(y),
        lambda: feature.rms(y=y),
    ]


def one_pass(y: np.ndarray, *features: str) -> Callable[[], object]:
    """Return mgc's analysis of the samples as one window."""
    seconds = y.size / RATE
    analysis = Analysis(FeatureConfig(window_seconds=seconds, frames=features, n_mfcc=N_MFCC))
    return lambda: analysis.track([analysis.window(y)])


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    path, rounds = sys.argv[1], int(sys.argv[2])
    y, _ = librosa.load(path, sr=RATE)
    works = {
        "ours": one_pass(y, "librosa_ten"),
        "librosa": lambda: [call() for call in librosa_calls(y)],
        "librosa_estimating_tuning": lambda: [call() for call in librosa_calls(y, tuning=None)],
        "log_mel": one_pass(y, "log_mel"),
        "all": one_pass(y, "all"),
    }
    for work in works.values():
        work()  # compiles, fills caches
    times = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(milliseconds(work))
    for name, values in times.items():
        print(f"{name}_ms {statistics.median(values):.4f}")
    for name in ("librosa", "librosa_estimating_tuning"):
        ratios = [theirs / ours for theirs, ours in zip(times[name], times["ours"], strict=True)]
        print(f"over_{name} {statistics.median(ratios):.4f}")
    _essentia(path)


def _essentia(path: str) -> None:
    try:
        import essentia
        import essentia.standard
    except ImportError:
        return
    essentia.log.infoActive = False
    extract = essentia.standard.MusicExtractor(lowlevelStats=["mean", "var"])
    print(f"essentia_ms {statistics.median(milliseconds(lambda: extract(path)) for _ in range(3)):.4f}")


if __name__ == "__main__":
    main()
