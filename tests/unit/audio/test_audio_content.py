"""Bytes held, fetched by ranges, or patched: the same bytes, and few of them at a time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from audio_samples import m4a, music, untagged_mp3

from mgc.audio.decode.sndfile import encode
from mgc.audio.decode.source import (
    BLOCK_BYTES,
    KEPT_BLOCKS,
    HeldContent,
    RangedContent,
    RemoteBytes,
    SplicedContent,
    spliced,
)
from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig

DATA = np.random.default_rng(0).bytes(3 * BLOCK_BYTES + 1_000)


class Store:
    """Counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.requests: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> bytes:
        self.requests.append((start, stop))
        return self.data[start:stop]

    def content(self) -> RangedContent:
        return RangedContent(RemoteBytes(len(self.data), self.read))


@pytest.mark.parametrize(
    "span", [(0, 4), (0, len(DATA)), (BLOCK_BYTES - 2, BLOCK_BYTES + 2), (len(DATA) - 5, 1 << 40)]
)
def test_ranges_are_the_bytes(span):
    assert Store(DATA).content().read(*span) == DATA[slice(*span)]
    assert HeldContent(DATA).read(*span) == DATA[slice(*span)]


def test_what_is_read_again_is_not_fetched_again():
    store = Store(DATA)
    content = store.content()
    for _ in range(3):
        content.read(10, 20)
        content.read(2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 9)
    assert len(store.requests) == 2


def test_a_file_that_is_read_through_is_fetched_in_few_requests_and_not_kept():
    long = bytes(200 * BLOCK_BYTES)
    store = Store(long)
    content = store.content()
    with content.open() as file:
        while file.read(100_000):
            pass
    assert len(store.requests) < 40
    assert sum(stop - start for start, stop in store.requests) == len(long)
    assert len(content._blocks) <= KEPT_BLOCKS


def test_files_seek_and_end_as_files_do():
    with Store(DATA).content().open() as file:
        assert file.seek(-5, io.SEEK_END) == len(DATA) - 5
        assert file.read() == DATA[-5:]
        assert file.read(1) == b""
        file.seek(7)
        assert (file.read(3), file.tell()) == (DATA[7:10], 10)


def test_bytes_that_do_not_come_are_an_error_and_not_an_end():
    with pytest.raises(OSError, match="fewer bytes"):
        RangedContent(RemoteBytes(1_000, lambda start, stop: b"")).read(0, 10)


@pytest.mark.parametrize("span", [(0, 12), (3, 4), (4, 6), (5, 9), (8, 20), (0, 4), (7, 7), (11, 15)])
def test_a_splice_is_a_head_and_a_part(span):
    there = SplicedContent(b"head", Store(b"0123456789").content(), 2, 7)
    held = spliced(HeldContent(b"0123456789"), 2, 7, b"head")
    for content in (there, held):
        assert content.size_bytes == 9
        assert content.read(*span) == b"head23456"[slice(*span)]
        with content.open() as file:
            assert file.read() == b"head23456"


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "m4a", "bare"])
def test_a_track_fetched_by_ranges_has_the_features_of_one_held(kind):
    samples = music(40.0, 44_100, channels=2)
    made = {"m4a": lambda: m4a(samples, 44_100), "bare": lambda: untagged_mp3(samples)}
    data = made.get(kind, lambda: encode(samples, 44_100, kind))()
    features, limits = FeatureConfig(window_seconds=2.0, max_windows=3), DecodeConfig()
    store = Store(data)
    there, here = extract(store.content(), features, limits), extract(data, features, limits)
    assert there.duration_seconds == here.duration_seconds
    for name, values in here.arrays.items():
        np.testing.assert_array_equal(there.arrays[name], values)
    if kind in ("wav", "flac"):
        assert sum(stop - start for start, stop in store.requests) < 0.7 * len(data)
