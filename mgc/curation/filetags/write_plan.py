"""Which files would say something else than the predictions do, and why the others are left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import polars as pl

from mgc.audio.decode.source import RemoteBytes
from mgc.catalogue.listing import Tally
from mgc.curation.filetags.journal import Into
from mgc.curation.filetags.tag_child import SupervisedTagEditor
from mgc.curation.filetags.tag_fields import (
    SUFFIX,
    PredictedLabels,
    changes_for,
    read_sidecar,
    sidecar_of,
)
from mgc.curation.filetags.tag_formats import GENRE, UntaggableError, Values
from mgc.errors import ConfigError, SchemaError, StorageError, TrackError
from mgc.storage.objects import HASH_MARK, LongObject, ObjectNotFoundError
from mgc.storage.store import Store, split_uri

LONGEST_NAME = 255
"""Bytes of a file's name, on common file systems."""

Where = Literal["auto", "file", "sidecar"]


@dataclass(frozen=True)
class WriteOptions:
    """What to write, and where.

    Parameters
    ----------
    min_probability
        Tracks below it are left alone.
    where
        `file`: into the audio file; `sidecar`: beside it; `auto`: into local files that can hold it, else beside.
    sidecars_to
        Root to put sidecars under, at each track's path; None: beside the tracks.
    replace_genre
        Also replace a genre that somebody else wrote.
    """

    min_probability: float = 0.8
    where: Where = "auto"
    sidecars_to: str | None = None
    replace_genre: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_probability <= 1.0:
            raise ConfigError(f"a probability of {self.min_probability:g} is none", "give one from 0 to 1")


@dataclass(frozen=True)
class TagChange:
    """One track whose file, or sidecar, would change.

    Parameters
    ----------
    uri
        The track.
    target
        What would be written: the track itself, or its sidecar.
    before, after
        The fields that would change; in `after`, no values: taken out.
    note
        Why a sidecar, where a file was wanted or would do.
    """

    track_id: str
    uri: str
    content_id: str
    into: Into
    target: str
    predicted: PredictedLabels
    before: dict[str, Values]
    after: dict[str, Values]
    note: str = ""


class Skips(Tally):
    """Tracks left alone, by reason."""

    def merge(self, others: Skips) -> None:
        """Count others too."""
        self.counts += others.counts
        self.examples = {**others.examples, **self.examples}


def planned_changes(
    predictions: pl.DataFrame,
    catalogue: pl.DataFrame,
    root: str,
    options: WriteOptions,
    skips: Skips,
    editor: SupervisedTagEditor,
) -> Iterator[TagChange]:
    """Yield the tracks whose files would change; count the others in `skips`. Nothing is written.

    Parameters
    ----------
    predictions, catalogue
        Schemas PREDICTIONS and CATALOGUE.
    root
        Folder or prefix of the catalogue.
    editor
        Reads the files' fields.
    """
    named = catalogue.select("track_id", "uri", "content_id", pl.lit(True).alias("listed"))
    tagged = predictions.rename({"uri": "tagged_uri", "content_id": "tagged_content"})
    joined = named.join(tagged, on="track_id", how="left", maintain_order="left")
    for row in joined.iter_rows(named=True):
        reason = _reason_against(row, options)
        if reason:
            skips.add(reason, row["uri"])
            continue
        predicted = PredictedLabels(
            row["genre"], float(row["genre_probability"]), tuple(row["tags"] or ()), row["bundle_fingerprint"]
        )
        try:
            change = _change(row["track_id"], row["uri"], row["content_id"], predicted, root, options, editor)
        except _LeftAloneError as error:
            skips.add(str(error), row["uri"])
            continue
        if change.after:
            yield change
        else:
            skips.add("says it already", row["uri"])


class _LeftAloneError(Exception):
    """A track is not written to, and why."""


