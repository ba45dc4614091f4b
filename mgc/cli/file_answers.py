"""A few audio files: which ones the arguments name, and a bundle's answers for them as a table or as JSON lines.

No module here imports torch, so that files can be decoded while `FileTagger` imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mgc.arrays import Float32Array
from mgc.catalogue.listing import Skipped, list_audio
from mgc.cli.app import console, plain
from mgc.cli.terminal import counted
from mgc.config import CatalogueConfig, TaggingConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import ConfigError
from mgc.inference.file_reader import FileFeatures
from mgc.inference.file_tagger import FileAnswer, FileTagger, json_answer, write_taggram
from mgc.models.bundle_files import StoredBundle
from mgc.printable import json_line, not_sure, printable
from mgc.storage.store import Store

if TYPE_CHECKING:
    from mgc.inference.predictor import TrackPrediction
    from mgc.models.bundle import Bundle

FAILED = 1
"""Exit status where a file has no answer; it is printed with its reason."""

FEW_FILES = 200
"""A folder of more is work for the catalogue's job, which uses all cores and can be resumed."""

GENRES_SHOWN = 3
TAGS_SHOWN = 6
BAR_CELLS = 8
NAME_CELLS = 24
EIGHTHS = " ▏▎▍▌▋▊▉"


def audio_of(tracks: Sequence[str], config: CatalogueConfig | None = None) -> list[str]:
    """Return files as they were given, and in place of a folder (or a prefix that ends in `/`) the audio in it.

    What a folder holds besides is counted on stderr.

    Raises
    ------
    ConfigError
        A folder holds no audio, or more than `FEW_FILES`.
    """
    return [uri for track in tracks for uri in (_audio_in(track, config) if _is_folder(track) else [track])]


@dataclass(frozen=True)
class AnswerOptions:
    """How answers are shown, and where their windows are written."""

    json: bool = False
    embedding: bool = False
    windows: bool = False
    taggram: str | None = None


@dataclass(frozen=True)
class BundleAnswers:
    """A bundle and its answers, each as it comes."""

    bundle: Bundle
    each: Iterator[FileAnswer]


def answers(stored: StoredBundle, config: TaggingConfig, waiting: Sequence[Future[FileFeatures]]) -> BundleAnswers:
    """Load a bundle's ensemble, and return its answers for files that are being decoded."""
    tagger = FileTagger(stored, config)
    return BundleAnswers(tagger.bundle, (tagger.answer(future.result()) for future in waiting))


def show_answers(given: BundleAnswers, shown: AnswerOptions) -> None:
    """Print answers: a JSON object a line as they come, or one table.

    Raises
    ------
    typer.Exit
        With status 1 where a file has no answer.
    """
    kept = []
    for answer in given.each:
        if shown.json:
            value = json_answer(answer, given.bundle, embedding=shown.embedding, windows=shown.windows)
            print(json_line(value), flush=True)
        kept.append(answer)
    if shown.taggram:
        write_taggram(shown.taggram, kept, given.bundle)
    if not shown.json:
        console().print(answer_table(kept, given.bundle.taxonomy))
        if len(kept) > 1 and (unsure := unsure_text(kept)):
            console().print(unsure)
    if any(answer.error for answer in kept):
        raise typer.Exit(FAILED)


def answer_table(answers: Sequence[FileAnswer], taxonomy: Taxonomy) -> Table:
    """Return a row for each file: genre and the next ones, tags with bars, length, windows; or what is wrong.

    Numbers and bars: nothing is shown by colour alone.
    """
    table = Table(box=box.SIMPLE_HEAD, show_lines=len(answers) > 1, pad_edge=False, leading=0)
    table.add_column("track", overflow="fold", min_width=12)
    if taxonomy.genres:
        table.add_column("genre", no_wrap=True)
    if taxonomy.tags:
        table.add_column("tags", no_wrap=True)
    table.add_column("length", justify="right", no_wrap=True)
    table.add_column("windows", justify="right", no_wrap=True)
    for name, answer in zip(names_of([answer.uri for answer in answers]), answers, strict=True):
        table.add_row(*_row(name, answer, taxonomy))
    return table


def unsure_text(answers: Sequence[FileAnswer]) -> str:
    """Return of how many files the genre is not sure; empty where it is of all."""
    answered = [answer.prediction for answer in answers if answer.prediction]
    unsure = sum(bool(prediction.abstained) for prediction in answered)
    return f"not sure of the genre of {unsure:,} of {counted(len(answered), 'file')}" if unsure else ""


def names_of(uris: Sequence[str]) -> list[str]:
    """Return the files' names, without their folders where no two are the same."""
    names = [uri.rstrip("/").rpartition("/")[2] for uri in uris]
    return names if len(set(names)) == len(set(uris)) else list(uris)


