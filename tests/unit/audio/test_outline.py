"""The outline of a whole waveform, against the samples themselves, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from audio_samples import music

from mgc.audio.decode.sndfile import encode
from mgc.audio.sandbox.child import MOST_STRETCHES, outline
from mgc.audio.sandbox.supervisor import SupervisedExtractor
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import TrackCode, TrackError

RATE = 8_000


@pytest.mark.parametrize("seconds", [0.001, 0.5, 8.192, 16.384, 40.0, 131.072, 300.0])
def test_each_stretch_has_the_extremes_of_its_samples(seconds: float) -> None:
    samples = music(seconds, RATE)
    found = outline(encode(samples, RATE, "wav", subtype="FLOAT"), DecodeConfig())
    length = round(found.stretch_seconds * RATE)
    assert found.duration_seconds == len(samples) / RATE
    assert len(found.low) == -(-len(samples) // length) <= MOST_STRETCHES
    assert len(found.low) >= MOST_STRETCHES // 2 or length == 64
    for number in (0, len(found.low) // 2, len(found.low) - 1):
        stretch = samples[number * length : (number + 1) * length].astype(np.float64)
        assert found.low[number] == np.float32(stretch.min())
        assert found.high[number] == np.float32(stretch.max())
        assert found.rms[number] == pytest.approx(np.sqrt(np.mean(stretch**2)), rel=1e-5)


def test_bad_files_have_their_reasons() -> None:
    with pytest.raises(TrackError) as caught:
        outline(b"no audio at all", DecodeConfig())
    assert caught.value.track_code is TrackCode.NOT_AUDIO
    broken = music(1.0, RATE)
    broken[5_000] = np.nan
    with pytest.raises(TrackError) as caught:
        outline(encode(broken, RATE, "wav", subtype="FLOAT"), DecodeConfig())
    assert caught.value.track_code is TrackCode.NOT_FINITE
    with pytest.raises(TrackError) as caught:
        outline(encode(broken[:0], RATE, "wav"), DecodeConfig())
    assert caught.value.track_code is TrackCode.NO_SAMPLES


def test_the_child_gives_the_same_and_goes_on() -> None:
    data = encode(music(3.0, RATE), RATE, "flac")
    here = outline(data, DecodeConfig())
    features = FeatureConfig(sample_rate=RATE, n_fft=256, hop_length=128, n_mels=8, window_seconds=1.0)
    with SupervisedExtractor(features, DecodeConfig()) as extractor:
        there = extractor.outline(data)
        with pytest.raises(TrackError, match="0 bytes"):
            extractor.outline(b"")
        assert extractor.extract(data).start_seconds == (0.0, 1.0, 2.0)
    for name in ("low", "high", "rms"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    assert (there.duration_seconds, there.stretch_seconds) == (here.duration_seconds, here.stretch_seconds)
