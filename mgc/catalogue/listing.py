"""The audio of a store, as Arrow batches: known by extension, or by its first bytes where it has none.

A million keys pass through here a batch at a time; what is kept of them is columns, never Python objects.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath

import pyarrow as pa

from mgc.errors import StorageError
from mgc.storage.objects import Glimpse, ObjectInfo
from mgc.storage.store import Store, content_hash

PCM_EXTENSIONS = ("wav", "wave", "bwf", "rf64", "w64", "aif", "aiff", "aifc", "au", "snd", "caf", "voc", "gsm")
LOSSLESS_EXTENSIONS = ("flac", "ape", "wv", "tta", "dsf", "dff")
MPEG_EXTENSIONS = ("mp3", "mp2", "mp1", "mpga", "aac", "m4a", "m4b", "m4p", "mp4", "3ga")
OTHER_EXTENSIONS = ("ogg", "oga", "opus", "spx", "wma", "mka", "weba", "ac3", "eac3", "amr", "awb", "mpc", "ra")
AUDIO_EXTENSIONS = frozenset(PCM_EXTENSIONS + LOSSLESS_EXTENSIONS + MPEG_EXTENSIONS + OTHER_EXTENSIONS)
"""Extensions of what libsndfile or FFmpeg decodes, without the dot."""

HEAD_BYTES = 16
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
    ]
)
"""One row an audio file; `key` is relative to the root, `track_id` its hash."""

MAGIC_AT_START = (b"fLaC", b"OggS", b"ID3", b".snd", b"caff", b"wvPk", b"MAC ", b"TTA1", b"MPCK", b"#!AMR")
MAGIC_IN_CONTAINER = {b"RIFF": (b"WAVE",), b"RF64": (b"WAVE",), b"FORM": (b"AIFF", b"AIFC")}
W64_START = b"riff\x2e\x91\xcf\x11"
ASF_START = bytes.fromhex("3026b2758e66cf11")
AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"isom", b"iso2", b"mp41", b"mp42", b"dash")
"""Major brands of MP4 files that may hold sound, as AVIF and HEIC pictures do not."""


@dataclass
class Skipped:
    """What was listed and is no track: how many, by reason, and the first few of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, key: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < EXAMPLES:
            named.append(key)

    def __str__(self) -> str:
        reasons = [f"{count} {why} ('{self.examples[why][0]}' …)" for why, count in self.counts.items()]
        return f"; skipped: {', '.join(reasons)}" if reasons else ""


def track_id_of(key: str) -> str:
    """Return the identity of a track: BLAKE2b-128, in hex, of its key (forward slashes, NFC)."""
    return hashlib.blake2b(unicodedata.normalize("NFC", key).encode(), digest_size=16).hexdigest()


def list_mels(store: Store, skipped: Skipped) -> Iterator[pa.RecordBatch]:
    """Yield the `.npy` files of a store as batches of `LISTING`, in key order.

    Raises
    ------
    StorageError
        The store cannot be listed.
    """
    remaining = iter(store.list())
    while chunk := list(islice(remaining, BATCH_ROWS)):
        reasons = [_unlistable(item) or ("" if item.key.lower().endswith(".npy") else "not .npy") for item in chunk]
        yield from _kept(chunk, reasons, skipped)


def list_audio(store: Store, skipped: Skipped | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the audio files of a store as batches of `LISTING`, in key order.

    Parameters
    ----------
    store
        What to list.
    skipped
        Where to count what is left out.

    Raises
    ------
    StorageError
        The store cannot be listed.
    """
    return audio_batches(
        store.list(), lambda key: store.glimpse(key, HEAD_BYTES), Skipped() if skipped is None else skipped
    )


def audio_batches(
    items: Iterable[ObjectInfo], glimpse: Callable[[str], Glimpse], skipped: Skipped
) -> Iterator[pa.RecordBatch]:
    """Yield the audio among `items` as batches of `LISTING`; see `list_audio`."""
    remaining = iter(items)
    with ThreadPoolExecutor(SNIFF_THREADS, thread_name_prefix="mgc-sniff") as pool:
        while chunk := list(islice(remaining, BATCH_ROWS)):
            by_name = {item.key: _reason_by_name(item) for item in chunk}
            unsure = [key for key, reason in by_name.items() if reason is None]
            sniffed = zip(unsure, pool.map(lambda key: _sniffed(key, glimpse), unsure), strict=True)
            reasons = by_name | dict(sniffed)
            yield from _kept(chunk, [reasons[item.key] or "" for item in chunk], skipped)


def _kept(chunk: list[ObjectInfo], reasons: list[str], skipped: Skipped) -> Iterator[pa.RecordBatch]:
    """Count those that have a reason to be left out; yield the others, if any, as a batch."""
    kept = []
    for item, reason in zip(chunk, reasons, strict=True):
        if reason:
            skipped.add(reason, _printable(item.key))
        else:
            kept.append(item)
    if kept:
        yield _batch(kept)


def with_content_hashes(batches: Iterable[pa.RecordBatch], store: Store) -> Iterator[pa.RecordBatch]:
    """Yield batches of `LISTING` with a hash of each file's bytes as its content_id."""

    def hash_or_stat(key: str, size_bytes: int, content_id: str) -> str:
        try:
            return content_hash(store, key, size_bytes)
        except StorageError:  # its row will say why, when it is fetched
            return content_id

    with ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="mgc-hash") as pool:
        for batch in batches:
            columns = (batch[name].to_pylist() for name in ("key", "size_bytes", "content_id"))
            hashes = pa.array(list(pool.map(hash_or_stat, *columns)), pa.string())
            index = batch.schema.get_field_index("content_id")
            yield batch.set_column(index, batch.schema.field(index), hashes)


