"""Files that are made to do harm, or look as if: each with the codes that are an acceptable answer to it.

They go through the supervised child only: the first of them hangs libsndfile for ever.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
from audio_samples import (
    ape_tag,
    flac_claiming,
    id3v1,
    id3v2,
    m4a,
    music,
    short_wav,
    untagged_mp3,
    wav_claiming,
    wav_with,
)

from mgc.audio.decode.flac import _crc
from mgc.audio.decode.sndfile import encode
from mgc.errors import TrackCode

RATE = 22_050


def hanging_wav() -> bytes:
    """Return 157 bytes in whose header libsndfile 1.2.2 goes round for ever (libsndfile issue #1118).

    An item of a LIST/INFO chunk has a size of -8: skipping it goes back to its own beginning. The published file
    is not in the issue's text; this one does the same.
    """
    item = b"IZZZ" + struct.pack("<i", -8) + bytes(20)
    notes = b"LIST" + struct.pack("<I", 32) + b"INFO" + item
    body = b"WAVE" + _format_chunk(1, RATE) + notes + b"data" + struct.pack("<I", 73) + bytes(73)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _format_chunk(channels: int, rate: int, bits: int = 16, kind: int = 1) -> bytes:
    block = max(1, channels * bits // 8) & 0xFFFF
    body = struct.pack("<HHIIHH", kind, channels, rate & 0xFFFF_FFFF, rate * block & 0xFFFF_FFFF, block, bits)
    return b"fmt " + struct.pack("<I", 16) + body


def wav_of(channels: int, rate: int, bits: int = 16, kind: int = 1) -> bytes:
    """Return a WAV whose header says so, over 20,000 bytes of noise."""
    data = np.random.default_rng(0).bytes(20_000)
    body = b"WAVE" + _format_chunk(channels, rate, bits, kind) + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def silence_bomb(hours: int) -> bytes:
    """Return a FLAC of some 50 kB an hour that decodes to 635 MB an hour of stereo silence, its length not told.

    Each frame is two constant subframes of 65,535 samples (RFC 9639, 9.2.3).
    """
    frames = [_silent_frame(number) for number in range(hours * 3_600 * 44_100 // 65_535)]
    stream_info = (
        struct.pack(">HH", 65_535, 65_535) + bytes(6) + (44_100 << 44 | 1 << 41 | 15 << 36).to_bytes(8, "big")
    )
    return b"fLaC" + b"\x80\0\0\x22" + stream_info + bytes(16) + b"".join(frames)


def _silent_frame(number: int) -> bytes:
    coded = chr(number).encode("utf-8", "surrogatepass")
    header = b"\xff\xf8\x79\x18" + coded + struct.pack(">H", 65_534)
    header += bytes([_crc(header, 8, 0x07)])
    frame = header + bytes(6)
    return frame + _crc(frame, 16, 0x8005).to_bytes(2, "big")


def w64_claiming_2_to_the_40() -> bytes:
    """Return a W64 file of half a second whose data are said to be 2^40 samples long."""
    data = bytearray(encode(music(0.5, RATE), RATE, "w64"))
    at = data.rfind(b"data\xf3\xac\xd3\x11")  # the GUID of the chunk
    data[at + 16 : at + 24] = (2**41 + 24).to_bytes(8, "little")
    return bytes(data)


def zipped(data: bytes) -> bytes:
    """Return a zip archive that holds a WAV."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("song.wav", data)
    return buffer.getvalue()


def tarred(data: bytes) -> bytes:
    """Return a tar archive that holds a WAV."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("song.wav")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def picture(codec: str, container: str) -> bytes:
    """Return a picture as a camera or a browser stores it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=1, width=64, height=64)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 99, np.uint8), format="rgb24")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def pdf() -> bytes:
    """Return the beginnings of a PDF, with binary in it."""
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + np.random.default_rng(0).bytes(
        9_000
    )


