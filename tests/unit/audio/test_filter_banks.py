"""Filter banks are librosa's, made once: from the cache or from hand to hand they come without librosa."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
from audio_samples import music

from mgc.audio.decode.sndfile import encode
from mgc.audio.features import filter_banks as module
from mgc.audio.features.filter_banks import FilterBanks, filter_banks, hold
from mgc.config import FeatureConfig

FEATURES = FeatureConfig(
    sample_rate=16_000, n_fft=512, n_mels=40, f_min=40.0, f_max=7_600.0, mel_scale="htk", chroma_tuning=0.2
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache's folder, which is not there yet; this process holds no banks either."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "_held", {})
    forget()
    return tmp_path / "mgc"


def forget() -> None:
    module._cached.cache_clear()


def cache_file(features: FeatureConfig) -> Path:
    return module._cache_file(module._Settings.of(features))


def assert_equal(one: FilterBanks, other: FilterBanks) -> None:
    for name, array in vars(other).items():
        np.testing.assert_array_equal(getattr(one, name), array, strict=True)


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


no_librosa = raising(AssertionError("librosa was called for banks that are there"))


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize(
    ("settings", "f_max"),
    [
        ({}, 11_025.0),
        ({"f_max": 8_000.0, "f_min": 27.5, "n_mels": 96, "mel_scale": "htk", "chroma_tuning": -0.3}, 8_000.0),
        ({"sample_rate": 8_000, "n_fft": 64, "hop_length": 32, "n_mels": 200}, 4_000.0),  # some are empty
    ],
)
def test_banks_are_librosas(cache, settings, f_max):
    features = FeatureConfig(**settings)
    htk, ends = features.mel_scale == "htk", {"fmin": features.f_min, "fmax": f_max}
    rate, n_fft, n_mels = features.sample_rate, features.n_fft, features.n_mels
    banks = filter_banks(features)
    assert banks.mel.dtype == banks.chroma.dtype == np.float32
    np.testing.assert_array_equal(
        banks.mel, librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, htk=htk, norm="slaney", **ends)
    )
    np.testing.assert_array_equal(banks.mel_hz, librosa.mel_frequencies(n_mels + 2, htk=htk, **ends))
    np.testing.assert_array_equal(
        banks.chroma, librosa.filters.chroma(sr=rate, n_fft=n_fft, tuning=features.chroma_tuning)
    )


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_positions_are_those_in_mel_to_a_twentieth_of_a_band(cache, scale):
    features = FeatureConfig(mel_scale=scale)
    hz = [0.0, 50.0, 440.0, 1_000.0, 5_512.5, 11_025.0]
    mel = librosa.hz_to_mel(hz, htk=scale == "htk")
    np.testing.assert_allclose(filter_banks(features).mel_position(hz) * 128, mel / mel[-1] * 128, atol=0.05)
    assert filter_banks(features).mel_position(20_000.0) == 1.0


def test_banks_are_kept_for_the_next_process(cache, monkeypatch):
    made = filter_banks(FEATURES)
    assert filter_banks(FEATURES) is made
    forget()
    monkeypatch.setattr(module, "_by_librosa", no_librosa)
    assert_equal(filter_banks(FEATURES), made)
    assert list(cache.iterdir()) == [cache_file(FEATURES)]


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 22_050},
        {"n_fft": 1_024},
        {"n_mels": 41},
        {"f_min": 41.0},
        {"f_max": None},
        {"mel_scale": "slaney"},
        {"chroma_tuning": 0.0},
    ],
)
def test_other_settings_are_another_file(cache, change):
    assert cache_file(FEATURES.model_copy(update=change)) != cache_file(FEATURES)


def test_settings_that_banks_do_not_depend_on_share_a_file(cache):
    assert cache_file(FEATURES.model_copy(update={"hop_length": 100, "n_mfcc": 3})) == cache_file(FEATURES)


def test_another_librosa_is_another_file(cache, monkeypatch):
    before = cache_file(FEATURES)
    monkeypatch.setattr(module, "version", lambda _: "0.12.0")
    assert cache_file(FEATURES) != before


@pytest.mark.parametrize("damage", ["empty", "half", "a changed byte", "text", "another archive"])
def test_a_damaged_file_is_made_anew(cache, damage):
    made = filter_banks(FEATURES)
    path = cache_file(FEATURES)
    data = path.read_bytes()
    if damage == "another archive":
        np.savez(path, mel=made.mel)
    else:
        changed = data[:5_000] + bytes([data[5_000] ^ 1]) + data[5_001:]
        damaged = {"empty": b"", "half": data[: len(data) // 2], "a changed byte": changed, "text": b"no archive"}
        path.write_bytes(damaged[damage])
    forget()
    assert_equal(filter_banks(FEATURES), made)
    assert path.read_bytes() == data


@pytest.mark.parametrize("obstacle", ["a file in the way", "no home", "disk full"])
def test_without_a_cache_banks_are_made(cache, monkeypatch, obstacle):
    if obstacle == "a file in the way":
        cache.write_bytes(b"")
    elif obstacle == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "expanduser", raising(RuntimeError("Could not determine home directory.")))
    else:
        monkeypatch.setattr(np, "savez", raising(OSError(errno.ENOSPC, "No space left on device")))
    assert filter_banks(FEATURES).mel.shape == (40, 257)
    assert not list(cache.glob("*"))


def test_writers_at_once_leave_one_whole_file(cache):
    banks, path = filter_banks(FEATURES), cache_file(FEATURES)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: module._write(path, banks), range(40)))
    assert list(cache.iterdir()) == [path]
    forget()
    assert_equal(filter_banks(FEATURES), banks)


POISON = "import pathlib; pathlib.Path(__file__).with_suffix('.imported').touch(); raise SystemExit"
"""In place of librosa and numba: an import ends the process and leaves its mark."""

WORKER = """
import pickle, sys
from mgc.audio.sandbox.supervisor import SupervisedExtractor
from mgc.config import DecodeConfig, FeatureConfig