def is_audio(glimpse: Glimpse) -> bool:
    """Return whether first bytes, or the content type that the store names, are those of audio."""
    kind = (glimpse.content_type or "").partition(";")[0].strip().lower()
    return kind.startswith("audio/") or kind == "application/ogg" or _is_audio_head(glimpse.head)


def _reason_by_name(item: ObjectInfo) -> str | None:
    """Return why an item is no track, "" where it is one, None where only its bytes tell."""
    reason = _unlistable(item)
    if reason:
        return reason
    extension = _extension(PurePosixPath(item.key).name)
    if extension in AUDIO_EXTENSIONS:
        return ""
    if extension:
        return "not audio"
    return None if item.size_bytes else "not audio"


def _unlistable(item: ObjectInfo) -> str:
    """Return why an item is no track whatever it holds, "" where nothing in its name says so."""
    # Some artists' names begin with an ellipsis; those are not hidden.
    if any(part.startswith(".") and not part.startswith("..") for part in PurePosixPath(item.key).parts):
        return "hidden"
    return "" if _printable(item.key) == item.key else "name is not UTF-8"


def _extension(name: str) -> str:
    """Return the extension, or "" where what follows the last dot is no such thing ("01. Intro", "take.2")."""
    suffix = name.rpartition(".")[2] if "." in name else ""
    looks_like_one = 0 < len(suffix) <= 8 and suffix.isalnum() and not suffix.isdigit()
    return suffix.lower() if looks_like_one else ""


def _printable(key: str) -> str:
    """Return a key with what is no UTF-8 (a surrogate, in Python) replaced."""
    return key.encode("utf-8", "replace").decode()


def _sniffed(key: str, glimpse: Callable[[str], Glimpse]) -> str:
    try:
        return "" if is_audio(glimpse(key)) else "not audio"
    except StorageError:  # deleted since it was listed, or not ours to read: and nothing says that it is audio
        return "unreadable"


def _is_audio_head(head: bytes) -> bool:
    if head.startswith((*MAGIC_AT_START, W64_START, ASF_START)):
        return True
    if head[8:12] in MAGIC_IN_CONTAINER.get(head[:4], ()):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12] in AUDIO_BRANDS
    return _is_mpeg_frame(head)


def _is_mpeg_frame(head: bytes) -> bool:
    """Return whether bytes begin a frame of MP3, MP2 or AAC (ADTS): ISO/IEC 11172-3, 2.4.1.3; 13818-7, 6.2."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    layer = head[1] >> 1 & 0b11
    if layer == 0:  # ADTS, whose sync word has one bit more, and whose sample rate index ends at 12
        return head[1] & 0xF0 == 0xF0 and (head[2] >> 2 & 0b1111) <= 12
    version, bitrate, rate = head[1] >> 3 & 0b11, head[2] >> 4, head[2] >> 2 & 0b11
    # Layer I is not among them: its frames begin as UTF-16 text does (FF FE).
    return layer != 0b11 and version != 0b01 and bitrate not in (0, 15) and rate != 0b11


def _batch(items: Sequence[ObjectInfo]) -> pa.RecordBatch:
    # Arrow's own pool takes up to twice the memory for many columns of this size, which stay until the end.
    pool = pa.system_memory_pool()
    return pa.record_batch(
        [
            pa.array([track_id_of(item.key) for item in items], pa.string(), memory_pool=pool),
            pa.array([item.key for item in items], pa.string(), memory_pool=pool),
            pa.array([item.content_id for item in items], pa.string(), memory_pool=pool),
            pa.array([item.size_bytes for item in items], pa.int64(), memory_pool=pool),
        ],
        schema=LISTING,
    )
