"""One track as a page or a picture; torch and matplotlib come in here."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import numpy.typing as npt
import typer
from rich.markup import escape

from mgc.arrays import Float32Array
from mgc.cli.app import console
from mgc.cli.file_answers import FAILED, answer_table
from mgc.config import TaggingConfig
from mgc.curation.nearest_neighbours import nearest_tracks
from mgc.inference.file_reader import STANDARD_INPUT, FileFeatures
from mgc.inference.file_tagger import FileAnswer, FileTagger
from mgc.models.bundle import Bundle
from mgc.models.bundle_files import StoredBundle
from mgc.reports.track_look import Neighbour, TrackView
from mgc.reports.track_report import track_page, track_png
from mgc.storage.store import Store, split_uri
from mgc.tables.predictions import read_predictions


def show_inspected(
    stored: StoredBundle, config: TaggingConfig, waiting: Future[FileFeatures], predictions: str | None, output: str
) -> None:
    """Write the page or the picture, and print the answer.

    Raises
    ------
    typer.Exit
        With status 1 where the file has no answer; nothing is written then.
    """
    tagger = FileTagger(stored, config)
    extracted = waiting.result()
    answer = tagger.answer(extracted)
    screen = console()
    screen.print(answer_table([answer], tagger.bundle.taxonomy))
    if answer.error:
        raise typer.Exit(FAILED)
    view = track_look(extracted, answer, tagger.bundle, predictions, tagger.tag_thresholds)
    data = track_png(view) if output.lower().endswith(".png") else track_page(view).encode()
    root, key = split_uri(output)
    Store(root).write_atomic(key, data)
    screen.print(f"output  {escape(Store(root).uri(key))}", soft_wrap=True)


def track_look(
    extracted: FileFeatures,
    answer: FileAnswer,
    bundle: Bundle,
    predictions: str | None,
    tag_thresholds: npt.NDArray[np.float64],
) -> TrackView:
    """Return what a page of a file shows.

    Raises
    ------
    ValueError
        The file has no answer, or was not looked at in time.
    """
    prediction, in_time = answer.prediction, answer.in_time
    if prediction is None or in_time is None or extracted.dense is None or extracted.outline is None:
        raise ValueError(f"'{extracted.uri}' was not heard in time")
    taxonomy = bundle.taxonomy
    return TrackView(
        uri=extracted.uri,
        genres=_ranked(taxonomy.genres, prediction.genre_probabilities),
        tags=_ranked(taxonomy.tags, prediction.tag_probabilities),
        tag_thresholds=tag_thresholds,
        windows=prediction.windows,
        outline=extracted.outline,
        features=bundle.features,
        log_mel=extracted.dense.log_mel,
        start_seconds=in_time.start_seconds,
        end_seconds=in_time.end_seconds,
        genre_names=taxonomy.genres,
        tag_names=taxonomy.tags,
        genre_in_time=in_time.probabilities.genre_probabilities,
        tag_in_time=in_time.probabilities.tag_probabilities,
        nearest=None if predictions is None else _nearest(predictions, extracted.uri, prediction.embedding, bundle),
        bundle_uri=bundle.uri,
        bundle_fingerprint=bundle.fingerprint,
    )


def _nearest(predictions: str, uri: str, embedding: Float32Array, bundle: Bundle) -> list[Neighbour]:
    own_uri = uri if uri == STANDARD_INPUT else Store.open(uri).uri()
    return nearest_tracks(read_predictions(predictions), embedding, bundle.fingerprint, own_uri=own_uri)


def _ranked(names: tuple[str, ...], probabilities: Float32Array) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")
    return [(names[place], float(probabilities[place])) for place in order]
