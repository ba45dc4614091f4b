"""Compare mgc's statistics with a public table of GTZAN's (the 58-column `features_30_sec.csv`); print a table.

    python docs/compare_gtzan_features.py TABLE.csv AUDIO_FOLDER

TABLE.csv has a row a clip (`filename`: blues.00000.wav) and librosa's statistics of it, computed by others;
AUDIO_FOLDER holds some of the clips, anywhere below, by the same names and any suffix. Neither is part of mgc. The
columns of HPSS, which mgc does not extract, are computed with librosa itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import librosa
import numpy as np
import polars as pl
import soundfile

from mgc.audio.features.analysis import STATISTICS, Analysis
from mgc.audio.features.rows import PITCH_CLASSES, statistics_names
from mgc.config import FeatureConfig

SAMPLE_RATE = 22_050
OURS = {
    "rms": "rms",
    "spectral_centroid": "spectral_centroid",
    "spectral_bandwidth": "spectral_bandwidth",
    "rolloff": "spectral_rolloff",
    "zero_crossing_rate": "zero_crossing_rate",
    **{f"mfcc{number}": f"mfcc_{number}" for number in range(1, 21)},
}
"""Their name → ours."""


def statistics_of(samples: np.ndarray, tuning: float = 0.0) -> dict[str, float]:
    """Return mgc's statistics of a clip heard as one window."""
    config = FeatureConfig(sample_rate=SAMPLE_RATE, statistics=("gtzan_csv",), chroma_tuning=tuning)
    analysis = Analysis(config)
    values = analysis.track([analysis.window(samples)])[STATISTICS]
    return dict(zip(statistics_names(config), values.tolist(), strict=True))


def their_columns(samples: np.ndarray) -> dict[str, float]:
    """Return the table's columns as mgc computes them, and as variants where a definition is in doubt."""
    ours = statistics_of(samples)
    columns = {}
    for theirs, name in OURS.items():
        columns[f"{theirs}_mean"] = ours[f"{name}_mean"]
        columns[f"{theirs}_var"] = ours[f"{name}_variance"]
    columns |= _chroma(ours)
    tuning = float(librosa.estimate_tuning(y=samples, sr=SAMPLE_RATE))
    columns |= _chroma(statistics_of(samples, tuning), " (tuning estimated)")
    columns["tempo"] = ours["tempo"]
    tempo, _ = librosa.beat.beat_track(y=samples, sr=SAMPLE_RATE)  # takes the median over mel bands, not the mean
    columns["tempo (librosa.beat.beat_track)"] = float(np.ravel(tempo)[0])
    for name, part in zip(("harmony", "perceptr"), librosa.effects.hpss(samples), strict=True):
        columns |= {f"{name}_mean": float(part.mean()), f"{name}_var": float(part.var())}
    return columns


def _chroma(ours: dict[str, float], variant: str = "") -> dict[str, float]:
    """Return mean and variance over all pitch classes together, from those of each."""
    means = np.array([ours[f"chroma_{pitch}_mean"] for pitch in PITCH_CLASSES])
    variances = np.array([ours[f"chroma_{pitch}_variance"] for pitch in PITCH_CLASSES])
    return {f"chroma_stft_mean{variant}": means.mean(), f"chroma_stft_var{variant}": variances.mean() + means.var()}


def agreement(table: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return, for each column: clips, median and largest relative error, correlation."""
    by_name = {row["filename"].removesuffix(".wav"): row for row in table.iter_rows(named=True)}
    clips = sorted(path for path in folder.rglob("*") if path.stem in by_name)
    if not clips:
        raise SystemExit(f"no clip of the table in {folder}")
    found = []
    for path in clips:
        samples, rate = soundfile.read(path, dtype="float32")
        if rate != SAMPLE_RATE or samples.ndim != 1:
            raise SystemExit(f"{path} is not {SAMPLE_RATE} Hz mono")
        found.append(their_columns(samples))
    rows = []
    for name in found[0]:
        ours = np.array([each[name] for each in found])
        theirs = np.array([by_name[path.stem][name.split(" (")[0]] for path in clips], dtype=float)
        error = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-12)
        rows.append((name, len(clips), np.median(error), error.max(), np.corrcoef(ours, theirs)[0, 1]))
    return pl.DataFrame(rows, schema=["column", "clips", "median", "largest", "correlation"], orient="row")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare mgc's statistics with a public table of GTZAN's.")
    parser.add_argument("table", type=Path)
    parser.add_argument("folder", type=Path)
    wanted = parser.parse_args()
    print("| column | median relative error | largest | correlation |\n|---|---|---|---|")
    for row in agreement(pl.read_csv(wanted.table), wanted.folder).iter_rows(named=True):
        print(f"| {row['column']} | {row['median']:.1e} | {row['largest']:.1e} | {row['correlation']:.5f} |")


if __name__ == "__main__":
    main()