def answer_cells(answer: FileAnswer, taxonomy: Taxonomy) -> list[Text]:
    """Return the genres and the tags of an answer, each where the taxonomy has some; or what is wrong."""
    prediction = answer.prediction
    if prediction is None:
        error = answer.error
        code, why = (error.track_code.value, error.message) if error else ("", "")
        return [Text.assemble(("failed ", "bold yellow"), (code, "yellow"), "\n", printable(why))]
    cells = []
    if taxonomy.genres:
        ranked, width = _likeliest(taxonomy.genres, prediction.genre_probabilities), _width(taxonomy.genres)
        if prediction.abstained:
            guess = Text(not_sure(_short(ranked[0][0], width), ranked[0][1]), "yellow")
            cells.append(Text("\n").join([guess, _bars(ranked[1:GENRES_SHOWN], width, style="dim")]))
        else:
            cells.append(_bars(ranked[:GENRES_SHOWN], width, bold=1))
    if taxonomy.tags:
        cells.append(_tags(prediction, taxonomy))
    return cells


def bar(probability: float) -> str:
    """Return a bar of at most `BAR_CELLS` characters, in eighths of one."""
    eighths = round(probability * BAR_CELLS * 8)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def _is_folder(track: str) -> bool:
    return track.endswith("/") if "://" in track else Path(track).is_dir()


def _audio_in(folder: str, config: CatalogueConfig | None) -> list[str]:
    skipped = Skipped()
    listed = (row for batch in list_audio(Store.open(folder), skipped, config) for row in batch.to_pylist())
    found = [row["uri"] or f"{folder.rstrip('/')}/{row['key']}" for row in islice(listed, FEW_FILES + 1)]
    if not found:
        raise ConfigError(f"there is no audio in '{folder}'{skipped}", "give audio files, or a folder of them")
    if len(found) > FEW_FILES:
        raise ConfigError(
            f"'{folder}' holds more than {FEW_FILES} audio files",
            f"make it a catalogue, which uses all cores and does nothing twice: mgc index '{folder}' "
            "-o catalogue.parquet, then mgc tag catalogue.parquet -o predictions/",
        )
    if skipped.counts:
        print(printable(f"{folder}: {counted(len(found), 'audio file')}{skipped}"), file=sys.stderr)
    return found


def _row(name: str, answer: FileAnswer, taxonomy: Taxonomy) -> list[RenderableType]:
    end = [_clock(answer.duration_seconds), str(answer.prediction.windows if answer.prediction else 0)]
    cells = answer_cells(answer, taxonomy)
    if answer.prediction is None:
        empty = [""] * (bool(taxonomy.genres) + bool(taxonomy.tags))
        return [Text("\n").join([plain(name), *cells]), *empty, *end]
    return [Text("\n").join([plain(name), *([Text(answer.note, "dim")] if answer.note else [])]), *cells, *end]


def _tags(prediction: TrackPrediction, taxonomy: Taxonomy) -> Text:
    """Return the tags at the threshold; where there is none, the likeliest ones, dim."""
    ranked = _likeliest(taxonomy.tags, prediction.tag_probabilities)
    n_tags, width = len(prediction.tags), _width(taxonomy.tags)
    if not n_tags:
        return Text("none; the likeliest:\n", "dim") + _bars(ranked[:2], width, style="dim")
    rows = [_bars(ranked[: min(n_tags, TAGS_SHOWN)], width)]
    if n_tags > TAGS_SHOWN:
        rows.append(Text(f"and {n_tags - TAGS_SHOWN} more", "dim"))
    return Text("\n").join(rows)


def _likeliest(names: tuple[str, ...], probabilities: Float32Array) -> list[tuple[str, float]]:
    named = zip(names, probabilities.tolist(), strict=True)
    return sorted(named, key=lambda pair: -pair[1])


def _width(names: Sequence[str]) -> int:
    """Return one width for all rows of the table, so that bars stand below each other."""
    return min(max((len(printable(name)) for name in names), default=0), NAME_CELLS)


def _bars(rows: Sequence[tuple[str, float]], width: int, *, bold: int = 0, style: str = "") -> Text:
    """Return names with their probabilities as numbers and bars, a line each, the first `bold` of them in bold."""
    lines = []
    for number, (name, probability) in enumerate(rows):
        label = Text(f"{_short(name, width):<{width}} {probability:>4.0%} ", "bold" if number < bold else style)
        lines.append(label + Text(bar(probability).ljust(BAR_CELLS), "cyan"))
    return Text("\n").join(lines)


def _short(name: str, width: int) -> str:
    shown = printable(name)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def _clock(seconds: float | None) -> str:
    """Return minutes and seconds; a dash where the length is not known."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
