"""The audio of a store, as Arrow batches: known by extension, or by its first bytes where it has none.

A million keys pass through here a batch at a time; what is kept of them is columns, never Python objects.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import mimetypes
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple

import pyarrow as pa

from mgc.audio.decode.signatures import HEAD_BYTES, is_audio_head, is_unplayed_head, kind_of
from mgc.config import CatalogueConfig
from mgc.errors import StorageError
from mgc.storage.objects import UNREACHABLE
from mgc.storage.store import Glimpse, ObjectInfo, Store, Unlisted, as_text, content_hash, split_uri

PCM_EXTENSIONS = ("wav", "wave", "bwf", "rf64", "w64", "aif", "aiff", "aifc", "au", "snd", "caf", "voc", "gsm")
LOSSLESS_EXTENSIONS = ("flac", "ape", "wv", "tta", "tak", "shn", "dsf", "dff")
MPEG_EXTENSIONS = ("mp3", "mp2", "mp1", "mpga", "aac", "m4a", "m4b", "m4p", "m4r", "mp4", "mov", "3ga")
OTHER_EXTENSIONS = (
    *("ogg", "oga", "opus", "spx", "wma", "mka", "mkv", "webm", "weba", "ac3", "eac3", "dts", "amr", "awb"),
    *("mpc", "ra"),
)
AUDIO_EXTENSIONS = frozenset(PCM_EXTENSIONS + LOSSLESS_EXTENSIONS + MPEG_EXTENSIONS + OTHER_EXTENSIONS)
"""Extensions of what libsndfile or FFmpeg decodes, without the dot."""

UNPLAYED_EXTENSIONS = frozenset(("it", "xm", "s3m", "mod", "mptm", "mo3", "mid", "midi", "kar", "rmi", "sid", "cda"))
"""Extensions of music that nothing here plays; what is text (`go.mod`) is none."""

MUSICLESS_EXTENSIONS = frozenset(
    (
        "nfo",
        "cue",
        "log",
        "ini",
        "db",
        "lrc",
        "pls",
        "md5",
        "sfv",
        "rar",
        "7z",
        "npy",
        "part",
        "partial",
        "crdownload",
    )
)
"""Extensions of what lies beside music and that Python's `mimetypes` does not know; the last are of downloads."""

BATCH_ROWS = 10_000
SNIFF_THREADS = 16
HASH_THREADS = 8
EXAMPLES = 5

LISTING = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("uri", pa.string()),
    ]
)
"""One row an audio file; `key` is relative to the root, `track_id` its hash, `uri` null but for paths of no UTF-8."""

NOT_AUDIO, UNREADABLE, UNPLAYED = "not audio", "unreadable", "music that nothing here plays"
CANNOT_BE_REACHED = "cannot be reached"

_TYPES = mimetypes.MimeTypes(filenames=())


@dataclass
class Tally:
    """How many there are of each reason, and the first few."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, key: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < EXAMPLES:
            named.append(key)


@dataclass
class Skipped(Tally):
    """What was listed and is no track, by reason.

    Parameters
    ----------
    extensions
        Of the files that are no audio, with their counts.
    doubtful
        Tracks that will have no answer: those that cannot be reached, and music that nothing here plays.
    """

    extensions: Counter[str] = field(default_factory=Counter)
    doubtful: Tally = field(default_factory=Tally)

    def __str__(self) -> str:
        reasons = [
            f"{count:,} {why} ({self.by_extension() if why == NOT_AUDIO else ', '.join(self.examples[why])})"
            for why, count in self.counts.items()
        ]
        return f"; skipped: {', '.join(reasons)}" if reasons else ""

    def by_extension(self, most: int = 8) -> str:
        """Return the most frequent extensions of what is no audio, with their counts."""
        ranked = self.extensions.most_common()
        named = [f"{f'.{name}' if name else 'without extension'} {count:,}" for name, count in ranked[:most]]
        return ", ".join([*named, *([f"{len(ranked) - most} more"] if len(ranked) > most else [])])


class Exclusion:
    """Which keys are left out (`catalogue.exclude`).

    Parameters
    ----------
    globs
        Patterns of names, or with a slash inside of paths; with a slash at the end of folders alone. The last that
        matches decides; `!` before it keeps.
    """

    def __init__(self, globs: Sequence[str]) -> None:
        self._rules = [_rule(glob) for glob in globs]
        any_of = "|".join(rule.matches.pattern for rule in self._rules if not rule.keeps)
        # One match tells for most names that no rule leaves them out.
        self._any = re.compile(any_of or r"(?!)")
        self._is_within = functools.lru_cache(maxsize=BATCH_ROWS)(self.__call__)

    def __call__(self, key: str) -> bool:
        """Return whether a key, or any folder above it, is left out."""
        above = key.rstrip("/").rpartition("/")[0]
        return (bool(above) and self._is_within(f"{above}/")) or self._own(key)

    def _own(self, key: str) -> bool:
        path = key.rstrip("/")
        name = path.rpartition("/")[2]
        if not (self._any.match(name) or self._any.match(path)):
            return False
        left_out = False
        for rule in self._rules:
            if rule.matches.match(path if rule.is_of_path else name) and (key.endswith("/") or not rule.is_of_folder):
                left_out = not rule.keeps
        return left_out


class _Rule(NamedTuple):
    matches: re.Pattern[str]
    keeps: bool
    is_of_path: bool
    is_of_folder: bool


def _rule(glob: str) -> _Rule:
    keeps, is_of_folder = glob.startswith("!"), glob.endswith("/")
    bare = glob.removeprefix("!").strip("/").removeprefix("**/")
    return _Rule(re.compile(fnmatch.translate(bare)), keeps, "/" in bare, is_of_folder)


def track_id_of(key: str) -> str:
    """Return the identity of a track: BLAKE2b-128, in hex, of its key as text (forward slashes, NFC)."""
    return hashlib.blake2b(unicodedata.normalize("NFC", as_text(key)).encode(), digest_size=16).hexdigest()


def list_mels(
    store: Store, skipped: Skipped | None = None, config: CatalogueConfig | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the `.npy` files of a store as batches of `LISTING`, in key order; see `list_audio`."""
    skipped = Skipped() if skipped is None else skipped
    remaining = _files(store, config or CatalogueConfig(), skipped)
    while chunk := list(islice(remaining, BATCH_ROWS)):
        reasons = ["" if item.key.lower().endswith(".npy") else "not .npy" for item in chunk]
        yield from _kept(chunk, reasons, skipped, partial(_odd_uri, store))


