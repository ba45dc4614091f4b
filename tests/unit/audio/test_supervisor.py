from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mgc.audio.decode.sndfile import encode
from mgc.audio.decode.source import RemoteBytes
from mgc.audio.extraction import extract, extract_views
from mgc.audio.sandbox import supervisor
from mgc.audio.sandbox.supervisor import SupervisedExtractor, _one_printable_line
from mgc.audio.track_features import TrackFeatures
from mgc.audio.views import Recipe, ViewRequest
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import DecoderStartError, Stage, TrackCode, TrackError
from mgc.logs import log_context

FEATURES = FeatureConfig(n_fft=512, hop_length=256, n_mels=16, window_seconds=1.0, sample_rate=8_000)


def tone(seconds: float = 2.0, sample_rate: int = 8_000) -> bytes:
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    return encode(np.sin(440 * 2 * np.pi * time).astype(np.float32), sample_rate, "flac")


@pytest.fixture
def extractor() -> Iterator[SupervisedExtractor]:
    with SupervisedExtractor(FEATURES, DecodeConfig(time_limit_seconds=3.0)) as made:
        yield made


def child_of(extractor: SupervisedExtractor) -> int:
    assert extractor._child is not None
    return extractor._child.pid


def test_the_child_gives_what_extract_gives(extractor: SupervisedExtractor) -> None:
    here = extract(tone(), FEATURES, DecodeConfig())
    there = extractor.extract(tone())
    assert there.duration_seconds == here.duration_seconds == 2.0
    np.testing.assert_array_equal(there.log_mel, here.log_mel.astype(np.float16))


def test_windows_every_so_many_seconds_are_those_of_extract(extractor: SupervisedExtractor) -> None:
    here = extract(tone(3.0), FEATURES, DecodeConfig(), every_seconds=0.5)
    there = extractor.extract(tone(3.0), every_seconds=0.5)
    assert there.start_seconds == here.start_seconds == (0.0, 0.5, 1.0, 1.5, 2.0)
    np.testing.assert_array_equal(there.log_mel, here.log_mel.astype(np.float16))
    few = extractor.extract(tone(3.0))
    assert few.start_seconds == (0.0, 1.0, 2.0)
    np.testing.assert_array_equal(few.log_mel, there.log_mel[::2])


def test_a_bad_track_keeps_its_reason_and_the_child_goes_on(extractor: SupervisedExtractor) -> None:
    extractor.extract(tone())
    first = child_of(extractor)
    with pytest.raises(TrackError) as caught:
        extractor.extract(b"")
    assert caught.value.track_code is TrackCode.EMPTY_FILE
    assert extractor.extract(tone()).log_mel.shape == (2, FEATURES.n_frames, 16)
    assert child_of(extractor) == first


def test_a_hang_costs_one_track(extractor: SupervisedExtractor) -> None:
    extractor.extract(tone())
    hung = child_of(extractor)
    os.kill(hung, signal.SIGSTOP)
    with pytest.raises(TrackError, match="no answer within 3 s") as caught:
        extractor.extract(tone())
    assert caught.value.track_code is TrackCode.DECODE_TIMEOUT
    assert extractor.extract(tone()).duration_seconds == 2.0
    assert child_of(extractor) != hung


def test_a_child_that_dies_after_good_tracks_is_not_the_next_ones_fault(extractor: SupervisedExtractor) -> None:
    extractor.extract(tone())
    dead = child_of(extractor)
    os.kill(dead, signal.SIGSEGV)
    assert extractor.extract(tone()).duration_seconds == 2.0
    assert child_of(extractor) != dead


def test_a_crash_costs_one_track(extractor: SupervisedExtractor) -> None:
    with pytest.raises(TrackError, match="signal 11") as caught:
        extractor.extract(RemoteBytes(10**6, dying(extractor)))
    assert caught.value.track_code is TrackCode.DECODE_CRASHED
    assert extractor.extract(tone()).duration_seconds == 2.0


def test_a_child_killed_from_outside_is_not_the_tracks_fault(extractor: SupervisedExtractor) -> None:
    for _ in range(2):
        killed = child_of(extractor)
        os.kill(killed, signal.SIGKILL)
        assert extractor.extract(tone()).duration_seconds == 2.0
        assert child_of(extractor) != killed


