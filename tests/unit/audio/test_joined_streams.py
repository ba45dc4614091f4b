"""Files of several streams, one behind the other, are one track: all of it, each sample in its place."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from audio_samples import ape_tag, damaged, id3v1, id3v2, music, with_pyav

from mgc.audio.decode.audio_reader import JoinedReader, open_audio
from mgc.audio.decode.sndfile import encode
from mgc.audio.decode.source import RangedContent, RemoteBytes
from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig

SECONDS, JINGLE_SECONDS = 4.0, 1.0
SONG, JINGLE = music(SECONDS, 44_100, channels=2), music(JINGLE_SECONDS, 44_100, channels=2, seed=1)
FEATURES, LIMITS = FeatureConfig(n_fft=512, n_mels=32, window_seconds=1.0, max_windows=6), DecodeConfig()

MADE = {
    **{kind: lambda samples, rate, kind=kind: encode(samples, rate, kind) for kind in ("wav", "flac", "ogg", "au")},
    **{kind: lambda samples, rate, kind=kind: encode(samples, rate, kind) for kind in ("aiff", "caf", "w64", "mp3")},
    "opus": lambda samples, rate: encode(samples[: len(samples) // 147 * 147], 48_000, "opus"),
    "ogg flac": lambda samples, rate: ogg_flac(samples, rate),
    "m4a": lambda samples, rate: with_pyav(samples, rate, "ipod", "aac"),
    "adts": lambda samples, rate: with_pyav(samples, rate, "adts", "aac"),
    "mp2": lambda samples, rate: with_pyav(samples, rate, "mp2", "mp2", "s16"),
    "wma": lambda samples, rate: with_pyav(samples, rate, "asf", "wmav2"),
    "matroska": lambda samples, rate: with_pyav(samples, rate, "matroska", "aac"),
    "flv": lambda samples, rate: with_pyav(samples, rate, "flv", "aac"),
    "tta": lambda samples, rate: with_pyav(samples, rate, "tta", "tta", "s16"),
    "wavpack": lambda samples, rate: with_pyav(samples, rate, "wv", "wavpack", "s32p"),
    "mpegts": lambda samples, rate: with_pyav(samples, rate, "mpegts", "aac"),
}
EXACT = ("wav", "flac", "ogg flac", "aiff", "caf", "w64", "au", "tta", "wavpack")
PADDED_SECONDS = 0.2
"""What three encoders' padding adds at most."""


def ogg_flac(samples: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(io.BytesIO(encode(samples, rate, "flac"))) as source, av.open(buffer, "w", format="ogg") as sink:
        target = sink.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = target
                sink.mux(packet)
    return buffer.getvalue()


def ac3(samples: np.ndarray, rate: int) -> bytes:
    return with_pyav(samples, rate, "ac3", "ac3")


def ranged(data: bytes) -> RangedContent:
    return RangedContent(RemoteBytes(len(data), lambda start, stop: data[start:stop]))


def decoded(data: bytes | RangedContent) -> np.ndarray:
    with open_audio(data, LIMITS) as reader:
        return reader.read_mono(0, 1 << 30)


def starts_with_flac_numbers_anew(song: bytes, jingle: bytes) -> bytes:
    """Return the frames of two FLACs behind one header, which has their length (a damaged rip)."""

    def frames_at(data: bytes) -> int:
        at, is_last = 4, False
        while not is_last:
            is_last, at = bool(data[at] & 0x80), at + 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        return at

    total = sum(int.from_bytes(data[22:26], "big") for data in (song, jingle))
    header = song[:22] + total.to_bytes(4, "big") + bytes(16) + song[42 : frames_at(song)]
    return header + song[frames_at(song) :] + jingle[frames_at(jingle) :]


@pytest.mark.parametrize("kind", MADE)
def test_all_streams_of_a_file_are_heard(kind):
    song, jingle = MADE[kind](SONG, 44_100), MADE[kind](JINGLE, 44_100)
    data = jingle + song + jingle
    expected = 6.0 * (44_100 / 48_000 if kind == "opus" else 1.0)
    track = extract(data, FEATURES, LIMITS)
    assert track.duration_seconds == pytest.approx(expected, abs=0.002 if kind in EXACT else PADDED_SECONDS)
    assert len(track.start_seconds) == 6
    assert kind == "mpegts" or track.note is None or "3 streams, one behind the other" in track.note
    assert (track.note is None) == (kind in ("mp3", "mp2", "adts")), "frames of one kind are one stream anyway"
    assert track.start_seconds[-1] == pytest.approx(track.duration_seconds - 1.0, abs=0.1), "windows cover the whole"
    if kind in EXACT:
        mixed = np.concatenate([samples.mean(axis=1) for samples in (JINGLE, SONG, JINGLE)])
        np.testing.assert_allclose(decoded(data), mixed, atol=1e-4)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "ogg flac", "mp3", "adts", "ac3", "m4a", "aiff", "mp2"])
