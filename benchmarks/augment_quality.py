"""How near views come to the truth: pieces of the demo's synthesiser rendered at the other tempo, or transposed.

    python -m benchmarks.augment_quality

Writes the table in docs/augmentation.md and the pictures in docs/augmentation/. The truth is the same
score played by the same instruments: attacks and decays that last a time of their own do not stretch with the tempo,
so no method can come to zero.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from benchmarks.stretch_peers import shifters, stretchers
from mgc.arrays import Float32Array
from mgc.audio.decode.audio_reader import Tape, open_audio
from mgc.audio.decode.sndfile import encode
from mgc.audio.extraction import OpenTrack, extract, extract_views, read_window
from mgc.audio.track_features import TrackFeatures
from mgc.audio.views import CLEAN_RECIPE, Recipe, ViewRequest, place
from mgc.config import DecodeConfig, FeatureConfig
from mgc.demo.compose import plan_clips, render
from mgc.demo.styles import Piece

PAGE = Path(__file__).parents[1] / "docs" / "augmentation.md"
PICTURES = PAGE.with_suffix("")
SOURCE_RATE = 44_100
SECONDS = 12.0
CLIPS_PER_STYLE = 2
TEMPO_RATIOS = (0.8, 0.9, 1.1, 1.25)
SEMITONES = (-3, -1, 1, 3)
FLOOR_DB = -60.0
"""Bins of the truth below it are not compared."""
EDGE_FRAMES = 8
LIMITS = DecodeConfig()


@dataclass(frozen=True)
class Case:
    """One piece at one setting: the truth, and what each method made of it; log-mels, shape (n_frames, n_mels)."""

    title: str
    truth: Float32Array
    made: dict[str, Float32Array]


def main() -> None:
    pieces = [_dry(clip.piece) for clip in plan_clips(CLIPS_PER_STYLE, SECONDS, seed=7)]
    tempo = {ratio: [_tempo_case(piece, ratio) for piece in pieces] for ratio in TEMPO_RATIOS}
    tonal = [piece for piece in map(_without_drums, pieces) if piece.parts]
    pitch = {semitones: [_pitch_case(piece, semitones) for piece in tonal] for semitones in SEMITONES}
    lines = ["| | pieces | " + " | ".join(_names(tempo)) + " |", "|---|---|" + "---|" * len(_names(tempo))]
    lines += [_row(f"tempo × {ratio:g}", cases, _names(tempo)) for ratio, cases in tempo.items()]
    lines += [_row(f"pitch {semitones:+d} semitones", cases, _names(tempo)) for semitones, cases in pitch.items()]
    _put("\n".join(lines))
    PICTURES.mkdir(exist_ok=True)
    _plot(tempo[1.25][2], PICTURES / "tempo.png")
    _plot(pitch[3][0], PICTURES / "pitch.png")


def _put(table: str) -> None:
    """Print the table and put it between its marks in the page."""
    print(table)
    before, mark, rest = PAGE.read_text(encoding="utf-8").partition("<!-- errors -->")
    _, end, after = rest.partition("<!-- /errors -->")
    PAGE.write_text(f"{before}{mark}\n{table}\n{end}{after}", encoding="utf-8")


def _dry(piece: Piece) -> Piece:
    # A reverb lasts its own time whatever the tempo.
    return _in_project(piece, style=replace(piece.project.style, reverb_level=0.0))


def _in_project(piece: Piece, **changes: Any) -> Piece:
    return replace(piece, project=replace(piece.project, **changes))


def _without_drums(piece: Piece) -> Piece:
    return replace(piece, parts=tuple(part for part in piece.parts if part.role != "drums"))


def _tempo_case(piece: Piece, ratio: float) -> Case:
    features = FeatureConfig(window_seconds=piece.seconds / ratio, max_windows=1)
    faster = _in_project(piece, tempo_bpm=piece.project.tempo_bpm * ratio)
    faster = replace(faster, seconds=piece.seconds / ratio)
    others = stretchers(ratio, features.sample_rate)
    title = f"{piece.project.style.name}, tempo × {ratio:g}"
    return _case(title, piece, faster, Recipe(tempo_ratio=ratio), others, features)


def _pitch_case(piece: Piece, semitones: int) -> Case:
    features = FeatureConfig(window_seconds=piece.seconds, max_windows=1)
    parts = []
    for part in piece.parts:
        notes = tuple(replace(note, midi=note.midi + semitones) for note in part.notes)
        parts.append(replace(part, notes=notes))
    higher = replace(piece, parts=tuple(parts))
    others = shifters(semitones, features.sample_rate)
    title = f"{piece.project.style.name}, {semitones:+d} semitones"
    return _case(title, piece, higher, Recipe(pitch_semitones=float(semitones)), others, features)


def _case(
    title: str,
    piece: Piece,
    truth: Piece,
    recipe: Recipe,
    others: dict[str, Callable[[Float32Array], Float32Array]],
    features: FeatureConfig,
) -> Case:
    data = _file(render(piece, SOURCE_RATE, 1), SOURCE_RATE)
    (view,) = extract_views(data, [ViewRequest(recipe)], [], features, LIMITS)
    if not isinstance(view, TrackFeatures):
        raise view
    samples = _samples(data, features, piece.seconds)
    made = {"mgc": view.log_mel[0]}
    for name, effect in others.items():
        made[name] = extract(_file(effect(samples), features.sample_rate), features, LIMITS).log_mel[0]
    return Case(title, extract(_file(render(truth, SOURCE_RATE, 1), SOURCE_RATE), features, LIMITS).log_mel[0], made)


def _file(samples: Float32Array, sample_rate: int) -> bytes:
    return encode(samples, sample_rate, "wav", subtype="FLOAT")


def _samples(data: bytes, features: FeatureConfig, seconds: float) -> Float32Array:
    with open_audio(data, LIMITS) as reader:
        whole = features.model_copy(update={"window_seconds": seconds})
        return read_window(OpenTrack(Tape(reader), SOURCE_RATE, seconds), 0.0, place(CLEAN_RECIPE, whole)).samples


def _names(cases: dict[float, list[Case]]) -> list[str]:
    return list(next(iter(cases.values()))[0].made)


def _row(title: str, cases: list[Case], names: list[str]) -> str:
    cells = []
    for name in names:
        errors = [_error_db(case.truth, case.made[name]) for case in cases]
        cells.append(f"{np.mean(errors):.2f} ({np.max(errors):.2f})")
    return f"| {title} | {len(cases)} | " + " | ".join(cells) + " |"


def _error_db(truth: Float32Array, made: Float32Array) -> float:
    """Return the mean absolute difference in dB where the truth sounds, the edges of the window left out."""
    inner = slice(EDGE_FRAMES, min(len(truth), len(made)) - EDGE_FRAMES)
    audible = truth[inner] > FLOOR_DB
    return float(np.abs(truth[inner] - made[inner])[audible].mean())


def _plot(case: Case, path: Path) -> None:
    pictures = {"truth": case.truth, **{name: case.made[name] for name in ("mgc", "librosa") if name in case.made}}
    if "signalsmith" in case.made:
        pictures["signalsmith"] = case.made["signalsmith"]
    figure, axes = plt.subplots(len(pictures), 1, figsize=(7, 1.5 * len(pictures)), sharex=True, layout="constrained")
    for axis, (name, log_mel) in zip(axes, pictures.items(), strict=True):
        error = "" if name == "truth" else f": {_error_db(case.truth, log_mel):.2f} dB off"
        axis.imshow(log_mel[:180].T, origin="lower", aspect="auto", vmin=-70, vmax=0, cmap="magma")
        axis.set_ylabel("mel band")
        axis.set_title(f"{case.title}, {name}{error}", fontsize=9, loc="left")
    axes[-1].set_xlabel("frame (23 ms)")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=72)
    # A palette of 128 colours is all that the picture has, at a third of the bytes.
    Image.open(buffer).convert("RGB").quantize(128).save(path, optimize=True)
    plt.close(figure)


if __name__ == "__main__":
    main()
