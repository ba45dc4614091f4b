"""A header that is wrong about the length is put right where the bytes tell the truth, and left alone elsewhere."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from audio_samples import flac_claiming, id3v1, music, wav_claiming

from mgc.audio.decode.audio_reader import open_audio
from mgc.audio.decode.lengths import with_true_length
from mgc.audio.decode.sndfile import encode
from mgc.audio.decode.source import HeldContent
from mgc.config import DecodeConfig

SECONDS, RATE = 3, 22_050
SAMPLES = music(float(SECONDS), RATE)


def decoded(data: bytes) -> np.ndarray:
    with open_audio(data, DecodeConfig()) as reader:
        assert reader.info.n_frames == reader.count_frames()
        return reader.read_mono(0, 1 << 30)


def au_claiming(n_bytes: int) -> bytes:
    data = encode(SAMPLES, RATE, "au")
    return data[:8] + n_bytes.to_bytes(4, "big") + data[12:]


@pytest.mark.parametrize("claimed", [0, 2, 10_000, 10_001, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF])
def test_a_wav_of_any_claim_is_read_to_its_end(claimed):
    np.testing.assert_allclose(decoded(wav_claiming(claimed, encode(SAMPLES, RATE, "wav"))), SAMPLES, atol=2**-15)


def test_what_is_another_chunk_is_not_audio():
    data = encode(SAMPLES, RATE, "wav") + b"LIST" + (9_000).to_bytes(4, "little") + bytes(9_000)
    content = HeldContent(data)
    assert with_true_length(content) is content
    assert decoded(data).size == SAMPLES.size
    empty = data[:40] + bytes(4) + data[-9_008:]
    assert with_true_length(HeldContent(empty)).read(40, 44) == bytes(4), "an empty track with a long note"


def test_a_tag_behind_the_end_is_not_audio():
    assert decoded(encode(SAMPLES, RATE, "wav") + id3v1()).size == SAMPLES.size


@pytest.mark.parametrize("claimed", [0, 10_000, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_an_au_of_any_claim_is_read_to_its_end(claimed):
    np.testing.assert_allclose(decoded(au_claiming(claimed)), SAMPLES, atol=2**-15)


@pytest.mark.parametrize("claimed", [0, 1, RATE, 100 * RATE, 2**36 - 1])
def test_a_flac_of_any_claim_is_read_to_its_end(claimed):
    data = flac_claiming(claimed, encode(SAMPLES, RATE, "flac"))
    np.testing.assert_allclose(decoded(data), SAMPLES, atol=2**-15)


def test_a_flac_that_tells_the_truth_is_left_alone():
    for channels, rate, subtype in [(1, 8_000, "PCM_S8"), (2, 96_000, "PCM_24"), (6, 44_100, "PCM_16")]:
        content = HeldContent(encode(music(2.0, rate, channels), rate, "flac", subtype=subtype))
        assert with_true_length(content) is content


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.77, 0.999])
def test_a_cut_flac_ends_with_its_last_whole_frame(kept):
    data = encode(SAMPLES, RATE, "flac")
    cut = decoded(data[: int(kept * len(data))])
    assert kept * SAMPLES.size - 2 * 4_096 < cut.size <= SAMPLES.size
    assert cut.size % 4_096 == 0
    np.testing.assert_allclose(cut, SAMPLES[: cut.size], atol=2**-15)


def test_a_short_flac_of_one_frame_is_read():
    data = encode(SAMPLES[:1_000], RATE, "flac")
    assert decoded(flac_claiming(0, data)).size == 1_000


def test_long_blocks_do_not_hide_the_last_frame():
    noise = 0.5 * np.random.default_rng(0).standard_normal((100_000, 8)).astype(np.float32).clip(-1, 1)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 48_000, 8, "PCM_24", format="FLAC") as file:
        file.write(noise)
    content = HeldContent(buffer.getvalue())
    assert with_true_length(content) is content
    lying = with_true_length(HeldContent(flac_claiming(5, buffer.getvalue())))
    assert lying.read(0, 42) == buffer.getvalue()[:42]
