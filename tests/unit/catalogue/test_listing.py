from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from mgc.catalogue.listing import (
    BATCH_ROWS,
    Skipped,
    audio_batches,
    is_audio,
    list_audio,
    track_id_of,
    with_content_hashes,
)
from mgc.storage.objects import Glimpse, ObjectInfo, ObjectNotFoundError
from mgc.storage.store import Store, content_hash

MP3_FRAME = bytes.fromhex("fffb9064") + bytes(12)
ADTS_FRAME = bytes.fromhex("fff15080") + bytes(12)


def keys_of(folder: Path, skipped: Skipped | None = None) -> list[str]:
    batches = list_audio(Store.open(str(folder)), skipped)
    return [key for batch in batches for key in batch["key"].to_pylist()]


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for key, data in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    return folder


def test_audio_is_known_by_its_extension(tmp_path: Path) -> None:
    names = ["a.WAV", "b.mp3", "c.flac", "d.ogg", "e.m4a", "f.aiff", "g.au", "h.opus", "i.w64", "j.snd", "k.caf"]
    others = ["cover.jpg", "manifest.csv", "notes.txt", "song.mp3.part", "_mgc.json", "part-1.parquet"]
    skipped = Skipped()
    make(tmp_path, dict.fromkeys([*names, *others], b"any"))
    assert keys_of(tmp_path, skipped) == names
    assert skipped.counts == {"not audio": 6}
    assert "cover.jpg" in skipped.examples["not audio"]


def test_hidden_files_are_passed_over_but_an_ellipsis_hides_nothing(tmp_path: Path) -> None:
    files = [".DS_Store", "._song.mp3", ".trash/x.wav", "a/.cache/y.wav", "...And You Will Know Us/z.wav"]
    skipped = Skipped()
    assert keys_of(make(tmp_path, dict.fromkeys(files, b"any")), skipped) == ["...And You Will Know Us/z.wav"]
    assert skipped.counts == {"hidden": 4}


def test_names_without_an_extension_are_judged_by_their_bytes(tmp_path: Path) -> None:
    files = {
        "blues.00000": b"fLaC" + bytes(30),
        "01. Intro": b"OggS" + bytes(30),
        "README": b"This is the collection of songs".ljust(30),
        "empty": b"",
        "tape": MP3_FRAME,
    }
    skipped = Skipped()
    assert keys_of(make(tmp_path, files), skipped) == ["01. Intro", "blues.00000", "tape"]
    assert skipped.examples == {"not audio": ["README", "empty"]}


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"RF64\xff\xff\xff\xffWAVEds64",
        b"FORM\x00\x00\x00\x00AIFFCOMM",
        b"FORM\x00\x00\x00\x00AIFCFVER",
        b"fLaC\x00\x00\x00\x22",
        b"OggS\x00\x02",
        b"ID3\x04\x00",
        b".snd\x00\x00\x00\x18",
        b"caff\x00\x01",
        b"\x00\x00\x00\x20ftypM4A ",
        b"\x00\x00\x00\x20ftypisom",
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb",
        MP3_FRAME,
        ADTS_FRAME,
    ],
)
def test_the_first_bytes_of_audio(head: bytes) -> None:
    assert is_audio(Glimpse(head[:16], None))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        b"\xff\xfe#\x00E\x00X\x00T\x00",  # text in UTF-16
        b"\xff\xd8\xff\xe0\x00\x10JFIF",  # JPEG
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x24\x00\x00\x00WEBPVP8 ",
        b"RIFF\x24\x00\x00\x00AVI LIST",
        b"\x00\x00\x00\x20ftypavif",
        b"PAR1\x15\x04",
        b"%PDF-1.7",
        b"plain text, an",
    ],
)
def test_the_first_bytes_of_other_things(head: bytes) -> None:
    assert not is_audio(Glimpse(head, None))


def test_a_content_type_tells_too() -> None:
    assert is_audio(Glimpse(b"?", "audio/mpeg"))
    assert is_audio(Glimpse(b"?", "Application/OGG; codecs=vorbis"))
    assert not is_audio(Glimpse(b"?", "binary/octet-stream"))


def test_what_vanishes_before_it_is_sniffed_is_skipped() -> None:
    def glimpse(key: str) -> Glimpse:
        raise ObjectNotFoundError(f"'{key}' does not exist")

    skipped = Skipped()
    assert list(audio_batches([ObjectInfo("song", 9, "1", 0.0)], glimpse, skipped)) == []
    assert skipped.examples == {"unreadable": ["song"]}


def test_a_name_that_is_no_utf8_is_skipped_and_shown(tmp_path: Path) -> None:
    (tmp_path / "good.wav").write_bytes(b"any")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")).write_bytes(b"any")
    skipped = Skipped()
    assert keys_of(tmp_path, skipped) == ["good.wav"]
    assert skipped.examples == {"name is not UTF-8": ["caf?.wav"]}


def test_a_track_id_is_a_hash_of_the_key_whatever_the_encoding_of_its_accents() -> None:
    # $ printf blues/blues.00000.wav | b2sum -l 128
    assert track_id_of("blues/blues.00000.wav") == "738c8ff5331e4fb60ed32030af4190b6"
    assert track_id_of(unicodedata.normalize("NFD", "é.wav")) == track_id_of("é.wav")
    assert track_id_of("a/b.wav") != track_id_of("b.wav")


def test_listing_comes_in_batches_that_lose_nothing() -> None:
    def never(key: str) -> Glimpse:
        raise AssertionError(f"{key} has an extension")

    items = (ObjectInfo(f"{number:06d}.wav", number, f"e{number}", 0.0) for number in range(BATCH_ROWS + 1))
    batches = list(audio_batches(items, never, Skipped()))
    assert [batch.num_rows for batch in batches] == [BATCH_ROWS, 1]
    last = batches[1].to_pylist()[0]
    key = f"{BATCH_ROWS:06d}.wav"
    assert last == {
        "track_id": track_id_of(key),
        "key": key,
        "content_id": f"e{BATCH_ROWS}",
        "size_bytes": BATCH_ROWS,
    }


def test_content_ids_by_hash_fall_back_to_the_mark_of_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    store = Store.open(str(make(tmp_path, {"a.wav": b"AAAA", "b.wav": b"BB"})))
    batches = list(list_audio(store))
    gone = store.stat("b.wav").content_id
    (tmp_path / "b.wav").unlink()
    (hashed,) = with_content_hashes(batches, store)
    assert hashed.schema == batches[0].schema
    assert hashed["content_id"].to_pylist() == [content_hash(store, "a.wav", 4), gone]
