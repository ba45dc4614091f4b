"""`mgc demo`: the whole way, from audio to predictions and a report, on a small catalogue."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cli.app import AddressOption, ConfigOption, SetOption, console, settings
from mgc.cli.evaluate_command import EvaluationRequest, run_evaluation
from mgc.cli.index_command import summary_rows
from mgc.cli.report_command import latest_tagging_page
from mgc.cli.terminal import announce, facts, run_summary, tagging_summary, watched
from mgc.cli.train_command import show_training, train_watched
from mgc.cluster.extract import extract_features
from mgc.cluster.predict import tag_catalogue
from mgc.cluster.run import RunOptions
from mgc.cluster.runtime import ray_session
from mgc.cluster.train import TrainingRequest
from mgc.config import Config
from mgc.demo.compose import compose_catalogue

SMALL = ("training.epochs=30", "training.patience=8", "training.batch_size=16", "catalogue.valid_fraction=0.34")
"""Settings for a few dozen clips; `--config` and `--set` come on top."""


def demo(
    catalogue: Annotated[
        str | None, typer.Option(help="your music, a folder a genre; default: clips that mgc composes")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="where everything goes")] = "demo-out",
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Index, extract, train, evaluate, tag: all of mgc on a small catalogue, in a few minutes on a laptop."""
    started = time.perf_counter()
    chosen = settings(config, [*SMALL, *(set_ or [])], default_ensemble=True, cluster__address=address)
    screen, place = console(), Path(output)
    root, chosen = _music(screen, catalogue, place, chosen)
    tracks = str(place / "catalogue.parquet")
    _step(screen, 1, "index")
    facts(screen, "Catalogue", summary_rows(index_catalogue(root, tracks, chosen.catalogue)))
    with ray_session(chosen.cluster):
        evaluation, predictions = _learn_and_tag(screen, tracks, place, chosen)
    facts(
        screen,
        f"Done in {time.perf_counter() - started:.0f} s",
        {
            "evaluation report": evaluation,
            "tagging report": predictions,
            "predictions": str(place / "predictions" / "current"),
            "model bundle": str(place / "bundle"),
        },
    )


def _music(screen: Console, catalogue: str | None, place: Path, config: Config) -> tuple[str, Config]:
    """Return the folder of audio, composed where none is given, and the settings that read its labels."""
    if catalogue is not None:
        labels = config.catalogue.model_copy(update={"labels_from": config.catalogue.labels_from or "folder"})
        return catalogue, config.model_copy(update={"catalogue": labels})
    made = compose_catalogue(place / "music")
    announce(
        screen,
        "music",
        f"{len(made.clips)} clips in four styles {'composed' if made.composed else 'found'} in {made.folder}, "
        f"and {len(made.damaged)} damaged files to show what becomes of them",
    )
    screen.print("synthetic, made by mgc itself: figures on it say nothing about real music", style="dim")
    labels = config.catalogue.model_copy(update={"manifest": str(made.manifest)})
    return str(made.folder), config.model_copy(update={"catalogue": labels})


def _learn_and_tag(screen: Console, tracks: str, place: Path, config: Config) -> tuple[str, str]:
    features, bundle, predictions = (str(place / name) for name in ("features", "bundle", "predictions"))
    frame = read_catalogue(tracks)
    _step(screen, 2, "extract")
    with watched(screen, "extracting") as watch:
        options = RunOptions(on_plan=watch.show_plan, on_progress=watch.advance)
        extracted = extract_features(frame, features, config, options)
    run_summary(screen, "Extraction", extracted, features)
    _step(screen, 3, "train")
    # A demo run again with other music or settings is meant to replace what the last one made.
    request = TrainingRequest(tracks, features, bundle, config, overwrite=False, replace_other=True)
    show_training(screen, train_watched(screen, request), bundle)
    _step(screen, 4, "evaluate")
    page = run_evaluation(
        screen, EvaluationRequest(tracks, bundle, str(place / "evaluation"), config, features=features)
    )
    _step(screen, 5, "tag")
    with watched(screen, "tagging") as watch:
        options = RunOptions(on_plan=watch.show_plan, on_progress=watch.advance)
        tagged = tag_catalogue(frame, bundle, predictions, config, options)
    tagging_summary(screen, tagged, predictions)
    return page, latest_tagging_page(tagged, tracks, predictions, bundle)


def _step(screen: Console, number: int, name: str) -> None:
    screen.rule(Text(f"{number}/5 {name}", "bold"), align="left", style="cyan")
