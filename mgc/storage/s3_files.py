"""An S3 prefix as a store: one request a call, and errors that name their cause.

It is handed its s3fs file system by `mgc.storage.store`, and calls S3 through `_call_s3`: s3fs's path methods cache
listings, request an object's size before each read, and hide the ETag of the response. Its coroutines rather than
their blocking twins, which cannot be ended: no call here outlasts its time.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import pyarrow.fs as pafs
from botocore.exceptions import (  # type: ignore[import-untyped]
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)

from mgc.audio.decode.source import ContentFile, RemoteBytes
from mgc.errors import StorageError
from mgc.logs import log, log_context
from mgc.storage.objects import (
    HASH_MARK,
    TEMPORARY_PREFIX,
    AccessDeniedError,
    ArchivedError,
    ArrowLocation,
    ChangedError,
    DamagedBodyError,
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

REQUEST_SECONDS = 180.0
"""For a request with its retries and waits, up to the header of its answer, and for the body of a listing; then it is
tried once more."""

BODY_PIECE_BYTES = 1 << 20
STALL_SECONDS = 30.0
LEAST_BYTES_PER_SECOND = 32_768
"""A body, or an upload, is late when it is more than `STALL_SECONDS` behind this rate: a store that sends a byte a
second is noticed after half a minute, and no object takes longer than its size allows."""

EMPTY_PAGES = 100
"""In a row, of a listing that says it has more: S3 may send some, and a store that sends no others never ends."""

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
    s3: Any
    session: Any

    def _call_s3(self, method: str, **arguments: Any) -> Coroutine[Any, Any, Any]: ...
    def _pipe_file(self, path: str, data: bytes) -> Coroutine[Any, Any, Any]: ...


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
        has_hash = (expected_content_id or "").startswith(HASH_MARK)

        def check(response: dict[str, Any]) -> None:
            size_bytes = response["ContentLength"]
            require_unchanged(_etag(response), expected_content_id, self.uri(key))
            require_size(size_bytes, bounds.max_bytes, self.uri(key))
            if bounds.size_bytes not in (None, size_bytes):
                kind = ChangedError if has_hash else DamagedBodyError
                raise kind(f"'{self.uri(key)}' came with {size_bytes:,} bytes, {bounds.size_bytes:,} were indexed")
            if bounds.is_long(size_bytes):
                raise _LongError(LongObject(size_bytes, _etag(response)))

        try:
            # A hash says more than an ETag, and also serves stores whose ETags look like MD5 and are not.
            return self._get(key, None, check, trust_etag=not has_hash).head
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
        seconds = REQUEST_SECONDS + len(data) / LEAST_BYTES_PER_SECOND
        with _as_storage_error(self.uri(key)):
            fs = self.connect(True)
            _await(fs, fs._pipe_file(self._path(key), bytes(data)), seconds)

    def stat(self, key: str) -> ObjectInfo:
        """Return what a HEAD says."""
        head = self._call("head_object", key, Key=self.prefix + key)
        with _as_storage_error(self.uri(key)):
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

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Yield what is no object of a run: only a check that was killed leaves any."""
        everything = self._pages("", with_hidden=True)
        return (item for item in everything if item.key.rpartition("/")[2].startswith(TEMPORARY_PREFIX))

    def _pages(self, prefix: str, with_hidden: bool) -> Iterator[ObjectInfo]:
        more: dict[str, Any] = {}
        starts: set[str] = set()  # the first key of each page
        before: set[str] = set()  # the keys of the last one
        empty_pages = 0
        while True:
            page = self._call("list_objects_v2", prefix, Prefix=self.prefix + prefix, MaxKeys=KEYS_A_PAGE, **more)
            with _as_storage_error(self.uri(prefix)):
                items = [self._listed(item) for item in page.get("Contents", ())]
            keys = {item.key for item in items}
            token = page.get("NextContinuationToken") if page.get("IsTruncated") else ""
            empty_pages = 0 if items else empty_pages + 1
            repeats = len(keys) < len(items) or not keys.isdisjoint(before) or not keys.isdisjoint(starts)
            if repeats or token is None or (token and empty_pages >= EMPTY_PAGES):
                raise StorageError(
                    f"the listing of '{self.uri(prefix)}' does not go on: it repeats keys, or has no next page",
                    "start the command again; if it stays so, the store's listings (ListObjectsV2) are broken",
                )
            for item in items:
                hidden = item.key.endswith("/") or item.key.rpartition("/")[2].startswith(TEMPORARY_PREFIX)
                if item.key and (with_hidden or not hidden):
                    yield item
            if not token:
                return
            starts.update(item.key for item in items[:1])
            before, more = keys, {"ContinuationToken": token}

    def _listed(self, item: dict[str, Any]) -> ObjectInfo:
        key = item["Key"].removeprefix(self.prefix)
        return ObjectInfo(key, item["Size"], _etag(item), item["LastModified"].timestamp())

    def open_input(self, key: str) -> io.IOBase:
        """Return a seekable file: a small object whole, of a large one the ranges that are read."""
        found = self.stat(key)
        if found.size_bytes <= WHOLE_BELOW_BYTES:
            return io.BytesIO(self.read_bytes(key, None, None))
        ranges = RemoteBytes(found.size_bytes, partial(self._read_within, found))
        return io.BufferedReader(ContentFile(ranges), WHOLE_BELOW_BYTES)

    def _read_within(self, whole: ObjectInfo, start: int, stop: int) -> bytes:
        stop = min(stop, whole.size_bytes)
        return self.read_range(whole.key, start, stop, whole.content_id) if start < stop else b""

    def arrow_location(self) -> ArrowLocation:
        """Return s3fs behind pyarrow's interface, and bucket/prefix."""
        return ArrowLocation(pafs.PyFileSystem(pafs.FSSpecHandler(self.connect(True))), self._path(""))

    def object_store_options(self) -> dict[str, str]:
        """Return endpoint, region and credentials as botocore found them: environment, profile, role or process."""
        fs = self.connect(True)
        region = self._region()
        client = fs.s3.meta
        options = {"aws_region": region or client.region_name or "us-east-1"}
        if not client.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn")):  # theirs follow from the region
            options["aws_endpoint"] = client.endpoint_url
            options["allow_http"] = str(client.endpoint_url.startswith("http://")).lower()
        with _as_storage_error(self.uri("")):
            found = asyncio.run_coroutine_threadsafe(_credentials(fs.session), fs.loop).result()
        return options | found

    def _region(self) -> str | None:
        """Return where AWS has the bucket: requests elsewhere are redirected, which not all clients follow."""
        with suppress(StorageError):  # of a policy for the prefix alone, or a server that answers no such request
            region: str | None = self._call("head_bucket", "").get("BucketRegion")
            return region
        return None

    def sync(self, key: str) -> None:
        """Do nothing: what S3 has accepted it keeps."""

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
        """Raise a `StorageError` unless a small object can be written under the prefix; deleting may be forbidden."""
        key = f"{self.prefix}{TEMPORARY_PREFIX}write-check"
        self._call("put_object", "", patient=False, Key=key, Body=b"")
        with suppress(Exception):
            self._call_once("delete_object", False, {"Key": key})

    def _call(self, method: str, key: str, patient: bool = True, **arguments: Any) -> Any:
        with _as_storage_error(self.uri(key)):
            try:
                return self._call_once(method, patient, arguments)
            except Exception as error:
                # Of a patient call botocore has tried all again but an answer that came too slowly.
                if not (isinstance(error, TimeoutError) if patient else _may_pass(error)):
                    raise
            log.warning("S3 is busy (%s): tried again for half a minute", self.uri(key))
            return self._call_once(method, True, arguments)

    def _call_once(self, method: str, patient: bool, arguments: dict[str, Any]) -> Any:
        fs = self.connect(patient)
        return _await(fs, fs._call_s3(method, Bucket=self.bucket, **arguments), REQUEST_SECONDS)

    def _get(
        self,
        key: str,
        span: tuple[int, int | None] | None,
        check: Callable[[dict[str, Any]], None] = lambda response: None,
        *,
        trust_etag: bool = True,
    ) -> Glimpse:
        arguments = {"Bucket": self.bucket, "Key": self.prefix + key}
        if span is not None:
            arguments["Range"] = f"bytes={span[0]}-{'' if span[1] is None else span[1] - 1}"

        def require(response: dict[str, Any], body: bytes) -> bytes:
            if "ContentRange" in response:
                _require_range(response, span, self.uri(key))
                return body
            if trust_etag and not self.bucket.endswith(DIRECTORY_BUCKET):
                _require_md5(response, body, self.uri(key))
            # A server may know no ranges, and send all.
            return body if span is None else body[slice(*span)]

        try:
            with _as_storage_error(self.uri(key)):
                return _read_object(self.connect(True), arguments, check, require)
        except StorageError as error:
            # A range that begins past the end, of an empty object for one, is no bytes and no error.
            if span is not None and _error_code(error.__cause__) in ("InvalidRange", "416"):
                return Glimpse(b"", None)
            raise


