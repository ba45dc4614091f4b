"""Fields written into files of every family: read by mutagen's plain door, and everything else as it was."""

from __future__ import annotations

import io
import struct

import av
import mutagen
import pytest
from audio_samples import m4a, music, with_pyav
from mutagen import id3
from mutagen.aiff import AIFF
from mutagen.apev2 import APEv2
from mutagen.flac import FLAC, Picture
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from mgc.audio.decode.ffmpeg import packet_digest
from mgc.audio.decode.sndfile import encode
from mgc.curation.filetags.tag_fields import PredictedLabels, changes_for, read_fields, with_fields
from mgc.curation.filetags.tag_formats import UntaggableError

RATE = 44_100
SOUND = music(1.0, RATE)
PICTURE = bytes(range(256)) * 40
CHANGES = {"GENRE": ("Jazz ♪",), "MGC_BUNDLE": ("0123456789abcdef",), "MGC_TAGS": ("piano|drums",)}


def id3_frames(version: int) -> list[id3.Frame]:
    """Return a picture, comments in two languages, a rating, a private frame and a user text."""
    return [
        id3.TIT2(encoding=1, text=["Título"]),
        id3.APIC(encoding=0, mime="image/png", type=3, desc="", data=PICTURE),
        id3.COMM(encoding=0, lang="eng", desc="", text=["mine"]),
        id3.COMM(encoding=1, lang="deu", desc="x", text=["meins"]),
        id3.POPM(email="me@here", rating=196, count=7),
        id3.PRIV(owner="somebody", data=b"\x00\x01secret"),
        id3.TXXX(encoding=1, desc="MOOD", text=["calm"]),
        id3.TYER(encoding=0, text=["1999"]) if version == 3 else id3.TDRC(encoding=0, text=["1999-05"]),
    ]


def rich_id3(kind: type[mutagen.FileType], data: bytes, version: int) -> bytes:
    """Return a file with those frames."""
    buffer = io.BytesIO(data)
    file = kind(buffer)
    file.add_tags()
    for frame in id3_frames(version):
        file.tags.add(frame)
    buffer.seek(0)
    file.tags.save(buffer, v2_version=version)
    return buffer.getvalue()


def rich_flac() -> bytes:
    buffer = io.BytesIO(encode(SOUND, RATE, "flac"))
    file = FLAC(buffer)
    picture = Picture()
    picture.data, picture.mime, picture.type = PICTURE, "image/png", 3
    file.add_picture(picture)
    file["title"], file["comment"], file["genre"] = "Título", ["one", "two"], "Schlager"
    buffer.seek(0)
    file.save(buffer)
    return buffer.getvalue()


def rich_ogg(kind: type[mutagen.FileType], data: bytes) -> bytes:
    buffer = io.BytesIO(data)
    file = kind(buffer)
    file["title"], file["comment"], file["metadata_block_picture"] = "Título", ["one", "two"], "QUJD"
    buffer.seek(0)
    file.save(buffer)
    return buffer.getvalue()


def rich_m4a() -> bytes:
    buffer = io.BytesIO(m4a(SOUND, RATE))
    file = MP4(buffer)
    file["\xa9nam"], file["\xa9cmt"], file["rtng"] = ["Título"], ["mine"], [4]
    file["covr"] = [MP4Cover(PICTURE, MP4Cover.FORMAT_PNG)]
    file["----:com.apple.iTunes:MOOD"] = [b"calm"]
    buffer.seek(0)
    file.save(buffer)
    return buffer.getvalue()


FILES = {
    "v23.mp3": lambda: rich_id3(MP3, encode(SOUND, RATE, "mp3"), 3),
    "v24.mp3": lambda: rich_id3(MP3, encode(SOUND, RATE, "mp3"), 4),
    "plain.mp3": lambda: encode(SOUND, RATE, "mp3"),
    "rich.wav": lambda: rich_id3(WAVE, encode(SOUND, RATE, "wav"), 3),
    "rich.aiff": lambda: rich_id3(AIFF, encode(SOUND, RATE, "aiff"), 4),
    "rich.flac": rich_flac,
    "rich.ogg": lambda: rich_ogg(OggVorbis, encode(SOUND, RATE, "ogg")),
    "rich.opus": lambda: rich_ogg(OggOpus, encode(music(1.0, 48_000), 48_000, "opus")),
    "rich.m4a": rich_m4a,
    "plain.wma": lambda: with_pyav(SOUND, RATE, "asf", "wmav2"),
    "plain.wv": lambda: with_pyav(SOUND, RATE, "wv", "wavpack"),
    "plain.tta": lambda: with_pyav(SOUND, RATE, "tta", "tta", "s16"),
}


def named(data: bytes, name: str) -> io.BytesIO:
    """Return bytes as an open file of that name."""
    file = io.BytesIO(data)
    file.name = name  # type: ignore[attr-defined]
    return file


def seen(data: bytes, name: str) -> dict[str, str]:
    """Return everything mutagen sees, by its own ordinary reading, but the genre and mgc's fields."""
    file = mutagen.File(named(data, name))
    found = {key: repr(file.tags[key]) for key in (file.tags.keys() if file.tags is not None else ())}
    ours = ("TCON", "GENRE", "\xa9GEN", "WM/GENRE")
    kept = {key: text for key, text in found.items() if key.upper() not in ours and "MGC_" not in key.upper()}
    return kept | {f"picture {number}": repr(one.data) for number, one in enumerate(getattr(file, "pictures", ()))}


def samples(data: bytes) -> bytes:
    """Return all samples."""
    with av.open(io.BytesIO(data)) as container:
        return b"".join(frame.to_ndarray().tobytes() for frame in container.decode(audio=0))


