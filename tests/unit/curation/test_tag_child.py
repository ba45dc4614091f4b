"""Untrusted files in the child that reads and writes tags: each costs itself, and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audio_samples import music
from curation_makers import tagged_folder
from typer.testing import CliRunner

from mgc.audio.decode.sndfile import encode
from mgc.audio.decode.source import RemoteBytes
from mgc.cli.app import build_app
from mgc.config import DecodeConfig
from mgc.curation.filetags.tag_child import SupervisedTagEditor
from mgc.curation.filetags.tag_fields import with_fields
from mgc.curation.filetags.tag_formats import UntaggableError
from mgc.errors import Stage, TrackCode, TrackError

SONG = encode(music(0.5, 22_050), 22_050, "mp3")
CHANGES = {"GENRE": ("jazz",), "MGC_GENRE": ("jazz",)}
LIMITS = DecodeConfig(time_limit_seconds=4.0, memory_limit_bytes=256 << 20)


@pytest.fixture(scope="module")
def editor() -> Iterator[SupervisedTagEditor]:
    with SupervisedTagEditor(LIMITS) as editor:
        yield editor


def remote(data: bytes) -> RemoteBytes:
    return RemoteBytes(len(data), lambda start, stop: data[start:stop])


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3(*frames: bytes) -> bytes:
    """Return a song whose ID3v2.4 tag has these frames."""
    body = b"".join(frames)
    return b"ID3\x04\x00\x00" + _syncsafe(len(body)) + body + SONG


def unpacking_to(size: int, filling: bytes) -> bytes:
    """Return a TXXX frame, compressed, whose text unpacks to so many bytes."""
    packer = zlib.compressobj(9)
    piece = filling * ((1 << 20) // len(filling))
    packed = packer.compress(b"\x03") + b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()
    data = struct.pack(">I", 0x7F7F7F7F) + packed
    return b"TXXX" + _syncsafe(len(data)) + b"\x00\x09" + data


BOMBS: dict[str, Callable[[], bytes]] = {
    "text": lambda: id3(unpacking_to(400 << 20, b"a")),
    "many values": lambda: id3(unpacking_to(1 << 26, b"a\x00")),
    "many frames": lambda: id3(*[unpacking_to(1 << 24, b"ab")] * 100),
}


@pytest.mark.parametrize("kind", ["text", *(pytest.param(kind, marks=pytest.mark.slow) for kind in list(BOMBS)[1:])])
def test_a_tag_that_unpacks_to_gigabytes_costs_one_file(editor: SupervisedTagEditor, kind: str) -> None:
    bomb = BOMBS[kind]()
    assert len(bomb) < 4 << 20
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    with pytest.raises(UntaggableError):
        editor.read_fields(remote(bomb))
    with pytest.raises(UntaggableError):
        editor.with_fields(bomb, "x.mp3", CHANGES)
    assert time.monotonic() - begun < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own < 64 << 10, "KiB"
    assert editor.with_fields(SONG, "x.mp3", CHANGES) == with_fields(SONG, "x.mp3", CHANGES)


def test_a_genre_of_megabytes_is_not_passed_on(editor: SupervisedTagEditor) -> None:
    text = b"\x03" + b"a" * (2 << 20)
    with pytest.raises(UntaggableError, match="longer than any genre"):
        editor.read_fields(remote(id3(b"TCON" + _syncsafe(len(text)) + b"\x00\x00" + text)))


def test_a_parser_that_hangs_or_crashes_costs_one_file(editor: SupervisedTagEditor) -> None:
    def reader(number: signal.Signals) -> RemoteBytes:
        def read(start: int, stop: int) -> bytes:
            pid = editor._child.child_pid
            assert pid is not None
            os.kill(pid, number)
            return SONG[start:stop]

        return RemoteBytes(len(SONG), read)

    editor.close()  # what had answered before would be tried once more
    with pytest.raises(UntaggableError, match=r"within the limits: the decoder died \(signal 11\)"):
        editor.read_fields(reader(signal.SIGSEGV))
    with pytest.raises(UntaggableError, match="no answer within 4 s"):
        editor.read_fields(reader(signal.SIGSTOP))
    assert editor.read_fields(remote(SONG)) == {}


def test_bytes_that_cannot_be_had_are_no_fault_of_the_tags(editor: SupervisedTagEditor) -> None:
    def read(start: int, stop: int) -> bytes:
        raise TrackError(TrackCode.NOT_FOUND, Stage.FETCH, "it was deleted")

    with pytest.raises(TrackError, match="it was deleted"):
        editor.read_fields(RemoteBytes(1_000, read))


def test_the_command_goes_on_past_a_bomb(tmp_path: Path) -> None:
    tagged = tagged_folder(tmp_path, {"bomb.mp3": id3(unpacking_to(400 << 20, b"a")), "song.mp3": SONG})
    command = ["write-tags", str(tagged.catalogue), "-p", str(tagged.predictions), "--where", "file", "--apply"]
    settings = ["--set", "decode.memory_limit_bytes=268435456", "--set", "decode.time_limit_seconds=5"]
    before = (tagged.music / "bomb.mp3").read_bytes()
    done = CliRunner().invoke(build_app("write-tags"), [*command, *settings])
    assert done.exit_code == 0, done.output
    assert "left alone: its tags cannot be read" in done.output
    assert (tagged.music / "bomb.mp3").read_bytes() == before
    assert (tagged.music / "song.mp3").read_bytes() != SONG