DIRECTORY_BUCKET = "--x-s3"
"""Ends the name of a bucket of S3 Express, where an ETag is no checksum."""


def _require_range(response: dict[str, Any], span: tuple[int, int | None] | None, uri: str) -> None:
    """Raise unless the answer is the range that was requested, up to the object's end."""
    found = [int(number) for number in re.findall(r"\d+", response["ContentRange"])]
    if len(found) == 3 and span is not None:
        end = found[2] if span[1] is None else min(span[1], found[2])
        if found[:2] == [span[0], end - 1] and response["ContentLength"] == end - span[0]:
            return
    raise DamagedBodyError(f"'{uri}' came as {response['ContentRange']}, requested were bytes {span}")


def _require_md5(response: dict[str, Any], body: bytes, uri: str) -> None:
    """Raise where an ETag that is the MD5 of the object (one PUT, no key of KMS or the customer) says otherwise."""
    etag, encryption = _etag(response), response.get("ServerSideEncryption", "AES256")
    if not re.fullmatch("[0-9a-f]{32}", etag) or encryption != "AES256" or "SSECustomerAlgorithm" in response:
        return
    if hashlib.md5(body, usedforsecurity=False).hexdigest() != etag:
        raise DamagedBodyError(
            f"'{uri}' came damaged: its bytes are not those of its ETag (MD5)",
            "look at the network and the store; where its ETags are no MD5, index with catalogue.content_id=hash",
        )