def raw_frames(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the (name, bytes) of the ID3 frames at the start of a file, read without mutagen."""
    version = data[3]
    end = 10 + sum((data[6 + place] & 0x7F) << (21 - 7 * place) for place in range(4))
    at, frames = 10, []
    while at < end and data[at]:
        name, raw = struct.unpack(">4s4s", data[at : at + 8])
        size = (
            int.from_bytes(raw, "big")
            if version == 3
            else sum((raw[place] & 0x7F) << (21 - 7 * place) for place in range(4))
        )
        frames.append((name, data[at : at + 10 + size]))
        at += 10 + size
    return frames


@pytest.mark.parametrize("name", FILES)
def test_fields_are_written_and_nothing_else_changes(name: str) -> None:
    data = FILES[name]()
    changed = with_fields(data, name, CHANGES)
    assert read_fields(named(changed, name)).values == CHANGES
    assert seen(changed, name) == seen(data, name)
    assert samples(changed) == samples(data)
    assert packet_digest(changed) == packet_digest(data)


@pytest.mark.parametrize("name", FILES)
def test_fields_are_taken_out_again(name: str) -> None:
    data = FILES[name]()
    before = read_fields(named(data, name)).values
    without = with_fields(with_fields(data, name, CHANGES), name, {**dict.fromkeys(CHANGES, ()), **before})
    assert read_fields(named(without, name)).values == before
    assert seen(without, name) == seen(data, name)


@pytest.mark.parametrize("name", ["v23.mp3", "v24.mp3"])
def test_the_bytes_of_other_id3_frames_are_carried_over(name: str) -> None:
    data = FILES[name]()
    ours = (b"TCON", b"TXXX")
    kept = [frame for frame in raw_frames(with_fields(data, name, CHANGES)) if frame[0] not in ours]
    assert kept == [frame for frame in raw_frames(data) if frame[0] not in ours]
    assert with_fields(data, name, CHANGES)[3] == data[3], "the version stays"


def test_an_id3v1_tag_and_what_is_before_it_stay() -> None:
    id3v1 = b"TAG" + b"A title that only this tag has".ljust(30, b"\x00") + bytes(94) + b"\x11"
    data = FILES["v24.mp3"]() + b"APETAGEX-like bytes" + id3v1
    changed = with_fields(data, "x.mp3", CHANGES)
    assert changed[-len(id3v1) - 19 :] == data[-len(id3v1) - 19 :]


def test_a_file_whose_only_tag_is_id3v1_is_left_alone() -> None:
    with pytest.raises(UntaggableError, match="ID3v1"):
        with_fields(FILES["plain.mp3"]() + b"TAG" + bytes(125), "x.mp3", CHANGES)


def test_an_older_id3_tag_is_left_alone() -> None:
    data = b"ID3\x02\x00\x00\x00\x00\x00\x10" + b"TT2\x00\x00\x05\x00Song" + bytes(5) + FILES["plain.mp3"]()
    with pytest.raises(UntaggableError, match=r"ID3v2\.2"):
        with_fields(data, "x.mp3", CHANGES)


def with_apev2(data: bytes) -> bytes:
    buffer = io.BytesIO(data)
    tag = APEv2()
    tag["Genre"] = "Jazz"
    tag.save(buffer)
    return buffer.getvalue()


def with_info(data: bytes) -> bytes:
    """Return a WAV with an INFO list whose genre is Jazz."""
    info = b"INFOISFT\x04\0\0\0mgc\0IGNR\x05\0\0\0Jazz\0\0"
    body = data[8:] + b"LIST" + struct.pack("<I", len(info)) + info
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("name", "data"),
    [("x.mp3", with_apev2(FILES["v24.mp3"]())), ("x.wav", with_info(encode(SOUND, RATE, "wav")))],
    ids=["APEv2", "INFO"],
)
def test_a_genre_beside_id3_is_somebodys_and_stays(name: str, data: bytes) -> None:
    found = read_fields(io.BytesIO(data)).values  # type: ignore[arg-type]
    assert found == {"GENRE": ("Jazz",)}
    predicted = PredictedLabels("Rock", 0.9, ["loud"], "b" * 16)
    changes = changes_for(predicted, found)
    assert "GENRE" not in changes
    written = read_fields(io.BytesIO(with_fields(data, name, changes))).values  # type: ignore[arg-type]
    assert written == {"GENRE": ("Jazz",), **changes}
    with pytest.raises(UntaggableError, match="another tag beside its ID3 has a genre"):
        with_fields(data, name, changes_for(predicted, found, replace_genre=True))


@pytest.mark.parametrize("kind", ["wav", "aiff"])
def test_a_recording_through_a_pipe_is_left_alone(kind: str) -> None:
    data = bytearray(encode(SOUND, RATE, kind))
    data[4:8] = b"\xff" * 4
    with pytest.raises(UntaggableError, match="says another length than it has"):
        read_fields(io.BytesIO(data))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "container"), [("x.au", "au"), ("x.caf", "caf")])
def test_a_container_without_fields_says_so(name: str, container: str) -> None:
    with pytest.raises(UntaggableError, match="no tags that mgc writes"):
        read_fields(io.BytesIO(encode(SOUND, RATE, container)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["v24.mp3", "rich.flac", "rich.ogg", "rich.m4a", "rich.wav"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.01, 0.5])
def test_a_broken_file_raises_our_error_or_keeps_its_sound(name: str, kept: float) -> None:
    data = FILES[name]()
    data = data[: int(kept * len(data))]
    try:
        changed = with_fields(data, name, CHANGES)
    except UntaggableError:
        return  # any other error fails the test
    assert packet_digest(changed) == packet_digest(data)
