"""Audio for the tests, all of it made here: good files of every kind, and one bad file for each way to be bad."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt

from mgc.audio.decode.sndfile import encode
from mgc.errors import TrackCode

Samples = npt.NDArray[np.float32]

MPEG1_LAYER3_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)


def music(seconds: float, sample_rate: int, channels: int = 1, seed: int = 0) -> Samples:
    """Return a chord of slow vibrato over soft noise, (n,) for one channel, else (n, channels).

    Aperiodic, so that a shift by a few samples shows; every channel differs; peaks stay below 0.9.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    columns = []
    for channel in range(channels):
        chord = sum(
            np.sin(2 * np.pi * (hz * t + 0.2 * np.sin(2 * np.pi * (0.3 + 0.1 * channel) * t)))
            for hz in (110.0 * (1 + channel), 277.2, 659.3)
        )
        swell = 0.6 + 0.4 * np.sin(2 * np.pi * 0.37 * t + channel)
        columns.append(0.2 * chord * swell + 0.02 * rng.standard_normal(t.size))
    samples = np.stack(columns, axis=1).astype(np.float32)
    return samples[:, 0] if channels == 1 else samples


def with_pyav(samples: Samples, sample_rate: int, container: str, codec: str, sample_format: str = "fltp") -> bytes:
    """Return mono or stereo samples encoded by FFmpeg, for containers that libsndfile does not write."""
    layout = "mono" if samples.ndim == 1 else "stereo"
    planes = np.ascontiguousarray(np.atleast_2d(samples.T))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=sample_rate, layout=layout)
        context = stream.codec_context
        context.format, context.bit_rate = sample_format, 128_000
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate = sample_rate
        resampler = av.AudioResampler(
            format=context.format, layout=layout, rate=sample_rate, frame_size=context.frame_size or 1024
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def m4a(samples: Samples, sample_rate: int) -> bytes:
    """Return mono or stereo samples as AAC in MP4."""
    return with_pyav(samples, sample_rate, "ipod", "aac")


def untagged_mp3(samples: Samples, sample_rate: int = 44_100) -> bytes:
    """Return an MP3 without the Xing/Info frame that tells its length (MPEG-1 sample rates only)."""
    data = encode(samples, sample_rate, "mp3")
    kbps = MPEG1_LAYER3_KBPS[data[2] >> 4]
    padding = data[2] >> 1 & 1
    return data[144_000 * kbps // sample_rate + padding :]


def id3v2(size: int) -> bytes:
    """Return an ID3v2 tag with a picture of `size` bytes, sync-like bytes in it included."""
    picture = np.random.default_rng(0).bytes(size)
    return b"ID3\x04\x00\x00" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + picture


def id3v1() -> bytes:
    """Return the tag of 128 bytes that old players want at the end of an MP3."""
    return b"TAG" + b"A title".ljust(125, b"\0")


def ape_tag() -> bytes:
    """Return an APEv2 tag of one item, as ReplayGain writers append it."""
    item = (5).to_bytes(4, "little") + bytes(4) + b"REPLAYGAIN\0-6 dB"
    frame = b"APETAGEX" + (2_000).to_bytes(4, "little") + (len(item) + 32).to_bytes(4, "little")
    return item + frame + (1).to_bytes(4, "little") + bytes(12)


def flac_claiming(n_frames: int, data: bytes) -> bytes:
    """Return a FLAC file whose header claims `n_frames` (36 bits of STREAMINFO)."""
    changed = bytearray(data)
    changed[21] = changed[21] & 0xF0 | n_frames >> 32
    changed[22:26] = (n_frames & 0xFFFF_FFFF).to_bytes(4, "big")
    return bytes(changed)


def wav_claiming(n_bytes: int, data: bytes) -> bytes:
    """Return a WAV file with a 44-byte header whose data chunk claims `n_bytes`."""
    return data[:40] + n_bytes.to_bytes(4, "little") + data[44:]


def damaged(data: bytes, at: float, n_bytes: int) -> bytes:
    """Return the file with `n_bytes` of noise written over it at a fraction of its length."""
    start = int(at * len(data))
    return data[:start] + np.random.default_rng(0).bytes(n_bytes) + data[start + n_bytes :]


def short_wav() -> bytes:
    """Return half a second of 16-bit mono WAV at 22,050 Hz."""
    return encode(music(0.5, 22_050), 22_050, "wav")


def truncated_flac(seconds: float = 6.0, kept: float = 0.5, sample_rate: int = 22_050) -> bytes:
    """Return the first part of a FLAC file, cut by bytes."""
    data = encode(music(seconds, sample_rate), sample_rate, "flac")
    return data[: int(kept * len(data))]


def headless_flac() -> bytes:
    """Return a FLAC file cut before its first block of samples."""
    return encode(music(1.0, 22_050), 22_050, "flac")[:100]


def zero_second_wav() -> bytes:
    """Return a valid WAV file of no samples."""
    return encode(np.zeros(0, dtype=np.float32), 22_050, "wav")


def wav_with(value: float) -> bytes:
    """Return a float WAV file in which three samples are `value`."""
    samples = music(1.0, 22_050)
    samples[1_000:1_003] = value
    return encode(samples, 22_050, "wav", subtype="FLOAT")


def eight_khz_mono() -> bytes:
    """Return two seconds of telephone-rate WAV."""
    return encode(music(2.0, 8_000), 8_000, "wav")


def six_channels_192_khz() -> bytes:
    """Return one second of 24-bit surround WAV."""
    return encode(music(1.0, 192_000, channels=6), 192_000, "wav", subtype="PCM_24")


def too_many_channels() -> bytes:
    """Return a WAV file of 65 channels, one more than the default limit."""
    return encode(np.zeros((100, 65), dtype=np.float32), 22_050, "wav")


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be used: how to make it, and the code it must get."""

    make: Callable[[], bytes]
    code: TrackCode


BAD_FILES = {
    "empty.wav": BadFile(lambda: b"", TrackCode.EMPTY_FILE),
    "text.mp3": BadFile(lambda: b"I am not an MP3 at all.\n" * 200, TrackCode.NOT_AUDIO),
    "playlist.mp3": BadFile(lambda: b"#EXTM3U\n#EXTINF:9,\nhttp://localhost/x.mp3\n", TrackCode.NOT_AUDIO),
    "concat.wav": BadFile(lambda: b"ffconcat version 1.0\nfile /etc/hostname\n", TrackCode.NOT_AUDIO),
    "credits.ogg": BadFile(lambda: b"Creative Commons Attribution 4.0\n" * 9, TrackCode.NOT_AUDIO),
    "utf16.mp3": BadFile(lambda: ("not an MP3, in UTF-16\n" * 99).encode("utf-16"), TrackCode.NOT_AUDIO),
    "noise.flac": BadFile(lambda: np.random.default_rng(1).bytes(20_000), TrackCode.NOT_AUDIO),
    "picture.mp3": BadFile(lambda: b"\x89PNG\r\n\x1a\n" + bytes(4_000), TrackCode.NOT_AUDIO),
    "headless.flac": BadFile(headless_flac, TrackCode.DECODE_FAILED),
    "cut_header.wav": BadFile(lambda: short_wav()[:20], TrackCode.DECODE_FAILED),
    "zero_seconds.wav": BadFile(zero_second_wav, TrackCode.NO_SAMPLES),
    "nan.wav": BadFile(lambda: wav_with(np.nan), TrackCode.NOT_FINITE),
    "infinite.wav": BadFile(lambda: wav_with(np.inf), TrackCode.NOT_FINITE),
    "huge.wav": BadFile(lambda: wav_with(1e30), TrackCode.NOT_FINITE),
    "65_channels.wav": BadFile(too_many_channels, TrackCode.UNSUPPORTED_LAYOUT),
    "100_hz.wav": BadFile(lambda: encode(music(9.0, 100), 100, "wav"), TrackCode.UNSUPPORTED_LAYOUT),
}
"""By a name that lies where the issue's examples do."""
