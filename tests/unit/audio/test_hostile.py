"""Hostile files through the supervised child: each gets its row in time, and the next track is none the worse."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from audio_samples import music
from hostile_files import HOSTILE_FILES, hanging_wav, nested_files

from mgc.audio.decode.sndfile import encode
from mgc.audio.sandbox.supervisor import SupervisedExtractor
from mgc.audio.track_features import TrackFeatures
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import Stage, TrackCode, TrackError

FEATURES = FeatureConfig(n_fft=512, hop_length=256, n_mels=16, window_seconds=1.0, sample_rate=8_000)
LIMITS = DecodeConfig(time_limit_seconds=2.0, memory_limit_bytes=512 * 1024**2)
SLACK_SECONDS = 20.0
"""A child's start, on a machine with other work."""

MISCHIEF = """
import os, signal
import numpy as np
import mgc.audio.extraction as extraction
real = extraction.open_audio

def open_audio(data, limits):
    mark = data.read(0, 4)
    if mark == b"SEGV":
        os.kill(os.getpid(), signal.SIGSEGV)
    if mark == b"EXIT":
        os._exit(7)
    if mark == b"LOOP":
        while True:
            pass
    if mark == b"EATS":
        eaten = []
        while True:
            eaten.append(np.empty(1 << 26, np.uint8))  # not touched: what is limited is address space
    if mark == b"OOPS":
        raise KeyError("nobody thought of that")
    return real(data, limits)

extraction.open_audio = open_audio
"""
"""Run by the child at its start: what a fault in a decoder library may do."""


@pytest.fixture(scope="module")
def good() -> bytes:
    return encode(music(2.0, 8_000), 8_000, "flac")


@pytest.fixture(scope="module")
def extractor() -> Iterator[SupervisedExtractor]:
    with SupervisedExtractor(FEATURES, LIMITS) as made:
        yield made


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_hostile_file_gets_its_row_in_time(extractor: SupervisedExtractor, name: str) -> None:
    hostile = HOSTILE_FILES[name]
    data = hostile.make()
    started = time.monotonic()
    track, error = outcome(extractor, data)
    assert time.monotonic() - started < LIMITS.time_limit_seconds + SLACK_SECONDS
    assert (error.track_code if error else None) == hostile.code
    if error is not None:
        assert error.stage in (Stage.DECODE, Stage.FEATURES)
        assert 0 < len(error.message) < 500
        assert "\n" not in error.message
    if track is not None:
        assert np.isfinite(track.log_mel).all()
        if hostile.seconds is not None:
            assert track.duration_seconds == pytest.approx(hostile.seconds, rel=1e-3, abs=0.05)


def test_the_neighbours_go_through(extractor: SupervisedExtractor, good: bytes) -> None:
    before = extractor.extract(good)
    with pytest.raises(TrackError) as caught:
        extractor.extract(hanging_wav())
    assert caught.value.track_code is TrackCode.DECODE_TIMEOUT
    after = extractor.extract(good)
    np.testing.assert_array_equal(after.log_mel, before.log_mel)


def test_the_file_that_hangs_is_that_of_the_issue() -> None:
    assert len(hanging_wav()) == 157


@pytest.mark.parametrize(
    ("mark", "code", "said"),
    [
        (b"SEGV", TrackCode.DECODE_CRASHED, "signal 11"),
        (b"EXIT", TrackCode.DECODE_CRASHED, "exit status 7"),
        (b"LOOP", TrackCode.DECODE_TIMEOUT, "no answer within 2 s"),
        (b"EATS", TrackCode.DECODE_MEMORY, "more than 512 MiB"),
        (b"OOPS", TrackCode.FEATURES_FAILED, "nobody thought of that"),
    ],
)
def test_a_fault_in_a_library_costs_one_track(
    mark: bytes, code: TrackCode, said: str, good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(MISCHIEF)
    monkeypatch.syspath_prepend(str(tmp_path))
    with SupervisedExtractor(FEATURES, LIMITS) as extractor:
        for _ in range(2):
            assert extractor.extract(good).duration_seconds == 2.0
            with pytest.raises(TrackError, match=said) as caught:
                extractor.extract(mark + bytes(1_000))
            assert caught.value.track_code is code
        assert extractor.extract(good).duration_seconds == 2.0


DIES_WHILE_IT_HANGS = """
import os, sys
from mgc.audio.sandbox.supervisor import SupervisedExtractor
from mgc.config import DecodeConfig, FeatureConfig

extractor = SupervisedExtractor(FeatureConfig(), DecodeConfig(time_limit_seconds=1.0))
extractor._limit, extractor._kill = 0.3, lambda: os._exit(0)
print(extractor.child_pid, flush=True)
extractor.extract(bytes.fromhex(sys.argv[1]))
"""


def test_a_decoder_that_hangs_ends_itself_where_its_worker_is_dead() -> None:
    command = [sys.executable, "-c", DIES_WHILE_IT_HANGS, hanging_wav().hex()]
    child = int(subprocess.run(command, capture_output=True, check=True).stdout)
    deadline = time.monotonic() + SLACK_SECONDS
    while runs(child):
        assert time.monotonic() < deadline, "an orphan takes a core for ever"
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Return whether there is such a process, and not only what is left of it."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nothing_else_is_opened(extractor: SupervisedExtractor, good: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "secret.flac"
    secret.write_bytes(good)
    with listening() as (port, knocks):
        for target in (str(secret), f"file://{secret}", f"http://127.0.0.1:{port}/song.flac"):
            for name, data in nested_files(target).items():
                track, error = outcome(extractor, data)
                assert error is None or error.track_code in (TrackCode.NOT_AUDIO, TrackCode.DECODE_FAILED), name
                assert track is None or track.duration_seconds != 2.0, f"{name} led to {target}"
        assert knocks == []


def outcome(extractor: SupervisedExtractor, data: bytes) -> tuple[TrackFeatures | None, TrackError | None]:
    try:
        return extractor.extract(data), None
    except TrackError as error:
        return None, error


class listening:  # noqa: N801 - reads as a verb in a with statement
    """A server on loopback that remembers who came."""

    def __enter__(self) -> tuple[int, list[object]]:
        self._socket = socket.create_server(("127.0.0.1", 0))
        knocks: list[object] = []
        threading.Thread(target=self._serve, args=(knocks,), daemon=True).start()
        return self._socket.getsockname()[1], knocks

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self, knocks: list[object]) -> None:
        while True:
            try:
                connection, who = self._socket.accept()
            except OSError:
                return
            knocks.append(who)
            connection.close()
