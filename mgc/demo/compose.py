"""The demo catalogue on disk: clips in four styles, laid out as a collection would be.

Folder-per-genre layout, mixed formats and sample rates, a label manifest, what a collection has besides (copies,
medleys of two styles, damaged files), and what changes in it from one day to the next. Everything is synthetic:
figures on it show that the system works, and say nothing about real music.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import combinations
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

SYNTHESISER_VERSION = 3
"""Raise it when the same arguments would sound different: catalogues on disk are then composed anew."""

LENGTHS = 4_000
"""Of the seed of the lengths: beyond the numbers of clips and medleys."""
MIN_CLIP_SECONDS = 1.0
MAX_CLIP_SECONDS = 600.0
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
UNFINISHED, A_DAY_LATER = "unfinished", " a day later"
COPY_FORMAT: tuple[Container, int, int] = ("mp3", 44_100, 2)
"""Of the copies of each style's first clip, which is a FLAC."""
MEDLEY_SHARES = (0.2, 0.35, 0.5, 0.65)
"""Of the first of a medley's two styles: somewhere in between a model is torn."""
DAMAGED = {
    "folk/damaged-text.mp3": b"This is a text file whose name ends in .mp3; it holds no audio.\n" * 40,
    "ambient/damaged-empty.wav": b"",
}
"""In the styles' folders, so that labels read from folder names gain no genre from them."""

_README = """\
This is synthetic music, composed and rendered by the demo synthesiser of mgc (seed {seed}) to show that the
system works from end to end. Figures measured on it say nothing about real music.

{n_clips} clips of some {seconds:g} s, one folder a style. {manifest} has their labels: path, genre, tags and group.
The group is the project that a clip was made from; the clips of a project share key, tempo, chords and
instruments. Every tag is true by construction: it is read off the composition.

What else there is has no labels, as new arrivals have none: medley-* begin in one style and end in another, copy-of-*
are clips in another format, and damaged-* (a text, an empty file) show how mgc reports what it cannot read.

To the extent possible under law, this folder is dedicated to the public domain under CC0 1.0
(https://creativecommons.org/publicdomain/zero/1.0/).
"""


@dataclass(frozen=True)
class ClipFile:
    """A file of sound.

    Parameters
    ----------
    path
        Relative to the catalogue's folder.
    pieces
        What sounds in it, one after the other.
    container, sample_rate, channels
        Its format; the rate in Hz.
    """

    path: str
    pieces: tuple[Piece, ...]
    container: Container
    sample_rate: int
    channels: int


@dataclass(frozen=True)
class DemoClip(ClipFile):
    """One clip with its labels: `path` is `genre/name.ext`, `group` the project that it was made from."""

    genre: str
    tags: tuple[str, ...]
    group: str

    @property
    def piece(self) -> Piece:
        """The composition that the labels are read off."""
        return self.pieces[0]


@dataclass(frozen=True)
class Changes:
    """What is different a day later: a file more, one with another content, one less; paths."""

    new: str
    changed: str
    deleted: str


@dataclass(frozen=True)
class DemoPlan:
    """What a demo catalogue is made of, before any sound.

    Parameters
    ----------
    clips
        In manifest order.
    unsorted
        Files without labels: medleys of every two styles, a copy of a clip of each.
    later
        What a day later is new, and what takes the place of the first medley. The last copy is deleted then.
    """

    clips: tuple[DemoClip, ...]
    unsorted: tuple[ClipFile, ...] = ()
    later: tuple[ClipFile, ...] = ()


@dataclass(frozen=True)
class DemoCatalogue:
    """A composed catalogue.

    Parameters
    ----------
    folder, manifest
        Where it lies, and its label table.
    plan
        Its files; their paths are relative to `folder`.
    damaged
        Paths of the files that are damaged on purpose, relative to `folder`.
    composed
        False if it was there already.
    """

    folder: Path
    manifest: Path
    plan: DemoPlan
    damaged: tuple[str, ...]
    composed: bool

    @property
    def clips(self) -> tuple[DemoClip, ...]:
        """The clips with labels."""
        return self.plan.clips


