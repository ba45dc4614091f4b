"""As much of S3 as mgc uses, in memory, that answers 503 when told to: what no real server does on request."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from loopback import serving

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


@dataclass
class FailingS3:
    """The objects, how many requests came, and how many of the next are refused."""

    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    refuse: int = 0
    refused: int = 0
    denied: Callable[[str], bool] = lambda key: False
    """Keys that may not be read: their GET is answered with 403."""
    denial: str = "AccessDenied"
    """S3's code in that answer."""
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which clients find it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def refuses(self) -> bool:
        with self.lock:
            self.requests += 1
            if self.refuse <= 0:
                return False
            self.refuse -= 1
            self.refused += 1
            return True


@contextmanager
def failing_s3() -> Iterator[FailingS3]:
    """Serve on loopback while the block runs."""
    state = FailingS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def _answer(self, status: int, body: bytes = b"", etag: str | None = None) -> None:
            self.send_response(status)
            if etag:
                self.send_header("ETag", f'"{etag}"')
                self.send_header("Last-Modified", formatdate(usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            place = urlsplit(self.path)
            key, query = unquote(place.path).lstrip("/"), parse_qs(place.query)
            if state.refuses():
                self._answer(503, SLOW_DOWN)
            elif self.command == "GET" and state.denied(key):
                self._answer(
                    403, f"<Error><Code>{state.denial}</Code><Message>Not for you</Message></Error>".encode()
                )
            elif self.command == "PUT":
                state.objects[key] = body
                self._answer(200, etag=_etag(body))
            elif self.command == "DELETE":
                state.objects.pop(key, None)
                self._answer(204)
            elif "list-type" in query:
                self._answer(200, _listing(state, key.strip("/"), query.get("prefix", [""])[0]))
            elif key not in state.objects:
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                self._answer(200, state.objects[key], _etag(state.objects[key]))

        do_GET = do_PUT = do_HEAD = do_DELETE = _do  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    with serving(server):
        yield state


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _listing(state: FailingS3, bucket: str, prefix: str) -> bytes:
    keys = sorted(key.partition("/")[2] for key in state.objects if key.startswith(f"{bucket}/{prefix}"))
    rows = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{len(state.objects[f'{bucket}/{key}'])}</Size>"
        f"<ETag>{_etag(state.objects[f'{bucket}/{key}'])}</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        for key in keys
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()
