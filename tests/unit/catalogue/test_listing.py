from __future__ import annotations

import errno
import hashlib
import os
import re
import unicodedata
from pathlib import Path

import pytest

from mgc.catalogue.listing import (
    BATCH_ROWS,
    Exclusion,
    Skipped,
    audio_batches,
    is_audio,
    list_audio,
    track_id_of,
    with_content_hashes,
)
from mgc.config import CatalogueConfig
from mgc.config.job_settings import NO_MUSIC
from mgc.errors import StorageError
from mgc.storage.objects import Glimpse, ObjectInfo, ObjectNotFoundError
from mgc.storage.store import Store, content_hash, split_uri

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
    ("key", "excluded"),
    [
        ("#recycle/", True),
        ("#recycle/rock/deleted.mp3", True),
        ("rock/@eaDir/a.mp3", True),
        ("$RECYCLE.BIN/S-1-5-21/$R1.mp3", True),
        ("__MACOSX/._a.mp3", True),
        ("lost+found/", True),
        ("lost+found", False),  # a file, and no folder
        ("ZZ Top/Recycler/a.mp3", False),
        (".Trash-1000/files/a.mp3", True),
        (".snapshots/", True),
        (".git/annex/objects/a.mp3", True),
        (".38 Special/Hold On.mp3", False),
        (".hidden band/a.mp3", False),
        ("...And You Will Know Us/z.wav", False),
        ("rock/._My Song.mp3", True),
        ("rock/.a b.mp3", True),
        ("rock/.38 Special - Hold On.mp3", False),
    ],
)
def test_what_is_excluded_by_default(key: str, excluded: bool) -> None:
    assert Exclusion(NO_MUSIC)(key) is excluded


@pytest.mark.parametrize(
    ("globs", "key", "excluded"),
    [
        ([], ".cache/a.mp3", False),
        (["*.wav"], "a/b.wav", True),
        (["*.wav", "!keep*"], "a/keep.wav", False),
        (["Podcasts"], "a/Podcasts/b.mp3", True),
        (["/Podcasts/*"], "Podcasts/b.mp3", True),
        (["Podcasts/*"], "a/Podcasts/b.mp3", False),
        (["**/live/*"], "a/live/b.mp3", False),  # the pattern is live/*, from the root on
        (["*/live/"], "a/live/b.mp3", True),
        (["[!a]*/"], "b/x.mp3", True),
        (["[!a]*/"], "a/x.mp3", False),
        ([*NO_MUSIC, "!.moe/"], ".moe/a.mp3", False),
    ],
)
def test_exclusion_by_globs(globs: list[str], key: str, excluded: bool) -> None:
    assert Exclusion(globs)(key) is excluded


def test_each_excluded_folder_is_named_and_not_entered(tmp_path: Path) -> None:
    files = [
        "#recycle/a.mp3",
        "#recycle/b/c.mp3",
        ".snapshots/d.mp3",
        ".38 Special/e.mp3",
        "rock/f.mp3",
        "rock/g.txt",
    ]
    skipped = Skipped()
    assert keys_of(make(tmp_path, dict.fromkeys(files, b"any")), skipped) == [".38 Special/e.mp3", "rock/f.mp3"]
    assert skipped.examples == {"excluded": ["#recycle/"], "hidden": [".snapshots/"], "not audio": ["rock/g.txt"]}


def test_what_is_no_audio_is_counted_by_extension(tmp_path: Path) -> None:
    names = ["a.txt", "b.TXT", "c.jpg", "changelog.Debian.gz", "README", "d.part"]
    skipped = Skipped()
    assert keys_of(make(tmp_path, dict.fromkeys(names, b"any")), skipped) == []
    assert skipped.extensions == {"txt": 2, "jpg": 1, "gz": 1, "": 1, "part": 1}
    assert skipped.by_extension(2) == ".txt 2, without extension 1, 3 more"


def test_what_has_no_known_extension_is_judged_by_its_bytes(tmp_path: Path) -> None:
    files = {
        "Dr.Dre": MP3_FRAME,
        "track.8f3a2b1c": b"ID3\x04" + bytes(20),
        "film.xyz": bytes.fromhex("1a45dfa3") + bytes(20),
        "note.xyz": b"This is text.",
        "song.ts": b"export const a = 1;",
    }
    skipped = Skipped()
    assert keys_of(make(tmp_path, files), skipped) == ["Dr.Dre", "film.xyz", "track.8f3a2b1c"]
    assert skipped.extensions == {"xyz": 1, "ts": 1}


