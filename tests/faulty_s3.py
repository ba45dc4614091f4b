"""A proxy before the S3 server of the tests that injects faults when told to, and passes on everything else."""

from __future__ import annotations

import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from loopback import serving

NOT_PASSED_ON = {"transfer-encoding", "connection", "content-length", "expect"}

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Request:
    """What a client wants: the method, `/bucket/key`, and the query."""

    method: str
    key: str
    query: dict[str, list[str]]

    @property
    def is_listing(self) -> bool:
        return self.method == "GET" and "list-type" in self.query


@dataclass(frozen=True)
class Fault:
    """What becomes of one request.

    Parameters
    ----------
    delay_seconds
        Waited before anything else.
    status, code
        Answered instead of what the server says; 0: the server's own answer.
    after
        The server does what was requested all the same, and only its answer is lost.
    change
        What is made of the body of the server's answer; `Content-Length` is that of the result.
    reset_at
        Share of the body after which the connection is reset; None: never.
    bytes_per_second
        How fast the body comes; None: at once.
    """

    delay_seconds: float = 0.0
    status: int = 0
    code: str = "SlowDown"
    after: bool = False
    change: Callable[[bytes], bytes] = bytes
    reset_at: float | None = None
    bytes_per_second: float | None = None


REFUSED = Fault(status=503)
FAILED = Fault(status=500, code="InternalError")
FAILED_AFTER_SUCCESS = Fault(status=500, code="InternalError", after=True)
DENIED = Fault(status=403, code="AccessDenied")
EXPIRED = Fault(status=400, code="ExpiredToken")
SLOW = Fault(delay_seconds=2.0)
RESET = Fault(reset_at=0.5)
SHORT = Fault(change=lambda body: body[: len(body) // 2])
FLIPPED = Fault(
    change=lambda body: body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]
)
TRICKLE = Fault(bytes_per_second=1.0)

_TOKENS = itertools.count()


def _endless(body: bytes) -> bytes:
    """Say that a page of a listing is not the last, by a token that is another one each time."""
    whole = re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", body)
    token = b"<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>" % next(_TOKENS)
    return re.sub(rb"<IsTruncated>\w+</IsTruncated>", token, whole)


def _without_token(body: bytes) -> bytes:
    return re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", _endless(body))


def _twice(body: bytes) -> bytes:
    """Repeat the entries of a page within it."""
    entries = re.findall(rb"<Contents>.*?</Contents>", body, re.DOTALL)
    return body.replace(b"</ListBucketResult>", b"".join(entries) + b"</ListBucketResult>")


ENDLESS_LISTING = Fault(change=_endless)
NO_TOKEN = Fault(change=_without_token)
REPEATED_LISTING = Fault(change=_twice)


def nothing(method: str, key: str) -> bool:
    """Refuse no request."""
    return False


@dataclass
class FaultyS3:
    """Where to reach it, what it does to which requests, and how many it has hurt.

    Parameters
    ----------
    refuses
        By method and `/bucket/key`: whether a request is answered with 503.
    inject
        Of a request: its fault, or None.
    """

    endpoint_url: str
    refuses: Callable[[str, str], bool] = nothing
    inject: Callable[[Request], Fault | None] = lambda request: None
    refused: int = 0
    requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, request: Request) -> Fault:
        """Return what becomes of a request, and count it."""
        found = REFUSED if self.refuses(request.method, request.key) else self.inject(request)
        with self._lock:
            self.requests += 1
            self.refused += found is not None
        return found or Fault()


@contextmanager
def faulty_s3(server_url: str) -> Iterator[FaultyS3]:
    """Stand before a server while the block runs."""
    target = urlsplit(server_url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def _pass_on(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            place = urlsplit(self.path)
            fault = state.fault(Request(self.command, unquote(place.path), parse_qs(place.query, True)))
            time.sleep(fault.delay_seconds)
            if not fault.status:
                status, headers, body, length = self._served(sent)
                body = fault.change(body) if body else body
                self._answer(status, headers, length or len(body))
                self._send(body, fault)
                return
            if fault.after:
                self._served(sent)
            body = (
                f"<Error><Code>{fault.code}</Code><Message>{MESSAGES.get(fault.code, '')}</Message></Error>".encode()
            )
            self._answer(fault.status, [("Content-Type", "application/xml")], len(body))
            self._send(body, Fault())

        def _served(self, sent: bytes) -> tuple[int, Headers, bytes, int]:
            """Return the server's status, headers and body; and, for HEAD alone, the length of the object."""
            server = HTTPConnection(target, timeout=60)
            # Unchanged, the name of the host too: it is signed.
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            server.request(self.command, self.path, sent or None, headers)
            answer = server.getresponse()
            data = answer.read()
            length = int(answer.getheader("Content-Length") or 0) if self.command == "HEAD" else 0
            server.close()
            return answer.status, answer.getheaders(), data, length

        def _answer(self, status: int, headers: Headers, length: int) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in NOT_PASSED_ON:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def _send(self, body: bytes, fault: Fault) -> None:
            if self.command == "HEAD":
                return
            if fault.reset_at is not None:
                self.wfile.write(body[: int(len(body) * fault.reset_at)])
                self.wfile.flush()
                # Closed with nothing to linger for: a reset, and no orderly end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            elif fault.bytes_per_second is None:
                self.wfile.write(body)
            else:
                for at in range(len(body)):
                    self.wfile.write(body[at : at + 1])
                    self.wfile.flush()
                    time.sleep(1.0 / fault.bytes_per_second)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Clients of killed jobs hang up in the middle; nothing to say."""

    proxy = Server(("127.0.0.1", 0), Handler)
    state = FaultyS3(f"http://127.0.0.1:{proxy.server_address[1]}")
    with serving(proxy):
        yield state


MESSAGES = {
    "SlowDown": "Please reduce your request rate.",
    "InternalError": "We encountered an internal error. Please try again.",
    "AccessDenied": "Access Denied",
    "ExpiredToken": "The provided token has expired.",
}
