"""Tags as they lie in files: four families, each field under one name here and the family's own in the file.

The only module that imports mutagen. The families: ID3v2.3 and 2.4 (MP3, WAV, AIFF, DSF, DFF, TTA), Vorbis comments
(FLAC, Ogg Vorbis, Opus, Speex), the atoms of MP4, the attributes of ASF, and APEv2 (WavPack, Monkey's Audio,
Musepack). `GENRE` is TCON, GENRE, ©gen, WM/Genre or Genre; `MGC_…` are TXXX frames, comments, freeform atoms,
attributes or items of that name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import mutagen
from mutagen import id3
from mutagen.aiff import AIFF
from mutagen.apev2 import APENoHeaderError, APEv2, APEv2File
from mutagen.asf import ASF
from mutagen.asf._attrs import ASFUnicodeAttribute
from mutagen.dsdiff import DSDIFF
from mutagen.dsf import DSF
from mutagen.flac import FLAC, Padding, VCFLACDict
from mutagen.monkeysaudio import MonkeysAudio
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4FreeForm
from mutagen.musepack import Musepack
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.optimfrog import OptimFROG
from mutagen.tak import TAK
from mutagen.trueaudio import TrueAudio
from mutagen.wave import WAVE
from mutagen.wavpack import WavPack

from mgc.audio.decode.source import one_line

GENRE = "GENRE"
OWN_PREFIX = "MGC_"

Values: TypeAlias = tuple[str, ...]
Fields: TypeAlias = Mapping[str, Values]
"""Name → values. In a change, no values means: take the field out."""

ID3_KINDS = (MP3, TrueAudio, WAVE, AIFF, DSF, DSDIFF)
VORBIS_KINDS = (FLAC, OggVorbis, OggOpus, OggSpeex, OggFLAC)
APE_KINDS = (WavPack, MonkeysAudio, Musepack, OptimFROG, TAK, APEv2File)
KINDS = (*ID3_KINDS, *VORBIS_KINDS, *APE_KINDS, MP4, ASF)

MP4_FREEFORM = "----:com.apple.iTunes:"
ID3V1_BYTES = 128
MOST_INFO_BYTES = 1 << 20


class UntaggableError(Exception):
    """A file cannot hold fields, or not without a loss; the message says why."""


def open_tags(file: io.IOBase) -> Tags:
    """Return the tags of a file; whatever mutagen trips over in hostile bytes becomes an `UntaggableError`.

    Only in a process that is bounded in time and memory (`SupervisedTagEditor`).
    """
    try:
        found = mutagen.File(file, options=KINDS)
        if isinstance(found, ID3_KINDS):
            file.seek(0)
            found = type(found)(file, known_frames=_OnlyOurs(), translate=False, load_v1=False)
            genre_beside = _genre_beside(file)
    except MemoryError:
        raise
    except Exception as error:  # struct, index, key and unicode errors have all been seen
        raise UntaggableError(f"its tags cannot be read: {one_line(error)}") from error
    if isinstance(found, ID3_KINDS) and found.tags is None and _id3v1(file):
        # A 2.4 tag of a genre alone would hide the title from players that stop at the newest tag.
        raise UntaggableError("it has an ID3v1 tag and no newer one: a new one would hide it")
    if isinstance(found, WAVE | AIFF) and _claims_more(file):
        raise UntaggableError("its header says another length than it has (a recording through a pipe)")
    if found is not None and found.tags is None:
        found.add_tags()
    if isinstance(found, ID3_KINDS):
        return _Id3(found, genre_beside)
    for kinds, tags in _FAMILIES:
        if isinstance(found, kinds):
            return tags(found)
    raise UntaggableError("its container holds no tags that mgc writes")


class Tags:
    """The tags of one open file."""

    family: str

    def __init__(self, found: Any) -> None:
        self._found = found
        self._tags = found.tags

    def own(self) -> dict[str, Values]:
        """Return `GENRE` and the `MGC_…` fields."""
        raise NotImplementedError

    def others(self) -> object:
        """Return something that is equal if, and only if, nothing else of the tags has changed."""
        raise NotImplementedError

    def set(self, changes: Fields) -> None:
        """Set fields, or take them out."""
        raise NotImplementedError

    def save(self, file: io.IOBase) -> None:
        """Write the tags into the file they came from."""
        file.seek(0)
        self._found.save(file)


class _OnlyOurs(dict[str, Any]):
    """The frames that mutagen may parse: TCON and TXXX. The bytes of all others are carried over as they are.

    Mutagen also looks up which names are frames at all, to tell the true size of frames that iTunes wrote.
    """

    def __init__(self) -> None:
        super().__init__({"TCON": id3.TCON, "TXXX": id3.TXXX})

    def __contains__(self, name: object) -> bool:
        return name in id3.Frames


def _claims_more(file: io.IOBase) -> bool:
    """Return whether the header of a RIFF or IFF file says that it goes on behind its end."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(8)
    return int.from_bytes(head[4:], "little" if head.startswith(b"RIFF") else "big") + 8 > length + 1


