"""What a view costs beside its track, kind by kind, and what the peers take for a stretch or a shift alone.

Milliseconds of one core for a clip of 30 s (MP3, 44.1 kHz stereo), from samples to log-mels. A view is measured as
what it adds to a track that is extracted clean anyhow; an overlay decodes its partner. A peer is given the
samples, decoded and resampled for free, and its output goes through the same log-mels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.material import CLIP_SECONDS, figure
from benchmarks.stretch_peers import shifters, stretchers
from mgc.arrays import Float32Array
from mgc.audio.decode.audio_reader import Tape, open_audio
from mgc.audio.extraction import OpenTrack, analysis_of, extract_views, read_window
from mgc.audio.views import CLEAN_RECIPE, Recipe, ViewRequest, place
from mgc.config import DecodeConfig, FeatureConfig

FEATURES = FeatureConfig()
LIMITS = DecodeConfig()
TEMPO_RATIO, SEMITONES = 1.1, 1.5
RECIPES = {
    "tempo": Recipe(tempo_ratio=TEMPO_RATIO),
    "pitch": Recipe(pitch_semitones=SEMITONES),
    "loudness": Recipe(presence_db=6.0),
    "gain": Recipe(gain_db=3.0),
    "noise": Recipe(snr_db=20.0, noise_seed=1),
    "overlay": Recipe(overlay_alpha=0.6, partner="another@1"),
    "pitch_loudness_tempo": Recipe(pitch_semitones=SEMITONES, presence_db=6.0, tempo_ratio=TEMPO_RATIO),
}


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print `augment_ms_per_view`, the same by kind, and the peers' figures, measured in turn."""
    files = [path.read_bytes() for path in sorted(clips.iterdir())[:2]]
    clean, views = ViewRequest(), _requests()
    jobs: dict[str, Callable[[], object]] = {"": lambda: _views(files, [clean])}
    jobs |= {name: (lambda requested=view: _views(files, [clean, requested])) for name, view in views.items()}
    jobs["all"] = lambda: _views(files, [clean, *views.values()])
    samples = _samples(files[0])
    stretched = stretchers(TEMPO_RATIO, FEATURES.sample_rate)
    shifted = shifters(SEMITONES, FEATURES.sample_rate)
    jobs |= {f"tempo_{name}": (lambda effect=effect: _log_mel(effect(samples))) for name, effect in stretched.items()}
    jobs |= {f"pitch_{name}": (lambda effect=effect: _log_mel(effect(samples))) for name, effect in shifted.items()}
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(2 * rounds + 1):
        for name, job in jobs.items():
            milliseconds = _timed(job)
            if number:  # the first round fills caches
                taken[name].append(milliseconds)
    base = taken.pop("")
    figure("augment_ms_per_view", _beside(taken.pop("all"), base, len(views)), "ms")
    for name, values in taken.items():
        figure(f"augment_{name}_ms", _beside(values, base, 1) if name in views else values, "ms")


def _requests() -> dict[str, ViewRequest]:
    return {name: ViewRequest(recipe, 0 if recipe.partner else None) for name, recipe in RECIPES.items()}


def _views(files: Sequence[bytes], requested: list[ViewRequest]) -> object:
    return extract_views(files[0], requested, files[1:], FEATURES, LIMITS)


def _beside(values: list[float], base: list[float], views: int) -> list[float]:
    return [(value - own) / views for value, own in zip(values, base, strict=True)]


def _timed(job: Callable[[], object]) -> float:
    # CPU time of this one-threaded process: what a busy machine does beside it is not counted.
    started = time.process_time()
    job()
    return 1e3 * (time.process_time() - started)


def _samples(data: bytes) -> Float32Array:
    with open_audio(data, LIMITS) as reader:
        sound = OpenTrack(Tape(reader), reader.info.sample_rate, CLIP_SECONDS)
        whole = FEATURES.model_copy(update={"window_seconds": CLIP_SECONDS})
        return read_window(sound, 0.0, place(CLEAN_RECIPE, whole)).samples


def _log_mel(samples: Float32Array) -> Float32Array:
    analysis = analysis_of(FEATURES)
    size = FEATURES.window_samples
    pieces = [samples[start : start + size] for start in range(0, samples.size, size)]
    return analysis.track([analysis.window(np.pad(piece, (0, size - piece.size))) for piece in pieces])["log_mel"]
