"""`mgc serve`: a bundle's answers over HTTP, by Ray Serve.

    proxy (Ray's)   `UploadLimits`: takes a whole upload within its size and time, before anything waits for it
      │  503        more than `MAX_QUEUED` wait
    replica         `TaggingService`: decodes in sandboxed children, one file each; predicts what is ready together

Ray's proxy takes uploads into memory ahead of the replica and without a bound, and lets a client set its own time
limit by a header: `UploadLimits` stands before it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import BackpressureConfig, HTTPOptions, ProxyLocation
from ray.serve.schema import LoggingConfig
from starlette.exceptions import HTTPException as Refusal
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mgc import __version__
from mgc.cluster.runtime import metrics_address, ray_session
from mgc.config import Config
from mgc.errors import ClusterError, FingerprintError, TrackCode
from mgc.inference.file_reader import STANDARD_INPUT, FileFeatures, FileReader
from mgc.inference.file_tagger import FileAnswer, FileTagger, json_answer
from mgc.models.bundle_files import read_bundle_for_audio
from mgc.storage.store import Store

NAME = "mgc"
TAG_PATH, HEALTH_PATH = "/tag", "/health"

BATCH_FILES = 16
"""At most so many files are predicted together; those that are ready are, none waits for another."""
ONGOING_A_DECODER = 4
"""So many requests are in the replica for each decoding child: enough that none is ever idle."""
MAX_QUEUED = 256
"""More requests than wait for the replica get a 503."""
RETRY_AFTER_SECONDS = 5
REQUEST_SECONDS = 300.0
"""From the last byte of a request to its answer; then a 408."""
STALL_SECONDS = 10.0
"""For so long an upload may pause."""
UPLOAD_SECONDS = 300.0
"""For so long an upload may last."""
HELD_BYTES = 1024**3
"""Uploads in the proxy's memory together are no more."""
DRAIN_SECONDS = 4.0
"""For so long requests that were begun may go on when the service ends."""
START_SECONDS, LOOK_SECONDS = 120.0, 5.0
"""For so long the service may take to answer after Ray calls it ready, and for so long each look at it."""
DECODE_SECONDS = 10.0
"""Of a file, where `decode.time_limit_seconds` is not set: hostile files take as long, and others wait for them."""

PROXY_HOOK, LIMITS_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "MGC_SERVE_MAX_UPLOAD_BYTES"
PATIENCE = ("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S")
"""In seconds: a busy machine needs longer to import what the proxy needs, and Ray would start it anew for ever."""
RAYS_HEADERS = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"serve-multiplexed-model-id")
"""By which a client would set Ray's limits for itself."""

_STATUS_OF = {
    TrackCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    TrackCode.ACCESS_DENIED: HTTPStatus.BAD_GATEWAY,
    TrackCode.FETCH_FAILED: HTTPStatus.BAD_GATEWAY,
    TrackCode.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TrackCode.DECODE_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
}
"""What is wrong with the file itself is 422; a file that takes too long may do so because the machine is busy."""


class ServiceArguments(BaseModel):
    """What a service is of; as `args` of a RayService, too.

    Parameters
    ----------
    bundle
        URI of the model bundle.
    fingerprint
        Of the bundle; None: whichever is there.
    stores
        Folders and `s3://` prefixes whose files may be requested by URI.
    max_upload_bytes
        Of a request's body.
    decoders
        Children that decode, one file each at a time.
    settings
        Sections `decode` and `tagging` of the configuration, as far as they differ from the defaults.
    """

    bundle: str
    fingerprint: str | None = None
    stores: list[str] = Field(default_factory=list)
    max_upload_bytes: int = 100 * 1024**2
    decoders: int = Field(default_factory=lambda: os.cpu_count() or 1)
    settings: dict[str, Any] = Field(default_factory=dict)


