"""`mgc tag --fast` beside its ensemble on a real catalogue: how often both agree, how right they are, how fast.

    python -m benchmarks.fast_student CATALOGUE BUNDLE FEATURES FOLDER

BUNDLE holds a student (`mgc distill BUNDLE CATALOGUE -f FEATURES`). The catalogue is tagged into FOLDER both ways by
the commands that a user would give; what is there already is not done again. Figures of accuracy are of split
'valid', which also stopped both early: they flatter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.material import figure
from mgc.catalogue.index import read_catalogue
from mgc.reports.tagging_table import pairs
from mgc.storage.store import Store
from mgc.tables.predictions import read_predictions
from mgc.tables.run_log import OutputDirectory
from mgc.tables.run_records import read_records

READ = ["track_id", "genre", "tags", "genre_probabilities", "tag_probabilities", "error_code"]


def main() -> None:
    catalogue, bundle, features, folder = sys.argv[1:]
    places = {"ensemble": f"{folder}/ensemble", "student": f"{folder}/student"}
    for name, place in places.items():
        mgc("tag", catalogue, "-b", bundle, "-o", place, *(["--fast"] if name == "student" else []))
        own = bundle if name == "ensemble" else f"{bundle}/student"
        shown = ["-f", features, "-o", f"{folder}/{name}-report", "--no-baseline"]
        mgc("evaluate", catalogue, "-b", own, *shown)
    for name, place in places.items():
        speed(name, place)
        accuracy(name, Path(folder, f"{name}-report", "evaluation.json"))
    tracks = read_catalogue(catalogue).select("track_id", "split")
    agreement(read_predictions(places["ensemble"], READ), read_predictions(places["student"], READ), tracks)


def mgc(*arguments: str) -> None:
    """Run a command of mgc, and show it and what it says."""
    print(f"$ mgc {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "mgc", *arguments], check=False)
    if done.returncode:
        raise SystemExit(f"mgc {arguments[0]} ended with status {done.returncode}")


def speed(name: str, place: str) -> None:
    """Print × realtime a core of the longest run."""
    runs = read_records(OutputDirectory(Store.open(place), "predictions"), 100)
    run = max(runs, key=lambda one: one.audio_seconds)
    figure(f"fast_xrealtime_per_core_{name}", [run.audio_seconds / run.busy_seconds / run.cores], "×realtime/core")


def accuracy(name: str, report: Path) -> None:
    """Print the genre accuracy and the tags' PR-AUC of an evaluation, with their intervals."""
    found = json.loads(report.read_text())
    for what, one in (("accuracy", found["genre"]["accuracy"]), ("tag_pr_auc", found["tags"]["macro_pr_auc"])):
        print(f"figure fast_{what}_{name} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]")


def agreement(ensemble: pl.DataFrame, student: pl.DataFrame, tracks: pl.DataFrame) -> None:
    """Print how often both name the same genre, and how far their probabilities are apart, by split."""
    both = ensemble.filter(pl.col("error_code").is_null()).join(student, on="track_id", suffix="_student")
    for (split,), rows in both.join(tracks, on="track_id").group_by(["split"]):
        same = (rows["genre"] == rows["genre_student"]).to_numpy()
        figure(f"fast_same_genre_{split}", [float(np.mean(same))], "of_tracks")
        figure(
            f"fast_genre_distance_{split}", [float(_apart(rows, "genre").sum(axis=1).mean()) / 2], "total_variation"
        )
        figure(f"fast_tag_distance_{split}", [float(_apart(rows, "tag").mean())], "mean_absolute")


def _apart(rows: pl.DataFrame, kind: str) -> npt.NDArray[np.float64]:
    """Return how far both probabilities of each name are apart, shape (tracks, names)."""
    names = (f"{kind}_probabilities", f"{kind}_probabilities_student")
    one, two = (np.array([[value for _, value in sorted(pairs(row))] for row in rows[name]]) for name in names)
    return np.asarray(np.abs(one - two), dtype=np.float64)


if __name__ == "__main__":
    main()
