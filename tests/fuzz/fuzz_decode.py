"""Mutate real files of every format and hear them through the supervised child.

    python tests/fuzz/fuzz_decode.py --files 10000 --seed 1 --save offenders
    python tests/fuzz/fuzz_decode.py --replay offenders/1-00042-T208_DECODE_CRASHED.bin

A mutation is decided by (seed, number): any file can be made again. Prints how often each code came, the child's
restarts and the time; saves the files on which the child hung, crashed, ran out of memory or met a fault of ours.
Ends with status 1 if there was a fault of ours: T301, or features that are not finite.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from audio_samples import ape_tag, id3v1, id3v2, m4a, music, untagged_mp3, with_pyav

from mgc.audio.decode.sndfile import encode
from mgc.audio.sandbox.supervisor import SupervisedExtractor
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import TrackCode, TrackError

FEATURES = FeatureConfig(n_fft=256, hop_length=256, n_mels=8, window_seconds=0.25, max_windows=3, sample_rate=8_000)
LIMITS = DecodeConfig(time_limit_seconds=5.0, memory_limit_bytes=1024**3)
WORTH_SAVING = (
    TrackCode.DECODE_TIMEOUT,
    TrackCode.DECODE_CRASHED,
    TrackCode.DECODE_MEMORY,
    TrackCode.FEATURES_FAILED,
)
INTERESTING = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF8, 2**63)
HEADER_BYTES = 512

Bytes = bytearray
Generator = np.random.Generator


def seed_files() -> dict[str, bytes]:
    """Return a short good file of every format that mgc reads."""
    mono, stereo = music(1.0, 22_050), music(1.0, 44_100, channels=2)
    files = {f"wav {subtype}": encode(mono, 22_050, "wav", subtype=subtype) for subtype in WAV_SUBTYPES}
    files |= {kind: encode(stereo, 44_100, kind) for kind in ("flac", "mp3", "ogg", "au", "aiff", "caf", "w64")}
    files |= {
        "flac 24 bits": encode(music(1.0, 96_000), 96_000, "flac", subtype="PCM_24"),
        "flac of six channels": encode(music(0.5, 22_050, channels=6), 22_050, "flac"),
        "opus": encode(music(1.0, 48_000), 48_000, "opus"),
        "mp3 at 22 kHz": encode(mono, 22_050, "mp3"),
        "mp3 untagged": untagged_mp3(stereo),
        "mp3 in tags": id3v2(3_000) + encode(stereo, 44_100, "mp3") + ape_tag() + id3v1(),
        "m4a": m4a(stereo, 44_100),
        "adts": with_pyav(stereo, 44_100, "adts", "aac"),
        "alac": with_pyav(mono, 22_050, "ipod", "alac", "s16p"),
        "wma": with_pyav(stereo, 44_100, "asf", "wmav2"),
        "matroska": with_pyav(music(1.0, 48_000), 48_000, "matroska", "libopus", "flt"),
        "ac3": with_pyav(music(1.0, 48_000), 48_000, "ac3", "ac3"),
        "mp2": with_pyav(mono, 22_050, "mp2", "mp2", "s16"),
        "tta": with_pyav(mono, 22_050, "tta", "tta", "s16"),
        "wavpack": with_pyav(mono, 22_050, "wv", "wavpack", "s32p"),
    }
    low = music(0.5, 22_050)
    files |= {
        f"{kind} behind {kind}": files[kind] + encode(low, 22_050, kind) for kind in ("flac", "mp3", "ogg", "aiff")
    }
    files |= {
        "wav behind wav": files["wav PCM_16"] + files["wav PCM_24"],
        "opus and vorbis": files["opus"] + files["ogg"],
        "adts of two rates": files["adts"] + with_pyav(low, 22_050, "adts", "aac"),
        "ac3 behind ac3": files["ac3"] + with_pyav(music(0.5, 32_000), 32_000, "ac3", "ac3"),
        "m4a behind m4a": files["m4a"] + files["alac"],
    }
    return files


WAV_SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")


def mutated(seeds: list[bytes], random: Generator) -> bytes:
    """Return one of the seeds with one to four things done to it."""
    data = bytearray(seeds[random.integers(len(seeds))])
    for _ in range(random.integers(1, 5)):
        change = CHANGES[random.integers(len(CHANGES))]
        data = change(data, seeds, random)
    return bytes(data)


def _span(data: Bytes, random: Generator) -> slice:
    start = int(random.integers(len(data) + 1))
    return slice(start, start + int(2 ** random.uniform(0, 12)))


def flip_bits(data: Bytes, seeds: list[bytes], random: Generator) -> Bytes:
    for place in random.integers(0, max(1, len(data)), int(2 ** random.uniform(0, 8))):
        if place < len(data):
            data[place] ^= 1 << int(random.integers(8))
    return data


def flip_header_bits(data: Bytes, seeds: list[bytes], random: Generator) -> Bytes:
    for place in random.integers(0, HEADER_BYTES, int(random.integers(1, 9))):
        if place < len(data):
            data[place] ^= 1 << int(random.integers(8))
    return data


def edit_field(data: Bytes, seeds: list[bytes], random: Generator) -> Bytes:
    width = int(random.choice([1, 2, 4, 8]))
    place = int(random.integers(HEADER_BYTES if random.random() < 0.8 else max(1, len(data))))
    value = INTERESTING[random.integers(len(INTERESTING))] & (1 << 8 * width) - 1
    data[place : place + width] = value.to_bytes(width, "little" if random.random() < 0.5 else "big")
    return data


def truncate(data: Bytes, seeds: list[bytes], random: Generator) -> Bytes:
    return data[: int(random.integers(len(data) + 1))]


def cut_out(data: Bytes, seeds: list[bytes], random: Generator) -> Bytes:
    del data[_span(data, random)]
    return data


def repeat(data: Bytes, seeds: list[bytes], random: Generator) -> Bytes:
    piece = data[_span(data, random)]
    place = int(random.integers(len(data) + 1))
    data[place:place] = piece * int(random.integers(1, 20))
    return data


def overwrite(data: Bytes, seeds: list[bytes], random: Generator) -> Bytes:
    span = _span(data, random)
    n_bytes = len(data[span])
    data[span] = random.bytes(n_bytes) if random.random() < 0.5 else bytes([int(random.integers(256))]) * n_bytes
    return data


def splice(data: Bytes, seeds: list[bytes], random: Generator) -> Bytes:
    other = seeds[random.integers(len(seeds))]
    return data[: int(random.integers(len(data) + 1))] + other[int(random.integers(len(other))) :]


def prepend(data: Bytes, seeds: list[bytes], random: Generator) -> Bytes:
    return bytearray(random.bytes(int(2 ** random.uniform(0, 12)))) + data


CHANGES: tuple[Callable[[Bytes, list[bytes], Generator], Bytes], ...] = (
    flip_bits,
    flip_header_bits,
    flip_header_bits,
    edit_field,
    edit_field,
    truncate,
    cut_out,
    repeat,
    overwrite,
    splice,
    prepend,
)


@dataclass
class Tally:
    """What came of the files so far."""

    codes: Counter[str] = field(default_factory=Counter)
    offenders: list[str] = field(default_factory=list)
    restarts: int = 0
    faults: int = 0
    slowest_seconds: float = 0.0


def fuzz(count: int, seed: int, save: Path | None) -> Tally:
    """Hear `count` mutated files; where `save` is given, keep there what went badly."""
    seeds, tally = list(seed_files().values()), Tally()
    with SupervisedExtractor(FEATURES, LIMITS) as extractor:
        child = extractor.child_pid
        for number in range(count):
            data = mutated(seeds, np.random.default_rng([seed, number]))
            started = time.monotonic()
            verdict = hear(extractor, data)
            tally.slowest_seconds = max(tally.slowest_seconds, time.monotonic() - started)
            tally.codes[verdict] += 1
            # Killed, there is none until the next file; or another answered in its place.
            now = extractor.child_pid
            tally.restarts += now is None or child not in (None, now)
            child = now
            tally.faults += verdict in FAULTS
            if verdict in {*WORTH_SAVING, *FAULTS}:
                name = f"{seed}-{number:05d}-{verdict}.bin"
                tally.offenders.append(name)
                if save is not None:
                    save.mkdir(parents=True, exist_ok=True)
                    (save / name).write_bytes(data)
    return tally


NOT_FINITE = "features not finite"
FAULTS = (TrackCode.FEATURES_FAILED.value, NOT_FINITE)


def hear(extractor: SupervisedExtractor, data: bytes) -> str:
    """Return the code of a file, or `decoded`."""
    try:
        track = extractor.extract(data)
    except TrackError as error:
        return error.track_code.value
    finite = all(np.isfinite(values).all() for values in track.arrays.values())
    return "decoded" if finite and np.isfinite(track.duration_seconds) else NOT_FINITE


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="folder for the files that went badly")
    parser.add_argument("--replay", type=Path, help="hear this one file instead")
    wanted = parser.parse_args()
    if wanted.replay:
        with SupervisedExtractor(FEATURES, LIMITS) as extractor:
            print(hear(extractor, wanted.replay.read_bytes()))
        return 0
    started = time.monotonic()
    tally = fuzz(wanted.files, wanted.seed, wanted.save)
    for code, count in tally.codes.most_common():
        print(f"{count:8d}  {code}")
    print(f"{tally.restarts:8d}  restarts of the child; the slowest file took {tally.slowest_seconds:.1f} s")
    print(f"{wanted.files:8d}  files in {time.monotonic() - started:.0f} s, every one with an answer")
    for name in tally.offenders:
        print(f"          {name}")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
