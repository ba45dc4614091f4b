"""Training under Ray Train against the same loop without Ray, in turn: bare, mgc, bare, mgc, …

Both fit the same network to the same weights on the same shards. An epoch under Ray Train also writes its checkpoint
and its report and is reported to the driver: that is what the ratio holds.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import DISTINCT, figure
from benchmarks.process import Timed, run_module
from mgc.catalogue.index import index_catalogue
from mgc.config import CatalogueConfig

GENRES = 4
EPOCHS = 6


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print `train_over_bare_loop`, an epoch's time over the bare loop's, and the same of whole programs."""
    catalogue = _labelled(clips, folder)
    run_module("benchmarks.timed_job", "extract", catalogue, str(folder / "train-shards"))
    epoch, whole = [], []
    for number in range(rounds):
        bare = _fit("bare", catalogue, folder, number)
        ours = _fit("ray", catalogue, folder, number)
        if bare.values["loss"] != ours.values["loss"]:
            raise SystemExit(f"not the same training: loss {bare.values['loss']} and {ours.values['loss']}")
        epoch.append(ours.values["epoch"] / bare.values["epoch"])
        whole.append(ours.seconds / bare.seconds)
    figure("train_over_bare_loop", epoch, "ratio")
    figure("train_job_over_bare_program", whole, f"ratio_of_{EPOCHS}_epochs_with_start")


def _labelled(clips: Path, folder: Path) -> str:
    """Return a catalogue of the clips with a genre each: which, is no matter for how long an epoch takes."""
    names = sorted(path.name for path in clips.iterdir())
    rows = [f"{name},genre{number % DISTINCT % GENRES},tag{number % 3}" for number, name in enumerate(names)]
    manifest = folder / "train-labels.csv"
    manifest.write_text("\n".join(["path,genre,tags", *rows]) + "\n", encoding="utf-8")
    place = str(folder / "train.parquet")
    index_catalogue(str(clips), place, CatalogueConfig(manifest=str(manifest), valid_fraction=0.2))
    return place


def _fit(how: str, catalogue: str, folder: Path, number: int) -> Timed:
    place = folder / f"trained-{how}-{number}"
    return run_module(
        "benchmarks.timed_training", how, catalogue, str(folder / "train-shards"), str(place), str(EPOCHS)
    )
