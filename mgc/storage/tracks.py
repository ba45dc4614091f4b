"""A track's bytes for the decoding child: held, or, of a long file, read by ranges as they are asked for."""

from __future__ import annotations

from functools import partial

from mgc.audio.decode.content import RemoteBytes
from mgc.config import DecodeConfig
from mgc.storage.store import fetch_uri, fetch_uri_range


def fetch_track(uri: str, limits: DecodeConfig, expected_content_id: str | None = None) -> bytes | RemoteBytes:
    """Return a track's bytes, or where they are if the file is longer than `limits.whole_file_bytes`.

    Parameters
    ----------
    expected_content_id
        The catalogue's; another content is refused. None: whatever is there.

    Raises
    ------
    TrackError
        See `Store.fetch`.
    """
    found = fetch_uri(uri, limits.max_file_bytes, expected_content_id, limits.whole_file_bytes)
    if isinstance(found, bytes):
        return found
    return RemoteBytes(found.size_bytes, partial(fetch_uri_range, uri, of=found))
