"""`mgc compare`: two bundles' answers for the same files, side by side."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from typing import Annotated

import typer

from mgc.cli.app import ConfigOption, SetOption, settings
from mgc.cli.tag_files import audio_of
from mgc.errors import ConfigError
from mgc.inference.file_reader import STANDARD_INPUT, FileReader
from mgc.models.bundle_files import read_bundle_for_audio


def compare(
    bundle_a: Annotated[str, typer.Argument(metavar="A", help="a model bundle")],
    bundle_b: Annotated[str, typer.Argument(metavar="B", help="another one")],
    tracks: Annotated[list[str], typer.Argument(help="audio files, s3:// URIs, or a small folder")],
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Hold two bundles' answers for audio files side by side, and say where they differ.

    Each hears with its own features; their vocabularies may differ. The exit status is 1 where a file has no answer.
    """
    chosen = settings(config, set_)
    stored = [read_bundle_for_audio(bundle_a), read_bundle_for_audio(bundle_b)]
    uris = audio_of(tracks)
    if STANDARD_INPUT in uris:
        raise ConfigError("standard input can be read once, and two bundles hear it", "give a file")
    with ExitStack() as stack:
        readers = [stack.enter_context(FileReader(one.features, chosen.decode)) for one in stored]
        waiting = [reader.begin(uris) for reader in readers]
        # Only now: torch takes longer to import than a song to be heard, which other processes do meanwhile.
        module = importlib.import_module("mgc.cli.compared")
        answers = importlib.import_module("mgc.cli.file_answers").answers
        given = [answers(one, chosen.tagging, futures) for one, futures in zip(stored, waiting, strict=True)]
        module.show_compared(*given, as_json=json)
