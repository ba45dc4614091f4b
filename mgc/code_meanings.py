"""What the codes of failed tracks mean, and what to do: the words of `docs/errors.md`, for pages that stand alone."""

from __future__ import annotations

from dataclasses import dataclass

from mgc.errors import TrackCode


@dataclass(frozen=True)
class ErrorMeaning:
    """What a code says, and what helps."""

    text: str
    remedy: str


MEANINGS = {
    TrackCode.NOT_FOUND: ErrorMeaning(
        "The file is gone.",
        "Index again.",
    ),
    TrackCode.ACCESS_DENIED: ErrorMeaning(
        "The store refuses this file.",
        "Grant reading, renew the credentials, run again.",
    ),
    TrackCode.FETCH_FAILED: ErrorMeaning(
        "Reading failed for another reason.",
        "Run again: only these are redone.",
    ),
    TrackCode.CHANGED_SINCE_INDEX: ErrorMeaning(
        "The file is no longer the one that was indexed.",
        "Index again; the next run takes the new content.",
    ),
    TrackCode.TOO_LARGE: ErrorMeaning(
        "The file is longer than decode.max_file_bytes; nothing of it was read.",
        "Raise the limit if the file is wanted: the next run tries it.",
    ),
    TrackCode.EMPTY_FILE: ErrorMeaning(
        "The file has 0 bytes.",
        "Upload it again.",
    ),
    TrackCode.NOT_AUDIO: ErrorMeaning(
        "The bytes are no audio, whatever the name says.",
        "Replace or remove the file.",
    ),
    TrackCode.DECODE_FAILED: ErrorMeaning(
        "It looks like audio, and no decoder can read it.",
        "Encode it anew from the source.",
    ),
    TrackCode.NO_SAMPLES: ErrorMeaning(
        "It is valid audio of 0 samples.",
        "Replace the file.",
    ),
    TrackCode.NOT_FINITE: ErrorMeaning(
        "Samples or features are NaN or infinite.",
        "Export it again.",
    ),
    TrackCode.UNSUPPORTED_LAYOUT: ErrorMeaning(
        "Sample rate or channels are outside decode.min_sample_rate, decode.max_sample_rate, decode.max_channels.",
        "Convert it, or widen the limits.",
    ),
    TrackCode.DECODE_TIMEOUT: ErrorMeaning(
        "Decoding took longer than decode.time_limit_seconds and was killed.",
        "Later runs try it again, after waits that double; or raise the limit, which tries it at once.",
    ),
    TrackCode.DECODE_CRASHED: ErrorMeaning(
        "The decoding process died on this file; its neighbours did not.",
        "Encode it anew; report it to the library.",
    ),
    TrackCode.DECODE_MEMORY: ErrorMeaning(
        "Decoding needs more than decode.memory_limit_bytes.",
        "Raise the limit, or split the file.",
    ),
    TrackCode.NOT_MELS: ErrorMeaning(
        "The file is no NumPy array of floats.",
        'Save it anew as floats: numpy.save(path, mels.astype("float32"), allow_pickle=False).',
    ),
    TrackCode.MELS_MISFIT: ErrorMeaning(
        "The array has another shape, or other values, than [features] and [mels] say.",
        "Correct features.n_mels, mels.layout, mels.unit_db or mels.reference.",
    ),
    TrackCode.FEATURES_FAILED: ErrorMeaning(
        "mgc itself failed on this file, in decoding or after it.",
        "Run again; send the file's properties with the report.",
    ),
    TrackCode.PREDICT_FAILED: ErrorMeaning(
        "It has features, and the ensemble could not judge them.",
        "Lower tagging.batch_windows, run again with cluster.retry_failed = true.",
    ),
}


def error_meaning(code: str) -> ErrorMeaning | None:
    """Return what a code of a row means; None for a code of another version of mgc."""
    return MEANINGS.get(TrackCode(code)) if code in {one.value for one in TrackCode} else None