def test_music_that_nothing_here_plays_is_a_track_and_named(tmp_path: Path) -> None:
    protracker = bytes(1_080) + b"M.K." + bytes(99)
    files = {
        "a.it": b"IMPM" + bytes(99),
        "b.xm": b"Extended Module: song" + bytes(99),
        "c.s3m": bytes(44) + b"SCRM" + bytes(99),
        "d.mod": protracker,
        "mod.d": protracker,
        "e.mid": b"MThd\0\0\0\6",
        "f.xm": bytes(range(256)),  # it claims to be one
        "go.mod": b"module example.org/x\n",
        "g.it": b"",
        "h.mod": MP3_FRAME,
    }
    skipped = Skipped()
    tracks = ["a.it", "b.xm", "c.s3m", "d.mod", "e.mid", "f.xm", "h.mod", "mod.d"]
    assert keys_of(make(tmp_path, files), skipped) == tracks
    assert skipped.doubtful.counts == {"music that nothing here plays": 7}
    assert skipped.doubtful.examples["music that nothing here plays"] == tracks[:5]
    assert skipped.examples == {"not audio": ["g.it", "go.mod"]}


def broken_tree(folder: Path) -> Path:
    make(folder, {"a/good.mp3": b"any", "b/x.mp3": b"any", "c/good.mp3": b"any"})
    for name, target in [
        ("annex.mp3", ".git/annex/1"),
        ("loop.mp3", "loop.mp3"),
        ("loop.txt", "loop.txt"),
        ("away", "away"),
    ]:
        (folder / "a" / name).symlink_to(target)
    return folder


def test_what_cannot_be_read_is_a_track_where_it_claims_to_be_music_else_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "b/")
    skipped = Skipped()
    tracks = ["a/annex.mp3", "a/good.mp3", "a/loop.mp3", "c/good.mp3"]
    assert keys_of(broken_tree(tmp_path), skipped) == tracks
    assert skipped.examples == {"unreadable": ["a/away", "a/loop.txt"], "folder: no permission": ["b/"]}
    assert skipped.doubtful.examples == {"cannot be reached": ["a/annex.mp3", "a/loop.mp3"]}


@pytest.mark.parametrize("broken", ["a/annex.mp3", "a/loop.txt", "b/"])
def test_a_strict_listing_stops_at_what_cannot_be_read(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_tree(tmp_path)
    for link in (
        path for path in sorted((tmp_path / "a").iterdir()) if path.is_symlink() and path.name not in broken
    ):
        link.unlink()
    if broken == "b/":
        refuse(monkeypatch, "b/")
    with pytest.raises(StorageError, match=re.escape(broken)):
        list(list_audio(Store.open(str(tmp_path)), config=CatalogueConfig(strict=True)))
    assert list(list_audio(Store.open(str(tmp_path)), config=CatalogueConfig()))


def refuse(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """Let a folder be one that its user may not list: root may list all."""
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


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


def test_a_name_that_is_no_utf8_is_a_row_whose_uri_names_its_bytes(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    (tmp_path / "good.wav").write_bytes(b"any")
    Path(os.fsdecode(folder + b"/caf\xe9 \x96 100%.wav")).write_bytes(b"odd")
    store = Store.open(str(tmp_path))
    (batch,) = with_content_hashes(list_audio(store), store)
    odd, good = batch.to_pylist()
    assert (odd["key"], good["key"], good["uri"]) == ("café – 100%.wav", "good.wav", None)
    assert odd["track_id"] == track_id_of("café – 100%.wav"), "a manifest may name it as it looks"
    assert odd["uri"] == f"file://{tmp_path}/caf%E9%20%96%20100%25.wav"
    place = split_uri(odd["uri"])
    assert Store(place.root).read_bytes(place.key) == b"odd"
    assert odd["content_id"] == "blake2b:" + hashlib.blake2b(b"odd", digest_size=16).hexdigest()


def test_files_under_a_root_that_is_no_utf8_all_have_a_uri(tmp_path: Path) -> None:
    root = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(root, "a b").mkdir(parents=True)
    Path(root, "a b", "x#1.wav").write_bytes(b"any")
    store = Store.open(root)
    (batch,) = list_audio(store)
    assert batch["uri"].to_pylist() == [f"file://{tmp_path}/caf%E9/a%20b/x%231.wav"]
    assert Store.open(store.uri()).root == root


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
        "uri": None,
    }


def test_content_ids_by_hash_fall_back_to_the_mark_of_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    store = Store.open(str(make(tmp_path, {"a.wav": b"AAAA", "b.wav": b"BB"})))
    batches = list(list_audio(store))
    gone = store.stat("b.wav").content_id
    (tmp_path / "b.wav").unlink()
    (hashed,) = with_content_hashes(batches, store)
    assert hashed.schema == batches[0].schema
    assert hashed["content_id"].to_pylist() == [content_hash(store, "a.wav", 4), gone]
