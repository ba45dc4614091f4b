"""`mgc tag` for a few audio files: begin to hear them, and only then import torch and load the ensemble."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from mgc.catalogue.listing import list_audio
from mgc.cli.app import settings
from mgc.errors import ConfigError
from mgc.inference.file_reader import FileReader, ReadOptions
from mgc.models.bundle_files import read_bundle_for_audio
from mgc.storage.store import Store

FEW_FILES = 200
"""A folder of more is work for the catalogue's job, which uses all cores and can be taken up again."""


def tag_files(
    *,
    tracks: Sequence[str],
    bundle: str,
    config: str | None,
    set_: list[str] | None,
    json: bool,
    embedding: bool,
    windows: bool,
    every: float | None,
    taggram: str | None,
) -> None:
    """Answer for files, print it, and end with status 1 where one has no answer."""
    chosen = settings(config, set_)
    stored = read_bundle_for_audio(bundle)
    uris = audio_of(tracks)
    with FileReader(stored.features, chosen.decode) as reader:
        waiting = reader.begin(uris, ReadOptions(every_seconds=every))
        # Only now: torch takes longer to import than a song to be heard, which another process does meanwhile.
        module = importlib.import_module("mgc.cli.file_answers")
        module.show_answers(
            module.answers(stored, chosen.tagging, waiting),
            module.AnswerOptions(
                json=json, embedding=embedding, windows=windows or every is not None, taggram=taggram
            ),
        )


def audio_of(tracks: Sequence[str]) -> list[str]:
    """Return files as they were given, and in place of a folder (or a prefix that ends in `/`) the audio in it.

    Raises
    ------
    ConfigError
        A folder holds no audio, or more than `FEW_FILES`.
    """
    return [uri for track in tracks for uri in (_audio_in(track) if _is_folder(track) else [track])]


def _is_folder(track: str) -> bool:
    return track.endswith("/") if "://" in track else Path(track).is_dir()


def _audio_in(folder: str) -> list[str]:
    keys = (key for batch in list_audio(Store.open(folder)) for key in batch["key"].to_pylist())
    found = [f"{folder.rstrip('/')}/{key}" for key in islice(keys, FEW_FILES + 1)]
    if not found:
        raise ConfigError(f"there is no audio in '{folder}'", "give audio files, or a folder of them")
    if len(found) > FEW_FILES:
        raise ConfigError(
            f"'{folder}' holds more than {FEW_FILES} audio files",
            "make it a catalogue (mgc index), and tag that: it uses all cores and does nothing twice",
        )
    return found
