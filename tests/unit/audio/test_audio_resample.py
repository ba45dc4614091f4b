"""A window resampled by itself is the same stretch of the whole track resampled."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from audio_samples import music

from mgc.audio.decode.audio_reader import Tape, open_audio
from mgc.audio.decode.sndfile import encode
from mgc.audio.windows import QUALITY, plan_stretch, resample
from mgc.config import DecodeConfig


@pytest.mark.parametrize(
    ("source_rate", "target_rate"),
    [(44_100, 22_050), (48_000, 22_050), (22_050, 22_050), (8_000, 22_050), (96_000, 16_000), (1_000, 4_000)],
)
@pytest.mark.parametrize("start_seconds", [0.0, 0.01, 1.2345, 2.5])
def test_a_stretch_gives_what_the_whole_gives(source_rate, target_rate, start_seconds):
    whole = music(4.0, source_rate)
    expected = soxr.resample(whole, source_rate, target_rate, quality=QUALITY)
    n_samples = target_rate
    stretch = plan_stretch(start_seconds, n_samples, source_rate, target_rate)
    resampled = resample(whole[stretch.start : stretch.stop], source_rate, target_rate)[stretch.skip :][:n_samples]
    first = round(start_seconds * target_rate)
    np.testing.assert_allclose(resampled, expected[first : first + n_samples], atol=2e-6)


def test_a_stretch_is_not_much_longer_than_its_window():
    stretch = plan_stretch(100.0, 220_500, 44_100, 22_050)
    assert stretch.stop - stretch.start < 441_000 * 1.01


class CountingReader:
    """An `AudioReader` that notes what is read."""

    def __init__(self, data: bytes) -> None:
        self._reader = open_audio(data, DecodeConfig())
        self.requests: list[tuple[int, int]] = []

    def read_mono(self, start_frame: int, n_frames: int) -> np.ndarray:
        self.requests.append((start_frame, n_frames))
        return self._reader.read_mono(start_frame, n_frames)


def test_a_tape_decodes_each_sample_once():
    samples = music(1.0, 22_050)
    reader = CountingReader(encode(samples, 22_050, "wav", subtype="FLOAT"))
    tape = Tape(reader)
    stretches = [(0, 1_000), (600, 1_600), (700, 1_500), (5_000, 6_000), (5_999, 7_000), (22_000, 23_000)]
    for start, stop in stretches:
        np.testing.assert_array_equal(tape.read(start, stop), samples[start:stop])
    assert reader.requests == [(0, 1_000), (1_000, 600), (5_000, 1_000), (6_000, 1_000), (22_000, 1_000)]
    assert tape.end_frame == 22_050


def test_a_tape_does_not_claim_an_end_it_has_not_seen():
    tape = Tape(CountingReader(encode(music(1.0, 22_050), 22_050, "wav")))
    tape.read(0, 22_050)
    assert tape.end_frame is None