def list_audio(
    store: Store, skipped: Skipped | None = None, config: CatalogueConfig | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the audio files of a store as batches of `LISTING`, in key order.

    Parameters
    ----------
    store
        What to list.
    skipped
        Where to count what is left out.
    config
        What to exclude, and whether to stop at what cannot be read.

    Raises
    ------
    StorageError
        The store cannot be listed; where `config.strict`, or any folder or file in it cannot be read.
    """
    skipped = Skipped() if skipped is None else skipped
    return audio_batches(
        _files(store, config or CatalogueConfig(), skipped),
        lambda key: store.glimpse(key, HEAD_BYTES),
        skipped,
        partial(_odd_uri, store),
    )


def audio_batches(
    items: Iterable[ObjectInfo],
    glimpse: Callable[[str], Glimpse],
    skipped: Skipped,
    odd_uri: Callable[[str], str | None] = lambda key: None,
) -> Iterator[pa.RecordBatch]:
    """Yield the audio among `items` as batches of `LISTING`; see `list_audio`."""
    remaining = iter(items)
    with ThreadPoolExecutor(SNIFF_THREADS, thread_name_prefix="mgc-sniff") as pool:
        while chunk := list(islice(remaining, BATCH_ROWS)):
            by_name = {item.key: _reason_by_name(item) for item in chunk}
            unsure = [key for key, reason in by_name.items() if reason is None]
            sniffed = zip(unsure, pool.map(lambda key: _sniffed(key, glimpse), unsure), strict=True)
            reasons = by_name | dict(sniffed)
            yield from _kept(chunk, [reasons[item.key] or "" for item in chunk], skipped, odd_uri)


def _files(store: Store, config: CatalogueConfig, skipped: Skipped) -> Iterator[ObjectInfo]:
    """Yield the files that are not excluded; one that cannot be looked at has no size and is `UNREACHABLE`."""
    excludes = Exclusion(config.exclude)
    for item in store.walk(excludes):
        if isinstance(item, Unlisted):
            if item.error is not None and config.strict:
                raise item.error
            if item.error is None or item.key.endswith("/"):
                skipped.add(_shown_reason(item), as_text(item.key))
                continue
            item = ObjectInfo(item.key, 0, UNREACHABLE, 0.0)
        if excludes(item.key):
            skipped.add(_excluded(item.key), as_text(item.key))
        else:
            yield item


def _shown_reason(item: Unlisted) -> str:
    if item.why == "excluded":
        return _excluded(item.key)
    return item.why if item.error is None else f"folder: {item.why}"


def _excluded(key: str) -> str:
    return "hidden" if any(part.startswith(".") for part in key.split("/")) else "excluded"


def _odd_uri(store: Store, key: str) -> str | None:
    """Return the URI of a file whose path is no UTF-8; None of any other: it is root and key."""
    uri = store.uri(key)
    return uri if uri.startswith("file://") else None


def _kept(
    chunk: list[ObjectInfo], reasons: list[str], skipped: Skipped, odd_uri: Callable[[str], str | None]
) -> Iterator[pa.RecordBatch]:
    """Count those that have a reason to be left out; yield the others, if any, as a batch."""
    kept = []
    for item, reason in zip(chunk, reasons, strict=True):
        if reason in ("", UNPLAYED):
            kept.append(item)
            if reason or item.content_id == UNREACHABLE:
                skipped.doubtful.add(reason or CANNOT_BE_REACHED, as_text(item.key))
            continue
        skipped.add(reason, as_text(item.key))
        if reason == NOT_AUDIO:
            skipped.extensions[_extension(item.key)] += 1
    if kept:
        yield _batch(kept, odd_uri)


def with_content_hashes(batches: Iterable[pa.RecordBatch], store: Store) -> Iterator[pa.RecordBatch]:
    """Yield batches of `LISTING` with a hash of each file's bytes as its content_id."""

    def hash_or_stat(key: str, size_bytes: int, content_id: str, uri: str | None) -> str:
        place = store if uri is None else Store(split_uri(uri).root)
        try:
            return content_hash(place, key if uri is None else split_uri(uri).key, size_bytes)
        except StorageError:  # its row will say why, when it is fetched
            return content_id

    with ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="mgc-hash") as pool:
        for batch in batches:
            columns = (batch[name].to_pylist() for name in ("key", "size_bytes", "content_id", "uri"))
            hashes = pa.array(list(pool.map(hash_or_stat, *columns)), pa.string())
            index = batch.schema.get_field_index("content_id")
            yield batch.set_column(index, batch.schema.field(index), hashes)


