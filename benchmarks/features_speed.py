"""Ten features of a clip against librosa called ten times, the whole set, and Essentia's MusicExtractor."""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import CLIP_SECONDS, figure
from benchmarks.process import run_module

REPEATS = 7
"""Of each work in a round."""


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print `features_over_librosa`, what each took, and the same with librosa estimating the tuning."""
    clip = min(clips.iterdir())
    found = [run_module("benchmarks.timed_features", str(clip), str(REPEATS)).values for _ in range(rounds)]
    values = {name: [each[name] for each in found] for name in found[0]}
    figure("features_over_librosa", values["over_librosa"], "ratio")
    figure("features_over_librosa_estimating_tuning", values["over_librosa_estimating_tuning"], "ratio")
    for name, what in (("ours", "ten_features"), ("librosa", "ten_features_librosa"), ("all", "all_features")):
        figure(f"{what}_ms", values[f"{name}_ms"], "ms_a_clip")
    figure("log_mel_ms", values["log_mel_ms"], "ms_a_clip")
    figure("all_features_xrealtime", [CLIP_SECONDS * 1e3 / ms for ms in values["all_ms"]], "×realtime/core")
    if "essentia_ms" in values:
        realtime = [CLIP_SECONDS * 1e3 / ms for ms in values["essentia_ms"]]
        figure("essentia_music_extractor_xrealtime", realtime, "×realtime/core")
    else:
        print("# essentia is not installed (pip install essentia): its MusicExtractor is left out", flush=True)