def _reason_against(row: dict[str, object], options: WriteOptions) -> str:
    if row["bundle_fingerprint"] is None:
        return "not tagged yet"
    if row["error_code"] is not None or row["genre"] is None:
        return "failed: no answer"
    if row.get("abstained"):
        return "abstained"
    if row["tagged_content"] != row["content_id"]:
        return "changed since it was tagged"
    if float(str(row["genre_probability"])) < options.min_probability:
        return f"probability below {options.min_probability:g}"
    return ""


def _change(
    track_id: str,
    uri: str,
    content_id: str,
    predicted: PredictedLabels,
    root: str,
    options: WriteOptions,
    editor: SupervisedTagEditor,
) -> TagChange:
    remote = uri.startswith("s3://")
    if options.where == "sidecar" or (options.where == "auto" and remote):
        return _sidecar_change(track_id, uri, content_id, predicted, root, options)
    if remote:
        raise _LeftAloneError("on S3: objects are not rewritten, only sidecars are written")
    try:
        current = _current_fields(uri, content_id, editor)
    except UntaggableError as error:
        if options.where == "file":
            raise _LeftAloneError(str(error)) from error
        return _sidecar_change(track_id, uri, content_id, predicted, root, options, note=str(error))
    after = changes_for(predicted, current, replace_genre=options.replace_genre)
    before = {name: current.get(name, ()) for name in after}
    return TagChange(track_id, uri, content_id, "file", uri, predicted, before, after)


def _current_fields(uri: str, content_id: str, editor: SupervisedTagEditor) -> dict[str, Values]:
    try:
        root, key = split_uri(uri)
        store = Store(root)
        found = store.stat(key)
        if not content_id.startswith(HASH_MARK) and found.content_id != content_id:
            raise _LeftAloneError("changed since it was tagged")
        whole = LongObject(found.size_bytes, found.content_id)
        return editor.read_fields(RemoteBytes(found.size_bytes, partial(store.fetch_range, key, of=whole)))
    except ObjectNotFoundError as error:
        raise _LeftAloneError("deleted since it was tagged") from error
    except (StorageError, TrackError) as error:
        raise _LeftAloneError("cannot be read") from error


def _sidecar_change(
    track_id: str,
    uri: str,
    content_id: str,
    predicted: PredictedLabels,
    root: str,
    options: WriteOptions,
    note: str = "",
) -> TagChange:
    target = sidecar_uri(uri, root, options.sidecars_to)
    try:
        folder, key = split_uri(target)
        if len(os.fsencode(key)) > LONGEST_NAME and not target.startswith("s3://"):
            raise _LeftAloneError(f"the name of its sidecar would be longer than {LONGEST_NAME} bytes")
        store = Store(folder)
        old = store.read_bytes(key) if store.exists(key) else b""
        before = _readable(read_sidecar(old, target)) if old else {}
    except SchemaError as error:
        raise _LeftAloneError("a file of another kind is where its sidecar would be") from error
    except StorageError as error:
        raise _LeftAloneError("its sidecar cannot be read") from error
    new = sidecar_of(predicted, track_id, content_id)
    after = {} if new == old else _readable(read_sidecar(new, target))
    return TagChange(track_id, uri, content_id, "sidecar", target, predicted, before if after else {}, after, note)


def sidecar_uri(uri: str, root: str, sidecars_to: str | None) -> str:
    """Return where a track's sidecar is: beside it, or at its path under another root."""
    if sidecars_to is None:
        return uri + SUFFIX
    return Store.open(sidecars_to).uri(uri.removeprefix(root.rstrip("/") + "/") + SUFFIX)


def _readable(value: dict[str, object]) -> dict[str, Values]:
    tags = value.get("tags")
    fields = {GENRE: (str(value.get("genre")),), "MGC_BUNDLE": (str(value.get("bundle_fingerprint")),)}
    return fields | ({"MGC_TAGS": tuple(map(str, tags))} if isinstance(tags, list) and tags else {})
