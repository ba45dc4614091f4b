"""What the demo catalogue will hold: every clip's path, labels, format and composition, before any sound."""

from __future__ import annotations

from dataclasses import dataclass

from mgc.audio.decode.sndfile import Container
from mgc.demo.players import compose_clip
from mgc.demo.project import plan_projects
from mgc.demo.score import Piece, derive_tags
from mgc.demo.styles import STYLES, Style

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


@dataclass(frozen=True)
class DemoClip:
    """One clip of the demo catalogue.

    Parameters
    ----------
    path
        Relative to the catalogue's folder, `genre/name.ext`.
    group
        The project that it was made from: its clips share key, tempo, chords and instruments.
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


def plan_clips(clips_per_style: int, clip_seconds: float, seed: int) -> tuple[DemoClip, ...]:
    """Return all clips, style by style, project by project."""
    return tuple(
        clip
        for index, style in enumerate(STYLES)
        for clip in _plan_style(style, clips_per_style, clip_seconds, [seed, index])
    )


def _plan_style(style: Style, n_clips: int, clip_seconds: float, seeds: list[int]) -> list[DemoClip]:
    projects = plan_projects(style, -(-n_clips // CLIPS_PER_PROJECT), seeds)
    clips = []
    for number in range(n_clips):
        project = projects[number // CLIPS_PER_PROJECT]
        letter = "ab"[number % CLIPS_PER_PROJECT]
        piece = compose_clip(project, clip_seconds, [*seeds, number // CLIPS_PER_PROJECT, number])
        container, sample_rate, channels = FORMATS[number % len(FORMATS)]
        path = f"{style.name}/{project.name}{letter}.{container}"
        clips.append(
            DemoClip(path, style.name, derive_tags(piece), project.name, container, sample_rate, channels, piece)
        )
    return clips