def test_a_long_file_is_read_by_ranges(extractor: SupervisedExtractor) -> None:
    data, asked = tone(), []

    def read(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return data[start:stop]

    there = extractor.extract(RemoteBytes(len(data), read))
    here = extractor.extract(data)
    assert asked
    assert there.duration_seconds == here.duration_seconds
    np.testing.assert_array_equal(there.arrays["log_mel"], here.arrays["log_mel"])


def test_a_range_that_cannot_be_read_is_the_tracks_error(extractor: SupervisedExtractor) -> None:
    def read(start: int, stop: int) -> bytes:
        raise TrackError(TrackCode.CHANGED_SINCE_INDEX, Stage.FETCH, "it changed")

    with pytest.raises(TrackError, match="it changed"):
        extractor.extract(RemoteBytes(1_000_000, read))
    assert extractor.extract(tone()).duration_seconds == 2.0


def test_time_spent_on_reading_is_not_the_decoders() -> None:
    def read(start: int, stop: int) -> bytes:
        time.sleep(1.5)
        return tone()[start:stop]

    with SupervisedExtractor(FEATURES, DecodeConfig(time_limit_seconds=1.0)) as extractor:
        assert extractor.extract(RemoteBytes(len(tone()), read)).duration_seconds == 2.0


def test_a_child_that_talks_nonsense_is_a_crash(extractor: SupervisedExtractor) -> None:
    with pytest.raises(TrackError):
        extractor.extract(b"")
    extractor._answered = 0  # the child is ready, and answered none: it is not tried again
    pid = child_of(extractor)
    source, sink = os.pipe()
    os.write(sink, b"\xff" * 64)
    child = extractor._child
    assert child is not None
    child.stdout = os.fdopen(source, "rb", buffering=0)
    with pytest.raises(TrackError, match="the decoder died"):
        extractor.extract(tone())
    os.close(sink)
    assert extractor.extract(tone()).duration_seconds == 2.0
    assert child_of(extractor) != pid


def test_a_track_that_needs_too_much_memory_is_a_row() -> None:
    greedy = FeatureConfig(sample_rate=96_000, window_seconds=600.0, hop_length=64, n_mels=8)
    limits = DecodeConfig(memory_limit_bytes=256 * 1024**2)
    with SupervisedExtractor(greedy, limits) as extractor, pytest.raises(TrackError) as caught:
        extractor.extract(tone(1.0))
    assert caught.value.track_code is TrackCode.DECODE_MEMORY


def test_closing_ends_the_child() -> None:
    extractor = SupervisedExtractor(FEATURES, DecodeConfig())
    extractor.extract(tone())
    pid = child_of(extractor)
    extractor.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_views_come_back_one_by_one_and_partners_may_be_long_files(extractor: SupervisedExtractor) -> None:
    own, partner = tone(), tone(3.0)
    asked = [
        ViewRequest(Recipe(tempo_ratio=0.8)),
        ViewRequest(Recipe(overlay_alpha=0.5, partner="b@1"), 0),
        ViewRequest(Recipe(overlay_alpha=0.5, partner="c@1"), 1),
        ViewRequest(),
    ]
    remote = RemoteBytes(len(partner), lambda start, stop: partner[start:stop])
    there = extractor.extract_views(own, asked, [remote, b""])
    here = extract_views(own, asked, [partner, b""], FEATURES, DecodeConfig())
    assert [type(one).__name__ for one in there] == [
        "TrackFeatures",
        "TrackFeatures",
        "TrackError",
        "TrackFeatures",
    ]
    for one, other in zip(there, here, strict=True):
        if isinstance(one, TrackFeatures):
            assert isinstance(other, TrackFeatures)
            assert one.duration_seconds == other.duration_seconds
            np.testing.assert_array_equal(one.log_mel, other.log_mel.astype(np.float16))
    assert extractor.extract(own).duration_seconds == 2.0


def test_all_views_of_a_bad_track_fail_alike(extractor: SupervisedExtractor) -> None:
    found = extractor.extract_views(b"", [ViewRequest(), ViewRequest(Recipe(tempo_ratio=0.8))])
    assert [one.track_code for one in found if isinstance(one, TrackError)] == [TrackCode.EMPTY_FILE] * 2


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    return [(record.levelname, record.getMessage(), record.uri) for record in caplog.records]  # type: ignore[attr-defined]


def test_a_decode_that_is_killed_for_its_time_is_a_line(
    extractor: SupervisedExtractor, caplog: pytest.LogCaptureFixture
) -> None:
    extractor.extract(tone())
    pid = child_of(extractor)
    os.kill(pid, signal.SIGSTOP)
    with log_context(uri="/music/a.flac"), pytest.raises(TrackError):
        extractor.extract(tone())
    assert lines(caplog) == [("WARNING", f"decoding child {pid} killed: no answer within 3 s", "/music/a.flac")]


def test_a_decode_that_crashes_is_a_line_and_the_row_says_what_it_printed(
    extractor: SupervisedExtractor, caplog: pytest.LogCaptureFixture
) -> None:
    with log_context(uri="/music/a.flac"), pytest.raises(TrackError) as caught:
        extractor.extract(RemoteBytes(10**6, dying(extractor)))
    assert caught.value.track_code is TrackCode.DECODE_CRASHED
    message = caught.value.message
    assert message.startswith("the decoder died (signal 11): Fatal Python error: Segmentation fault Stack (most ")
    assert "open_audio" in message
    assert message.isprintable()
    ((level, text, uri),) = lines(caplog)
    assert (level, uri) == ("WARNING", "/music/a.flac")
    assert re.fullmatch(r"decoding child \d+ died \(signal 11\)", text)


def dying(extractor: SupervisedExtractor) -> Callable[[int, int], bytes]:
    """Return a reader of ranges that kills the child that reads."""

    def read(start: int, stop: int) -> bytes:
        os.kill(child_of(extractor), signal.SIGSEGV)
        return bytes(stop - start)

    return read


def test_a_track_that_is_tried_again_is_a_line(
    extractor: SupervisedExtractor, caplog: pytest.LogCaptureFixture
) -> None:
    extractor.extract(tone())
    pid = child_of(extractor)
    os.kill(pid, signal.SIGSEGV)
    with log_context(uri="/music/a.flac"):
        extractor.extract(tone())
    text = f"decoding child {pid} died (signal 11): its track is tried again in a fresh one"
    assert lines(caplog) == [("WARNING", text, "/music/a.flac")]


def test_a_child_that_waits_for_lost_bytes_is_a_line(
    extractor: SupervisedExtractor, caplog: pytest.LogCaptureFixture
) -> None:
    def read(start: int, stop: int) -> bytes:
        raise TrackError(TrackCode.NOT_FOUND, Stage.FETCH, "it was deleted")

    pid = child_of(extractor)
    with log_context(uri="/music/a.flac"), pytest.raises(TrackError, match="it was deleted"):
        extractor.extract(RemoteBytes(10**6, read))
    text = f"decoding child {pid} killed: it waits for bytes that cannot be read"
    assert lines(caplog) == [("WARNING", text, "/music/a.flac")]


def test_of_a_dead_childs_stderr_the_end_is_kept_in_one_printable_line(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w+b", buffering=0) as file:
        file.write(
            b"x" * 10_000 + b"\x1b[31mdouble free\n\tor \xff corruption\x00\nExtension modules: numpy (total: 1)"
        )
        printed = _one_printable_line(file)
    assert len(printed) <= 4096
    assert printed.endswith("x [31mdouble free or \ufffd corruption")


# Children that do not become ready.


def program(folder: Path, text: str) -> str:
    """Return an executable that stands where Python does: `text` is its shell script, "$@" the child's arguments."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("text", ["echo no libraries here >&2; exit 3", "echo no libraries here >&2; kill -11 $$"])
def test_a_child_that_dies_before_it_is_ready_is_an_error_of_the_run(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor.sys, "executable", program(tmp_path, text))
    with SupervisedExtractor(FEATURES, DecodeConfig()) as extractor:
        for _ in range(2):  # whatever track is next
            with pytest.raises(DecoderStartError, match=r"(exit status 3|signal 11): no libraries here") as caught:
                extractor.extract(tone())
    assert not isinstance(caught.value, TrackError)
    assert caught.value.code == "MGC504"
    assert "ulimit -a" in caught.value.remedy


def test_a_child_that_hangs_before_it_is_ready_is_an_error_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor.sys, "executable", program(tmp_path, "echo waiting for a lock >&2; exec sleep 60"))
    monkeypatch.setattr(supervisor, "START_SECONDS", 0.5)
    with SupervisedExtractor(FEATURES, DecodeConfig()) as extractor:
        pid = extractor.child_pid
        with pytest.raises(DecoderStartError, match=r"not ready after 0\.5 s: waiting for a lock"):
            extractor.extract(tone())
        assert extractor.child_pid is None
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_no_process_is_an_error_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.sys, "executable", str(tmp_path / "no such python"))
    with (
        SupervisedExtractor(FEATURES, DecodeConfig()) as extractor,
        pytest.raises(DecoderStartError, match="No such file or directory"),
    ):
        extractor.extract(tone())


def test_one_failed_start_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = f'[ -e {tmp_path}/tried ] && exec {sys.executable} "$@"; touch {tmp_path}/tried; exit 3'
    monkeypatch.setattr(supervisor.sys, "executable", program(tmp_path, once))
    with SupervisedExtractor(FEATURES, DecodeConfig()) as extractor:
        assert extractor.extract(tone()).duration_seconds == 2.0


def test_a_restart_that_fails_twice_is_an_error_of_the_run_and_the_track_before_keeps_its_own(
    extractor: SupervisedExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrackError, match="signal 11"):
        extractor.extract(RemoteBytes(10**6, dying(extractor)))
    count = f"echo start >> {tmp_path}/starts; exit 3"
    monkeypatch.setattr(supervisor.sys, "executable", program(tmp_path, count))
    with pytest.raises(DecoderStartError):
        extractor.extract(tone())
    assert (tmp_path / "starts").read_text() == "start\n" * 2


def test_a_track_of_a_damaged_child_is_not_blamed_where_no_other_starts(
    extractor: SupervisedExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor.extract(tone())
    os.kill(child_of(extractor), signal.SIGSEGV)
    monkeypatch.setattr(supervisor.sys, "executable", program(tmp_path, "exit 3"))
    with pytest.raises(DecoderStartError):
        extractor.extract(tone())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGXCPU"])
def test_a_signal_that_no_decoder_raises_is_not_the_tracks_fault(extractor: SupervisedExtractor, name: str) -> None:
    with pytest.raises(TrackError):
        extractor.extract(RemoteBytes(10**6, dying(extractor)))
    killed = []

    def read(start: int, stop: int) -> bytes:
        if not killed:
            killed.append(child_of(extractor))
            os.kill(killed[0], signal.Signals[name])
        return data[start:stop]

    data = tone()
    assert extractor.extract(RemoteBytes(len(data), read)).duration_seconds == 2.0
    assert child_of(extractor) != killed[0]


# Limits that the process was born with.

LIMITED = """
import resource, sys
from mgc.audio.features.filter_banks import filter_banks
from mgc.audio.sandbox.supervisor import SupervisedExtractor
from mgc.config import DecodeConfig, FeatureConfig
features = FeatureConfig.model_validate_json(sys.argv[1])
banks = filter_banks(features)
data = sys.stdin.buffer.read()
resource.setrlimit(int(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])))
with SupervisedExtractor(features, DecodeConfig(), banks) as extractor:
    try:
        print(extractor.extract(data).duration_seconds)
        print(open(f"/proc/{extractor.child_pid}/limits").read())
    except Exception as error:
        print(type(error).__name__, error)
