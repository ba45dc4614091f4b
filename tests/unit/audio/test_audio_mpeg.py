"""The frame table of MPEG audio, what goes to libsndfile, and the frame-by-frame reader."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from audio_samples import ape_tag, id3v1, id3v2, music, untagged_mp3, with_pyav

from mgc.audio.decode.ffmpeg import FfmpegSource
from mgc.audio.decode.mpeg import MpegFrames, MpegSource, looks_like_mpeg, scan_streams, suits_libsndfile
from mgc.audio.decode.sndfile import SndfileSource, encode
from mgc.audio.decode.source import HeldContent, mix_to_mono


@pytest.fixture(scope="module")
def tagged() -> bytes:
    return encode(music(4.0, 44_100, channels=2), 44_100, "mp3")


def scanned(data: bytes) -> MpegFrames:
    (frames,) = scan_streams(HeldContent(data))
    return frames


def suits(data: bytes) -> bool:
    return suits_libsndfile(HeldContent(data), scanned(data))


def read_all(source: MpegSource | FfmpegSource | SndfileSource) -> np.ndarray:
    blocks: list[np.ndarray] = []
    while (block := source.read(sum(map(len, blocks)), 1 << 16)).size:
        blocks.append(mix_to_mono(block))
    return np.concatenate(blocks)


def by_frames(data: bytes) -> np.ndarray:
    return read_all(MpegSource(HeldContent(data), scanned(data)))


def test_a_tag_that_tells_the_truth_suits(tagged):
    assert suits(tagged)
    assert suits(id3v2(70_000) + tagged), "cover art before the audio is no audio"
    assert suits(tagged + id3v1()), "an ID3v1 tag is within the tolerance"


def test_no_tag_a_cut_and_a_join_do_not_suit(tagged):
    assert not suits(untagged_mp3(music(4.0, 44_100, channels=2)))
    assert not suits(tagged[: len(tagged) * 9 // 10])
    assert not suits(tagged + tagged)
    assert not scan_streams(HeldContent(tagged[:40]))


@pytest.mark.parametrize("claimed", [0, 1, 50, 10**9])
def test_a_tag_that_lies_about_its_frames_does_not_suit(tagged, claimed):
    at = tagged.find(b"Info" if b"Info" in tagged[:64] else b"Xing")
    lying = tagged[: at + 8] + claimed.to_bytes(4, "big") + tagged[at + 12 :]
    assert not suits(lying)
    np.testing.assert_array_equal(by_frames(lying), by_frames(tagged))


def test_mpeg_2_does_not_suit():
    assert not suits(encode(music(2.0, 22_050), 22_050, "mp3"))


def test_a_tag_without_lengths_does_not_suit(tagged):
    at = tagged.find(b"Info" if b"Info" in tagged[:64] else b"Xing")
    assert not suits(tagged[: at + 4] + bytes(4) + tagged[at + 8 :])


def test_mpeg_is_known_by_its_first_bytes(tagged):
    assert looks_like_mpeg(tagged)
    assert looks_like_mpeg(id3v2(10))
    adts = with_pyav(music(0.2, 44_100), 44_100, "adts", "aac")
    for other in (b"", b"\xff", b"RIFF", b"fLaC", b"OggS", b"text", bytes(9), adts):
        assert not looks_like_mpeg(other)


@pytest.mark.parametrize(
    ("container", "codec", "sample_rate", "frame_samples"),
    [
        ("mp2", "mp2", 48_000, 1_152),
        ("mp2", "mp2", 24_000, 1_152),
        ("mp3", "mp3", 11_025, 576),
        ("mp3", "mp3", 32_000, 1_152),
    ],
)
def test_every_version_and_layer_has_its_table(container, codec, sample_rate, frame_samples):
    sample_format = "s16" if codec == "mp2" else "fltp"
    data = with_pyav(music(2.0, sample_rate), sample_rate, container, codec, sample_format)
    frames = scanned(data)
    assert (frames.kind.sample_rate, frames.kind.frame_samples) == (sample_rate, frame_samples)
    # FFmpeg by itself reads layer II in 16 bits.
    np.testing.assert_allclose(by_frames(data), read_all(FfmpegSource(HeldContent(data))), atol=1e-4)


def test_frames_are_decoded_as_both_libraries_decode_them(tagged):
    decoded = by_frames(tagged)
    assert decoded.size == 4 * 44_100, "the delay that the LAME tag tells is left out at both ends"
    np.testing.assert_array_equal(decoded, read_all(FfmpegSource(HeldContent(tagged))))
    np.testing.assert_allclose(decoded, read_all(SndfileSource(HeldContent(tagged))), atol=2e-6)


def test_a_variable_rate_without_a_tag_has_its_length_and_its_places():
    buffer = io.BytesIO()
    loud_and_soft = music(6.0, 44_100, channels=2)
    loud_and_soft[44_100:200_000] *= 0.001
    with soundfile.SoundFile(
        buffer, "w", 44_100, 2, "MPEG_LAYER_III", format="MP3", bitrate_mode="VARIABLE", compression_level=0.3
    ) as file:
        file.write(loud_and_soft)
    whole = buffer.getvalue()
    first = scanned(whole)
    assert len(set(first.lengths)) > 3
    bare = whole[first.offsets[0] :]
    table = scanned(bare)
    assert list(table.lengths) == list(first.lengths)
    assert table.n_samples == len(first.lengths) * 1_152
    decoded = by_frames(bare)
    np.testing.assert_array_equal(decoded[1_105:][: 6 * 44_100], by_frames(whole))


def test_windows_are_exact_wherever_they_are(tagged):
    for data in (tagged, untagged_mp3(music(4.0, 44_100, channels=2)), encode(music(9.0, 8_000), 8_000, "mp3")):
        whole = by_frames(data)
        frames = scanned(data)
        for start in np.random.default_rng(0).integers(0, whole.size - 1_000, 20):
            source = MpegSource(HeldContent(data), frames)
            source.read(0, 10)
            block = mix_to_mono(source.read(int(start), 1_000))
            np.testing.assert_array_equal(block, whole[start : start + block.size])
            assert block.size


def test_tags_and_damage_do_not_move_what_follows(tagged):
    table = scanned(tagged)
    whole = by_frames(tagged)
    dressed = id3v2(1_200_000) + tagged + ape_tag() + id3v1()
    np.testing.assert_array_equal(by_frames(dressed), whole)
    at = table.offsets[60]
    spoilt = tagged[: at + 4] + bytes(90) + tagged[at + 94 :]
    decoded = by_frames(spoilt)
    assert decoded.size == whole.size
    np.testing.assert_array_equal(decoded[80 * 1_152 :], whole[80 * 1_152 :])
    inserted = tagged[:at] + b"\x00\xff\xfb\x00" * 50 + tagged[at:]
    np.testing.assert_array_equal(by_frames(inserted), whole)
    headless = tagged[:at] + b"\x00\x00" + tagged[at + 2 :]
    assert by_frames(headless).size == whole.size - 1_152


def test_what_only_looks_like_mpeg_has_no_table():
    noise = np.random.default_rng(0).bytes(200_000)
    assert not scan_streams(HeldContent(noise))
    assert not scan_streams(HeldContent(b"\xff\xfb\x90\x64" + noise))
    assert not scan_streams(HeldContent(id3v2(10) + encode(music(1.0, 22_050), 22_050, "flac")))
