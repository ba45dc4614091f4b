"""The review queue, filled in as an annotator would, and its labels fed back into training: what that gives.

    python -m benchmarks.review_loop ROOT --manifest CSV [--first 100] [--asked 100] [--draws 3] [--config RECIPE]

CSV labels all audio under ROOT (path, genre, tags, group, split). Its split 'valid' becomes 'test': held out, and the
same for every bundle. Of the other groups a fifth becomes 'valid' (early stopping, calibration); of what is left so
many tracks (`--first`) keep their labels, and those of the rest are hidden. Then, by the commands that a user would
give: `mgc train`, `tag`, `review`; the queue's CSV is filled in from the hidden labels; `mgc index --corrections`,
`train` once more, `evaluate` on 'test'. Beside it the same with as many tracks drawn at random. Each draw chooses
other first tracks, and trains with another seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import polars as pl

from mgc.tables.predictions import read_predictions

VALID_SHARE = 0.2
LABELLED_COLUMNS = ["genre", "tags"]


@dataclass(frozen=True)
class Wanted:
    """The options of the command line, and where to work."""

    root: str
    truth: pl.DataFrame
    work: Path
    features: str
    first: int
    queued: int
    settings: list[str]


@dataclass(frozen=True)
class Score:
    """Figures of a bundle on split 'test'."""

    accuracy: float
    pr_auc: float


@dataclass(frozen=True)
class Draw:
    """Figures of one draw: before, with the queue's labels, and with as many drawn at random.

    Parameters
    ----------
    wrong, wrong_of_queue
        Share of wrong genres among all unlabelled tracks, and among those that the queue asks for.
    """

    before: Score
    queue: Score
    random: Score
    wrong: float
    wrong_of_queue: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review_loop", description=__doc__.splitlines()[0])
    parser.add_argument("root", help="folder of audio")
    parser.add_argument("--manifest", required=True, help="CSV: path, genre, tags, group, split")
    parser.add_argument("--first", type=int, default=100, help="tracks labelled at first (default 100)")
    parser.add_argument("--asked", type=int, default=100, help="tracks of a queue (default 100)")
    parser.add_argument("--draws", type=int, default=3, help="repeats (default 3)")
    parser.add_argument("--features", help="shards of all audio; default: extracted here")
    parser.add_argument("--config", help="TOML file of settings for every command")
    parser.add_argument("--work", type=Path, help="folder to work in, and to keep; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mgc-review-") as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        wanted = Wanted(
            given.root,
            pl.read_csv(given.manifest, infer_schema=False),
            work,
            given.features or str(work / "features"),
            given.first,
            given.queued,
            ["--config", given.config] if given.config else [],
        )
        show([draw(wanted, number) for number in range(given.draws)])


def draw(wanted: Wanted, number: int) -> Draw:
    """Go round once with other first labels and another seed."""
    random = np.random.default_rng(number)
    folder = wanted.work / f"draw-{number}"
    folder.mkdir(exist_ok=True)
    first = first_manifest(wanted.truth, wanted.first, random)
    first.write_csv(folder / "labels.csv")
    hidden = first.filter(pl.col("genre").is_null() & pl.col("split").is_null())["path"]
    before = learn(wanted, folder, "before", number)
    predictions, queue = str(folder / "predictions"), folder / "queue.csv"
    mgc("tag", str(folder / "catalogue.parquet"), "-b", str(folder / "before"), "-o", predictions)
    command = ["review", str(folder / "catalogue.parquet"), "-p", predictions, "-n", str(wanted.queued)]
    mgc(*command, "-o", str(queue), "--overwrite")
    queued = pl.read_csv(queue, infer_schema=False)
    filled_in(queued, wanted.truth).write_csv(queue)
    others = folder / "random.csv"
    some = hidden.gather(random.choice(len(hidden), len(queued), replace=False)).to_frame("path")
    filled_in(some, wanted.truth).write_csv(others)
    wrong = wrong_genres(predictions, wanted, hidden)
    return Draw(
        before,
        learn(wanted, folder, "queue", number, queue),
        learn(wanted, folder, "random", number, others),
        share(wrong),
        share(wrong.filter(pl.col("path").is_in(queued["path"].implode()))),
    )


def first_manifest(truth: pl.DataFrame, first: int, random: np.random.Generator) -> pl.DataFrame:
    """Return the labels that are known at first; a hidden track has neither labels nor a split."""
    free = truth.filter(pl.col("split") != "valid")
    groups = free["group"].unique().sort()
    valid = groups.gather(random.choice(len(groups), round(VALID_SHARE * len(groups)), replace=False))
    rest = free.filter(~pl.col("group").is_in(valid.implode()))["path"]
    known = rest.gather(random.choice(len(rest), first, replace=False))
    split = (
        pl.when(pl.col("split") == "valid")
        .then(pl.lit("test"))
        .when(pl.col("group").is_in(valid.implode()))
        .then(pl.lit("valid"))
        .when(pl.col("path").is_in(known.implode()))
        .then(pl.lit("train"))
    )
    split_known = truth.select("path", "genre", "tags", "group", split.alias("split"))
    return split_known.with_columns(
        pl.when(pl.col("split").is_not_null()).then(name).alias(name) for name in LABELLED_COLUMNS
    )


def filled_in(sheet: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Return a sheet with the true genre and tags of each of its paths, `-` where a track has no tag."""
    labels = truth.select("path", "genre", pl.col("tags").fill_null("-"))
    columns = [name for name in sheet.columns if name not in LABELLED_COLUMNS]
    return sheet.select(columns).join(labels, on="path", how="left", maintain_order="left")


