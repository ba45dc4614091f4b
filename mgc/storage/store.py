"""URIs to bytes: a `Store` is a folder or an `s3://bucket/prefix`, and looks the same either way.

The only module that imports fsspec and s3fs. Endpoint and credentials come from the usual AWS variables and
profiles; they are read where the work is done, and never travel inside a `Store`.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import fsspec

from mgc.audio.decode.source import RemoteBytes
from mgc.config import DecodeConfig
from mgc.errors import Stage, StorageError, TrackCode, TrackError
from mgc.storage.local_files import Excludes, LocalFiles
from mgc.storage.objects import (
    HASH_MARK,
    AccessDeniedError,
    ArchivedError,
    ArrowLocation,
    ChangedError,
    FetchBounds,
    Glimpse,
    LongObject,
    ObjectInfo,
    ObjectNotFoundError,
    StoreBackend,
    TooLargeError,
    Unlisted,
)
from mgc.storage.s3_files import S3Files

if TYPE_CHECKING:
    # At run time fsspec imports it, when a store is on S3: half a second that folders need not pay.
    from s3fs import S3FileSystem


__all__ = [
    "AccessDeniedError",
    "ArrowLocation",
    "Glimpse",
    "LongObject",
    "ObjectInfo",
    "ObjectNotFoundError",
    "Store",
    "Unlisted",
    "UriParts",
    "as_text",
    "content_hash",
    "fetch_track",
    "split_uri",
]

AWS_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "AWS_MAX_ATTEMPTS",
    "AWS_RETRY_MODE",
)
"""What decides which S3 is used, as whom, and with how many retries."""

PATIENT_ATTEMPTS = 8
"""Of a request that S3 answers with 503 or not at all: waits double from a second to twenty, by chance shorter, in
all some half a minute, a minute at most."""

HASH_BYTES_AT_ONCE = 8 * 1024**2


class UriParts(NamedTuple):
    """A file's URI as the root of a store and the key in it."""

    root: str
    key: str


