"""Write `log_mel_golden.npz`: what librosa makes of two signals, for `test_log_mel_golden.py`.

    python tests/golden/regenerate_log_mel.py

The values come from librosa, not from mgc: run it when the signals or settings below change, never to make a
failing test pass.
"""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np

GOLDEN = Path(__file__).with_name("log_mel_golden.npz")

SOURCE_RATE = 44_100
SETTINGS: dict[str, dict[str, float | int | str]] = {
    "slaney": {"sample_rate": 22_050, "n_fft": 2_048, "hop_length": 512, "n_mels": 64, "mel_scale": "slaney"},
    "htk": {
        "sample_rate": 16_000,
        "n_fft": 512,
        "hop_length": 400,
        "n_mels": 48,
        "mel_scale": "htk",
        "f_min": 40.0,
        "f_max": 7_600.0,
    },
}
"""`FeatureConfig` settings; windows are one second, two of them."""


def signal() -> np.ndarray:
    """Return two and a half seconds at 44.1 kHz, stereo, 16 bits: a rising chirp and a clicked chord."""
    t = np.arange(int(2.5 * SOURCE_RATE)) / SOURCE_RATE
    chirp = 0.4 * np.sin(2 * np.pi * (80.0 * t + 1_500.0 * t**2))
    chord = sum(0.15 * np.sin(2 * np.pi * hz * t) for hz in (220.0, 329.6, 554.4)) * np.exp(-3 * (t % 0.5))
    # A congruential generator, so that the noise does not depend on anyone's library.
    state = np.uint32(1)
    noise = np.empty(t.size)
    for i in range(t.size):
        state = np.uint32((1_664_525 * int(state) + 1_013_904_223) & 0xFFFF_FFFF)
        noise[i] = int(state) / 2**31 - 1.0
    stereo = np.stack([chirp + 0.01 * noise, chord + 0.005 * noise[::-1]], axis=1)
    return (np.round(stereo * 32_767) / 32_768).astype(np.float32)


def by_librosa(samples: np.ndarray, settings: dict[str, float | int | str]) -> np.ndarray:
    """Return dB relative to the maximum over two one-second windows, shape (2, n_frames, n_mels)."""
    rate = int(settings["sample_rate"])
    mono = librosa.resample(samples.mean(axis=1), orig_sr=SOURCE_RATE, target_sr=rate, res_type="soxr_hq")
    power = [
        librosa.feature.melspectrogram(
            y=mono[round(start * rate) :][:rate],
            sr=rate,
            n_fft=int(settings["n_fft"]),
            hop_length=int(settings["hop_length"]),
            n_mels=int(settings["n_mels"]),
            fmin=float(settings.get("f_min", 0.0)),
            fmax=float(settings.get("f_max", rate / 2)),
            htk=settings["mel_scale"] == "htk",
            pad_mode="constant",
        ).T
        for start in (0.0, 1.5)
    ]
    return librosa.power_to_db(np.stack(power), ref=np.max, top_db=80.0)


if __name__ == "__main__":
    samples = signal()
    np.savez_compressed(GOLDEN, **{name: by_librosa(samples, settings) for name, settings in SETTINGS.items()})