"""


def limited(kind: int, soft: int, hard: int, features: FeatureConfig = FEATURES) -> str:
    settings = [features.model_dump_json(), str(kind), str(soft), str(hard)]
    done = subprocess.run([sys.executable, "-c", LIMITED, *settings], input=tone(), capture_output=True, check=True)
    return done.stdout.decode()


NO_LIMIT = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard"), [(60_000 << 20, 60_000 << 20), (700 << 20, NO_LIMIT), (700 << 20, 700 << 20)]
)
def test_a_child_works_within_the_limit_on_memory_that_there_is(soft: int, hard: int) -> None:
    printed = limited(resource.RLIMIT_AS, soft, hard)
    assert printed.startswith("2.0\n")
    (line,) = re.findall(r"Max address space +(\S+) +(\S+)", printed)
    assert int(line[0]) <= soft
    assert line[1] == ("unlimited" if hard == NO_LIMIT else str(hard))


def test_a_hard_limit_on_the_size_of_files_stays() -> None:
    printed = limited(resource.RLIMIT_FSIZE, 10_000, 10_000)
    assert printed.startswith("2.0\n")
    assert re.findall(r"Max file size +(\S+) +(\S+)", printed) == [("10000", "10000")]


@pytest.mark.parametrize("mib", [200, 450])
def test_too_low_a_limit_on_memory_is_named_with_what_is_needed(mib: int) -> None:
    printed = limited(resource.RLIMIT_AS, mib << 20, NO_LIMIT)
    assert printed.startswith("DecoderStartError the decoder does not start on ")
    assert f"processes may map {mib} MiB here (RLIMIT_AS, ulimit -v), and the decoder needs 640 MiB" in printed


def test_a_track_that_a_lower_limit_stops_says_so() -> None:
    greedy = FeatureConfig(sample_rate=96_000, window_seconds=600.0, hop_length=64, n_mels=8)
    printed = limited(resource.RLIMIT_AS, 700 << 20, 700 << 20, greedy)
    assert re.match(r"TrackError needs more than the \d+ MiB that RLIMIT_AS \(ulimit -v\) leaves to decode", printed)


def test_the_child_runs_no_module_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("random", "soundfile", "numpy", "sitecustomize", "json"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()")
    (tmp_path / "mgc").mkdir()
    (tmp_path / "mgc" / "__init__.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with SupervisedExtractor(FEATURES, DecodeConfig()) as extractor:
        assert extractor.extract(tone()).duration_seconds == 2.0
    assert not (tmp_path / "ran").exists()
