"""A proxy before the S3 server of the tests that answers 503 when told to, and passes on everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from failing_s3 import SLOW_DOWN
from loopback import serving

NOT_PASSED_ON = {"transfer-encoding", "connection", "content-length", "expect"}


def nothing(method: str, key: str) -> bool:
    """Refuse no request."""
    return False


@dataclass
class FaultyS3:
    """Where to reach it, which requests it refuses now (by method and `/bucket/key`), and how many it has."""

    endpoint_url: str
    refuses: Callable[[str, str], bool] = nothing
    refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def should_refuse(self, method: str, key: str) -> bool:
        """Return whether this request is refused, and count it."""
        if not self.refuses(method, key):
            return False
        with self._lock:
            self.refused += 1
        return True


@contextmanager
def faulty_s3(server_url: str) -> Iterator[FaultyS3]:
    """Stand before a server while the block runs."""
    target = urlsplit(server_url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if state.should_refuse(self.command, unquote(urlsplit(self.path).path)):
                self._answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)
                return
            server = HTTPConnection(target, timeout=60)
            # Unchanged, the name of the host too: it is signed.
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            server.request(self.command, self.path, body or None, headers)
            answer = server.getresponse()
            data = answer.read()
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self._answer(answer.status, answer.getheaders(), data, length)
            server.close()

        def _answer(
            self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None
        ) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in NOT_PASSED_ON:
                    self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """Clients of killed jobs hang up in the middle; nothing to say."""

    proxy = Server(("127.0.0.1", 0), Handler)
    state = FaultyS3(f"http://127.0.0.1:{proxy.server_address[1]}")
    with serving(proxy):
        yield state
