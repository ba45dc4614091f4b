"""Logging under the logger "mgc": lines for what a person may want to look into, each with its run, track and URI.

`log.warning(…)` fills the record's `run_id`, `track_id` and `uri` from the `log_context` around it. Commands write
lines to stderr from `logs.level` on, as text or as JSON (`logs.format`). A worker's lines also travel to the driver,
with the rows of its next chunk.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from mgc.printable import printable

FIELDS = ("run_id", "track_id", "uri")
"""What a record says beside its message; None where it is not known."""

MOST_KEPT = 1_000
"""Records of a worker that wait for its next chunk; older ones are only in the worker's own stderr."""

LOGGER = logging.getLogger("mgc")

_CONTEXT: ContextVar[Mapping[str, str | None]] = ContextVar(
    "mgc_log_context", default=MappingProxyType(dict.fromkeys(FIELDS))
)


@contextmanager
def log_context(**values: str) -> Iterator[None]:
    """Let the records of the block name a run, a track or a URI (`FIELDS`).

    A thread that is begun in the block has its context only where it runs in `contextvars.copy_context()`.
    """
    token = _CONTEXT.set({**_CONTEXT.get(), **values})
    try:
        yield
    finally:
        _CONTEXT.reset(token)


class _WithContext(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": dict(_CONTEXT.get())}


log = _WithContext(LOGGER)


def configure_logging(level: str | int = logging.WARNING, line_format: str = "text") -> None:
    """Write lines of this level and above to stderr, as `text` or as `json`."""
    LOGGER.setLevel(level.upper() if isinstance(level, str) else level)
    _LINES.line_format = line_format
    LOGGER.addHandler(_LINES)


def log_settings() -> tuple[int, str]:
    """Return what `configure_logging` was given, for other processes."""
    return LOGGER.getEffectiveLevel(), _LINES.line_format


def json_line(message: str, **fields: str) -> str | None:
    """Return a command's last word as a line of the log where lines are JSON; else None."""
    record = logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "msg": message, **fields})
    return _LINES.format(record) if _LINES.line_format == "json" else None


class _StderrLines(logging.Handler):
    """Writes one line a record to what `sys.stderr` is at that time."""

    line_format = "text"

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr
        # While rich shows progress it stands in for sys.stderr and prints above it; a file gets the line itself.
        own = getattr(stream, "rich_proxied_file", stream)
        print(self.format(record), file=stream if own.isatty() else own, flush=True)

    def format(self, record: logging.LogRecord) -> str:
        if self.line_format == "json":
            return json.dumps(_json_fields(record))
        named = [f"{name}={value}" for name in FIELDS if (value := getattr(record, name, None))]
        # One record is one line: neither a name nor what a library reports may end it or control the terminal.
        return printable(f"mgc {record.levelname.lower()}: {' '.join([record.getMessage(), *named])}")


def _json_fields(record: logging.LogRecord) -> dict[str, str | None]:
    node, _, pid = str(getattr(record, "origin", _origin())).rpartition(":")
    ended = {name: getattr(record, name) for name in ("code", "remedy") if hasattr(record, name)}
    return {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "message": record.getMessage(),
        **ended,
        **{name: getattr(record, name, None) for name in FIELDS},
        "node": node,
        "pid": pid,
    }


_LINES = _StderrLines()


class _WorkerRecords(logging.Handler):
    """Keeps a worker's records until they travel to the driver."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[str] = deque(maxlen=MOST_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        kept = {name: getattr(record, name, None) for name in ("levelno", "levelname", "created", *FIELDS)}
        self._kept.append(json.dumps({**kept, "msg": record.getMessage(), "origin": _origin()}))

    def take(self) -> list[str]:
        """Return the records since the last call, as JSON."""
        self.acquire()
        try:
            taken = list(self._kept)
            self._kept.clear()
        finally:
            self.release()
        return taken


_WORKER_RECORDS = _WorkerRecords()


def keep_worker_records(level: int, line_format: str = "text") -> None:
    """Log in a worker as the driver does (`log_settings`), and keep its records for `take_worker_records`."""
    configure_logging(level, line_format)
    LOGGER.addHandler(_WORKER_RECORDS)


def take_worker_records() -> list[str]:
    """Return this worker's records since the last call, for `log_worker_records` in the driver."""
    return _WORKER_RECORDS.take()


def log_worker_records(records: Iterable[str]) -> None:
    """Log what other processes logged."""
    for text in records:
        record = json.loads(text)
        if record["origin"] != _origin():
            LOGGER.handle(logging.makeLogRecord(record))


def _origin() -> str:
    return f"{platform.node()}:{os.getpid()}"
