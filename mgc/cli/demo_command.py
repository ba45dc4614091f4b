"""`mgc demo`: the whole way, from audio to predictions and a report, on a small catalogue."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mgc.catalogue.index import NO_GENRE, IndexSummary, index_catalogue, read_catalogue
from mgc.cli.app import AddressOption, ConfigOption, SetOption, console, settings
from mgc.cli.evaluate_command import EvaluationRequest, run_evaluation
from mgc.cli.index_command import summary_rows
from mgc.cli.report_command import latest_tagging_page
from mgc.cli.terminal import announce, facts, run_summary, tagging_summary, watched
from mgc.cli.train_command import show_training, train_watched
from mgc.cluster.extract import extract_features
from mgc.cluster.predict import tag_catalogue
from mgc.cluster.run import RunOptions, RunOutcome
from mgc.cluster.runtime import ray_session
from mgc.cluster.train import TrainingRequest
from mgc.config import Config
from mgc.config.training_settings import DEFAULT_ENSEMBLE
from mgc.demo.compose import DemoCatalogue, compose_catalogue, pass_a_day
from mgc.models.published_files import STARTER

SMALL = ("training.epochs=30", "training.patience=8", "training.batch_size=16", "catalogue.valid_fraction=0.34")
"""Settings for a small folder of one's own; `--config` and `--set` come on top."""

CLIPS_PER_STYLE, CLIP_SECONDS, LENGTH_SPREAD = 50, 4.4, 0.25
COMPOSED = (
    "features.window_seconds=3",
    # More validation than training: 95 % can be promised of some 120 clips, and the styles are learnt from 80.
    "catalogue.valid_fraction=0.6",
    "training.keep=last",
    "training.epochs=15",
    "training.batch_size=8",
    "training.tag_precision=0.8",
    'training.exclusive_tags=[["major", "minor"], ["fast", "slow"]]',
)
"""Settings for the clips that mgc composes, likewise."""

TRACKS_A_GENRE = 8
"""A folder of fewer tracks is no genre that could be learnt and measured."""


def demo(
    catalogue: Annotated[
        str | None,
        typer.Option(help="your music: a folder a genre is learnt, any other is tagged by the starter bundle"),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="where everything goes; default: demo-out, of your music demo-out-own"),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="open the pages in the browser at the end")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Index, extract, train, evaluate, tag: all of mgc on a small catalogue, in a few minutes on a laptop."""
    small = COMPOSED if catalogue is None else SMALL
    chosen = settings(config, [*small, *(set_ or [])], default_ensemble=DEFAULT_ENSEMBLE, cluster__address=address)
    steps = _Steps(console())
    if catalogue is None:
        made = _composed(steps, chosen, Path(output or "demo-out"))
    else:
        made = _of_own_music(steps, chosen, Path(output or "demo-out-own"), catalogue)
    seconds = " · ".join(f"{name} {taken:.0f}" for name, taken in steps.seconds.items())
    facts(steps.screen, f"Done in {sum(steps.seconds.values()):.0f} s", {**made, "seconds": seconds})
    if open_:
        for what in (EVALUATION, TAGGING):
            if what in made and not webbrowser.open(Path(made[what]).absolute().as_uri()):
                steps.screen.print(f"no browser here: open the {what} yourself", style="dim")


EVALUATION, TAGGING = "evaluation report", "tagging report"


@dataclass
class _Steps:
    """The demo's steps on the screen, and how long each took."""

    screen: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Head the block with its number and name; its time goes to `seconds`."""
        self.screen.rule(Text(f"{len(self.seconds) + 1} {name}", "bold"), align="left", style="cyan")
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


@dataclass(frozen=True)
class _Places:
    """Where the demo's tables and pages are."""

    tracks: str
    features: str
    bundle: str
    evaluation: str
    predictions: str

    @classmethod
    def under(cls, place: Path) -> _Places:
        names = ("catalogue.parquet", "features", "bundle", "evaluation", "predictions")
        return cls(*(str(place / name) for name in names))


