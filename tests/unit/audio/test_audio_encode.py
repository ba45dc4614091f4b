"""What is encoded can be read by libsndfile, and what cannot be encoded says so."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from audio_samples import music

from mgc.audio.decode.sndfile import encode


@pytest.mark.parametrize(
    ("container", "file_format"),
    [
        ("wav", "WAV"),
        ("flac", "FLAC"),
        ("ogg", "OGG"),
        ("opus", "OGG"),
        ("mp3", "MP3"),
        ("au", "AU"),
        ("aiff", "AIFF"),
        ("caf", "CAF"),
        ("w64", "W64"),
    ],
)
def test_a_file_has_the_format_rate_and_channels_asked_for(container, file_format):
    info = soundfile.info(io.BytesIO(encode(music(1.0, 48_000, channels=2), 48_000, container)))
    assert (info.format, info.samplerate, info.channels, info.frames) == (file_format, 48_000, 2, 48_000)


def test_the_subtype_can_be_chosen():
    assert soundfile.info(io.BytesIO(encode(music(0.1, 8_000), 8_000, "wav", subtype="ULAW"))).subtype == "ULAW"


def test_no_samples_make_a_valid_file():
    assert soundfile.info(io.BytesIO(encode(np.zeros(0, dtype=np.float32), 8_000, "wav"))).frames == 0


def test_long_vorbis_does_not_crash_the_writer():
    # One write of this length overflows libsndfile's stack.
    samples = np.tile(music(10.0, 44_100, channels=2), (12, 1))
    assert soundfile.info(io.BytesIO(encode(samples, 44_100, "ogg"))).frames == len(samples)


@pytest.mark.parametrize(
    ("channels", "sample_rate", "container", "subtype"),
    [(6, 44_100, "mp3", None), (1, 12_345, "opus", None), (1, 8_000, "flac", "FLOAT")],
)
def test_what_cannot_be_written_is_named(channels, sample_rate, container, subtype):
    with pytest.raises(
        ValueError, match=rf"cannot write {channels} channel\(s\) .* at {sample_rate} Hz as {container}"
    ):
        encode(music(0.1, sample_rate, channels=channels), sample_rate, container, subtype=subtype)
