"""The whole way from a file's bytes to log-mels gives the values librosa gave when the golden file was made.

The file is remade by `python tests/golden/regenerate_log_mel.py`.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from mgc.audio.decode.sndfile import encode
from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig

SCRIPT = runpy.run_path(str(Path(__file__).with_name("regenerate_log_mel.py")))


@pytest.mark.parametrize("name", SCRIPT["SETTINGS"])
def test_log_mels_are_the_golden_ones(name):
    data = encode(SCRIPT["signal"](), SCRIPT["SOURCE_RATE"], "wav", subtype="FLOAT")
    config = FeatureConfig(**SCRIPT["SETTINGS"][name], window_seconds=1.0, max_windows=2)
    track = extract(data, config, DecodeConfig())
    with np.load(SCRIPT["GOLDEN"]) as golden:
        expected = golden[name]
    assert track.duration_seconds == 2.5
    assert track.log_mel.shape == expected.shape == (2, config.n_frames, config.n_mels)
    loud = expected > -60.0
    assert loud.mean() > 0.5
    np.testing.assert_allclose(track.log_mel[loud], expected[loud], rtol=0, atol=2e-3)
    np.testing.assert_allclose(track.log_mel, expected, rtol=0, atol=3e-2)
