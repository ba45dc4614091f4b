"""The demo catalogue on disk: a few dozen clips in four styles, laid out as a collection would be.

Folder-per-genre layout, mixed formats and sample rates, a label manifest, and two files that are damaged on
purpose. Everything is synthetic: figures on it show that the system works, and say nothing about real music.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import fftconvolve

from mgc.arrays import Float32Array
from mgc.audio.decode.sndfile import Container, encode
from mgc.config.section import json_object
from mgc.demo.instruments import INSTRUMENTS, Floats
from mgc.demo.styles import STYLES, Part, Piece, compose_piece, derive_tags, plan_projects
from mgc.errors import ConfigError, StorageError
from mgc.tables.csv_cells import csv_of_rows

FADE_OUT_SECONDS = 0.25

SYNTHESISER_VERSION = 2
"""Raise it when the same arguments would sound different: catalogues on disk are then composed anew."""

MIN_CLIP_SECONDS = 1.0
MAX_CLIP_SECONDS = 600.0
CLIPS_PER_PROJECT = 2
FORMATS: tuple[tuple[Container, int, int], ...] = (
    ("flac", 44_100, 2),
    ("mp3", 44_100, 2),
    ("ogg", 22_050, 1),
    ("wav", 44_100, 1),
    ("mp3", 22_050, 1),
    ("ogg", 44_100, 2),
)
"""Container, sample rate in Hz and channels by clip number: the same in every style, so that they betray none."""

MANIFEST = "manifest.csv"
README = "README.txt"
STAMP = ".mgc-demo.json"
UNFINISHED = "unfinished"
DAMAGED = {
    "folk/damaged-text.mp3": b"This is a text file whose name ends in .mp3; it holds no audio.\n" * 40,
    "ambient/damaged-empty.wav": b"",
}
"""In the styles' folders, so that labels read from folder names gain no genre from them."""

_README = """\
This is synthetic music, composed and rendered by the demo synthesiser of mgc (seed {seed}) to show that the
system works from end to end. Figures measured on it say nothing about real music.

{n_clips} clips of {seconds:g} s, one folder a style. {manifest} holds their labels: path, genre, tags and group.
The group is the project that a clip was made from; the clips of a project share key, tempo, chords and
instruments. Every tag is true by construction: it is read off the composition.

Files named damaged-* (a text, an empty file) are damaged on purpose and have no labels: they show how mgc reports
what it cannot read.

To the extent possible under law, this folder is dedicated to the public domain under CC0 1.0
(https://creativecommons.org/publicdomain/zero/1.0/).
"""


@dataclass(frozen=True)
class DemoClip:
    """One clip of the demo catalogue.

    Parameters
    ----------
    path
        Relative to the catalogue's folder, `genre/name.ext`.
    group
        The project that it was made from.
    piece
        The composition that the labels are read off.
    """

    path: str
    genre: str
    tags: tuple[str, ...]
    group: str
    container: Container
    sample_rate: int
    channels: int
    piece: Piece


@dataclass(frozen=True)
class DemoCatalogue:
    """A composed catalogue.

    Parameters
    ----------
    folder, manifest
        Where it lies, and its label table.
    clips
        In manifest order; their paths are relative to `folder`.
    damaged
        Paths of the files that are damaged on purpose, relative to `folder`.
    composed
        False if it was there already.
    """

    folder: Path
    manifest: Path
    clips: tuple[DemoClip, ...]
    damaged: tuple[str, ...]
    composed: bool


def compose_catalogue(
    folder: str | Path,
    *,
    clips_per_style: int = 12,
    clip_seconds: float = 12.0,
    seed: int = 0,
    damaged: bool = True,
) -> DemoCatalogue:
    """Compose the demo catalogue into `folder`, or find it there.

    The same arguments give the same samples. A catalogue of other arguments, or an unfinished one, is replaced.

    Parameters
    ----------
    clips_per_style
        Clips in each of the four styles, two a project.
    clip_seconds
        Length of each clip.
    seed
        Decides every key, tempo, pattern and instrument.
    damaged
        Whether to write the two damaged files too.

    Raises
    ------
    ConfigError
        An argument is out of range.
    StorageError
        The folder holds files that are not a demo catalogue, or cannot be written.
    """
    _check(clips_per_style, clip_seconds, seed)
    folder = Path(folder)
    clips = plan_clips(clips_per_style, clip_seconds, seed)
    contents = DAMAGED if damaged else {}
    stamp = {
        "arguments": f"v{SYNTHESISER_VERSION} clips_per_style={clips_per_style} clip_seconds={float(clip_seconds)}"
        f" seed={seed} damaged={damaged}",
        "files": [*(clip.path for clip in clips), *contents, MANIFEST, README],
    }
    found = _read_stamp(folder) == stamp and all((folder / name).is_file() for name in stamp["files"])
    if not found:
        readme = _README.format(seed=seed, n_clips=len(clips), seconds=clip_seconds, manifest=MANIFEST)
        try:
            _prepare_folder(folder)
            _write_stamp(folder, {**stamp, "arguments": UNFINISHED})
            for clip in clips:
                samples = render(clip.piece, clip.sample_rate, clip.channels)
                _write_bytes(folder / clip.path, encode(samples, clip.sample_rate, clip.container))
            for name, content in {**contents, MANIFEST: _manifest(clips), README: readme.encode()}.items():
                _write_bytes(folder / name, content)
            _write_stamp(folder, stamp)
        except OSError as error:
            raise StorageError(
                f"cannot write the demo catalogue to '{folder}': {error.strerror}", "name another folder"
            ) from error
    return DemoCatalogue(folder, folder / MANIFEST, clips, tuple(contents), composed=not found)


