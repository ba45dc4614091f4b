"""The errors of mgc: one base class, one kind per audience, each with a stable code.

An error speaks to whoever can act on it. A bad setting, an unreachable store or a wrong bundle stops a
command before any work and carries a remedy. A bad track never stops a run: its `TrackError` is caught at
the track boundary and becomes that track's row (`error_code`, `error_stage`, `error_message`).

`docs/errors.md` lists every code. A code is never reused and never changes its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import ClassVar


class MgcError(Exception):
    """Base of every error that mgc raises on purpose.

    Parameters
    ----------
    message
        What is wrong, naming the thing and the reason.
    remedy
        What to do about it; shown on a line of its own. Empty where there is nothing to advise.
    """

    code: ClassVar[str] = "MGC000"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.message} [{self.code}]"
        return f"{text}\n  → {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[type[MgcError], tuple[str, str]]:
        # Exceptions cross process borders inside Ray; keep both parts.
        return type(self), (self.message, self.remedy)


class ConfigError(MgcError):
    """A setting is unknown, malformed or out of range."""

    code = "MGC101"


class StorageError(MgcError):
    """A bucket, prefix, folder or file cannot be read or written."""

    code = "MGC201"


class DownloadError(StorageError):
    """A published network cannot be fetched, or what was fetched is not what was published."""

    code = "MGC205"


class LabelError(MgcError):
    """A label manifest lacks a column, repeats an id or names an unknown genre."""

    code = "MGC301"


class SchemaError(MgcError):
    """A table or a data set directory does not have the schema that mgc wrote or expects."""

    code = "MGC302"


class SplitError(MgcError):
    """A split is empty, or cannot be made from the groups there are."""

    code = "MGC303"


class FingerprintError(MgcError):
    """Two things that must have been made the same way were not: shards and bundle, say."""

    code = "MGC304"


class DeletionsError(MgcError):
    """So many tracks are missing in the catalogue that they were not marked deleted."""

    code = "MGC305"


class FailuresError(MgcError):
    """So many items of a run failed by something else than the file itself that nothing was committed."""

    code = "MGC306"


class BundleError(MgcError):
    """A model bundle is missing a file, was changed, or is of another architecture."""

    code = "MGC401"


class TrainingError(MgcError):
    """Training cannot start or cannot go on: no labelled track, a loss that is not finite."""

    code = "MGC402"


class ClusterError(MgcError):
    """Ray cannot be reached or started, or a job lost its workers for good."""

    code = "MGC501"


class LeaseError(MgcError):
    """Another run is at work in the output directory, or has taken it over."""

    code = "MGC502"


class DeviceError(ClusterError):
    """The forward pass fails whatever the track is: its device, a library or the bundle is at fault."""

    code = "MGC503"


class DecoderStartError(MgcError):
    """Decoding children die or hang before they are ready: something of this machine, and of no track."""

    code = "MGC504"


class Stage(StrEnum):
    """Where on a track's way it failed."""

    FETCH = "fetch"
    DECODE = "decode"
    FEATURES = "features"
    PREDICT = "predict"


class TrackCode(StrEnum):
    """Stable codes of what can be wrong with one track (`docs/errors.md`)."""

    NOT_FOUND = "T101_NOT_FOUND"
    ACCESS_DENIED = "T102_ACCESS_DENIED"
    FETCH_FAILED = "T103_FETCH_FAILED"
    CHANGED_SINCE_INDEX = "T104_CHANGED_SINCE_INDEX"
    TOO_LARGE = "T105_TOO_LARGE"
    ARCHIVED = "T106_ARCHIVED"
    EMPTY_FILE = "T201_EMPTY_FILE"
    NOT_AUDIO = "T202_NOT_AUDIO"
    DECODE_FAILED = "T203_DECODE_FAILED"
    NO_SAMPLES = "T204_NO_SAMPLES"
    NOT_FINITE = "T205_NOT_FINITE"
    UNSUPPORTED_LAYOUT = "T206_UNSUPPORTED_LAYOUT"
    DECODE_TIMEOUT = "T207_DECODE_TIMEOUT"
    DECODE_CRASHED = "T208_DECODE_CRASHED"
    DECODE_MEMORY = "T209_DECODE_MEMORY"
    NOT_MELS = "T210_NOT_MELS"
    MELS_MISFIT = "T211_MELS_MISFIT"
    SILENT = "T212_SILENT"
    TOO_SHORT = "T213_TOO_SHORT"
    FEATURES_FAILED = "T301_FEATURES_FAILED"
    PREDICT_FAILED = "T401_PREDICT_FAILED"


class TrackError(MgcError):
    """One track cannot be used; caught at the track boundary and written as its row.

    Parameters
    ----------
    track_code
        The stable reason.
    stage
        Where it happened.
    message
        What was seen, in one line, without the track's name (the row has it).
    """

    code = "MGC601"

    def __init__(self, track_code: TrackCode, stage: Stage, message: str) -> None:
        super().__init__(message)
        self.track_code = track_code
        self.stage = stage

    def __reduce__(self) -> tuple[type[TrackError], tuple[TrackCode, Stage, str]]:  # type: ignore[override]
        return type(self), (self.track_code, self.stage, self.message)