@contextmanager
def serving(arguments: ServiceArguments, host: str, port: int) -> Iterator[str]:
    """Serve on this machine while the block runs, by a Ray of its own; what was begun is answered at its end.

    Yields the address of Ray's metrics for Prometheus.

    Raises
    ------
    ClusterError
        Ray or the service does not start.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    os.environ.pop("RAY_ADDRESS", None)  # the limits are those of a proxy that is started here
    os.environ |= {PROXY_HOOK: f"{__name__}.proxy_middlewares", LIMITS_VARIABLE: str(arguments.max_upload_bytes)}
    for variable in PATIENCE:
        os.environ.setdefault(variable, "60")
    with ray_session(Config().cluster):
        logs = LoggingConfig(log_level="WARNING", enable_access_log=False)
        options = HTTPOptions(host=host, port=port, request_timeout_s=REQUEST_SECONDS)
        try:
            with suppress(TimeoutError):  # Ray waits a minute for its proxy, which starts all the same
                serve.start(ProxyLocation.HeadOnly, options, logging_config=logs)
            serve.run(tagging_app(arguments), name=NAME, route_prefix="/", logging_config=logs)
            _wait_until_answering(host, port)
        except (RuntimeError, TimeoutError, RayError) as error:
            raise ClusterError(
                f"the service did not start: {str(error).strip().splitlines()[-1]}",
                "look at logs/serve in Ray's folder (/tmp/ray/session_latest)",
            ) from error
        try:
            yield metrics_address()
        finally:
            # Waits for what was begun. `serve.shutdown` would also wait for Serve's controller, which ends with Ray.
            serve.delete(NAME)


def _wait_until_answering(host: str, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        connection = HTTPConnection(host, port, timeout=LOOK_SECONDS)
        with suppress(OSError, HTTPException), closing(connection):
            connection.request("GET", HEALTH_PATH)
            if connection.getresponse().status == HTTPStatus.OK:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"no answer at {host}:{port} after {START_SECONDS:g} s")
        time.sleep(0.2)


def tagging_app(arguments: ServiceArguments) -> serve.Application:
    """Return the application, as `serve.run` and the `import_path` of a RayService take it."""
    ongoing = max(BATCH_FILES, ONGOING_A_DECODER * arguments.decoders)
    deployment: serve.Deployment = TaggingService.options(max_ongoing_requests=ongoing)  # type: ignore[attr-defined]
    return deployment.bind(arguments)


@serve.deployment(
    max_queued_requests=MAX_QUEUED,
    backpressure_config=BackpressureConfig(status_code=503, retry_after_s=RETRY_AFTER_SECONDS),
    graceful_shutdown_timeout_s=DRAIN_SECONDS,
    graceful_shutdown_wait_loop_s=0.2,
    health_check_period_s=5,
    ray_actor_options={"num_cpus": 1},
)
class TaggingService:
    """The ensemble in one process; each file is decoded in a child, and those that are ready are predicted together.

    The ensemble runs on the CPU with one thread, as in `mgc tag FILE`: the same answer to the last bit.
    """

    def __init__(self, arguments: ServiceArguments) -> None:
        config = Config.model_validate(arguments.settings)
        stored = read_bundle_for_audio(arguments.bundle)
        found = stored.manifest.fingerprint
        if arguments.fingerprint not in (None, found):
            raise FingerprintError(
                f"the bundle '{arguments.bundle}' was replaced: it is {found}, and not {arguments.fingerprint}",
                "start the service again",
            )
        self._limit, self._stores = arguments.max_upload_bytes, AllowedStores(arguments.stores)
        self._free: asyncio.Queue[FileReader] = asyncio.Queue()
        for _ in range(arguments.decoders):
            self._free.put_nowait(FileReader(stored.features, config.decode))
        self._tagger = FileTagger(stored, config.tagging)
        self._broken: Exception | None = None

    def check_health(self) -> None:
        """Raise what broke the ensemble or the decoders, for Ray to start the replica anew."""
        if self._broken is not None:
            raise self._broken

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer a request; see docs/serving.md."""
        try:
            return await self._answered(request)
        except Refusal as error:
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def _answered(self, request: Request) -> JSONResponse:
        method = {TAG_PATH: "POST", HEALTH_PATH: "GET"}.get(request.url.path)
        if method is None:
            raise Refusal(404, f"no such path; there are POST {TAG_PATH} and GET {HEALTH_PATH}")
        if request.method != method:
            raise Refusal(405, f"{request.url.path} takes {method}", {"allow": method})
        bundle = self._tagger.bundle
        if method == "GET":
            return JSONResponse({"bundle_fingerprint": bundle.fingerprint, "mgc": __version__})
        wanted = {name: request.query_params.get(name) == "1" for name in ("embedding", "windows")}
        answer = await self._answer_of(await self._file_of(request))
        value = json_answer(answer, bundle, **wanted)
        status = 200 if answer.error is None else _STATUS_OF.get(answer.error.track_code, 422)
        return JSONResponse(value, status)

    async def _file_of(self, request: Request) -> RequestedFile:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # Again where it is no proxy of `serving`.
        if len(await request.body()) > self._limit:
            raise Refusal(413, _too_large(self._limit))
        if kind == "application/json":
            return RequestedFile(self._uri_of(await request.body()))
        if kind == "multipart/form-data":
            return await self._in_form(request)
        return RequestedFile(STANDARD_INPUT, await request.body())

    async def _in_form(self, request: Request) -> RequestedFile:
        try:
            async with request.form(max_files=1, max_fields=10) as form:
                for value in form.values():
                    if not isinstance(value, str):
                        return RequestedFile(value.filename or STANDARD_INPUT, await value.read())
        except MultiPartException as error:
            raise Refusal(400, f"no form of one file: {error.message}") from error
        raise Refusal(400, "the form holds no file: curl -F file=@song.mp3")

    def _uri_of(self, body: bytes) -> str:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"the body is no JSON: {error}") from error
        if not isinstance(value, dict) or value.keys() != {"uri"} or not isinstance(value["uri"], str):
            raise Refusal(400, 'the body is not {"uri": "…"}')
        if not self._stores.holds(value["uri"]):
            raise Refusal(403, "the URI is in no store that this service may read (mgc serve --store)")
        return value["uri"]

    async def _answer_of(self, file: RequestedFile) -> FileAnswer:
        try:
            return await self._predicted(await self._read(file))
        except (asyncio.CancelledError, Refusal):
            raise
        except Exception as error:
            self._broken = error
            raise

    async def _read(self, file: RequestedFile) -> FileFeatures:
        reader = await self._free.get()
        loop = asyncio.get_running_loop()
        reading = reader.submit(file.uri, file.content)

        def free(_: Future[FileFeatures]) -> None:
            loop.call_soon_threadsafe(self._free.put_nowait, reader)

        # Not when this request ends: a client may leave while its file is still being decoded.
        reading.add_done_callback(free)
        return await asyncio.wrap_future(reading)

    @serve.batch(max_batch_size=BATCH_FILES, batch_wait_timeout_s=0.0)
    async def _predicted(self, files: list[FileFeatures]) -> list[FileAnswer]:
        return await asyncio.to_thread(self._tagger.answers, files)