def compose_catalogue(
    folder: str | Path,
    *,
    clips_per_style: int = 12,
    clip_seconds: float = 12.0,
    seed: int = 0,
    clips_per_project: int = 2,
    length_spread: float = 0.0,
    unsorted: bool = False,
    damaged: bool = True,
) -> DemoCatalogue:
    """Compose the demo catalogue into `folder`, or find it there.

    The same arguments give the same samples. A catalogue of other arguments, or an unfinished one, is replaced; of
    one that a day has passed over (`pass_a_day`), or that lacks files, those are composed.

    Parameters
    ----------
    clips_per_style
        Clips in each of the four styles.
    clip_seconds
        Length of each clip.
    seed
        Decides every key, tempo, pattern and instrument.
    clips_per_project
        So many share their material, and so a group.
    length_spread
        Clips are up to this part of `clip_seconds` shorter or longer, 0 to 0.9: equally long ones pass for copies.
    unsorted, damaged
        Whether to write medleys and copies, and the two damaged files, too.

    Raises
    ------
    ConfigError
        An argument is out of range.
    StorageError
        The folder holds files that are not a demo catalogue, or cannot be written.
    """
    _check(clips_per_style, clip_seconds, seed)
    folder = Path(folder)
    plan = DemoPlan(plan_clips(clips_per_style, clip_seconds, seed, clips_per_project, length_spread))
    plan = _with_unsorted(plan, clip_seconds, seed) if unsorted else plan
    sounds = (*plan.clips, *plan.unsorted)
    readme = _README.format(seed=seed, n_clips=len(plan.clips), seconds=clip_seconds, manifest=MANIFEST)
    texts = {**(DAMAGED if damaged else {}), MANIFEST: _manifest(plan.clips), README: readme.encode()}
    arguments = (
        f"v{SYNTHESISER_VERSION} clips_per_style={clips_per_style} clip_seconds={float(clip_seconds)} seed={seed} "
        f"clips_per_project={clips_per_project} length_spread={length_spread} unsorted={unsorted} damaged={damaged}"
    )
    stamp = {"arguments": arguments, "files": [*(one.path for one in (*sounds, *plan.later)), *texts]}
    made_by = (_read_stamp(folder) or {}).get("arguments")
    stale = {one.path for one in plan.later} if made_by == arguments + A_DAY_LATER else set()
    missing = [one for one in sounds if one.path in stale or not (folder / one.path).is_file()]
    complete = made_by == arguments and not missing and all((folder / name).is_file() for name in texts)
    if not complete:
        try:
            if made_by not in (arguments, arguments + A_DAY_LATER):
                _prepare_folder(folder)
                missing = list(sounds)
            for path in stale:
                (folder / path).unlink(missing_ok=True)
            _write_stamp(folder, {**stamp, "arguments": UNFINISHED})
            _write_sounds(folder, missing)
            for name, content in texts.items():
                if not (folder / name).is_file() or (folder / name).read_bytes() != content:
                    _write_bytes(folder / name, content)
            _write_stamp(folder, stamp)
        except OSError as error:
            raise StorageError(
                f"cannot write the demo catalogue to '{folder}': {error.strerror}", "name another folder"
            ) from error
    return DemoCatalogue(folder, folder / MANIFEST, plan, tuple(DAMAGED) if damaged else (), composed=not complete)


def pass_a_day(catalogue: DemoCatalogue) -> Changes:
    """Change the catalogue as a day would: one file is new, one is another recording, one is deleted.

    `compose_catalogue` puts all of it back.
    """
    new, changed = catalogue.plan.later
    deleted = catalogue.plan.unsorted[-1].path
    stamp = _read_stamp(catalogue.folder)
    if stamp is not None:
        _write_stamp(catalogue.folder, {**stamp, "arguments": f"{stamp['arguments']}{A_DAY_LATER}"})
    _write_sounds(catalogue.folder, (new, changed))
    (catalogue.folder / deleted).unlink(missing_ok=True)
    return Changes(new.path, changed.path, deleted)


