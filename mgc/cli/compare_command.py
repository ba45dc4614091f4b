"""`mgc compare`: two bundles' answers for the same files, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mgc.cli.app import ConfigOption, SetOption, console, plain, settings
from mgc.cli.file_answers import FAILED, BundleAnswers, answer_cells, answers, audio_of, names_of, unsure_text
from mgc.cli.terminal import counted
from mgc.errors import ConfigError
from mgc.inference.file_reader import STANDARD_INPUT, FileReader
from mgc.inference.file_tagger import Difference, FileAnswer, Vocabularies, difference, json_difference
from mgc.models.bundle_files import read_bundle_for_audio
from mgc.printable import json_line

TAGS_SHOWN = 4
NAMES_SHOWN = 12
CHANGES_SHOWN = 3
CHANGE_WORTH_SHOWING = 0.05


def compare(
    bundle_a: Annotated[str, typer.Argument(metavar="A", help="a model bundle")],
    bundle_b: Annotated[str, typer.Argument(metavar="B", help="another one")],
    tracks: Annotated[list[str], typer.Argument(help="audio files, s3:// URIs, or a small folder")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Hold two bundles' answers for audio files side by side, and say where they differ.

    Each extracts its own features; their vocabularies may differ. The exit status is 1 where a file has no answer.
    """
    chosen = settings(config, set_)
    stored = [read_bundle_for_audio(bundle_a), read_bundle_for_audio(bundle_b)]
    uris = audio_of(tracks, chosen.catalogue)
    if STANDARD_INPUT in uris:
        raise ConfigError("standard input can be read once, and two bundles need it", "give a file")
    with ExitStack() as stack:
        readers = [stack.enter_context(FileReader(one.features, chosen.decode)) for one in stored]
        waiting = [reader.begin(uris) for reader in readers]
        given = [answers(one, chosen.tagging, futures) for one, futures in zip(stored, waiting, strict=True)]
        show_compared(*given, as_json=as_json)


def show_compared(a: BundleAnswers, b: BundleAnswers, *, as_json: bool) -> None:
    """Print both answers of each file, as JSON lines or as one table, and where they differ.

    Raises
    ------
    typer.Exit
        With status 1 where a file has no answer.
    """
    pairs = []
    for pair in zip(a.each, b.each, strict=True):
        if as_json:
            print(json_line(json_difference(*pair, a.bundle, b.bundle)))
        pairs.append(pair)
    if not as_json:
        _show(console(), a, b, pairs)
    if any(answer.error for pair in pairs for answer in pair):
        raise typer.Exit(FAILED)


def _show(screen: Console, a: BundleAnswers, b: BundleAnswers, pairs: list[tuple[FileAnswer, FileAnswer]]) -> None:
    found = [difference(*pair, a.bundle, b.bundle) for pair in pairs]
    table = Table(box=box.SIMPLE_HEAD, show_lines=True, pad_edge=False)
    for title in ("track", "A", "B", "difference"):
        table.add_column(title, overflow="fold", no_wrap=title in "AB")
    names = names_of([one.uri for one, _ in pairs])
    for name, (one, other), differs in zip(names, pairs, found, strict=True):
        table.add_row(plain(name), _answer_text(one, a), _answer_text(other, b), _difference_text(differs))
    screen.print(plain(f"A  {a.bundle.uri}  {a.bundle.fingerprint}"), soft_wrap=True)
    screen.print(plain(f"B  {b.bundle.uri}  {b.bundle.fingerprint}"), soft_wrap=True)
    screen.print(table)
    unsure = [
        f"{which}: {text}"
        for which, answers in zip("AB", zip(*pairs, strict=True), strict=True)
        if (text := unsure_text(answers))
    ]
    for line in (*_vocabulary_lines(Vocabularies.of(a.bundle, b.bundle)), _summary(found), *unsure):
        screen.print(plain(line), soft_wrap=True)


def _answer_text(answer: FileAnswer, given: BundleAnswers) -> Text:
    return Text("\n").join(answer_cells(answer, given.bundle.taxonomy))


def _difference_text(found: Difference) -> Text:
    lines = []
    if found.same_genre is not None:
        lines.append(Text("same genre") if found.same_genre else Text("≠ genre", "bold yellow"))
    if found.genre_distance is not None:
        lines.append(Text(f"genre distance {found.genre_distance:.2f}", "dim"))
    for which, tags in (("A", found.tags_a), ("B", found.tags_b)):
        if tags:
            lines.append(plain(f"only {which}: {_listed(tags, TAGS_SHOWN)}"))
    large = [pair for pair in found.tag_changes[:CHANGES_SHOWN] if abs(pair[1]) >= CHANGE_WORTH_SHOWING]
    lines += [plain(f"{tag} {100 * change:+.0f} points", "dim") for tag, change in large]
    return Text("\n").join(lines)


def _vocabulary_lines(names: Vocabularies) -> list[str]:
    parts = (
        ("genres", "A", names.genres_a),
        ("genres", "B", names.genres_b),
        ("tags", "A", names.tags_a),
        ("tags", "B", names.tags_b),
    )
    return [f"{kind} that only {which} knows: {_listed(only, NAMES_SHOWN)}" for kind, which, only in parts if only]


def _listed(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _summary(found: list[Difference]) -> str:
    judged = [one for one in found if one.same_genre is not None]
    same = sum(one.same_genre is True for one in judged)
    tags = sum(bool(one.tags_a or one.tags_b) for one in found)
    answered = sum(one.answered for one in found)
    genre = f"same genre in {same:,} of {counted(len(judged), 'file')}; " if judged else ""
    return f"{genre}listed tags differ in {tags:,} of {counted(answered, 'file')}"
