"""Ten-hour files for the benchmark of memory, made in seconds: packets of a minute of music, sixty times an hour.

FLAC frames carry their own numbers, so FLAC is encoded afresh; the others are written packet by packet.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile

from benchmarks.material import CLIP_SECONDS, SAMPLE_RATE, make_clip
from mgc.audio.decode.sndfile import encode

MINUTE = 60.0


def make_long_files(folder: Path, hours: float, kinds: list[str]) -> dict[str, Path]:
    """Write one file of each kind, 44.1 kHz stereo; return kind → path."""
    folder.mkdir(parents=True)
    minute = np.concatenate([make_clip(seed) for seed in range(round(MINUTE / CLIP_SECONDS))])
    made = {}
    for kind in kinds:
        made[kind] = folder / f"{kind.replace(' ', '-')}.{KINDS[kind][0]}"
        KINDS[kind][1](minute, made[kind], round(hours * 60))
    return made


def _repeated(
    container: str, encoded: Callable[[np.ndarray], bytes], **options: str
) -> Callable[[np.ndarray, Path, int], None]:
    def write(minute: np.ndarray, path: Path, times: int) -> None:
        with (
            av.open(io.BytesIO(encoded(minute))) as source,
            av.open(str(path), "w", format=container, options=options) as sink,
        ):
            stream = source.streams.audio[0]
            packets = [(bytes(packet), packet.duration) for packet in source.demux(stream) if packet.size]
            target = sink.add_stream_from_template(stream)
            position = 0
            for _ in range(times):
                for data, duration in packets:
                    packet = av.Packet(data)
                    packet.stream, packet.time_base = target, stream.time_base  # type: ignore[assignment]
                    packet.pts = packet.dts = position
                    packet.duration = duration
                    position += duration  # type: ignore[operator]
                    sink.mux(packet)

    return write


def _through_libsndfile(file_format: str, **options: float) -> Callable[[np.ndarray, Path, int], None]:
    def write(minute: np.ndarray, path: Path, times: int) -> None:
        with soundfile.SoundFile(
            path, "w", SAMPLE_RATE, minute.shape[1], "PCM_16", format=file_format, **options
        ) as file:
            for _ in range(times):
                file.write(minute)

    return write


def _mp3(bitrate_mode: str) -> Callable[[np.ndarray], bytes]:
    def encoded(minute: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        with soundfile.SoundFile(
            buffer,
            "w",
            SAMPLE_RATE,
            2,
            "MPEG_LAYER_III",
            format="MP3",
            bitrate_mode=bitrate_mode,
            compression_level=0.4,
        ) as file:
            file.write(minute)
        return buffer.getvalue()

    return encoded


def _aac(minute: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ipod") as sink:
        stream = sink.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
        stream.codec_context.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(minute.T), format="fltp", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return buffer.getvalue()


KINDS: dict[str, tuple[str, Callable[[np.ndarray, Path, int], None]]] = {
    "mp3": ("mp3", _repeated("mp3", _mp3("CONSTANT"))),
    "mp3 without header": ("mp3", _repeated("mp3", _mp3("VARIABLE"), write_xing="0")),
    "ogg": ("ogg", _repeated("ogg", lambda minute: encode(minute, SAMPLE_RATE, "ogg"))),
    "m4a": ("m4a", _repeated("ipod", _aac)),
    "flac": ("flac", _through_libsndfile("FLAC", compression_level=0.0)),
    "wav": ("w64", _through_libsndfile("W64")),
}
"""Kind → ending, and what writes it. Ten hours of stereo WAV pass 4 GiB: W64 is WAV with longer fields."""
