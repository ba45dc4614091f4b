"""What the rows of each feature stand for, and their units, for tables and shards."""

from __future__ import annotations

from itertools import pairwise

from mgc.config import FeatureConfig
from mgc.config.feature_settings import TRACK_FEATURES

PITCH_CLASSES = ("C", "Cs", "D", "Ds", "E", "F", "Fs", "G", "Gs", "A", "As", "B")
"""Rows of the chroma; s for sharp."""

TEMPO_BAND_EDGES_BPM = (30, 42, 60, 85, 120, 170, 240, 339, 480)
"""Edges of the tempogram's bands: half an octave each."""

UNITS = {
    "log_mel": "dB relative to the track's maximum",
    "mfcc": "dB",
    "mfcc_delta": "dB per frame",
    "mfcc_delta2": "dB per frame²",
    "cepstrum": "1",
    "chroma": "relative to the frame's strongest pitch class",
    "spectral_centroid": "Hz",
    "spectral_bandwidth": "Hz",
    "spectral_rolloff": "Hz",
    "spectral_flatness": "1",
    "spectral_contrast": "dB",
    "spectral_mean": "magnitude of full-scale samples under the window",
    "spectral_variance": "magnitude² of full-scale samples under the window",
    "zero_crossing_rate": "per sample",
    "zero_crossing_rate_he_li": "per sample",
    "rms": "full scale",
    "short_time_energy": "full scale² samples",
    "autocorrelation": "1",
    "onset_strength": "dB",
    "tempogram": "1",
    "tempo": "BPM",
    "beat_tempo": "BPM",
    "harmonic_mean": "full scale",
    "harmonic_variance": "full scale²",
    "percussive_mean": "full scale",
    "percussive_variance": "full scale²",
}


def row_names(feature: str, config: FeatureConfig) -> list[str]:
    """Return a name for each row of a feature of `FRAME_FEATURES`; one empty name where there is one row."""
    if feature == "log_mel":
        return _numbers(config.n_mels)
    if feature.startswith("mfcc"):
        return _numbers(config.n_mfcc)
    if feature == "cepstrum":
        return [str(quefrency) for quefrency in range(min(config.n_mfcc, config.n_fft // 2 + 1))]
    if feature == "chroma":
        return list(PITCH_CLASSES)
    if feature == "spectral_contrast":
        return _numbers(config.contrast_bands + 1)
    if feature == "autocorrelation":
        return [f"lag{lag}" for lag in autocorrelation_lags(config.n_fft)]
    if feature == "tempogram":
        edges = TEMPO_BAND_EDGES_BPM
        return [f"{low}to{high}bpm" for low, high in pairwise(edges)]
    return [""]


def autocorrelation_lags(n_fft: int) -> list[int]:
    """Return the lags of the autocorrelation in samples: 1, 2, 4, … up to half a frame."""
    return [2**power for power in range((n_fft // 2).bit_length())]


def statistics_names(config: FeatureConfig) -> list[str]:
    """Return the names of a track's statistics, in order: `mfcc_1_mean`, `mfcc_1_variance`, …, `tempo`."""
    names: list[str] = []
    for feature in config.statistics:
        if feature in TRACK_FEATURES:
            names.append(feature)
            continue
        for row in row_names(feature, config):
            stem = f"{feature}_{row}" if row else feature
            names += [f"{stem}_mean", f"{stem}_variance"]
    return names


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]