@dataclass(frozen=True)
class Store:
    """A folder or an S3 prefix; cheap to make, to copy and to pickle, safe in threads and forks.

    Parameters
    ----------
    root
        Absolute path, or `s3://bucket/prefix`, as `Store.open` makes it.

    Raises
    ------
    ObjectNotFoundError, AccessDeniedError, StorageError
        From every method: what was requested is not there, not allowed, or failed otherwise.
    """

    root: str

    @classmethod
    def open(cls, uri: str) -> Store:
        """Return the store at a path, a `file://` or an `s3://` URI. Touches nothing yet.

        Raises
        ------
        StorageError
            The URI has another scheme, or names no bucket.
        """
        return cls(_normal_root(uri))

    @property
    def _backend(self) -> StoreBackend:
        if self.root.startswith("s3://"):
            return S3Files.at(self.root, _filesystem)
        return LocalFiles(self.root)

    def uri(self, key: str = "") -> str:
        """Return the absolute path or `s3://` URI of a key; that of the root without one.

        A path that is no UTF-8 is a `file://` URI: tables and JSON hold text.
        """
        uri = self._backend.uri(key)
        return f"file://{quote(os.fsencode(uri))}" if as_text(uri) != uri else uri

    def read_bytes(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return the bytes [start, end) of an object."""
        return self._backend.read_bytes(key, start, end)

    def write_atomic(self, key: str, data: bytes | memoryview) -> None:
        """Write an object so that readers see the old one or the whole new one."""
        self._backend.write_atomic(key, data)

    def exists(self, key: str) -> bool:
        """Return whether there is an object of that key."""
        try:
            self._backend.stat(key)
        except ObjectNotFoundError:
            return False
        return True

    def stat(self, key: str) -> ObjectInfo:
        """Return what is known of an object without reading it."""
        return self._backend.stat(key)

    def glimpse(self, key: str, n_bytes: int) -> Glimpse:
        """Return the first bytes of an object and its content type, in one request."""
        return self._backend.glimpse(key, n_bytes)

    def delete(self, key: str) -> None:
        """Delete an object; a missing one is no error."""
        self._backend.delete(key)

    def delete_tree(self, key: str) -> None:
        """Delete all objects below `key`; none is no error. The root itself is refused."""
        if not key.strip("/"):
            raise StorageError(f"will not delete all of '{self.root}'", "name a folder in it")
        self._backend.delete_tree(key.rstrip("/"))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, in key order, a page at a time."""
        return self._backend.list(prefix)

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Yield what `list` hides: what killed writers left half written, and living ones have not ended yet."""
        return self._backend.leftovers()

    def walk(self, excludes: Excludes) -> Iterator[ObjectInfo | Unlisted]:
        """Yield all objects in key order, and what of a folder is no file; see `LocalFiles.walk`."""
        backend = self._backend
        return backend.walk("", excludes) if isinstance(backend, LocalFiles) else backend.list("")

    def open_input(self, key: str) -> io.IOBase:
        """Return a seekable binary file for pyarrow and polars to read from."""
        return self._backend.open_input(key)

    def arrow_filesystem(self) -> ArrowLocation:
        """Return the root as pyarrow and Ray Train name it."""
        return self._backend.arrow_location()

    def object_store_options(self) -> dict[str, str]:
        """Return what libraries on Rust's object_store, as delta-rs, need to reach the root; secrets are among it."""
        return self._backend.object_store_options()

    def sync(self, key: str) -> None:
        """See that an object which another library wrote outlasts a loss of power."""
        self._backend.sync(key)

    def check_readable(self) -> None:
        """Raise a `StorageError` that names the cause where the root cannot be listed."""
        self._backend.check_readable()

    def check_writable(self) -> None:
        """Raise a `StorageError` that names the cause where nothing can be written below the root."""
        self._backend.check_writable()

    def fetch(
        self,
        key: str,
        max_bytes: int,
        expected_content_id: str | None = None,
        whole_bytes: int | None = None,
        size_bytes: int | None = None,
    ) -> bytes | LongObject:
        """Return the bytes of a track, in one request; of one longer than `whole_bytes` only what it is.

        Parameters
        ----------
        key
            Name relative to the root.
        max_bytes
            Longer objects are refused before they are read.
        expected_content_id
            The catalogue's; another content is refused, before it is read where the store's mark tells.
        whole_bytes
            Longer tracks are for `fetch_range`; None: none are.
        size_bytes
            The catalogue's, of the expected content.

        Raises
        ------
        TrackError
            Stage FETCH: NOT_FOUND, ACCESS_DENIED, TOO_LARGE, CHANGED_SINCE_INDEX, ARCHIVED or FETCH_FAILED.
        """
        bounds = FetchBounds(max_bytes, whole_bytes, size_bytes)
        with self._as_track_error(key):
            found = self._backend.read_checked(key, bounds, expected_content_id)
            if expected_content_id is None or not expected_content_id.startswith(HASH_MARK):
                return found
            # Once more where it differs: a byte may have been flipped on the way.
            if not self._has_hash(key, found, expected_content_id):
                found = self._backend.read_checked(key, bounds, expected_content_id)
                if not self._has_hash(key, found, expected_content_id):
                    raise ChangedError("its bytes hash differently than when indexed")
        return found

    def fetch_range(self, key: str, start: int, end: int, of: LongObject) -> bytes:
        """Return the bytes [start, end) of a long track; the same errors as `fetch`."""
        with self._as_track_error(key):
            return self._backend.read_range(key, start, end, of.content_id)

    def _has_hash(self, key: str, found: bytes | LongObject, expected: str) -> bool:
        # A long object is read twice then: the price of an identity by hash.
        if isinstance(found, bytes):
            return _hash_of(found) == expected
        return content_hash(self, key, found.size_bytes) == expected

    @contextmanager
    def _as_track_error(self, key: str) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            what = " ".join(error.message.replace(f"'{self.uri(key)}'", "it").split())
            raise TrackError(_track_code(error), Stage.FETCH, what) from error


def split_uri(uri: str) -> UriParts:
    """Return a file's URI as a store's root (its folder, or its bucket) and the key in it.

    Raises
    ------
    StorageError
        The URI names no file, or its scheme is not supported.
    """
    if not uri:
        raise StorageError("an empty URI names no file", "give the URI of a file")
    root = _normal_root(uri)
    if root.startswith("s3://"):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        parts = UriParts(f"s3://{bucket}", key)
    else:
        path = Path(root)
        parts = UriParts(str(path.parent), path.name)
    if not parts.key or parts.key.endswith("/"):
        raise StorageError(f"'{uri}' names no file", "give the URI of a file, not of a folder or a bucket")
    return parts


def fetch_track(
    uri: str, limits: DecodeConfig, expected_content_id: str | None = None, size_bytes: int | None = None
) -> bytes | RemoteBytes:
    """Return a track's bytes for the decoding child, or of a file over `limits.whole_file_bytes` where they are.

    Parameters
    ----------
    expected_content_id
        The catalogue's; another content is refused. None: whatever is there.
    size_bytes
        The catalogue's, of that content.

    Raises
    ------
    TrackError
        See `Store.fetch`; FETCH_FAILED where the URI names no file that mgc can read.
    """
    try:
        root, key = split_uri(uri)
    except StorageError as error:
        raise TrackError(TrackCode.FETCH_FAILED, Stage.FETCH, " ".join(error.message.split())) from error
    store = Store(root)
    found = store.fetch(key, limits.max_file_bytes, expected_content_id, limits.whole_file_bytes, size_bytes)
    if isinstance(found, bytes):
        return found
    return RemoteBytes(found.size_bytes, partial(store.fetch_range, key, of=found))


def as_text(name: str) -> str:
    """Return a name with each byte that is no UTF-8 (a surrogate, in Python) read as Windows-1252, else Latin-1."""
    return name if name.isascii() else re.sub("[\udc80-\udcff]", _latin_letter, name)


def _latin_letter(found: re.Match[str]) -> str:
    byte = os.fsencode(found[0])
    return byte.decode("cp1252", "ignore") or byte.decode("latin-1")


def content_hash(store: Store, key: str, size_bytes: int) -> str:
    """Return the content id of an object by the BLAKE2b-128 hash of its bytes, read a span at a time."""
    hasher = hashlib.blake2b(digest_size=16)
    for start in range(0, size_bytes, HASH_BYTES_AT_ONCE):
        hasher.update(store.read_bytes(key, start, min(start + HASH_BYTES_AT_ONCE, size_bytes)))
    return HASH_MARK + hasher.hexdigest()


def _hash_of(data: bytes) -> str:
    return HASH_MARK + hashlib.blake2b(data, digest_size=16).hexdigest()


def _normal_root(uri: str) -> str:
    if "\0" in uri:
        raise StorageError(f"'{uri}' names nothing: it holds a NUL byte", "check the URI")
    try:
        return _root_of(uri)
    except (ValueError, RuntimeError) as error:  # a URI that is none, the home of a user who is not known
        raise StorageError(f"'{uri}' names nothing: {error}", "check the URI") from error


def _root_of(uri: str) -> str:
    scheme, sign, rest = uri.partition("://")
    if not sign:
        # abspath, not resolve: a linked folder keeps the name that its user knows.
        # ~tilde.mp3 is a file: a shell has replaced the names of other users' homes already.
        home = uri == "~" or uri.startswith("~/")
        return os.path.abspath(Path(uri).expanduser() if home else uri)  # noqa: PTH100
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise StorageError(f"'{uri}' names another machine", "a local folder is file:///folder")
        return os.path.abspath(unquote(parts.path, errors="surrogateescape"))  # noqa: PTH100
    if scheme != "s3":
        raise StorageError(f"'{uri}': mgc reads folders, file:// and s3://, not {scheme}://", "check the URI")
    if not rest.partition("/")[0]:
        raise StorageError(f"'{uri}' names no bucket", "write s3://bucket/prefix")
    return uri.rstrip("/")


def _filesystem(patient: bool) -> S3FileSystem:
    settings = tuple((name, os.environ.get(name, "")) for name in AWS_VARIABLES)
    return _filesystem_of(os.getpid(), settings, patient)


@functools.lru_cache(maxsize=8)
def _filesystem_of(process: int, settings: tuple[tuple[str, str], ...], patient: bool) -> S3FileSystem:
    """Return the client of this process for these settings: event loops and sockets do not survive a fork."""
    given = dict(settings)
    config: dict[str, Any] = {
        "connect_timeout": 10 if patient else 5,
        "read_timeout": 60 if patient else 15,
        "max_pool_connections": 32,
        # The trailing checksums that are botocore's default are refused by servers older than they are.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if not patient:
        config["retries"] = {"mode": "standard", "total_max_attempts": 2}
    elif not (given["AWS_MAX_ATTEMPTS"] or given["AWS_RETRY_MODE"]):
        config["retries"] = {"mode": "standard", "total_max_attempts": PATIENT_ATTEMPTS}
    # botocore itself does not read AWS_REGION.
    region = given["AWS_REGION"] or given["AWS_DEFAULT_REGION"]
    client = {"region_name": region} if region else {}
    fs: S3FileSystem = fsspec.filesystem(
        "s3", config_kwargs=config, client_kwargs=client, use_listings_cache=False, skip_instance_cache=True
    )
    fs.retries = 1  # botocore retries; both together would multiply
    return fs


def _track_code(error: StorageError) -> TrackCode:
    codes: dict[type[StorageError], TrackCode] = {
        ObjectNotFoundError: TrackCode.NOT_FOUND,
        AccessDeniedError: TrackCode.ACCESS_DENIED,
        TooLargeError: TrackCode.TOO_LARGE,
        ChangedError: TrackCode.CHANGED_SINCE_INDEX,
        ArchivedError: TrackCode.ARCHIVED,
    }
    return codes.get(type(error), TrackCode.FETCH_FAILED)
