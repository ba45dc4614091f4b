"""The demo catalogue: a few dozen clips in four styles, composed and written as a collection would be.

Folder-per-genre layout, mixed formats and sample rates, a label manifest, and three files that are broken on
purpose. Everything is synthetic: figures on it show that the system works, and say nothing about real music.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from mgc.audio.decode.sndfile import encode
from mgc.demo.plan import DemoClip, plan_clips
from mgc.demo.render import render
from mgc.demo.stamp import Stamp, is_complete, prepare_folder, write_stamp
from mgc.errors import ConfigError, StorageError

SYNTHESISER_VERSION = 1
"""Raise it when the same arguments would sound different: catalogues on disk are then composed anew."""

MIN_CLIP_SECONDS = 1.0
MANIFEST = "manifest.csv"
README = "README.txt"
DAMAGED = ("folk/damaged-text.mp3", "ambient/damaged-empty.wav", "techno/damaged-truncated.flac")
"""In the styles' folders, so that labels read from folder names gain no genre from them."""

_README = """\
This is synthetic music, composed and rendered by the demo synthesiser of mgc (seed {seed}) to show that the
system works from end to end. Figures measured on it say nothing about real music.

{n_clips} clips of {seconds:g} s, one folder a style. {manifest} holds their labels: path, genre, tags and group.
The group is the project that a clip was made from; the clips of a project share key, tempo, chords and
instruments. Every tag is true by construction: it is read off the composition.
{broken_note}
To the extent possible under law, this folder is dedicated to the public domain under CC0 1.0
(https://creativecommons.org/publicdomain/zero/1.0/).
"""
_BROKEN_NOTE = """
The files named damaged-* are broken on purpose (text, empty, truncated) and have no labels: they show how mgc
reports what it cannot read.
"""
_TEXT = b"This is a text file whose name ends in .mp3; it holds no audio.\n" * 40


@dataclass(frozen=True)
class DemoCatalogue:
    """A composed catalogue.

    Parameters
    ----------
    folder, manifest
        Where it lies, and its label table.
    clips
        In manifest order; their paths are relative to `folder`.
    broken
        Paths of the files that are broken on purpose, relative to `folder`.
    composed
        False if it was there already.
    """

    folder: Path
    manifest: Path
    clips: tuple[DemoClip, ...]
    broken: tuple[str, ...]
    composed: bool


def compose_catalogue(
    folder: str | Path,
    *,
    clips_per_style: int = 12,
    clip_seconds: float = 12.0,
    seed: int = 0,
    broken: bool = True,
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
    broken
        Whether to write the three damaged files too.

    Raises
    ------
    ConfigError
        An argument is out of range.
    StorageError
        The folder holds files that are not a demo catalogue, or cannot be written.
    """
    _check(clips_per_style, clip_seconds, seed)
    folder = Path(folder)
    arguments = (
        f"v{SYNTHESISER_VERSION} clips_per_style={clips_per_style} clip_seconds={float(clip_seconds)}"
        f" seed={seed} broken={broken}"
    )
    clips = plan_clips(clips_per_style, clip_seconds, seed)
    damaged = DAMAGED if broken else ()
    found = is_complete(folder, arguments)
    if not found:
        prepare_folder(folder)
        files = (*(clip.path for clip in clips), *damaged, MANIFEST, README)
        write_stamp(folder, Stamp(arguments, files, complete=False))
        _write(folder, clips, damaged, _readme(len(clips), clip_seconds, seed, broken))
        write_stamp(folder, Stamp(arguments, files, complete=True))
    return DemoCatalogue(folder, folder / MANIFEST, clips, damaged, composed=not found)


def _check(clips_per_style: int, clip_seconds: float, seed: int) -> None:
    if clips_per_style < 1:
        raise ConfigError(f"clips_per_style = {clips_per_style}: a demo needs at least one clip a style")
    if not MIN_CLIP_SECONDS <= clip_seconds <= 600.0:
        raise ConfigError(f"clip_seconds = {clip_seconds:g}: must be {MIN_CLIP_SECONDS:g} to 600")
    if seed < 0:
        raise ConfigError(f"seed = {seed}: must not be negative")


def _write(folder: Path, clips: tuple[DemoClip, ...], damaged: tuple[str, ...], readme: str) -> None:
    try:
        for clip in clips:
            _write_bytes(folder / clip.path, render_clip(clip))
        for path in damaged:
            _write_bytes(folder / path, _damaged_bytes(path, clips[0]))
        _write_bytes(folder / MANIFEST, _manifest(clips).encode())
        _write_bytes(folder / README, readme.encode())
    except OSError as error:
        raise StorageError(
            f"cannot write the demo catalogue to '{folder}': {error.strerror}", "name another folder"
        ) from error


def render_clip(clip: DemoClip) -> bytes:
    """Return the audio file of a clip."""
    return encode(render(clip.piece, clip.sample_rate, clip.channels), clip.sample_rate, clip.container)


def _damaged_bytes(path: str, clip: DemoClip) -> bytes:
    if path.endswith(".mp3"):
        return _TEXT
    if path.endswith(".wav"):
        return b""
    whole = encode(render(clip.piece, clip.sample_rate, clip.channels), clip.sample_rate, "flac")
    return whole[: len(whole) * 2 // 5]


def _manifest(clips: tuple[DemoClip, ...]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "genre", "tags", "group"))
    table.writerows((clip.path, clip.genre, "|".join(clip.tags), clip.group) for clip in clips)
    return text.getvalue()


def _readme(n_clips: int, clip_seconds: float, seed: int, broken: bool) -> str:
    return _README.format(
        seed=seed,
        n_clips=n_clips,
        seconds=clip_seconds,
        manifest=MANIFEST,
        broken_note=_BROKEN_NOTE if broken else "",
    )


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