def _check(clips_per_style: int, clip_seconds: float, seed: int) -> None:
    if clips_per_style < 1:
        raise ConfigError(f"clips_per_style = {clips_per_style}: a demo needs at least one clip a style")
    if not MIN_CLIP_SECONDS <= clip_seconds <= MAX_CLIP_SECONDS:
        raise ConfigError(f"clip_seconds = {clip_seconds:g}: must be {MIN_CLIP_SECONDS:g} to {MAX_CLIP_SECONDS:g}")
    if seed < 0:
        raise ConfigError(f"seed = {seed}: must not be negative")


def plan_clips(
    clips_per_style: int, clip_seconds: float, seed: int, clips_per_project: int = 2, length_spread: float = 0.0
) -> tuple[DemoClip, ...]:
    """Return all clips, style by style, project by project: labels, formats and compositions, before any sound."""
    clips = []
    for index, style in enumerate(STYLES):
        projects = plan_projects(style, -(-clips_per_style // clips_per_project), [seed, index])
        lengths = np.random.default_rng([seed, index, LENGTHS])
        for number in range(clips_per_style):
            project, place = projects[number // clips_per_project], number % clips_per_project
            seconds = clip_seconds * (1.0 + length_spread * lengths.uniform(-1.0, 1.0))
            piece = compose_piece(project, seconds, [seed, index, number])
            layout = FORMATS[number % len(FORMATS)]
            name = project.name if clips_per_project == 1 else f"{project.name}{chr(ord('a') + place)}"
            path = f"{style.name}/{name}.{layout[0]}"
            clips.append(DemoClip(path, (piece,), *layout, style.name, derive_tags(piece), project.name))
    return tuple(clips)


def _with_unsorted(plan: DemoPlan, clip_seconds: float, seed: int) -> DemoPlan:
    """Return the plan with medleys of projects of their own, copies of clips, and the next day's files."""

    def piece(style: int, take: int, seconds: float) -> Piece:
        (project,) = plan_projects(STYLES[style], 1, [seed, style, take])
        return compose_piece(project, seconds, [seed, style, take, 0])

    def medley(number: int, styles: tuple[int, int], share: float, take: int) -> ClipFile:
        names = "-".join(STYLES[style].name for style in styles)
        layout = FORMATS[number % len(FORMATS)]
        parts = zip(styles, (share, 1.0 - share), strict=True)
        pieces = tuple(piece(style, take, part * clip_seconds) for style, part in parts)
        return ClipFile(f"medley-{names}-{share:.0%}.{layout[0]}".replace("%", ""), pieces, *layout)

    mixtures = [(pair, share) for pair in combinations(range(len(STYLES)), 2) for share in MEDLEY_SHARES]
    medleys = [medley(number, *mixture, 1_000 + number) for number, mixture in enumerate(mixtures)]
    firsts = {clip.genre: clip for clip in reversed(plan.clips)}
    copies = [
        ClipFile(f"copy-of-{Path(clip.path).stem}.{COPY_FORMAT[0]}", clip.pieces, *COPY_FORMAT)
        for clip in (firsts[style.name] for style in STYLES)
    ]
    new = ClipFile(f"new-{STYLES[-1].name}.ogg", (piece(len(STYLES) - 1, 2_000, clip_seconds),), "ogg", 44_100, 2)
    changed = medley(0, *mixtures[0], 3_000)
    return DemoPlan(plan.clips, (*medleys, *copies), (new, changed))


def _write_sounds(folder: Path, files: Sequence[ClipFile]) -> None:
    """Render and encode files, as many at once as there are CPUs: most of the work is numpy's and libsndfile's."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for one, content in zip(files, threads.map(_sound_of, files), strict=True):
            _write_bytes(folder / one.path, content)


def _sound_of(one: ClipFile) -> bytes:
    parts = [render(piece, one.sample_rate, one.channels) for piece in one.pieces]
    return encode(np.concatenate(parts), one.sample_rate, one.container)


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