def _check(clips_per_style: int, clip_seconds: float, seed: int) -> None:
    if clips_per_style < 1:
        raise ConfigError(f"clips_per_style = {clips_per_style}: a demo needs at least one clip a style")
    if not MIN_CLIP_SECONDS <= clip_seconds <= MAX_CLIP_SECONDS:
        raise ConfigError(f"clip_seconds = {clip_seconds:g}: must be {MIN_CLIP_SECONDS:g} to {MAX_CLIP_SECONDS:g}")
    if seed < 0:
        raise ConfigError(f"seed = {seed}: must not be negative")


def plan_clips(clips_per_style: int, clip_seconds: float, seed: int) -> tuple[DemoClip, ...]:
    """Return all clips, style by style, project by project: labels, formats and compositions, before any sound."""
    clips = []
    for index, style in enumerate(STYLES):
        projects = plan_projects(style, -(-clips_per_style // CLIPS_PER_PROJECT), [seed, index])
        for number in range(clips_per_style):
            project = projects[number // CLIPS_PER_PROJECT]
            piece = compose_piece(project, clip_seconds, [seed, index, number])
            container, sample_rate, channels = FORMATS[number % len(FORMATS)]
            path = f"{style.name}/{project.name}{'ab'[number % CLIPS_PER_PROJECT]}.{container}"
            tags = derive_tags(piece)
            clips.append(DemoClip(path, style.name, tags, project.name, container, sample_rate, channels, piece))
    return tuple(clips)


def _manifest(clips: tuple[DemoClip, ...]) -> bytes:
    rows = ((clip.path, clip.genre, "|".join(clip.tags), clip.group) for clip in clips)
    return csv_of_rows(("path", "genre", "tags", "group"), rows)


def _prepare_folder(folder: Path) -> None:
    """Create the folder, or delete what an earlier catalogue left in it; other files of its user stay."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = _read_stamp(folder)
    if stamp is None and any(folder.iterdir()):
        raise StorageError(f"'{folder}' holds files and is no demo catalogue", "name an empty or a new folder")
    for name in map(str, stamp["files"]) if stamp else ():
        if (folder / name).resolve().is_relative_to(folder.resolve()):
            (folder / name).unlink(missing_ok=True)


def _read_stamp(folder: Path) -> dict[str, Any] | None:
    """Return what a folder was made with and which files are its own, None where no stamp of mgc lies in it."""
    try:
        stamp = json_object((folder / STAMP).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return stamp if isinstance(stamp.get("files"), list) else None


def _write_stamp(folder: Path, stamp: dict[str, Any]) -> None:
    (folder / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def render(piece: Piece, sample_rate: int, channels: int) -> Float32Array:
    """Return the sound of a piece, shape (n_samples, channels), peak between -6 and -1 dBFS.

    Parameters
    ----------
    sample_rate
        Hz.
    channels
        1 or 2.
    """
    n_samples = round(piece.seconds * sample_rate)
    mix, wet, style = np.zeros((n_samples, 2)), np.zeros(n_samples), piece.project.style
    for part in piece.parts:
        line = _play(part, piece, n_samples, sample_rate)
        angle = (part.pan + 1) * np.pi / 4
        mix += line[:, None] * np.array([np.cos(angle), np.sin(angle)])
        if part.role not in ("bass", "drums"):
            wet += style.reverb_level * line
    if style.reverb_level:
        mix += _reverb(wet, style.reverb_seconds, sample_rate, np.random.default_rng(piece.seed))
    return _finish(mix.mean(axis=1, keepdims=True) if channels == 1 else mix, piece, sample_rate)


def _play(part: Part, piece: Piece, n_samples: int, sample_rate: int) -> Floats:
    """Return one part alone, mono, shape (n_samples,)."""
    line, instrument = np.zeros(n_samples), INSTRUMENTS[part.instrument]
    beat_seconds = 60.0 / piece.project.tempo_bpm

    @cache
    def sound(midi: int, beats: float) -> Floats:
        t = np.arange(round((beats * beat_seconds + instrument.ring_seconds) * sample_rate)) / sample_rate
        rng = np.random.default_rng([piece.seed, zlib.crc32(part.instrument.encode()), midi])
        return instrument.level * instrument.sound(440.0 * 2.0 ** ((midi - 69) / 12), t, rng)

    for note in part.notes:
        rest = line[round(note.start_beats * beat_seconds * sample_rate) :]
        samples = sound(note.midi, note.beats)[: len(rest)]
        rest[: len(samples)] += note.velocity * samples
    return line


def _reverb(wet: Floats, seconds: float, sample_rate: int, rng: np.random.Generator) -> Floats:
    """Return what a space of decaying noise adds, shape (n_samples, 2): one draw a side."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    fall = 10.0 ** (-3.0 * t / seconds) * np.minimum(1.0, t / 0.01)
    response = fall[:, None] * rng.standard_normal((len(t), 2))
    response /= np.linalg.norm(response, axis=0)
    return np.asarray(fftconvolve(wet[:, None], response, axes=0)[: len(wet)])


def _finish(mix: Floats, piece: Piece, sample_rate: int) -> Float32Array:
    """Saturate gently, fade the end, and set a random peak between -6 and -1 dBFS."""
    mix = np.tanh(1.3 * mix / max(1e-9, float(np.abs(mix).max())))
    n_fade = min(len(mix), round(FADE_OUT_SECONDS * sample_rate))
    mix[len(mix) - n_fade :] *= np.linspace(1.0, 0.0, n_fade)[:, None]
    peak_db = np.random.default_rng([piece.seed, 1]).uniform(-6.0, -1.0)
    return np.asarray(mix * 10.0 ** (peak_db / 20.0) / max(1e-9, float(np.abs(mix).max())), dtype=np.float32)
