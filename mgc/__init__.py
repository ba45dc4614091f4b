"""mgc: genre, tags, confidence and embeddings for a whole music catalogue, on a Ray cluster.

The command line (`mgc --help`) does all of it. Three functions are for programs that want answers; each imports what
it needs when it is called, so `import mgc` takes milliseconds::

    import mgc

    for answer in mgc.tag_files(["song.mp3", "s3://music/other.flac"]):  # or tag_files(files, "bundle/")
        if answer.prediction:
            print(answer.uri, answer.prediction.genre, answer.prediction.tags)
    frame = mgc.read_predictions("predictions/", ["uri", "genre", "genre_probability"])
"""

# `python -m mgc` begins here with the current folder in its path, and `mgc.__main__` takes it out. Until then nothing
# is imported that the interpreter has not imported already, so that no module of that folder runs.
from os import PathLike, fspath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from mgc.inference.file_tagger import FileAnswer
    from mgc.models.bundle import Bundle

__all__ = ["__version__", "load_bundle", "read_predictions", "tag_files"]

__version__ = "0.1.0"


def tag_files(
    paths: "Sequence[str | PathLike[str]]", bundle: str | PathLike[str] | None = None
) -> "list[FileAnswer]":
    """Return a bundle's answer for each audio file: what `mgc tag FILE …` prints, and the catalogue's job writes.

    Files are fetched and decoded in a child process while torch is imported and the ensemble loaded, in this process
    and on one CPU thread (`torch.set_num_threads(1)`). Default settings; a catalogue is work for `mgc tag`.

    Parameters
    ----------
    paths
        Audio files, as paths or `s3://` URIs.
    bundle
        The model bundle's directory, URI or name; None: the starter bundle, which comes with mgc.

    Returns
    -------
    list of FileAnswer
        In the order of `paths`: `uri`, `duration_seconds`, and `prediction`, with `genre`, `genre_probability`,
        `abstained`, `tags`, `genre_probabilities` of shape (n_genres,), `tag_probabilities` of shape (n_tags,), both
        in the order of the bundle's taxonomy, and `embedding` of length 1. `in_time` holds each window's
        probabilities. A file that cannot be read has `error`, a `TrackError` with its code, and no prediction.

    Raises
    ------
    BundleError
        The bundle is missing, was changed, or does not fit this version of mgc.
    FingerprintError
        The bundle was trained on features that mgc does not compute from audio.
    """
    from mgc.config import DecodeConfig, TaggingConfig
    from mgc.inference.file_reader import FileReader
    from mgc.inference.file_tagger import FileTagger
    from mgc.models.bundle_files import read_bundle_for_audio
    from mgc.models.published_files import STARTER

    stored = read_bundle_for_audio(STARTER if bundle is None else fspath(bundle))
    with FileReader(stored.features, DecodeConfig()) as reader:
        waiting = reader.begin([fspath(path) for path in paths])
        tagger = FileTagger(stored, TaggingConfig())
        return [tagger.answer(features.result()) for features in waiting]


def load_bundle(path: str | PathLike[str]) -> "Bundle":
    """Return a model bundle: taxonomy, feature settings, members' weights, calibration, and what it was made from.

    Raises
    ------
    BundleError
        A file is missing or was changed, or is of another version.
    """
    from mgc.models.bundle import load_bundle as load

    return load(fspath(path))


def read_predictions(uri: str | PathLike[str], columns: "Sequence[str] | None" = None) -> "pl.DataFrame":
    """Return the newest row of each track of a catalogue: `OUTPUT/current` of `mgc tag`, deleted tracks left out.

    Parameters
    ----------
    uri
        The output directory, a path or `s3://` URI.
    columns
        Those to read; None: all. docs/predictions.md says what each holds, and in which unit.

    Raises
    ------
    SchemaError
        There are no predictions, or they are of another version.
    """
    from mgc.tables.predictions import read_predictions as read

    return read(fspath(uri), columns)