def error_columns(error: TrackError | None) -> dict[str, str | None]:
    """Return the three error columns of a track's row, null where it went through."""
    if error is None:
        return {"error_code": None, "error_stage": None, "error_message": None}
    return {
        "error_code": error.track_code.value,
        "error_stage": error.stage.value,
        "error_message": error.message,
    }


def did_you_mean(word: str, valid: list[str]) -> str:
    """Return `did you mean 'x'?` for the nearest of `valid`, or the valid ones where none is near."""
    near = get_close_matches(word, valid, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"valid: {', '.join(sorted(valid))}"


@dataclass(frozen=True)
class ErrorMeaning:
    """What a code says and what helps, as in `docs/errors.md`, for pages that stand alone."""

    text: str
    remedy: str


MEANINGS = {
    TrackCode.NOT_FOUND: ErrorMeaning(
        "The file does not exist, or a link leads nowhere.",
        "Index again; fetch what a link leads to.",
    ),
    TrackCode.ACCESS_DENIED: ErrorMeaning(
        "The store refuses this file.",
        "Grant reading (on a cluster, to the role of its nodes), renew the credentials, run again.",
    ),
    TrackCode.FETCH_FAILED: ErrorMeaning("Reading failed for another reason.", "Run again: only these are redone."),
    TrackCode.CHANGED_SINCE_INDEX: ErrorMeaning(
        "The file is no longer the one that was indexed.", "Index again; the next run takes the new content."
    ),
    TrackCode.TOO_LARGE: ErrorMeaning(
        "The file is longer than decode.max_file_bytes; nothing of it was read.",
        "Raise the limit if the file is wanted: the next run tries it.",
    ),
    TrackCode.ARCHIVED: ErrorMeaning(
        "The object is in an archive (S3 Glacier, Deep Archive).",
        "Restore it (aws s3api restore-object, or a batch job for many), wait until it is there, run again.",
    ),
    TrackCode.EMPTY_FILE: ErrorMeaning("The file has 0 bytes.", "Upload it again."),
    TrackCode.NOT_AUDIO: ErrorMeaning(
        "The bytes are no audio, whatever the name says, or notes that nothing here plays.",
        "Replace or remove the file; render notes to FLAC or WAV (openmpt123 --render, FluidSynth).",
    ),
    TrackCode.DECODE_FAILED: ErrorMeaning(
        "It looks like audio, and no decoder can read it.", "Encode it anew from the source."
    ),
    TrackCode.NO_SAMPLES: ErrorMeaning("It is valid audio of 0 samples.", "Replace the file."),
    TrackCode.NOT_FINITE: ErrorMeaning("Samples or features are NaN or infinite.", "Export it again."),
    TrackCode.UNSUPPORTED_LAYOUT: ErrorMeaning(
        "Sample rate or channels are outside decode.min_sample_rate, decode.max_sample_rate, decode.max_channels.",
        "Convert it, or widen the limits.",
    ),
    TrackCode.DECODE_TIMEOUT: ErrorMeaning(
        "Decoding took longer than decode.time_limit_seconds and was killed.",
        "Later runs try it again, after waits that double; or raise the limit, which tries it at once.",
    ),
    TrackCode.DECODE_CRASHED: ErrorMeaning(
        "The decoding process died on this file; its neighbours did not.", "Encode it anew; report it to the library."
    ),
    TrackCode.DECODE_MEMORY: ErrorMeaning(
        "Decoding needs more than decode.memory_limit_bytes, or than a lower RLIMIT_AS leaves.",
        "Raise the limit, or split the file; after a lower RLIMIT_AS run again with cluster.retry_failed = true.",
    ),
    TrackCode.NOT_MELS: ErrorMeaning(
        "The file is no NumPy array of floats.",
        'Save it anew as floats: numpy.save(path, mels.astype("float32"), allow_pickle=False).',
    ),
    TrackCode.MELS_MISFIT: ErrorMeaning(
        "The array has another shape, or other values, than [features] and [mels] say.",
        "Correct features.n_mels, mels.layout, mels.unit_db or mels.reference.",
    ),
    TrackCode.SILENT: ErrorMeaning(
        "All windows that were looked at are silent, or nearly.", "Replace the file, or lower decode.silence_dbfs."
    ),
    TrackCode.TOO_SHORT: ErrorMeaning(
        "It is too short to judge.", "Leave it out, or lower decode.min_seconds: the next run tries it."
    ),
    TrackCode.FEATURES_FAILED: ErrorMeaning(
        "mgc itself failed on this file, in decoding or after it.",
        "Run again; send the file's properties with the report.",
    ),
    TrackCode.PREDICT_FAILED: ErrorMeaning(
        "It has features, and the ensemble could not judge them.",
        "Run again with cluster.retry_failed = true; send the file's properties with the report.",
    ),
}


def error_meaning(code: str) -> ErrorMeaning | None:
    """Return what a code of a row means; None for a code of another version of mgc."""
    return {one.value: meaning for one, meaning in MEANINGS.items()}.get(code)