def _genre_beside(file: io.IOBase) -> Values:
    """Return the genre that an APEv2 tag, or the INFO list of a WAV, holds beside ID3: players may show that one."""
    file.seek(0)
    try:
        return tuple(map(str, APEv2(file).get("Genre", ())))
    except APENoHeaderError:
        return _info_genre(file)


def _info_genre(file: io.IOBase) -> Values:
    file.seek(0)
    head, place = file.read(12), 12
    while head.startswith(b"RIFF") and len(name_and_size := file.read(8)) == 8:
        size = int.from_bytes(name_and_size[4:], "little")
        if name_and_size.startswith(b"LIST") and size < MOST_INFO_BYTES:
            found = re.search(rb"IGNR(....)", file.read(size), re.S)
            if found:
                value = found.string[found.end() :][: int.from_bytes(found[1], "little")]
                return (value.rstrip(b"\0").decode("utf-8", "replace"),)
        place += 8 + size + size % 2
        file.seek(place)
    return ()


class _Id3(Tags):
    """ID3, and the genre that another tag of the file has: somebody else's, where ID3 has none."""

    def __init__(self, found: Any, genre_beside: Values) -> None:
        super().__init__(found)
        self._genre_beside = genre_beside
        version = getattr(self._tags, "version", (2, 4, 0))
        if version[:2] not in ((2, 3), (2, 4)):
            # Frames of 2.2 have other names, and players that find a 2.4 tag look no further for an ID3v1 tag.
            raise UntaggableError(f"an ID3v{version[0]}.{version[1]} tag cannot be changed without a loss")
        self._version = int(version[1])
        self.family = f"ID3v2.{self._version}"

    def own(self) -> dict[str, Values]:
        fields = {name: tuple(frame.text) for name, frame in self._user_text() if name.startswith(OWN_PREFIX)}
        frame = self._tags.get("TCON")
        genre = self._genre_beside if frame is None else tuple(frame.text)
        return {GENRE: genre, **fields} if genre else fields

    def others(self) -> object:
        rest = sorted((name, tuple(frame.text)) for name, frame in self._user_text() if name[:4] != OWN_PREFIX)
        return self.family, rest, [bytes(frame) for frame in self._tags.unknown_frames]

    def set(self, changes: Fields) -> None:
        if changes.get(GENRE) and self._genre_beside and "TCON" not in self._tags:
            raise UntaggableError("another tag beside its ID3 has a genre, which players may go on showing")
        for name, values in changes.items():
            self._tags.delall("TCON" if name == GENRE else f"TXXX:{name}")
            if values:
                kind, more = (id3.TCON, {}) if name == GENRE else (id3.TXXX, {"desc": name})
                self._tags.add(kind(encoding=self._encoding(values), text=list(values), **more))

    def save(self, file: io.IOBase) -> None:
        id3v1 = _id3v1(file)
        file.seek(0)
        self._found.save(file, v2_version=self._version, v23_sep=None)
        if id3v1 and _id3v1(file):
            # Mutagen writes it anew from the frames it parsed: of which there are few here.
            file.seek(-ID3V1_BYTES, io.SEEK_END)
            file.write(id3v1)

    def _user_text(self) -> Iterable[tuple[str, Any]]:
        return ((frame.desc, frame) for frame in self._tags.getall("TXXX"))

    def _encoding(self, values: Values) -> int:
        if all(ord(letter) < 256 for value in values for letter in value):
            return id3.Encoding.LATIN1
        return id3.Encoding.UTF16 if self._version == 3 else id3.Encoding.UTF8