@dataclass(frozen=True)
class RequestedFile:
    """A file that was uploaded (`content`), or is to be read from an allowed store."""

    uri: str
    content: bytes | None = None


class AllowedStores:
    """Folders and prefixes whose files may be requested; a path is followed through its links before it is judged."""

    def __init__(self, stores: Sequence[str]) -> None:
        roots = [Store.open(store).root.rstrip("/") for store in stores]
        self._prefixes = [f"{root}/" for root in roots if root.startswith("s3://")]
        self._folders = [Path(root).resolve() for root in roots if not root.startswith("s3://")]

    def holds(self, uri: str) -> bool:
        """Return whether a URI is of a file in one of them; a relative path and another scheme are not."""
        if uri.startswith("s3://"):
            steps = uri.split("/")
            return not {".", ".."} & {*steps} and "" not in steps[2:] and uri.startswith((*self._prefixes,))
        try:
            path = Path(uri)
            return path.is_absolute() and any(path.resolve().is_relative_to(folder) for folder in self._folders)
        except (OSError, ValueError, RuntimeError):  # no path: a NUL byte, a name too long, links in a circle
            return False


def proxy_middlewares() -> list[Middleware]:
    """Return what stands before Ray's proxy; Ray calls it there, by the name in `PROXY_HOOK`."""
    limit = os.environ.get(LIMITS_VARIABLE)
    return [Middleware(UploadLimits, int(limit) if limit else ServiceArguments(bundle="").max_upload_bytes)]


class UploadLimits:
    """ASGI middleware: takes the whole body of a request within limits, and only then passes it on.

    A client that stalls holds a connection, and neither a place in the queue nor a decoder.

    Parameters
    ----------
    app
        What it is passed to.
    max_bytes
        Of a body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes, self._held = app, max_bytes, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 408, 413 or 503 by itself, or pass the request on; a web socket is refused."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        pieces: list[bytes] = []
        try:
            refusal = await self._take(scope, receive, pieces)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            pieces[:] = [b"".join(pieces)]  # one copy of it
            body: list[Message] = [{"type": "http.request", "body": pieces[0], "more_body": False}]

            async def replay() -> Message:
                return body.pop() if body else await receive()

            headers = [
                (name, value) for name, value in scope["headers"] if name.replace(b"_", b"-") not in RAYS_HEADERS
            ]
            await self._app({**scope, "headers": headers}, replay, send)
        finally:
            self._held -= sum(map(len, pieces))

    async def _take(self, scope: Scope, receive: Receive, pieces: list[bytes]) -> JSONResponse | None:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._max_bytes:
            return _refusal(413, _too_large(self._max_bytes))
        n_bytes, deadline = 0, time.monotonic() + UPLOAD_SECONDS
        while True:
            try:
                async with asyncio.timeout(min(STALL_SECONDS, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                return _refusal(408, f"the upload paused for {STALL_SECONDS:g} s, or lasted {UPLOAD_SECONDS:g} s")
            if message["type"] == "http.disconnect":
                return _refusal(400, "the upload broke off")
            piece = message.get("body", b"")
            n_bytes += len(piece)
            if n_bytes > self._max_bytes:
                return _refusal(413, _too_large(self._max_bytes))
            if self._held + len(piece) > max(HELD_BYTES, self._max_bytes):
                return _refusal(503, "too many uploads at once", {"retry-after": str(RETRY_AFTER_SECONDS)})
            self._held += len(piece)
            pieces.append(piece)
            if not message.get("more_body", False):
                return None


def _refusal(status: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    # The rest of the upload is not read: the connection cannot be used again.
    return JSONResponse({"error": error}, status, {"connection": "close", **(headers or {})})


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit / 1024**2:g} MiB (mgc serve --max-upload)"