def wrong_genres(predictions: str, wanted: Wanted, hidden: pl.Series) -> pl.DataFrame:
    """Return whether each hidden track's answer is wrong (path, wrong)."""
    root = str(Path(wanted.root).absolute())
    predicted = read_predictions(predictions, ["uri", "genre"]).select(
        path=pl.col("uri").str.strip_prefix(f"{root}/"), predicted="genre"
    )
    both = wanted.truth.filter(pl.col("path").is_in(hidden.implode())).join(predicted, on="path")
    return both.select("path", wrong=pl.col("genre") != pl.col("said"))


def share(wrong: pl.DataFrame) -> float:
    """Return the share of wrong answers."""
    return float(wrong["wrong"].sum()) / wrong.height


def learn(wanted: Wanted, folder: Path, name: str, seed: int, corrections: Path | None = None) -> Score:
    """Index with what is known by now, train, and ask split 'test'."""
    # A catalogue of its own: a split that a track once has stays, and the two ways must not meet.
    catalogue = folder / ("catalogue.parquet" if corrections is None else f"{name}.parquet")
    if corrections is not None:
        catalogue.write_bytes((folder / "catalogue.parquet").read_bytes())
    more = ["--corrections", str(corrections)] if corrections else []
    mgc("index", wanted.root, "--manifest", str(folder / "labels.csv"), "-o", str(catalogue), *more)
    if not Path(wanted.features).exists():
        mgc("extract", str(catalogue), "-o", wanted.features, *wanted.settings)
    seen = ["-f", wanted.features, *wanted.settings]
    bundle, report = str(folder / name), folder / f"{name}-report"
    mgc("train", str(catalogue), "-b", bundle, *seen, "--set", f"training.seed={seed}")
    mgc("evaluate", str(catalogue), "-b", bundle, "-o", str(report), *seen, "--split", "test", "--no-baseline")
    found = json.loads((report / "evaluation.json").read_text())
    return Score(found["genre"]["accuracy"]["value"], found["tags"]["macro_pr_auc"]["value"])


def mgc(*arguments: str) -> None:
    """Run a command of mgc, and show it and what it says."""
    print(f"$ mgc {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "mgc", *arguments], check=False)
    if done.returncode:
        raise SystemExit(f"mgc {arguments[0]} ended with status {done.returncode}")


def show(draws: list[Draw]) -> None:
    """Print a row a draw, and the means with their standard errors."""
    print("draw  wrong of all, of the queue   accuracy before, queue, random   tag PR-AUC before, queue, random")
    for number, one in enumerate(draws):
        scores = (one.before, one.queue, one.random)
        accuracies = "  ".join(f"{score.accuracy:.3f}" for score in scores)
        areas = "  ".join(f"{score.pr_auc:.3f}" for score in scores)
        print(f"{number:4}  {one.wrong:12.3f}  {one.wrong_of_queue:12.3f}   {accuracies}   {areas}")
    for name, gains in {
        "accuracy, queue over before": [one.queue.accuracy - one.before.accuracy for one in draws],
        "accuracy, queue over random": [one.queue.accuracy - one.random.accuracy for one in draws],
        "tag PR-AUC, queue over before": [one.queue.pr_auc - one.before.pr_auc for one in draws],
        "tag PR-AUC, queue over random": [one.queue.pr_auc - one.random.pr_auc for one in draws],
    }.items():
        error = f" ± {stdev(gains) / len(gains) ** 0.5:.3f} (standard error)" if len(gains) > 1 else ""
        print(f"{name}: {mean(gains):+.3f}{error}")


if __name__ == "__main__":
    main()
