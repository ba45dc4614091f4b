"""Our filter bank is librosa's."""

from __future__ import annotations

import subprocess
import sys

import librosa
import numpy as np
import pytest

from mgc.audio.features.filter_banks import hz_to_mel, mel_filter_bank, mel_to_hz


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_mels", "f_min", "f_max"),
    [
        (22_050, 2_048, 128, 0.0, 11_025.0),
        (16_000, 512, 96, 0.0, 8_000.0),
        (44_100, 4_096, 256, 27.5, 16_000.0),
        (8_000, 64, 200, 0.0, 4_000.0),  # more filters than bins: some are empty
        (22_050, 1_001, 40, 300.0, 900.0),
    ],
)
def test_filters_equal_librosas(sample_rate, n_fft, n_mels, f_min, f_max, scale):
    ours = mel_filter_bank(sample_rate, n_fft, n_mels, f_min, f_max, scale)
    theirs = librosa.filters.mel(
        sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, htk=scale == "htk", norm="slaney"
    )
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_scales_equal_librosas_and_invert(scale):
    hz = np.array([0.0, 50.0, 440.0, 999.9, 1_000.0, 1_000.1, 5_512.5, 24_000.0])
    mel = hz_to_mel(hz, scale)
    np.testing.assert_allclose(mel, librosa.hz_to_mel(hz, htk=scale == "htk"), rtol=1e-12)
    np.testing.assert_allclose(mel_to_hz(mel, scale), hz, rtol=1e-12, atol=1e-9)


def test_workers_do_not_pay_for_librosa():
    code = "import mgc.audio.extraction, sys; print({'librosa', 'numba', 'torch', 'ray'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