def _composed(steps: _Steps, config: Config, place: Path) -> dict[str, str]:
    """Compose a catalogue and go the whole way; then change it as a day would, and run again."""
    screen, places = steps.screen, _Places.under(place)
    with steps.step("compose"):
        music = compose_catalogue(
            place / "music",
            clips_per_style=CLIPS_PER_STYLE,
            clip_seconds=CLIP_SECONDS,
            clips_per_project=1,
            length_spread=LENGTH_SPREAD,
            unsorted=True,
        )
        announce(
            screen,
            "music",
            f"{len(music.clips)} clips in four styles {'composed' if music.composed else 'found'} in {music.folder}; "
            f"besides, without labels, medleys of two styles and copies, {len(music.plan.unsorted)} files, and "
            f"{len(music.damaged)} damaged ones",
        )
        screen.print("synthetic, made by mgc itself: figures on it say nothing about real music", style="dim")
    labels = config.catalogue.model_copy(update={"manifest": str(music.manifest)})
    with steps.step("index"):
        found = index_catalogue(str(music.folder), places.tracks, labels)
        facts(screen, "Catalogue", summary_rows(found))
    with ray_session(config.cluster):
        pages = _learn_and_tag(steps, places, config)
        with steps.step("a day later"):
            _show_changes(screen, music)
            index_catalogue(str(music.folder), places.tracks, labels)
            again = _tag(screen, places, places.bundle, config)
            pages[TAGGING] = latest_tagging_page(
                again, places.tracks, places.predictions, places.bundle, places.features
            )
    return pages


def _show_changes(screen: Console, music: DemoCatalogue) -> None:
    changes = pass_a_day(music)
    facts(
        screen,
        f"1 new, 1 changed, 1 deleted in {music.folder}",
        {"new": changes.new, "changed": changes.changed, "deleted": changes.deleted},
    )


def _of_own_music(steps: _Steps, config: Config, place: Path, root: str) -> dict[str, str]:
    """Learn the genres of somebody's folders; where they are none, let the starter bundle tag the music."""
    screen, places, labels = steps.screen, _Places.under(place), config.catalogue
    given = bool(labels.manifest or labels.dataset or labels.labels_from)
    with steps.step("index"):
        by_folder = labels if given else labels.model_copy(update={"labels_from": "folder"})
        found = index_catalogue(root, places.tracks, by_folder)
        learn = given or _are_genres(found)
        if not learn:
            found = index_catalogue(root, places.tracks, labels.model_copy(update={"labels_from": "none"}))
        facts(screen, "Catalogue", summary_rows(found))
    if learn:
        with ray_session(config.cluster):
            return _learn_and_tag(steps, places, config)
    announce(
        screen,
        "starter bundle",
        f"no two folders of '{root}' with {TRACKS_A_GENRE} tracks each, so no genres to learn: the bundle that comes "
        "with mgc answers",
    )
    with steps.step("tag"), ray_session(config.cluster):
        tagged = _tag(screen, places, STARTER, config)
        page = latest_tagging_page(tagged, places.tracks, places.predictions, STARTER)
    return {TAGGING: page, "predictions": f"{places.predictions}/current"}


def _are_genres(found: IndexSummary) -> bool:
    sizes = [sum(counts.values()) for name, counts in found.by_genre.items() if name != NO_GENRE]
    return sum(size >= TRACKS_A_GENRE for size in sizes) > 1


def _learn_and_tag(steps: _Steps, places: _Places, config: Config) -> dict[str, str]:
    screen = steps.screen
    with steps.step("extract"), watched(screen, "extracting") as watch:
        options = RunOptions(on_plan=watch.show_plan, on_progress=watch.advance)
        extracted = extract_features(read_catalogue(places.tracks), places.features, config, options)
    run_summary(screen, "Extraction", extracted, places.features)
    with steps.step("train"):
        # A demo run again with other music or settings is meant to replace what the last one made.
        request = TrainingRequest(
            places.tracks, places.features, places.bundle, config, overwrite=False, replace_other=True
        )
        show_training(screen, train_watched(screen, request), places.bundle)
    with steps.step("evaluate"):
        request_figures = EvaluationRequest(
            places.tracks, places.bundle, places.evaluation, config, features=places.features
        )
        evaluation = run_evaluation(screen, request_figures)
    with steps.step("tag"):
        tagged = _tag(screen, places, places.bundle, config)
        page = latest_tagging_page(tagged, places.tracks, places.predictions, places.bundle, places.features)
    return {
        EVALUATION: evaluation,
        TAGGING: page,
        "predictions": f"{places.predictions}/current",
        "model bundle": places.bundle,
    }


def _tag(screen: Console, places: _Places, bundle: str, config: Config) -> RunOutcome:
    with watched(screen, "tagging") as watch:
        options = RunOptions(on_plan=watch.show_plan, on_progress=watch.advance)
        tagged = tag_catalogue(read_catalogue(places.tracks), bundle, places.predictions, config, options)
    tagging_summary(screen, tagged, places.predictions)
    return tagged
