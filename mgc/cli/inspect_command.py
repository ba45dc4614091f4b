"""`mgc inspect`: a page, or a picture, of one track."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import numpy as np
import typer

from mgc.arrays import Float32Array
from mgc.cli.app import ConfigOption, SetOption, console, plain, settings
from mgc.cli.file_answers import FAILED, answer_table
from mgc.errors import ConfigError, TrackError
from mgc.inference.file_reader import STANDARD_INPUT, FileFeatures, FileReader, ReadOptions
from mgc.inference.file_tagger import FileAnswer, FileTagger
from mgc.models.bundle_files import read_bundle_for_audio
from mgc.reports.track_look import Neighbour, TrackView
from mgc.storage.store import Store, as_text, split_uri

if TYPE_CHECKING:
    from mgc.models.bundle import Bundle

MOMENTS_A_WINDOW = 4
"""By default windows begin a quarter of their length apart."""


def inspect(
    track: Annotated[str, typer.Argument(help="an audio file, an s3:// URI, or - for stdin", metavar="FILE")],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="model bundle that `mgc train` wrote")],
    output: Annotated[str, typer.Option("--output", "-o", help="page (.html) or picture (.png)")] = "inspect.html",
    predictions: Annotated[
        str | None, typer.Option("--predictions", "-p", help="of `mgc tag`: names the nearest tracks")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(help="windows every so many seconds; default: a quarter window", min=0.05, metavar="SECONDS"),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show one track: waveform, log-mel, its answer, in time too, what spoke for it, and what sounds like it.

    The exit status is 1 where the file has no answer; nothing is written then.
    """
    if not output.lower().endswith((".html", ".png")):
        raise ConfigError(f"'{output}' is neither a page nor a picture", "end --output in .html or .png")
    chosen = settings(config, set_)
    stored = read_bundle_for_audio(bundle)
    stored.features.require_log_mels("a picture of a track")
    options = ReadOptions(every_seconds=every or stored.features.window_seconds / MOMENTS_A_WINDOW, outline=True)
    screen = console()
    # The cepstrum beside it, for its picture: from the same pass, and no model reads it.
    shown = {"frames": ("log_mel", "cepstrum"), "n_mfcc": stored.features.n_mels}
    with FileReader(stored.features.model_copy(update=shown), chosen.decode) as reader:
        (waiting,) = reader.begin([track], options)
        tagger = FileTagger(stored, chosen.tagging)
        extracted = waiting.result()
    answer = tagger.answer(extracted)
    screen.print(answer_table([answer], tagger.bundle.taxonomy))
    if answer.error:
        raise typer.Exit(FAILED)
    root, key = split_uri(output)
    view = replace(
        _track_view(extracted, answer, tagger, predictions),
        occlusion=None if isinstance(extracted.track, TrackError) else tagger.occlusion(extracted.track),
        audio_url=_audio_url(track, root, key),
    )
    Store(root).write_atomic(key, _drawn(view, key))
    screen.print(plain(f"output  {Store(root).uri(key)}"), soft_wrap=True)


def _drawn(view: TrackView, name: str) -> bytes:
    # Only now: the file is decoded before matplotlib is imported.
    from mgc.reports.track_report import track_page, track_png

    return track_png(view) if name.lower().endswith(".png") else track_page(view).encode()


def _audio_url(track: str, root: str, key: str) -> str | None:
    """Return where a page finds a file, relative to itself: a page and a file that move together still do."""
    if track == STANDARD_INPUT:
        return None
    folder, name = split_uri(track)
    if "s3://" in (folder[:5], root[:5]):
        return None
    return "./" + quote(os.fsencode(os.path.relpath(Path(folder, name), Path(root, key).parent)))


def _track_view(
    extracted: FileFeatures, answer: FileAnswer, tagger: FileTagger, predictions: str | None
) -> TrackView:
    prediction, in_time = answer.prediction, answer.in_time
    if prediction is None or in_time is None or extracted.dense is None or extracted.outline is None:
        raise ValueError(f"'{extracted.uri}' was not read with windows in time and an outline")
    bundle = tagger.bundle
    taxonomy = bundle.taxonomy
    return TrackView(
        uri=as_text(extracted.uri),
        genres=_ranked(taxonomy.genres, prediction.genre_probabilities),
        tags=_ranked(taxonomy.tags, prediction.tag_probabilities),
        tag_thresholds=tagger.tag_thresholds,
        windows=prediction.windows,
        outline=extracted.outline,
        features=bundle.features,
        log_mel=extracted.dense.log_mel,
        cepstrum=extracted.dense.arrays["cepstrum"],
        start_seconds=in_time.start_seconds,
        end_seconds=in_time.end_seconds,
        genre_names=taxonomy.genres,
        tag_names=taxonomy.tags,
        genre_in_time=in_time.probabilities.genre_probabilities,
        tag_in_time=in_time.probabilities.tag_probabilities,
        nearest=None if predictions is None else _nearest(predictions, extracted.uri, prediction.embedding, bundle),
        bundle_uri=bundle.uri,
        bundle_fingerprint=bundle.fingerprint,
        abstained=bool(prediction.abstained),
        listed=prediction.tags,
    )


def _nearest(predictions: str, uri: str, embedding: Float32Array, bundle: Bundle) -> list[Neighbour]:
    from mgc.curation.similarity import nearest_tracks
    from mgc.tables.predictions import read_predictions

    own_uri = uri if uri == STANDARD_INPUT else Store.open(uri).uri()
    return nearest_tracks(read_predictions(predictions), embedding, bundle.fingerprint, own_uri=own_uri)


def _ranked(names: tuple[str, ...], probabilities: Float32Array) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")
    return [(names[place], float(probabilities[place])) for place in order]
