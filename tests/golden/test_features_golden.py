"""Every feature has the values that librosa gave when the golden file was made.

The file is remade by `python tests/golden/regenerate_features.py`.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from mgc.audio.features.analysis import Analysis
from mgc.audio.features.feature_rows import statistics_names
from mgc.config import FeatureConfig

SCRIPT = runpy.run_path(str(Path(__file__).with_name("regenerate_features.py")))
CONFIG = FeatureConfig(
    sample_rate=SCRIPT["SAMPLE_RATE"],
    n_fft=SCRIPT["N_FFT"],
    hop_length=SCRIPT["HOP_LENGTH"],
    n_mels=SCRIPT["N_MELS"],
    n_mfcc=SCRIPT["N_MFCC"],
    window_seconds=2.5,
    frames=("all",),
    statistics=("tempo",),
)
ABSOLUTE = {
    "log_mel": 0.03,  # dB at -80 dB
    "mfcc": 2e-3,  # dB
    "mfcc_delta": 1e-3,  # dB a frame
    "mfcc_delta2": 1e-3,
    "chroma": 1e-4,  # of the strongest pitch class
    "spectral_rolloff": 22_050 / 1_024,  # the next bin
    "spectral_contrast": 0.05,  # dB in valleys near single precision's -120 dB of the loudest bin
    "onset_strength": 1e-3,  # dB
}
"""What single precision may add to 1e-3 relative."""


@pytest.fixture(scope="module")
def found() -> dict[str, np.ndarray]:
    analysis = Analysis(CONFIG)
    return analysis.track([analysis.window(SCRIPT["signal"]())])


def names() -> list[str]:
    with np.load(SCRIPT["GOLDEN"]) as golden:
        return sorted(golden)


@pytest.mark.parametrize("name", names())
def test_a_feature_is_the_golden_one(name: str, found: dict[str, np.ndarray]) -> None:
    with np.load(SCRIPT["GOLDEN"]) as golden:
        expected = golden[name]
    ours = found["statistics"].reshape(1, 1) if name == "tempo" else found[name][0]
    assert statistics_names(CONFIG) == ["tempo"]
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=ABSOLUTE.get(name, 1e-6))
