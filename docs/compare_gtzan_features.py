"""Compare mgc's statistics with a public table of GTZAN's (the 58-column `features_30_sec.csv`); print a table.

    python docs/compare_gtzan_features.py TABLE.csv AUDIO_FOLDER

TABLE.csv has a row a clip (`filename`: blues.00000.wav) and librosa's statistics of it, computed by others;
AUDIO_FOLDER holds some of the clips, anywhere below, by the same names and any suffix. Neither is part of mgc.

Each column is given as mgc computes it, and once more with `features.padding = "reflect"`: until 0.9 librosa
continued a clip beyond its ends by its mirror image, where it now puts zeros. Chroma also with each clip's tuning.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import librosa
import numpy as np
import polars as pl
import soundfile

from mgc.audio.features.analysis import STATISTICS, Analysis
from mgc.audio.features.feature_rows import PITCH_CLASSES, statistics_names
from mgc.config import FeatureConfig

SAMPLE_RATE = 22_050
Padding = Literal["constant", "reflect"]
OURS = {
    "rms": "rms",
    "spectral_centroid": "spectral_centroid",
    "spectral_bandwidth": "spectral_bandwidth",
    "rolloff": "spectral_rolloff",
    "zero_crossing_rate": "zero_crossing_rate",
    "harmony": "harmonic",
    "perceptr": "percussive",
    **{f"mfcc{number}": f"mfcc_{number}" for number in range(1, 21)},
}
"""Their name → ours."""


def statistics_of(
    samples: np.ndarray, padding: Padding, tuning: float = 0.0, wanted: str = "gtzan_csv"
) -> dict[str, float]:
    """Return mgc's statistics of a clip as one window."""
    config = FeatureConfig(sample_rate=SAMPLE_RATE, statistics=(wanted,), chroma_tuning=tuning, padding=padding)
    analysis = Analysis(config)
    values = analysis.track([analysis.window(samples)])[STATISTICS]
    return dict(zip(statistics_names(config), values.tolist(), strict=True))


def columns_of(samples: np.ndarray, padding: Padding) -> dict[str, float]:
    """Return the table's 57 columns of figures as mgc computes them; chroma also with the clip's own tuning."""
    ours = statistics_of(samples, padding)
    columns = {}
    for theirs, name in OURS.items():
        columns[f"{theirs}_mean"] = ours[f"{name}_mean"]
        columns[f"{theirs}_var"] = ours[f"{name}_variance"]
    columns |= _chroma(ours)
    # As librosa.feature.chroma_stft does where no tuning is given.
    power = np.abs(librosa.stft(samples, pad_mode=padding)) ** 2
    tuning = float(librosa.estimate_tuning(S=power, sr=SAMPLE_RATE, bins_per_octave=12))
    columns |= _chroma(statistics_of(samples, padding, tuning, "chroma"), " (tuning estimated)")
    return columns | {"tempo": ours["beat_tempo"]}


def _chroma(ours: dict[str, float], variant: str = "") -> dict[str, float]:
    """Return mean and variance over all pitch classes together, from those of each."""
    means = np.array([ours[f"chroma_{pitch}_mean"] for pitch in PITCH_CLASSES])
    variances = np.array([ours[f"chroma_{pitch}_variance"] for pitch in PITCH_CLASSES])
    return {f"chroma_stft_mean{variant}": means.mean(), f"chroma_stft_var{variant}": variances.mean() + means.var()}


def agreement(table: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return for each column the median and the largest relative error and the correlation over clips."""
    by_name = {row["filename"].removesuffix(".wav"): row for row in table.iter_rows(named=True)}
    clips = sorted(path for path in folder.rglob("*") if path.stem in by_name)
    if not clips:
        raise SystemExit(f"no clip of the table in {folder}")
    plain, mirrored = [], []
    for path in clips:
        samples, rate = soundfile.read(path, dtype="float32")
        if rate != SAMPLE_RATE or samples.ndim != 1:
            raise SystemExit(f"{path} is not {SAMPLE_RATE} Hz mono")
        plain.append(columns_of(samples, "constant"))
        mirrored.append(columns_of(samples, "reflect"))
    rows = []
    for name in plain[0]:
        theirs = np.array([by_name[path.stem][name.split(" (")[0]] for path in clips], dtype=float)
        ours = np.array([each[name] for each in plain])
        turned = _compared(np.array([each[name] for each in mirrored]), theirs, "_mirrored")
        rows.append({"column": name, **_compared(ours, theirs, ""), "clips": len(clips), **turned})
    return pl.DataFrame(rows)


def _compared(ours: np.ndarray, theirs: np.ndarray, suffix: str) -> dict[str, float]:
    error = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-12)
    correlation = np.corrcoef(ours, theirs)[0, 1]
    found = {"median": np.median(error), "largest": error.max(), "correlation": correlation}
    return {f"{name}{suffix}": float(value) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare mgc's statistics with a public table of GTZAN's.")
    parser.add_argument("table", type=Path)
    parser.add_argument("folder", type=Path)
    wanted = parser.parse_args()
    found = agreement(pl.read_csv(wanted.table), wanted.folder)
    print(f"{found['clips'][0]} clips; relative errors\n")
    print("| column | median | largest | correlation | ends mirrored: median | largest |\n|---|---|---|---|---|---|")
    for row in found.iter_rows(named=True):
        cells = [f"{row[name]:.1e}" for name in ("median", "largest")] + [f"{row['correlation']:.5f}"]
        cells += [f"{row[name]:.1e}" for name in ("median_mirrored", "largest_mirrored")]
        print(f"| {row['column']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
