"""Files that are no audio are named for what they are."""

from __future__ import annotations

import io
import tarfile

import pytest
from audio_samples import BAD_FILES
from hostile_files import HOSTILE_FILES

from mgc.audio.decode.audio_reader import open_audio
from mgc.config import DecodeConfig
from mgc.errors import TrackCode, TrackError


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("song.mp3"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (HOSTILE_FILES["book.pdf.mp3"].make(), "a PDF document"),
        (HOSTILE_FILES["cover.jpg.mp3"].make(), "a JPEG picture"),
        (HOSTILE_FILES["cover.png.mp3"].make(), "a PNG picture"),
        (HOSTILE_FILES["moving.gif.mp3"].make(), "a GIF picture"),
        (HOSTILE_FILES["archive.zip.wav"].make(), "a ZIP archive"),
        (HOSTILE_FILES["program.mp3"].make(), "a program"),
        (HOSTILE_FILES["error.html.mp3"].make(), "text"),
        (BAD_FILES["utf16.mp3"].make(), "text"),
        (tar(), "a tar archive"),
        (b"MThd\0\0\0\6\0\1\0\2\1\xe0MTrk" + bytes(100), "a MIDI file: notes and no sound"),
        (bytes(5_000), "bytes of 0x00 as far as was looked"),
        (b"\xff" * 5_000, "bytes of 0xFF as far as was looked"),
        ("Müller: „Größe“ 音楽\n".encode() * 100, "text"),
        ("音楽のカタログ".encode() * 100, "text"),
        ("Müller, Größe\n".encode("latin-1") * 100, "text"),
    ],
)
def test_what_is_no_audio_is_named(data: bytes, kind: str) -> None:
    with pytest.raises(TrackError) as caught:
        open_audio(data, DecodeConfig())
    assert caught.value.track_code is TrackCode.NOT_AUDIO
    assert caught.value.message == f"the file is {kind}"


@pytest.mark.parametrize("name", ["sync_words.mp3", "garbage_start.flac"])
def test_noise_is_not_called_text(name: str) -> None:
    with pytest.raises(TrackError, match="neither libsndfile nor FFmpeg finds audio"):
        open_audio(HOSTILE_FILES[name].make(), DecodeConfig())