def playlist(target: str) -> bytes:
    """Return an HLS playlist that would have a player open `target`."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n".encode()


def reference_movie(target: str) -> bytes:
    """Return an MP4 whose samples are said to be in another file (a data reference that is not self-contained)."""
    data = bytearray(m4a(music(1.0, 44_100), 44_100))
    at = data.find(b"url ")
    assert at > 0
    data[at + 4 : at + 8] = bytes(4)  # the flag "in this file" is taken away
    return bytes(data).replace(b"url ", b"alis", 1) + target.encode()


def deep_boxes(depth: int = 20_000) -> bytes:
    """Return MP4 boxes inside boxes, a stack's length deep."""
    inner = b""
    for _ in range(depth):
        inner = struct.pack(">I4s", len(inner) + 8, b"moov") + inner if len(inner) < 200_000 else inner
    return struct.pack(">I4s4sI", 16, b"ftyp", b"M4A ", 0) + inner


def huge_atom() -> bytes:
    """Return an MP4 whose sample table claims four thousand million entries."""
    data = bytearray(m4a(music(1.0, 44_100), 44_100))
    at = data.find(b"stsz")
    data[at + 12 : at + 16] = b"\xff\xff\xff\xf0"
    return bytes(data)


def huge_matroska_block() -> bytes:
    """Return a Matroska file one of whose elements claims 2^56 bytes."""
    return (
        bytes.fromhex("1A45DFA3A3428681014287810142F7810142F2810442F381084282886D6174726F736B6142878104")
        + bytes.fromhex("18538067" + "01FFFFFFFFFFFFFE")
        + np.random.default_rng(0).bytes(4_000)
    )


@dataclass(frozen=True)
class HostileFile:
    """How to make it, and what comes of it.

    Parameters
    ----------
    code
        Of its row; None for a track that is decoded.
    seconds
        The length found where it is decoded.
    """

    make: Callable[[], bytes]
    code: TrackCode | None
    seconds: float | None = None