def is_audio(glimpse: Glimpse) -> bool:
    """Return whether first bytes, or the content type that the store names, are those of audio."""
    kind = (glimpse.content_type or "").partition(";")[0].strip().lower()
    is_playlist = kind.endswith(("mpegurl", "scpls"))
    return (kind.startswith("audio/") and not is_playlist) or kind == "application/ogg" or is_audio_head(glimpse.head)


def _reason_by_name(item: ObjectInfo) -> str | None:
    """Return why an item is no track, "" where it is one, None where only its bytes tell."""
    extension = _extension(item.key)
    if extension in AUDIO_EXTENSIONS:
        return ""
    if item.content_id == UNREACHABLE:
        return UNPLAYED if extension in UNPLAYED_EXTENSIONS else UNREADABLE
    if not item.size_bytes or extension in MUSICLESS_EXTENSIONS or _is_of_another_type(extension):
        return NOT_AUDIO
    return None


def _is_of_another_type(extension: str) -> bool:
    """Return whether an extension is known, and not as one of sound, video or just any bytes."""
    if extension in UNPLAYED_EXTENSIONS:
        return False
    kind, packing = _TYPES.guess_type(f"_.{extension}")
    return packing is not None or not (kind or "video/").startswith(("audio/", "video/", "application/octet-stream"))


def _extension(key: str) -> str:
    """Return the extension, or "" where what follows the last dot is no such thing ("01. Intro", "take.2")."""
    name = key.rpartition("/")[2]
    suffix = name.rpartition(".")[2] if "." in name else ""
    looks_like_one = 0 < len(suffix) <= 8 and suffix.isalnum() and not suffix.isdigit()
    return suffix.lower() if looks_like_one else ""


def _sniffed(key: str, glimpse: Callable[[str], Glimpse]) -> str:
    try:
        found = glimpse(key)
    except StorageError:  # deleted since it was listed, or not ours to read: and nothing says that it is audio
        return UNREADABLE
    if is_audio(found):
        return ""
    claims = _extension(key) in UNPLAYED_EXTENSIONS and kind_of(found.head) is None
    return UNPLAYED if claims or is_unplayed_head(found.head) else NOT_AUDIO


def _batch(items: Sequence[ObjectInfo], odd_uri: Callable[[str], str | None]) -> pa.RecordBatch:
    # Arrow's own pool takes up to twice the memory for many columns of this size, which stay until the end.
    pool = pa.system_memory_pool()
    return pa.record_batch(
        [
            pa.array([track_id_of(item.key) for item in items], pa.string(), memory_pool=pool),
            pa.array([as_text(item.key) for item in items], pa.string(), memory_pool=pool),
            pa.array([item.content_id for item in items], pa.string(), memory_pool=pool),
            pa.array([item.size_bytes for item in items], pa.int64(), memory_pool=pool),
            pa.array([odd_uri(item.key) for item in items], pa.string(), memory_pool=pool),
        ],
        schema=LISTING,
    )
