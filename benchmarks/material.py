"""What the benchmarks run on, and how they print."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

from mgc.audio.decode.sndfile import encode

CLIP_SECONDS = 30.0
SONG_SECONDS = 240.0
SAMPLE_RATE = 44_100
DISTINCT = 16
"""Clips that are really different; the rest are copies under other names, so other tracks to mgc."""

DISTINCT_SONGS = 4


def make_clips(folder: Path, count: int) -> Path:
    """Write MP3 clips of 30 s, 44.1 kHz stereo: chords, noise and beats, so that the codec has work to do."""
    folder.mkdir(parents=True)
    encoded = [encode(make_clip(seed), SAMPLE_RATE, "mp3") for seed in range(min(DISTINCT, count))]
    for number in range(count):
        (folder / f"clip{number:05d}.mp3").write_bytes(encoded[number % len(encoded)])
    return folder


def make_song(path: Path, seconds: float, first_seed: int = 0) -> Path:
    """Write one MP3 of clips one after another."""
    seeds = range(first_seed, first_seed + round(seconds / CLIP_SECONDS))
    path.write_bytes(encode(np.concatenate([make_clip(seed) for seed in seeds]), SAMPLE_RATE, "mp3"))
    return path


def make_songs(folder: Path, count: int) -> Path:
    """Write whole tracks: MP3s of 4 minutes, of which `DISTINCT_SONGS` are really different."""
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"song{number:05d}.mp3"
        if number < DISTINCT_SONGS:
            make_song(path, SONG_SECONDS, first_seed=number * 100)
        else:
            path.hardlink_to(folder / f"song{number % DISTINCT_SONGS:05d}.mp3")
    return folder


def make_clip(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return a clip, shape (n, 2)."""
    random = np.random.default_rng(seed)
    time = np.arange(int(CLIP_SECONDS * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    chords = sum(np.sin(2 * np.pi * 110 * 2 ** (random.integers(0, 36) / 12) * time + phase) for phase in range(8))
    beat = np.exp(-8 * ((time * random.uniform(1.5, 3.0)) % 1.0)) * random.standard_normal(time.size)
    left = 0.08 * chords + 0.2 * beat
    right = 0.08 * np.roll(chords, 441) + 0.2 * beat
    return np.stack([left, right], axis=1).astype(np.float32).clip(-1, 1)


def figure(name: str, values: list[float], unit: str) -> None:
    """Print the median as a figure, and the spread beside it."""
    spread = f"  # median of {len(values)}, {min(values):.3g} to {max(values):.3g}"
    print(f"figure {name} {statistics.median(values):.4g} {unit}{spread}", flush=True)