HOSTILE_FILES = {
    "hangs_sf_open.wav": HostileFile(hanging_wav, TrackCode.DECODE_TIMEOUT),
    "claims_2_to_the_36.flac": HostileFile(
        lambda: flac_claiming(2**36 - 1, encode(music(2.0, RATE), RATE, "flac")), None, 2.0
    ),
    "claims_2_to_the_40.w64": HostileFile(w64_claiming_2_to_the_40, None, 0.5),
    "claims_2_to_the_31.wav": HostileFile(lambda: wav_claiming(0x7FFF_FFFE, short_wav()), None, 0.5),
    "claims_nothing.wav": HostileFile(lambda: wav_claiming(0, short_wav()), None, 0.5),
    "claims_one_sample.flac": HostileFile(
        lambda: flac_claiming(1, encode(music(2.0, RATE), RATE, "flac")), None, 2.0
    ),
    "nine_hours_of_silence.flac": HostileFile(lambda: silence_bomb(9), TrackCode.SILENT),
    "silence_and_a_tail.flac": HostileFile(lambda: silence_bomb(9) + bytes(100_000), TrackCode.DECODE_TIMEOUT),
    "huge_sample_table.m4a": HostileFile(huge_atom, TrackCode.DECODE_FAILED),
    "huge_element.mka": HostileFile(huge_matroska_block, TrackCode.NOT_AUDIO),
    "deep_boxes.m4a": HostileFile(deep_boxes, TrackCode.DECODE_FAILED),
    "nan.wav": HostileFile(lambda: wav_with(np.nan), TrackCode.NOT_FINITE),
    "infinite.wav": HostileFile(lambda: wav_with(-np.inf), TrackCode.NOT_FINITE),
    "huge_samples.wav": HostileFile(lambda: wav_with(1e38), TrackCode.NOT_FINITE),
    "loud_samples.wav": HostileFile(lambda: wav_with(1e4), None, 1.0),
    "no_channels.wav": HostileFile(lambda: wav_of(0, RATE), TrackCode.DECODE_FAILED),
    "65535_channels.wav": HostileFile(lambda: wav_of(65_535, RATE), TrackCode.DECODE_FAILED),
    "no_rate.wav": HostileFile(lambda: wav_of(1, 0), TrackCode.DECODE_FAILED),
    "a_thousand_million_hz.wav": HostileFile(lambda: wav_of(1, 10**9), TrackCode.UNSUPPORTED_LAYOUT),
    "minus_one_hz.wav": HostileFile(lambda: wav_of(2, 0xFFFF_FFFF), TrackCode.DECODE_FAILED),
    "one_bit.wav": HostileFile(lambda: wav_of(1, RATE, bits=1), None, 20_000 / RATE),
    "255_bits.wav": HostileFile(lambda: wav_of(1, RATE, bits=255), TrackCode.DECODE_FAILED),
    "unknown_codec.wav": HostileFile(lambda: wav_of(1, RATE, kind=0x7777), TrackCode.DECODE_FAILED),
    "archive.zip.wav": HostileFile(lambda: zipped(short_wav()), TrackCode.NOT_AUDIO),
    "archive.tar.wav": HostileFile(lambda: tarred(short_wav()), TrackCode.NOT_AUDIO),
    "book.pdf.mp3": HostileFile(pdf, TrackCode.NOT_AUDIO),
    "cover.jpg.mp3": HostileFile(lambda: picture("mjpeg", "mjpeg"), TrackCode.NOT_AUDIO),
    "cover.png.mp3": HostileFile(lambda: picture("png", "image2pipe"), TrackCode.NOT_AUDIO),
    "moving.gif.mp3": HostileFile(lambda: b"GIF89a" + bytes(2_000), TrackCode.NOT_AUDIO),
    "error.html.mp3": HostileFile(
        lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 20, TrackCode.NOT_AUDIO
    ),
    "access_denied.xml.mp3": HostileFile(
        lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", TrackCode.NOT_AUDIO
    ),
    "program.mp3": HostileFile(lambda: b"\x7fELF\x02\x01\x01" + bytes(9_000), TrackCode.NOT_AUDIO),
    "zeros.mp3": HostileFile(lambda: bytes(100_000), TrackCode.NOT_AUDIO),
    "ones.mp3": HostileFile(lambda: b"\xff" * 100_000, TrackCode.NOT_AUDIO),
    "sync_words.mp3": HostileFile(lambda: b"\xff\xfb\x90\x64" * 20_000, TrackCode.NOT_AUDIO),
    "only_tags.mp3": HostileFile(lambda: id3v2(50_000) + ape_tag() + id3v1(), TrackCode.NOT_AUDIO),
    "tag_longer_than_file.mp3": HostileFile(
        lambda: b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(900), TrackCode.NOT_AUDIO
    ),
    "sparse_start.mp3": HostileFile(lambda: bytes(50_000) + untagged_mp3(music(4.0, 44_100)), None, 4.05),
    "garbage_start.flac": HostileFile(
        lambda: np.random.default_rng(3).bytes(5_000) + encode(music(2.0, RATE), RATE, "flac"), TrackCode.NOT_AUDIO
    ),
    "cut.wav": HostileFile(lambda: short_wav()[:20_000], None),
    "cut.flac": HostileFile(lambda: encode(music(4.0, RATE), RATE, "flac")[:40_000], None),
    "cut.mp3": HostileFile(lambda: encode(music(4.0, 44_100), 44_100, "mp3")[:20_000], None),
    "cut.ogg": HostileFile(lambda: encode(music(4.0, 44_100), 44_100, "ogg")[:20_000], None),
    "cut.m4a": HostileFile(lambda: m4a(music(4.0, 44_100), 44_100)[:20_000], TrackCode.DECODE_FAILED),
}
"""By a name whose ending lies where a name can."""


def nested_files(target: str) -> dict[str, bytes]:
    """Return files that would have a careless reader open `target`, a path or a URL."""
    return {
        "playlist.m3u8": playlist(target),
        "playlist.m3u": f"#EXTM3U\n#EXTINF:9,a song\n{target}\n".encode(),
        "playlist.pls": f"[playlist]\nFile1={target}\nNumberOfEntries=1\n".encode(),
        "sheet.cue": f'FILE "{target}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n'.encode(),
        "concat.wav": f"ffconcat version 1.0\nfile '{target}'\n".encode(),
        "session.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\na=control:{target}\nm=audio 9 RTP/AVP 0\n".encode(),
        "manifest.mpd": f'<?xml version="1.0"?><MPD><BaseURL>{target}</BaseURL></MPD>'.encode(),
        "smil.mp3": f'<smil><body><audio src="{target}"/></body></smil>'.encode(),
        "movie.m4a": reference_movie(target),
    }