@pytest.mark.parametrize("order", ["song first", "jingle first"])
def test_a_stream_at_another_rate_is_resampled_and_the_song_stays_as_it_is(kind, order):
    make = MADE.get(kind, ac3)
    low_rate = {"ac3": 32_000}.get(kind, 22_050)
    song, jingle = make(SONG, 44_100), make(music(JINGLE_SECONDS, low_rate, seed=1), low_rate)
    parts = [song, jingle] if order == "song first" else [jingle, song]
    with open_audio(b"".join(parts), LIMITS) as reader:
        assert reader.info.sample_rate == 44_100, "of what lasts longest"
        assert "sample rates" in reader.note
        heard = reader.read_mono(0, 1 << 30)
    alone = decoded(song)
    assert heard.size / 44_100 == pytest.approx(5.0, abs=0.15)
    with open_audio(jingle, LIMITS) as reader:
        at = 0 if order == "song first" else round(reader.info.n_frames * 44_100 / low_rate)
    middle = slice(22_050, 3 * 44_100)
    np.testing.assert_allclose(heard[at : at + alone.size][middle], alone[middle], atol=1e-4)


def test_a_resampled_stream_has_its_sound():
    low = music(JINGLE_SECONDS, 22_050, seed=1)
    heard = decoded(encode(SONG, 44_100, "wav") + encode(low, 22_050, "wav"))[SONG.shape[0] :]
    jingle = music(JINGLE_SECONDS, 44_100, seed=1)
    assert heard.size == jingle.size
    assert np.corrcoef(heard, jingle)[0, 1] > 0.95


@pytest.mark.parametrize("kind", ["flac", "ogg", "wav", "mp3", "opus", "aiff", "m4a", "ogg flac"])
def test_a_long_file_read_by_ranges_is_heard_as_one_held(kind):
    data = MADE[kind](SONG, 44_100) + MADE[kind](JINGLE, 44_100) + MADE[kind](SONG, 44_100)
    held, there = extract(data, FEATURES, LIMITS), extract(ranged(data), FEATURES, LIMITS)
    assert there.duration_seconds == held.duration_seconds > 8.0
    np.testing.assert_array_equal(there.log_mel, held.log_mel)


@pytest.mark.parametrize("kind", ["flac", "ogg", "opus"])
@pytest.mark.parametrize("times", [2, 5])
def test_equal_streams_of_one_number_are_told_apart_by_ranges(kind, times):
    song = MADE[kind](SONG, 44_100)
    with open_audio(ranged(song * times), LIMITS) as reader, open_audio(song, LIMITS) as one:
        assert isinstance(reader, JoinedReader)
        assert reader.info.n_frames == times * one.info.n_frames


@pytest.mark.parametrize("kind", ["flac", "mp3", "ogg", "wav", "adts"])
@pytest.mark.parametrize(
    "between",
    [id3v2(70_000), id3v1(), ape_tag(), ape_tag() + id3v1() + id3v2(3_000), np.random.default_rng(2).bytes(5_000)],
    ids=["ID3v2", "ID3v1", "APE", "all", "garbage"],
)
def test_what_stands_between_two_streams_is_no_sound(kind, between):
    song, jingle = MADE[kind](SONG, 44_100), MADE[kind](JINGLE, 44_100)
    track = extract(song + between + jingle + between, FEATURES, LIMITS)
    assert track.duration_seconds == pytest.approx(5.0, abs=0.2)


@pytest.mark.parametrize("order", ["song first", "jingle first"])
def test_a_flac_whose_frame_numbers_begin_anew_keeps_its_length(order):
    song, jingle = encode(SONG, 44_100, "flac"), encode(JINGLE, 44_100, "flac")
    parts = [(song, SONG), (jingle, JINGLE)] if order == "song first" else [(jingle, JINGLE), (song, SONG)]
    data = starts_with_flac_numbers_anew(*(data for data, _ in parts))
    mixed = np.concatenate([samples.mean(axis=1) for _, samples in parts])
    for content in (data, ranged(data)):
        assert extract(content, FEATURES, LIMITS).duration_seconds == 5.0
        np.testing.assert_allclose(decoded(content), mixed, atol=1e-4)


@pytest.mark.parametrize("kind", ["flac", "ogg", "wav", "mp3", "adts", "m4a"])
def test_a_damaged_stream_costs_no_other(kind):
    song, jingle = MADE[kind](SONG, 44_100), MADE[kind](JINGLE, 44_100)
    for data in (damaged(song, 0.3, 3_000) + jingle, jingle + damaged(song, 0.3, 3_000)):
        assert extract(data, FEATURES, LIMITS).duration_seconds > 4.2


def test_a_stream_that_cannot_be_opened_is_left_out_and_said():
    song = encode(SONG, 44_100, "flac")
    with open_audio(song + b"fLaC\0\0\0\x22" + bytes(500) + song, LIMITS) as reader:
        assert reader.count_frames() == 2 * SONG.shape[0]
        assert "1 of them cannot be read" in reader.note


def test_a_stream_that_ends_before_its_header_says_so_moves_the_others():
    song, jingle = encode(SONG, 44_100, "aiff"), encode(JINGLE, 44_100, "aiff")
    track = extract(song[: len(song) // 2] + jingle, FEATURES, LIMITS)
    assert track.duration_seconds == pytest.approx(3.0, abs=0.01)


def test_an_ordinary_file_is_one_stream():
    for kind, make in MADE.items():
        for data in (make(SONG, 44_100), id3v2(2_000) + make(SONG, 44_100) + id3v1()):
            with open_audio(data, LIMITS) as reader:
                assert not isinstance(reader, JoinedReader), kind
                assert reader.note == "", kind
