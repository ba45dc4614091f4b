"""Answers for a few files, for the terminal and for programs; torch comes in here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import typer

from mgc.cli.answer_table import answer_table
from mgc.cli.options import console
from mgc.config import TaggingConfig
from mgc.inference.file_reader import FileFeatures
from mgc.inference.file_tagger import FileAnswer, FileTagger, json_answer, write_taggram
from mgc.models.bundle import Bundle
from mgc.models.bundle_files import StoredBundle

FAILED = 1
"""Exit status where a file has no answer; it is printed with its reason."""


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
    """Return a bundle's answers for files that are being heard."""
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
            print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)
        kept.append(answer)
    if shown.taggram:
        write_taggram(shown.taggram, kept, given.bundle)
    if not shown.json:
        console().print(answer_table(kept, given.bundle.taxonomy))
    if any(answer.error for answer in kept):
        raise typer.Exit(FAILED)
