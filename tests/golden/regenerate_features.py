"""Write `features_golden.npz`: librosa's features of one signal, for `test_features_golden.py`.

    python tests/golden/regenerate_features.py

The values come from librosa (numpy where librosa has no such feature), not from mgc: run it when the signal or the
settings change, never to make a failing test pass.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import librosa
import numpy as np

GOLDEN = Path(__file__).with_name("features_golden.npz")

SAMPLE_RATE, N_FFT, HOP_LENGTH, N_MELS, N_MFCC = 22_050, 1_024, 512, 40, 13


def signal() -> np.ndarray:
    """Return two and a half seconds of chirp, chord and noise: the left and right of the other golden signal."""
    stereo = runpy.run_path(str(Path(__file__).with_name("regenerate_log_mel.py")))["signal"]()
    return np.ascontiguousarray(stereo[::2].mean(axis=1))


def by_librosa(y: np.ndarray) -> dict[str, np.ndarray]:
    """Return each feature, shape (n_frames, rows)."""
    feature, frames = librosa.feature, {"frame_length": N_FFT, "hop_length": HOP_LENGTH}
    S = np.abs(librosa.stft(y, n_fft=N_FFT, hop_length=HOP_LENGTH))
    mel = feature.melspectrogram(S=S**2, sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS)
    mel_db = librosa.power_to_db(mel)
    mfcc = feature.mfcc(S=mel_db, n_mfcc=N_MFCC)
    onsets = librosa.onset.onset_strength(S=mel_db, sr=SAMPLE_RATE, n_fft=N_FFT, hop_length=HOP_LENGTH)
    found = {
        "log_mel": mel_db - mel_db.max(),
        "mfcc": mfcc,
        "mfcc_delta": feature.delta(mfcc),
        "mfcc_delta2": feature.delta(mfcc, order=2),
        "chroma": feature.chroma_stft(S=S**2, sr=SAMPLE_RATE, n_fft=N_FFT, tuning=0.0),
        "spectral_centroid": feature.spectral_centroid(S=S, sr=SAMPLE_RATE),
        "spectral_bandwidth": feature.spectral_bandwidth(S=S, sr=SAMPLE_RATE),
        "spectral_rolloff": feature.spectral_rolloff(S=S, sr=SAMPLE_RATE),
        "spectral_flatness": feature.spectral_flatness(S=S),
        "spectral_contrast": feature.spectral_contrast(S=S, sr=SAMPLE_RATE),
        "spectral_mean": S.mean(axis=0, keepdims=True),
        "spectral_variance": S.var(axis=0, keepdims=True),
        "zero_crossing_rate": feature.zero_crossing_rate(y, **frames),
        "rms": feature.rms(y=y, **frames),
        "onset_strength": onsets[np.newaxis],
        "tempo": feature.tempo(onset_envelope=onsets, sr=SAMPLE_RATE, hop_length=HOP_LENGTH)[np.newaxis],
    }
    return {name: np.asarray(values).T for name, values in found.items()}


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **{name: values.astype(np.float32) for name, values in by_librosa(signal()).items()})