features = FeatureConfig.model_validate_json(sys.argv[1])
banks = pickle.load(sys.stdin.buffer)
with SupervisedExtractor(features, DecodeConfig(), banks) as extractor:
    track = extractor.extract(open(sys.argv[2], "rb").read())
    assert not {"librosa", "numba", "scipy.signal", "torch", "ray"} & {*sys.modules}
    with open(f"/proc/{extractor.child_pid}/maps") as maps:
        assert not [line for line in maps if "llvmlite" in line or "numba" in line]
    print(*track.log_mel.shape, *track.arrays["chroma"].shape)
"""


@pytest.mark.parametrize("source", ["a warm cache", "handed over"])
def test_workers_do_not_pay_for_librosa(cache, tmp_path, source):
    features = FEATURES.model_copy(update={"window_seconds": 1.0, "frames": ("log_mel", "chroma", "mfcc")})
    banks = filter_banks(features)
    if source == "handed over":
        cache_file(features).unlink()
    poison = tmp_path / "poison"
    poison.mkdir()
    for name in ("librosa", "numba"):
        (poison / f"{name}.py").write_text(POISON)
    song = tmp_path / "song.wav"
    song.write_bytes(encode(music(2.0, 16_000), 16_000, "wav"))
    done = subprocess.run(
        [sys.executable, "-c", WORKER, features.model_dump_json(), song],
        input=pickle.dumps(None if source == "a warm cache" else banks),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(poison), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not list(poison.glob("*.imported"))
    assert done.stdout.split() == [b"2", b"32", b"40", b"2", b"32", b"12"]


def test_what_is_held_is_what_is_returned(cache, monkeypatch):
    made = filter_banks(FEATURES)
    forget()
    monkeypatch.setattr(module, "_by_librosa", no_librosa)
    cache_file(FEATURES).unlink()
    hold({FEATURES: made})
    assert filter_banks(FEATURES.model_copy(update={"hop_length": 100})) is made
