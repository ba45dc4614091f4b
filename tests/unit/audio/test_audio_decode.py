"""Every container reads to the samples that went in; broken ones read as far as they go, or say why not."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
import soundfile
from audio_samples import (
    BAD_FILES,
    damaged,
    eight_khz_mono,
    flac_claiming,
    m4a,
    music,
    six_channels_192_khz,
    truncated_flac,
    untagged_mp3,
    wav_claiming,
    with_pyav,
)

from mgc.audio.decode.audio_reader import BLOCK_FRAMES, open_audio
from mgc.audio.decode.ffmpeg import FfmpegSource
from mgc.audio.decode.sndfile import encode
from mgc.audio.decode.source import HeldContent, mix_to_mono
from mgc.config import DecodeConfig
from mgc.errors import Stage, TrackCode, TrackError

LIMITS = DecodeConfig()
ALL = 1 << 40


def read_all(data: bytes) -> np.ndarray:
    with open_audio(data, LIMITS) as reader:
        return reader.read_mono(0, ALL)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    n = min(a.size, b.size)
    return float(np.corrcoef(a[:n], b[:n])[0, 1])


@pytest.mark.parametrize(
    ("container", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 2**-7),
        ("wav", "PCM_16", 2**-15),
        ("wav", "PCM_24", 2**-23),
        ("wav", "PCM_32", 1e-7),
        ("wav", "FLOAT", 0.0),
        ("wav", "DOUBLE", 1e-7),
        ("flac", "PCM_16", 2**-15),
        ("flac", "PCM_24", 2**-23),
        ("au", "PCM_16", 2**-15),
        ("aiff", "PCM_16", 2**-15),
        ("caf", "PCM_16", 2**-15),
        ("w64", "PCM_16", 2**-15),
    ],
)
def test_a_lossless_file_reads_to_what_was_written(container, subtype, tolerance):
    samples = music(1.5, 22_050)
    np.testing.assert_allclose(
        read_all(encode(samples, 22_050, container, subtype=subtype)), samples, rtol=0, atol=tolerance
    )


@pytest.mark.parametrize(
    ("container", "sample_rate"), [("mp3", 44_100), ("mp3", 22_050), ("ogg", 44_100), ("opus", 48_000)]
)
def test_a_lossy_file_reads_to_the_same_length_in_step(container, sample_rate):
    samples = music(3.0, sample_rate, channels=2)
    decoded = read_all(encode(samples, sample_rate, container))
    assert decoded.size == samples.shape[0]
    assert correlation(decoded, samples.mean(axis=1)) > 0.99


@pytest.mark.parametrize(
    ("container", "codec", "sample_format", "sample_rate"),
    [
        ("ipod", "aac", "fltp", 44_100),
        ("adts", "aac", "fltp", 44_100),
        ("ipod", "alac", "s16p", 22_050),
        ("asf", "wmav2", "fltp", 44_100),
        ("matroska", "libopus", "flt", 48_000),
        ("tta", "tta", "s16", 22_050),
        ("wv", "wavpack", "s32p", 22_050),
        ("ac3", "ac3", "fltp", 48_000),
    ],
)
def test_what_libsndfile_does_not_know_is_read_by_ffmpeg(container, codec, sample_format, sample_rate):
    samples = music(3.0, sample_rate)
    data = with_pyav(samples, sample_rate, container, codec, sample_format)
    with open_audio(data, LIMITS) as reader:
        assert reader.info.sample_rate == sample_rate
        assert reader.info.n_frames == pytest.approx(samples.size, abs=4_096)
        decoded = reader.read_mono(0, ALL)
    # ADTS, WMA and AC-3 do not say how much of what comes out is the encoder's delay.
    place = 17_000 + int(np.argmax(np.correlate(decoded[17_000:31_000], samples[20_000:28_000], "valid")))
    assert correlation(decoded[place:], samples[20_000:60_000]) > 0.99


def test_lossless_through_ffmpeg_is_exact():
    samples = music(1.0, 22_050)
    for codec, container in [("tta", "tta"), ("alac", "ipod")]:
        data = with_pyav(samples, 22_050, container, codec, "s16" if codec == "tta" else "s16p")
        np.testing.assert_allclose(read_all(data), samples, rtol=0, atol=2**-15, err_msg=codec)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_both_libraries_scale_samples_alike(subtype):
    data = encode(music(1.0, 22_050, channels=2), 22_050, "wav", subtype=subtype)
    first = mix_to_mono(FfmpegSource(HeldContent(data)).read(0, 10_000))
    np.testing.assert_allclose(first, read_all(data)[:10_000], atol=1e-7)


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "FLAC", "AIFF", "AU", "CAF", "RF64"])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_mono_is_the_mean_over_channels(container, channels):
    samples = music(0.5, 22_050, channels=channels).reshape(-1, channels)
    decoded = read_all(through_libsndfile(samples, container, "PCM_24" if container == "FLAC" else "FLOAT"))
    np.testing.assert_allclose(decoded, samples.mean(axis=1), rtol=0, atol=2**-23)


@pytest.mark.parametrize(
    ("container", "subtype", "tolerance"),
    [
        ("WAVEX", "PCM_U8", 2**-7),
        ("WAVEX", "PCM_16", 2**-15),
        ("WAVEX", "PCM_24", 2**-23),
        ("WAVEX", "PCM_32", 1e-7),
        ("WAVEX", "DOUBLE", 1e-7),
        ("AU", "PCM_S8", 2**-7),
        ("AU", "ULAW", 2**-5),
        ("AIFF", "PCM_24", 2**-23),
        ("AIFF", "PCM_S8", 2**-7),
        ("CAF", "ALAC_16", 2**-15),
        ("CAF", "ALAC_24", 2**-23),
        ("WAV", "ALAW", 2**-5),
    ],
)
def test_other_sample_formats_read_to_what_was_written(container, subtype, tolerance):
    samples = music(1.0, 44_100, channels=2)
    data = through_libsndfile(samples, container, subtype, 44_100)
    if container == "WAVEX":
        assert data[20:22] == b"\xfe\xff", "the format of the header is not 'extensible'"
    decoded = read_all(data)[: len(samples)]
    assert decoded.size == len(samples)
    np.testing.assert_allclose(decoded, samples.mean(axis=1), rtol=0, atol=tolerance)


def through_libsndfile(samples, container, subtype, sample_rate=22_050):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, subtype, format=container)
    return buffer.getvalue()


def test_unusual_layouts_are_read():
    with open_audio(eight_khz_mono(), LIMITS) as reader:
        assert (reader.info.sample_rate, reader.info.channels, reader.info.n_frames) == (8_000, 1, 16_000)
    with open_audio(six_channels_192_khz(), LIMITS) as reader:
        assert (reader.info.sample_rate, reader.info.channels, reader.info.n_frames) == (192_000, 6, 192_000)
        assert reader.read_mono(100, 500).shape == (500,)


def jump_files() -> dict[str, bytes]:
    stereo = music(9.0, 44_100, channels=2)
    return {
        "flac": encode(stereo, 44_100, "flac"),
        "mp3": encode(stereo, 44_100, "mp3"),
        "mp3 without a tag": untagged_mp3(stereo),
        "mp3 at 22 kHz": encode(music(9.0, 22_050), 22_050, "mp3"),
        "ogg": encode(stereo, 44_100, "ogg"),
        "opus": encode(music(9.0, 48_000), 48_000, "opus"),
        "caf": encode(stereo, 44_100, "caf"),
        "m4a": m4a(music(9.0, 44_100), 44_100),
        "adts": with_pyav(music(9.0, 44_100), 44_100, "adts", "aac"),
        "alac": with_pyav(music(9.0, 22_050), 22_050, "ipod", "alac", "s16p"),
        "matroska": with_pyav(music(9.0, 48_000), 48_000, "matroska", "libopus", "flt"),
        "matroska aac": with_pyav(music(9.0, 44_100), 44_100, "matroska", "aac"),
        "tta": with_pyav(music(9.0, 44_100), 44_100, "tta", "tta", "s16"),
        "wavpack": with_pyav(music(9.0, 44_100), 44_100, "wv", "wavpack", "s32p"),
        "wma": with_pyav(music(9.0, 44_100), 44_100, "asf", "wmav2"),
    }


def test_a_jump_hears_what_reading_through_hears():
    for name, data in jump_files().items():
        whole = read_all(data)
        for start, n in [(150_001, 20_000), (1, 3_000), (whole.size - 5_000, 9_000), (40_000, BLOCK_FRAMES + 7)]:
            with open_audio(data, LIMITS) as reader:
                reader.read_mono(0, 10)
                decoded = reader.read_mono(start, n)
            expected = whole[start : start + n]
            np.testing.assert_allclose(decoded, expected, rtol=0, atol=2e-4, err_msg=f"{name} from {start}")


@pytest.mark.parametrize("name", ["ogg", "opus", "m4a", "alac", "matroska", "matroska aac", "wma", "tta", "wavpack"])
def test_a_long_jump_by_the_containers_own_seek_is_exact(name):
    data = long_jump_file(name)
    whole = read_all(data)
    for start in (1_200_000, 1_700_011, whole.size - 4_000):
        source = FfmpegSource(HeldContent(data))
        source.read(0, 10)
        decoded = mix_to_mono(source.read(start, 3_000))
        assert source._stream.has_sought
        assert decoded.size
        np.testing.assert_allclose(decoded, whole[start : start + decoded.size], rtol=0, atol=2e-4)


def long_jump_file(name: str) -> bytes:
    at_48, at_44 = music(60.0, 48_000), music(60.0, 44_100)
    makers = {
        "ogg": lambda: encode(at_44, 44_100, "ogg"),
        "opus": lambda: encode(at_48, 48_000, "opus"),
        "m4a": lambda: m4a(at_44, 44_100),
        "alac": lambda: with_pyav(at_44, 44_100, "ipod", "alac", "s16p"),
        "matroska": lambda: with_pyav(at_48, 48_000, "matroska", "libopus", "flt"),
        "matroska aac": lambda: with_pyav(at_44, 44_100, "matroska", "aac"),
        "wma": lambda: with_pyav(at_44, 44_100, "asf", "wmav2"),
        "tta": lambda: with_pyav(at_44, 44_100, "tta", "tta", "s16"),
        "wavpack": lambda: with_pyav(at_44, 44_100, "wv", "wavpack", "s32p"),
    }
    return makers[name]()


def test_jumps_in_vorbis_land_right_among_clicks():
    # Clicks make long blocks follow short ones; the time stamps of FFmpeg, and the seek of libsndfile, err there.
    samples = music(20.0, 44_100)
    samples[::6_001] += 0.7
    data = encode(samples, 44_100, "ogg")
    whole = read_all(data)
    for start in np.random.default_rng(0).integers(100_000, whole.size - 1_000, 60):
        with open_audio(data, LIMITS) as reader:
            np.testing.assert_allclose(reader.read_mono(start, 1_000), whole[start : start + 1_000], atol=1e-6)


@pytest.mark.parametrize("name", ["text.mp3", "noise.flac"])
def test_not_audio_is_said_so(name):
    with pytest.raises(TrackError) as caught:
        open_audio(BAD_FILES[name].make(), LIMITS)
    assert (caught.value.track_code, caught.value.stage) == (TrackCode.NOT_AUDIO, Stage.DECODE)
    assert "\n" not in caught.value.message


def test_a_download_that_broke_off_is_broken_audio():
    with pytest.raises(TrackError) as caught:
        open_audio(m4a(music(3.0, 44_100), 44_100)[:20_000], LIMITS)
    assert caught.value.track_code == TrackCode.DECODE_FAILED


def test_limits_of_layout_are_kept():
    data = encode(music(0.1, 22_050, channels=3), 22_050, "wav")
    with pytest.raises(TrackError, match="3 channels, allowed are 1 to 2"):
        open_audio(data, DecodeConfig(max_channels=2))
    with pytest.raises(TrackError, match="22050 Hz, allowed are 1000 to 16000 Hz"):
        open_audio(data, DecodeConfig(max_sample_rate=16_000))


def test_a_truncated_flac_reads_as_far_as_it_goes():
    data = truncated_flac(seconds=6.0, kept=0.5)
    with open_audio(data, LIMITS) as reader:
        assert reader.info.n_frames == reader.count_frames()
        n_frames = reader.count_frames()
        decoded = reader.read_mono(0, ALL)
    assert decoded.size == n_frames
    assert 2.5 < n_frames / 22_050 < 3.5
    np.testing.assert_allclose(decoded, music(6.0, 22_050)[:n_frames], atol=2**-15)


def test_audio_behind_a_damaged_block_is_still_read():
    samples = music(8.0, 22_050)
    with open_audio(damaged(encode(samples, 22_050, "flac"), 0.5, 500), LIMITS) as reader:
        assert reader.count_frames() > 7.0 * 22_050
        np.testing.assert_allclose(reader.read_mono(0, 60_000), samples[:60_000], atol=2**-15)
    with open_audio(damaged(encode(samples, 22_050, "mp3"), 0.5, 3_000), LIMITS) as reader:
        assert reader.count_frames() > 6.5 * 22_050


@pytest.mark.parametrize("claimed", [0, 10 * 22_050, 2**36 - 1])
def test_a_flac_header_that_lies_is_found_out(claimed):
    data = flac_claiming(claimed, encode(music(4.0, 22_050), 22_050, "flac"))
    with open_audio(data, LIMITS) as reader:
        assert reader.read_mono(5 * 22_050, 1_000).size == 0
        assert reader.count_frames() == 4 * 22_050


def test_a_wav_header_that_lies_is_found_out():
    data = wav_claiming(0x7FFF_FF00, encode(music(2.0, 22_050), 22_050, "wav"))
    with open_audio(data, LIMITS) as reader:
        assert reader.info.n_frames == 2 * 22_050


def test_an_untagged_mp3_is_read_to_its_end():
    # Loud noise, then silence: the first frames' bit rate promises a far shorter file.
    samples = np.zeros((44_100 * 12, 2), dtype=np.float32)
    samples[:44_100] = 0.2 * np.random.default_rng(0).standard_normal((44_100, 2))
    with open_audio(untagged_mp3(samples), LIMITS) as reader:
        assert reader.info.n_frames == pytest.approx(12 * 44_100, abs=3_000)
        assert reader.count_frames() == pytest.approx(12 * 44_100, abs=3_000)


def test_a_stream_that_goes_from_stereo_to_mono_is_read_on():
    # PyAV's frame queue crashes the process on this; ADTS streams may simply be joined.
    mono, stereo = music(2.0, 44_100), music(2.0, 44_100, channels=2)
    parts = [with_pyav(samples, 44_100, "adts", "aac") for samples in (stereo, mono, stereo)]
    decoded = read_all(b"".join(parts))
    assert decoded.size == sum(read_all(part).size for part in parts)
    np.testing.assert_allclose(decoded[30_000:80_000], read_all(parts[0])[30_000:80_000], atol=1e-6)


def test_reading_takes_memory_for_a_block_not_for_the_file():
    data = encode(np.tile(music(60.0, 8_000), 20), 8_000, "flac", subtype="PCM_S8")
    as_floats = 20 * 60 * 8_000 * 4
    tracemalloc.start()
    try:
        with open_audio(data, LIMITS) as reader:
            assert reader.count_frames() == as_floats // 4
            assert reader.read_mono(9_000_000, 8_000).size == 8_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < as_floats / 10