T = TypeVar("T")


def _await(fs: S3Client, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
    """Return what s3fs's event loop, which runs in a thread of its own, makes of a coroutine; end it when it is late.

    Raises
    ------
    TimeoutError
        It took longer than `seconds`.
    """
    future = asyncio.run_coroutine_threadsafe(work, fs.loop)
    try:
        return future.result(seconds)
    except TimeoutError as error:
        if future.cancel():
            raise TimeoutError(f"no answer within {seconds:.3g} s") from error
        raise


def _read_object(
    fs: S3Client,
    arguments: dict[str, str],
    check: Callable[[dict[str, Any]], None],
    require: Callable[[dict[str, Any], bytes], bytes],
) -> Glimpse:
    """Return an object's bytes, requesting it again where the connection broke while they came, or they are wrong.

    botocore retries requests, but for it a response is complete once the header is there.
    """
    retries = 0
    try:
        for attempt in range(1, BODY_ATTEMPTS + 1):
            response = _await(fs, fs._call_s3("get_object", **arguments), REQUEST_SECONDS)
            retries += _request_retries(response)
            try:
                body = require(response, _await(fs, _body(response, check), None))
            except Exception as error:
                final = isinstance(error, StorageError) and not isinstance(error, DamagedBodyError)
                if final or attempt == BODY_ATTEMPTS:
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


async def _body(response: dict[str, Any], check: Callable[[dict[str, Any]], None]) -> bytes:
    """Return the body of a response that passes the check and keeps the least rate; close it either way."""
    pieces: list[bytes] = []
    latest = time.monotonic() + STALL_SECONDS
    try:
        check(response)
        while not pieces or pieces[-1]:
            async with asyncio.timeout(latest - time.monotonic()):
                pieces.append(await response["Body"].read(BODY_PIECE_BYTES))
            latest += len(pieces[-1]) / LEAST_BYTES_PER_SECOND
    except TimeoutError as error:
        count = sum(map(len, pieces))
        raise DamagedBodyError(
            f"too slow: {count:,} of {response['ContentLength']:,} bytes came, at less than "
            f"{LEAST_BYTES_PER_SECOND:,} bytes a second"
        ) from error
    finally:
        response["Body"].close()
    return b"".join(pieces)


async def _credentials(session: Any) -> dict[str, str]:
    credentials = await session.get_credentials()
    if credentials is None:
        return {"aws_skip_signature": "true"}
    frozen = await credentials.get_frozen_credentials()
    names = {"aws_access_key_id": frozen.access_key, "aws_secret_access_key": frozen.secret_key}
    return names | ({"aws_session_token": frozen.token} if frozen.token else {})


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


def _may_pass(error: Exception) -> bool:
    """Return whether a server is there, and may answer later what it does not answer now."""
    status = _error_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or status == 429 or isinstance(error, ReadTimeoutError | TimeoutError)


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
    if code == "InvalidObjectState":  # s3fs takes it for a lack of permission
        return ArchivedError(f"'{uri}' is archived (S3 Glacier)", "restore it: aws s3api restore-object")
    if isinstance(error, PermissionError):
        why = f"{code}: {error}" if code and not code.isdigit() else str(error)
        return AccessDeniedError(f"access to '{uri}' is denied ({why})", CREDENTIALS_REMEDY)
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return AccessDeniedError(f"no credentials for '{uri}' ({error})", CREDENTIALS_REMEDY)
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return StorageError(f"no S3 server answers for '{uri}' ({error})", ENDPOINT_REMEDY)
    return StorageError(f"'{uri}' failed: {type(error).__name__}: {error}", ENDPOINT_REMEDY)
