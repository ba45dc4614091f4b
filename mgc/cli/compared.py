"""Two bundles' answers on the terminal; torch comes in here."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mgc.cli.app import console
from mgc.cli.file_answers import FAILED, BundleAnswers, answer_cells, names_of
from mgc.cli.terminal import counted
from mgc.inference.file_tagger import Difference, FileAnswer, Vocabularies, difference, json_difference

TAGS_SHOWN = 4
NAMES_SHOWN = 12
CHANGES_SHOWN = 3
CHANGE_WORTH_SHOWING = 0.05


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
            print(json.dumps(json_difference(*pair, a.bundle, b.bundle), ensure_ascii=False, allow_nan=False))
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
        table.add_row(Text(name), _answer_text(one, a), _answer_text(other, b), _words(differs))
    screen.print(Text(f"A  {a.bundle.uri}  {a.bundle.fingerprint}"), soft_wrap=True)
    screen.print(Text(f"B  {b.bundle.uri}  {b.bundle.fingerprint}"), soft_wrap=True)
    screen.print(table)
    for line in (*_vocabulary_lines(Vocabularies.of(a.bundle, b.bundle)), _summary(found)):
        screen.print(Text(line), soft_wrap=True)


def _answer_text(answer: FileAnswer, given: BundleAnswers) -> RenderableType:
    return Text("\n").join(answer_cells(answer, given.bundle.taxonomy))


def _words(found: Difference) -> Text:
    lines = []
    if found.same_genre is not None:
        lines.append(Text("same genre") if found.same_genre else Text("≠ genre", "bold yellow"))
    if found.genre_distance is not None:
        lines.append(Text(f"genre distance {found.genre_distance:.2f}", "dim"))
    for which, tags in (("A", found.tags_a), ("B", found.tags_b)):
        if tags:
            lines.append(Text(f"only {which}: {_listed(tags, TAGS_SHOWN)}"))
    large = [pair for pair in found.tag_changes[:CHANGES_SHOWN] if abs(pair[1]) >= CHANGE_WORTH_SHOWING]
    lines += [Text(f"{tag} {100 * change:+.0f} points", "dim") for tag, change in large]
    return Text("\n").join(lines)


def _vocabulary_lines(names: Vocabularies) -> list[str]:
    lines = []
    for kind, only_a, only_b in (("genres", names.genres_a, names.genres_b), ("tags", names.tags_a, names.tags_b)):
        if only_a:
            lines.append(f"{kind} that only A knows: {_listed(only_a, NAMES_SHOWN)}")
        if only_b:
            lines.append(f"{kind} that only B knows: {_listed(only_b, NAMES_SHOWN)}")
    return lines


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
