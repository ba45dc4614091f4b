"""An S3 prefix as a store: one request a call, and errors that name their cause.

It is handed its s3fs file system by `mgc.storage.store`, and calls S3 through `call_s3`: s3fs's path methods cache
listings, request an object's size before each read, and hide the ETag of the response.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow.fs as pafs
from botocore.exceptions import (  # type: ignore[import-untyped]
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from mgc.errors import StorageError
from mgc.logs import log, log_context
from mgc.storage.objects import (
    TEMPORARY_PREFIX,
    AccessDeniedError,
    ArrowLocation,
    FetchBounds,
    Glimpse,
    LongObject,
    ObjectInfo,
    ObjectNotFoundError,
    require_size,
    require_unchanged,
)

KEYS_A_PAGE = 1_000
BODY_ATTEMPTS = 3
WHOLE_BELOW_BYTES = 4 * 1024**2
"""Objects up to this size are opened with one GET: cheaper than a range request for each column."""

CREDENTIALS_REMEDY = (
    "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or AWS_PROFILE; on a cluster, the nodes' role "
    "(or cluster.forward_credentials)"
)
ENDPOINT_REMEDY = "check AWS_ENDPOINT_URL and AWS_REGION, and that the server is up"


class _LongError(StorageError):
    """Breaks off a GET whose object turned out to be long."""

    def __init__(self, what: LongObject) -> None:
        super().__init__("a long object")
        self.what = what


class S3Client(Protocol):
    """What is used of `s3fs.S3FileSystem`."""

    loop: asyncio.AbstractEventLoop

    def call_s3(self, method: str, **arguments: Any) -> Any: ...
    def pipe_file(self, path: str, data: bytes) -> Any: ...
    def open(self, path: str, mode: str) -> Any: ...


@dataclass(frozen=True)
class S3Files:
    """The objects under a prefix of a bucket.

    Parameters
    ----------
    bucket
        Its name.
    prefix
        Empty, or with a trailing slash.
    connect
        Gives this process's s3fs file system; `connect(False)` one that gives up early, for checks.
    """

    bucket: str
    prefix: str
    connect: Callable[[bool], S3Client]

    @classmethod
    def at(cls, root: str, connect: Callable[[bool], S3Client]) -> S3Files:
        """Return the backend of an `s3://bucket/prefix` root."""
        bucket, _, prefix = root.removeprefix("s3://").partition("/")
        return cls(bucket, f"{prefix}/" if prefix else "", connect)

    def uri(self, key: str) -> str:
        """Return the `s3://` URI of a key."""
        return f"s3://{self._path(key)}"

    def _path(self, key: str) -> str:
        return f"{self.bucket}/{self.prefix}{key}" if key else f"{self.bucket}/{self.prefix}".rstrip("/")

    def read_bytes(self, key: str, start: int | None, end: int | None) -> bytes:
        """Return the bytes [start, end) of an object."""
        if end is not None and end <= (start or 0):
            return b""
        span = None if start is None and end is None else (start or 0, end)
        return self._get(key, span).head

    def read_checked(self, key: str, bounds: FetchBounds, expected_content_id: str | None) -> bytes | LongObject:
        """Return an object; size and ETag are those of the one GET's header, before its body is read, if it is."""

        def check(response: dict[str, Any]) -> None:
            require_unchanged(_etag(response), expected_content_id, self.uri(key))
            require_size(response["ContentLength"], bounds.max_bytes, self.uri(key))
            if bounds.is_long(response["ContentLength"]):
                raise _LongError(LongObject(response["ContentLength"], _etag(response)))

        try:
            return self._get(key, None, check).head
        except _LongError as long:
            return long.what

    def read_range(self, key: str, start: int, end: int, content_id: str) -> bytes:
        """Return the bytes [start, end) of an object that is still what it was."""

        def check(response: dict[str, Any]) -> None:
            require_unchanged(_etag(response), content_id, self.uri(key))

        return self._get(key, (start, end), check).head

    def glimpse(self, key: str, n_bytes: int) -> Glimpse:
        """Return the first bytes and the content type, in one ranged GET."""
        return self._get(key, (0, n_bytes))

    def write_atomic(self, key: str, data: bytes | memoryview) -> None:
        """Write an object: one PUT, or one multipart upload, either of which S3 shows whole or not at all."""
        with _as_storage_error(self.uri(key)):
            self.connect(True).pipe_file(self._path(key), bytes(data))

    def stat(self, key: str) -> ObjectInfo:
        """Return what a HEAD says."""
        head = self._call("head_object", key, Key=self.prefix + key)
        return ObjectInfo(key, head["ContentLength"], _etag(head), head["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        """Delete an object; a missing one is no error."""
        try:
            self._call("delete_object", key, Key=self.prefix + key)
        except ObjectNotFoundError:  # some servers answer 404 where AWS answers 204
            return

    def delete_tree(self, key: str) -> None:
        """Delete the objects below `key`, one by one: not all servers know the checksums DeleteObjects needs."""
        for item in self._pages(f"{key}/", with_hidden=True):
            self.delete(item.key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, in key order, a page at a time."""
        return self._pages(prefix, with_hidden=False)

    def _pages(self, prefix: str, with_hidden: bool) -> Iterator[ObjectInfo]:
        more: dict[str, Any] = {}
        while True:
            page = self._call("list_objects_v2", prefix, Prefix=self.prefix + prefix, MaxKeys=KEYS_A_PAGE, **more)
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self.prefix)
                hidden = key.endswith("/") or key.rpartition("/")[2].startswith(TEMPORARY_PREFIX)
                if key and (with_hidden or not hidden):
                    yield ObjectInfo(key, item["Size"], _etag(item), item["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def open_input(self, key: str) -> io.IOBase:
        """Return a seekable file: a small object whole, of a large one the ranges that are read."""
        if self.stat(key).size_bytes <= WHOLE_BELOW_BYTES:
            return io.BytesIO(self.read_bytes(key, None, None))
        with _as_storage_error(self.uri(key)):
            opened: io.IOBase = self.connect(True).open(self._path(key), "rb")
        return opened

    def arrow_location(self) -> ArrowLocation:
        """Return s3fs behind pyarrow's interface, and bucket/prefix."""
        return ArrowLocation(pafs.PyFileSystem(pafs.FSSpecHandler(self.connect(True))), self._path(""))

    def check_readable(self) -> None:
        """Raise a `StorageError` unless the bucket answers and something is under the prefix."""
        if self._first(self.prefix) is not None or not self.prefix:
            return
        name = self.prefix.rstrip("/")
        if self._first(name) == name:
            raise StorageError(f"'{self.uri('')}' is an object, not a prefix", "give the prefix it is under")
        raise ObjectNotFoundError(f"nothing is under '{self.uri('')}'", "check the bucket and the prefix")

    def _first(self, prefix: str) -> str | None:
        page = self._call("list_objects_v2", "", patient=False, Prefix=prefix, MaxKeys=1)
        return next((item["Key"] for item in page.get("Contents", ())), None)

    def check_writable(self) -> None:
        """Raise a `StorageError` unless a small object can be written under the prefix."""
        key = f"{self.prefix}{TEMPORARY_PREFIX}write-check"
        self._call("put_object", "", patient=False, Key=key, Body=b"")
        self._call("delete_object", "", patient=False, Key=key)

    def _call(self, method: str, key: str, patient: bool = True, **arguments: Any) -> Any:
        with _as_storage_error(self.uri(key)):
            return self.connect(patient).call_s3(method, Bucket=self.bucket, **arguments)

    def _get(
        self,
        key: str,
        span: tuple[int, int | None] | None,
        check: Callable[[dict[str, Any]], None] | None = None,
    ) -> Glimpse:
        arguments = {"Bucket": self.bucket, "Key": self.prefix + key}
        if span is not None:
            arguments["Range"] = f"bytes={span[0]}-{'' if span[1] is None else span[1] - 1}"
        try:
            with _as_storage_error(self.uri(key)):
                return _read_object(self.connect(True), arguments, check)
        except StorageError as error:
            # A range that begins past the end, of an empty object for one, is no bytes and no error.
            if span is not None and _error_code(error.__cause__) in ("InvalidRange", "416"):
                return Glimpse(b"", None)
            raise


def _read_object(fs: S3Client, arguments: dict[str, str], check: Callable[[dict[str, Any]], None] | None) -> Glimpse:
    """Return an object's bytes, requesting it again where the connection broke while they came.

    botocore retries requests, but for it a response is complete once the header is there.
    """
    retries = 0
    try:
        for attempt in range(1, BODY_ATTEMPTS + 1):
            response = fs.call_s3("get_object", **arguments)
            retries += _request_retries(response)
            try:
                # The body belongs to s3fs's event loop, which runs in a thread of its own.
                body = asyncio.run_coroutine_threadsafe(_body(response, check), fs.loop).result()
            except Exception as error:
                if isinstance(error, StorageError) or attempt == BODY_ATTEMPTS:
                    raise
                retries += 1
            else:
                return Glimpse(body, response.get("ContentType"))
    except Exception as error:
        retries += _request_retries(_error_response(error))
        raise
    finally:
        if retries:
            with log_context(uri=f"s3://{arguments['Bucket']}/{arguments['Key']}"):
                log.warning("the fetch was retried %d %s", retries, "time" if retries == 1 else "times")
    raise AssertionError("the last attempt returns or raises")


def _request_retries(response: Mapping[str, Any]) -> int:
    """Return how often botocore sent a request again before this response."""
    return int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


async def _body(response: dict[str, Any], check: Callable[[dict[str, Any]], None] | None) -> bytes:
    """Return the body of a response that passes the check, and close it either way."""
    try:
        if check is not None:
            check(response)
        return bytes(await response["Body"].read())
    finally:
        response["Body"].close()


@contextmanager
def _as_storage_error(uri: str) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise _storage_error(error, uri) from error


def _etag(response: dict[str, Any]) -> str:
    return str(response.get("ETag", "")).strip('"')


def _error_code(error: BaseException | None) -> str:
    """Return S3's own code of an error; empty where it has none."""
    return str(_error_response(error).get("Error", {}).get("Code", ""))


def _error_response(error: BaseException | None) -> Mapping[str, Any]:
    """Return S3's response behind an error, which s3fs keeps as the cause of its translation; empty without one."""
    for each in (error, error.__cause__ if error else None):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def _storage_error(error: Exception, uri: str) -> StorageError:
    code = _error_code(error)
    if code == "NoSuchBucket":
        return ObjectNotFoundError(f"there is no bucket for '{uri}'", "check the bucket's name, or make it")
    if isinstance(error, FileNotFoundError):
        return ObjectNotFoundError(f"'{uri}' does not exist", "check the bucket and the key")
    if isinstance(error, PermissionError):
        why = f"{code}: {error}" if code and not code.isdigit() else str(error)
        return AccessDeniedError(f"access to '{uri}' is denied ({why})", CREDENTIALS_REMEDY)
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return AccessDeniedError(f"no credentials for '{uri}' ({error})", CREDENTIALS_REMEDY)
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return StorageError(f"no S3 server answers for '{uri}' ({error})", ENDPOINT_REMEDY)
    return StorageError(f"'{uri}' failed: {type(error).__name__}: {error}", ENDPOINT_REMEDY)
