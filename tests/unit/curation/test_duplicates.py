"""Near-duplicates: one recording in several formats is a group, and two recordings are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from audio_samples import music
from curation_makers import frame, prediction

from mgc.audio.decode.sndfile import Container, encode
from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig
from mgc.curation.duplicates import (
    DuplicateLimits,
    Fingerprints,
    RecordingFingerprints,
    duplicate_groups,
    fingerprint_of,
)

FEATURES = FeatureConfig(window_seconds=4.0, max_windows=3)
RATE = 44_100


def tune(seed: int, seconds: float = 12.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return notes of a random melody and rhythm: the same instrument for every seed."""
    random = np.random.default_rng(seed)
    samples = music(seconds, RATE, seed=seed) * 0.05
    time = np.arange(RATE // 2) / RATE
    for start in np.flatnonzero(random.random(int(seconds * 4) - 2) < 0.6) * (RATE // 4):
        hz = 110 * 2 ** (random.integers(0, 36) / 12)
        samples[start : start + time.size] += 0.3 * np.exp(-6 * time) * np.sin(2 * np.pi * hz * time)
    return np.clip(samples, -1, 1).astype(np.float32)


def recordings(files: dict[str, bytes]) -> RecordingFingerprints:
    pairs = [fingerprint_of(extract(data, FEATURES, DecodeConfig()).log_mel, FEATURES) for data in files.values()]
    middle, last = (np.stack(part) for part in zip(*pairs, strict=True))
    return RecordingFingerprints(list(files), Fingerprints(middle, last))


def rows(files: dict[str, bytes], seconds: float = 12.0) -> pl.DataFrame:
    return frame([prediction(name, f"/m/{name}", "c", duration_seconds=seconds) for name in files])


def test_encodings_of_one_recording_are_a_group_and_other_tunes_are_not() -> None:
    kinds: tuple[Container, ...] = ("flac", "mp3", "ogg")
    files = {f"{seed}.{kind}": encode(tune(seed), RATE, kind) for seed in range(3) for kind in kinds}
    files |= {f"alone{seed}": encode(tune(seed), RATE, "wav") for seed in range(3, 6)}
    groups = duplicate_groups(rows(files), recordings(files))
    found = {group: sorted(names) for group, names in groups.group_by("group_id").agg("track_id").iter_rows()}
    assert found == {f"{seed}.flac": [f"{seed}.flac", f"{seed}.mp3", f"{seed}.ogg"] for seed in range(3)}
    assert groups["correlation"].min() > 0.85  # type: ignore[operator]


def test_a_quieter_copy_is_the_same_recording() -> None:
    files = {"a": encode(tune(0), RATE, "flac"), "b": encode(0.3 * tune(0), RATE, "mp3")}
    assert duplicate_groups(rows(files), recordings(files)).height == 2


def test_another_length_or_another_sound_is_another_recording() -> None:
    files = {"a": encode(tune(0), RATE, "flac"), "b": encode(tune(0), RATE, "mp3")}
    known = recordings(files)
    longer = rows(files).with_columns(duration_seconds=pl.Series([12.0, 12.6]))
    assert duplicate_groups(longer, known).is_empty()
    elsewhere = rows(files).with_columns(embedding=pl.Series([[1.0, 0.0], [0.0, 1.0]], dtype=pl.List(pl.Float32)))
    assert duplicate_groups(elsewhere, known).is_empty()
    assert duplicate_groups(elsewhere, known, DuplicateLimits(cosine=-1.0)).height == 2


@pytest.mark.parametrize("level", [0.0, -80.0])
def test_silence_and_failed_tracks_are_in_no_group(level: float) -> None:
    # Shards from before silence was a failure have its log-mels, where all values are the same.
    pair = fingerprint_of(np.full((2, FEATURES.n_frames, FEATURES.n_mels), level, dtype=np.float32), FEATURES)
    silent = RecordingFingerprints(["a", "b"], Fingerprints(*(np.stack([part, part]) for part in pair)))
    assert duplicate_groups(rows({"a": b"", "b": b""}), silent).is_empty()
    failed = frame([prediction("a", "/m/a", "c", error_code="T203_DECODE_FAILED")])
    assert duplicate_groups(failed, silent).is_empty()


@pytest.mark.slow
def test_real_compositions_re_encoded_are_found_and_nothing_else(shared_data: Path) -> None:
    """Sixty catalogue tracks and their re-encodings: measured precision and recall of pairs."""
    folder = shared_data / "midi-catalogue"
    names = pl.read_csv(folder / "manifest.csv").unique("group", maintain_order=True).head(60)["path"].to_list()
    files: dict[str, bytes] = {}
    for number, name in enumerate(names):
        files[name] = (folder / name).read_bytes()
        samples, rate = soundfile.read(folder / name, dtype="float32")
        files[f"{name}.copy"] = encode(samples * 0.7, rate, "mp3" if number % 2 else "ogg")
    known = recordings(files)
    groups = duplicate_groups(rows(files), known)
    pairs = {
        tuple(sorted(names))
        for (names,) in groups.group_by("group_id").agg("track_id").select("track_id").iter_rows()
    }
    true = {(name, f"{name}.copy") for name in names}
    assert len(pairs & true) / len(true) >= 0.95
    assert len(pairs & true) / len(pairs) >= 0.95
