"""Feature shards: one row a (track, view), written as Parquet parts and read back as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mgc.config import FeatureConfig


@dataclass(frozen=True)
class FeatureSet:
    """The tracks of one split that have features, in memory, in track_id order.

    Parameters
    ----------
    log_mels
        One float16 array a track: dB in [-top_db, 0], shape (n_windows, n_frames, n_mels). n_windows differs.
    genres
        Genre name, or None where it is not known.
    tags, tags_known
        Tag names; where `tags_known` is False an empty list says nothing.
    groups
        Group (artist, work) of each track.
    features, feature_fingerprint
        The settings that made the log-mels, and their fingerprint.
    """

    track_ids: list[str]
    log_mels: list[npt.NDArray[np.float16]]
    genres: list[str | None]
    tags: list[list[str]]
    tags_known: list[bool]
    groups: list[str]
    features: FeatureConfig
    feature_fingerprint: str

    def __len__(self) -> int:
        return len(self.track_ids)
