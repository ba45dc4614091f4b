"""A small folder of music for the tests: three genres that even a small network tells apart, and bad files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from audio_samples import BAD_FILES
from hostile_files import HOSTILE_FILES

from mgc.audio.decode.sndfile import encode

SAMPLE_RATE = 16_000
SECONDS = 4.0
GENRES = ("drone", "noise", "pulse")
CONTAINERS = ("wav", "flac", "ogg")

SETTINGS = [
    "features.sample_rate=16000",
    "features.n_fft=512",
    "features.hop_length=256",
    "features.n_mels=32",
    "features.window_seconds=2.0",
    "features.max_windows=2",
    "model.channels=16",
    "model.blocks=2",
    "model.rnn_units=8",
    "model.embedding_size=16",
    "training.members=2",
    "training.threads=1",
    "training.epochs=16",
    "training.batch_size=8",
    "training.mixup_alpha=0.0",
    "training.warmup_epochs=0",
    "training.crop_seconds=1.5",
    "training.min_tag_positives=2",
    "training.learning_rate=0.005",
]
"""Settings (`--set`) under which all jobs end in seconds."""

OWN_EPOCHS = 14
TWO_FITS = [
    *SETTINGS,
    'training.ensemble=["crnn", {name="crnn", channels=16, blocks=2, rnn_units=8, embedding_size=16, '
    f"training={{epochs={OWN_EPOCHS}, learning_rate=0.006, batch_size=6}}}}]",
]
"""The same two networks, the second fitted in its own way: what the bundle of the tests is made by."""


def sound(genre: str, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return four seconds of a genre, shape (n,)."""
    random = np.random.default_rng([GENRES.index(genre), seed])
    time = np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * random.uniform(100, 300) * time)
    if genre == "drone":
        samples = tone
    elif genre == "noise":
        samples = 0.3 * random.standard_normal(time.size)
    else:
        samples = tone * ((time * random.uniform(3, 5)) % 1.0 < 0.2)
    return (0.5 * samples).clip(-1, 1).astype(np.float32)


def write_track(folder: Path, genre: str, seed: int) -> Path:
    """Write one track in folder-per-genre layout."""
    container = CONTAINERS[seed % len(CONTAINERS)]
    path = folder / genre / f"{genre}{seed:03d}.{container}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(sound(genre, seed), SAMPLE_RATE, container))
    return path


def write_music(folder: Path, tracks_per_genre: int = 6) -> Path:
    """Write a folder of good tracks and a manifest beside them."""
    lines = ["path,genre,tags"]
    for genre in GENRES:
        for seed in range(tracks_per_genre):
            path = write_track(folder, genre, seed)
            tags = "tonal" if genre != "noise" else "hiss"
            lines.append(f"{path.relative_to(folder).as_posix()},{genre},{tags}|{'odd' if seed % 2 else 'even'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def add_bad_files(folder: Path) -> dict[str, str]:
    """Write every bad file of the collection; return file name → code it must get."""
    target = folder / "broken"
    target.mkdir(parents=True)
    for name, bad in BAD_FILES.items():
        (target / name).write_bytes(bad.make())
    return {name: bad.code.value for name, bad in BAD_FILES.items()}


def add_hostile_files(folder: Path) -> dict[str, str]:
    """Write those of the hostile files that get a code, one of each; return file name → code it must get."""
    target = folder / "hostile"
    target.mkdir(parents=True)
    codes = {}
    for name in ("hangs_sf_open.wav", "a_thousand_million_hz.wav", "archive.zip.wav", "255_bits.wav", "nan.wav"):
        hostile = HOSTILE_FILES[name]
        (target / f"hostile_{name}").write_bytes(hostile.make())
        codes[f"hostile_{name}"] = str(hostile.code)
    return codes