def _id3v1(file: io.IOBase) -> bytes:
    file.seek(0, io.SEEK_END)
    file.seek(max(0, file.tell() - ID3V1_BYTES))
    found = file.read(ID3V1_BYTES)
    return found if found.startswith(b"TAG") else b""


class _Vorbis(Tags):
    family = "Vorbis comments"

    def own(self) -> dict[str, Values]:
        fields: dict[str, Values] = {}
        for key, value in self._tags:
            if _is_ours(key):
                fields[key.upper()] = (*fields.get(key.upper(), ()), value)
        return fields

    def others(self) -> object:
        # Not the FLAC blocks that hold comments or nothing: any other is a picture, a cue sheet, a seek table.
        blocks = [block for block in getattr(self._found, "metadata_blocks", ()) if not _is_comment_or_air(block)]
        comments = [pair for pair in self._tags if not _is_ours(pair[0])]
        return comments, [(block.code, bytes(block.write())) for block in blocks]

    def set(self, changes: Fields) -> None:
        for name, values in changes.items():
            pairs = list(self._tags)
            places = [number for number, (key, _) in enumerate(pairs) if key.upper() == name]
            # Where it was, and spelled as it was.
            first, key = (places[0], pairs[places[0]][0]) if places else (len(pairs), name)
            kept = [pair for number, pair in enumerate(pairs) if number not in places]
            self._tags[:] = [*kept[:first], *((key, value) for value in values), *kept[first:]]


def _is_ours(key: str) -> bool:
    return key.upper() == GENRE or key.upper().startswith(OWN_PREFIX)


def _is_comment_or_air(block: object) -> bool:
    return isinstance(block, Padding | VCFLACDict)


class _Mapped(Tags):
    """Tags that are a mapping of the family's own names to lists of values."""

    genre_key: str
    own_prefix = ""

    def own(self) -> dict[str, Values]:
        found = {self._name(key): self._texts(key) for key in self._tags.keys() if self._name(key)}  # noqa: SIM118
        return {name: values for name, values in found.items() if values}

    def others(self) -> object:
        return sorted((key, repr(self._tags[key])) for key in self._tags.keys() if not self._name(key))  # noqa: SIM118

    def set(self, changes: Fields) -> None:
        for name, values in changes.items():
            key = self.genre_key if name == GENRE else self.own_prefix + name
            if values:
                self._tags[key] = self._made(name, values)
            elif key in self._tags:
                del self._tags[key]

    def _name(self, key: str) -> str:
        """Return the name here of a key in the file; empty: none of ours."""
        if key.upper() == self.genre_key.upper():
            return GENRE
        bare = key.removeprefix(self.own_prefix).upper()
        return bare if bare.startswith(OWN_PREFIX) else ""

    def _texts(self, key: str) -> Values:
        return tuple(str(value) for value in self._tags[key])

    def _made(self, name: str, values: Values) -> Any:
        return list(values)


class _Mp4(_Mapped):
    family, genre_key, own_prefix = "MP4", "\xa9gen", MP4_FREEFORM

    def _texts(self, key: str) -> Values:
        return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in self._tags[key])

    def _made(self, name: str, values: Values) -> Any:
        return list(values) if name == GENRE else [MP4FreeForm(value.encode()) for value in values]


class _Asf(_Mapped):
    family, genre_key = "ASF", "WM/Genre"

    def _made(self, name: str, values: Values) -> Any:
        return [ASFUnicodeAttribute(value) for value in values]


class _Ape(_Mapped):
    family, genre_key = "APEv2", "Genre"


_FAMILIES: tuple[tuple[Any, type[Tags]], ...] = (
    (VORBIS_KINDS, _Vorbis),
    (MP4, _Mp4),
    (ASF, _Asf),
    (APE_KINDS, _Ape),
)
