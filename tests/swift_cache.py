"""What memcached is for a Swift cluster, in the one process of the test server's proxy.

Without it the proxy asks the account and container servers about the bucket again at each request, which no
deployment does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Any]


class ProcessCache:
    """The methods of `swift.common.memcached.MemcacheRing` that Swift's middleware call, over a dict."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Any, float]] = {}

    def set(self, key: str, value: Any, serialize: bool = True, time: float = 0, **_: Any) -> None:
        self._held[key] = (value, _end(time))

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        value, end = self._held.get(key, (None, 0.0))
        if end >= _now():
            return value
        self._held.pop(key, None)
        return None

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + delta)
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -delta, time)

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._held.pop(key, None)

    def set_multi(self, mapping: dict[str, Any], server_key: str, serialize: bool = True, time: float = 0) -> None:
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: list[str], server_key: str) -> list[Any]:
        return [self.get(key) for key in keys]


def filter_factory(_: dict[str, str], **__: str) -> Callable[[Wsgi], Wsgi]:
    """Paste's factory of the middleware that hands the cache to the others."""
    cache = ProcessCache()

    def wrap(app: Wsgi) -> Wsgi:
        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return answer

    return wrap


def _now() -> float:
    return time.monotonic()


def _end(seconds: float) -> float:
    return _now() + seconds if seconds else float("inf")
