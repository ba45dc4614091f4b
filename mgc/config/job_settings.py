"""Settings of jobs: catalogue, decoding, distilling, searching, tagging, retries, evaluation, cluster and logs."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from mgc.config.network_settings import CrnnConfig, ModelConfig
from mgc.config.section import Fraction, Section
from mgc.errors import TrackCode, did_you_mean


class DecodeConfig(Section):
    """Bounds on untrusted audio. Not part of the feature fingerprint: they decide if, not what."""

    section_kind: ClassVar[str] = "decode"
    max_file_bytes: int = Field(16 * 1024**3, ge=1, description="longer files are not read")
    whole_file_bytes: int = Field(
        16 * 1024**2, ge=0, description="files up to this are read whole; of longer ones only what the windows need"
    )
    max_channels: int = Field(64, ge=1, description="files with more are refused")
    min_sample_rate: int = Field(1_000, ge=1, description="Hz")
    max_sample_rate: int = Field(768_000, ge=1, description="Hz")
    min_seconds: float = Field(0.25, ge=0.0, description="what is shorter is not judged (T213)")
    silence_dbfs: float = Field(
        -70.0,
        le=0.0,
        description="RMS of a track's loudest window, dB of full scale, below which it is silent (T212)",
    )
    time_limit_seconds: float = Field(60.0, gt=0.0, description="a track's decoding and features; then killed")
    memory_limit_bytes: int = Field(4 * 1024**3, ge=256 * 1024**2, description="of the decoding process")


STUDENT = CrnnConfig(channels=64, blocks=2, pool_size=4, rnn_units=48, embedding_size=64)


class DistillConfig(Section):
    """How one small network learns from an ensemble (`mgc distill`); all else is as `[training]` says.

    `training.members`, `ensemble`, `label_smoothing` and `class_weights` are not read: there is one student, and the
    ensemble's predictions are soft and balanced already.
    """

    section_kind: ClassVar[str] = "distill"
    model: ModelConfig = Field(STUDENT, description="the student; settings not named are those of the default")
    teacher_share: Fraction = Field(
        0.5, description="weight of the ensemble's prediction against the label; where a track has none, 1"
    )
    unlisted: bool = Field(
        False, description="also learn from tracks of split 'unlisted', such as those without a label"
    )


class SearchConfig(Section):
    """How `mgc tune` looks for settings; where is said by its space, a file of its own."""

    section_kind: ClassVar[str] = "search"
    trials: int = Field(16, ge=1, le=10_000, description="drawn; the first is the settings as they are")
    metric: Literal["loss", "accuracy", "tags"] = Field(
        "loss", description="what is to be best: validation loss, genre accuracy or tag PR-AUC at the epoch kept"
    )
    folds: int = Field(
        0, ge=0, le=20, description="0: judged on split 'valid'; else on so many folds of 'train', groups apart"
    )
    grace_epochs: int = Field(4, ge=1, description="epochs of a trial before it may be stopped as hopeless")
    reduction: int = Field(3, ge=2, description="one trial in so many goes on at each of ASHA's rungs")
    trials_at_once: int | None = Field(None, ge=1, description="None: one a CPU or GPU")
    seed: int = Field(0, description="of the draws")


class TaggingConfig(Section):
    """How predictions are made from the ensemble."""

    section_kind: ClassVar[str] = "tagging"
    tag_threshold: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="tags at or above it are listed; None: each at the bundle's own, fitted on valid",
    )
    batch_windows: int | None = Field(
        None, ge=1, description="windows a forward pass; None: 32 on a CPU, whose cache holds no more, 512 on a GPU"
    )
    ask_deleted_fraction: Fraction = Field(
        0.5,
        description="where this share of the tracks, or more, is missing in the catalogue, they are only marked "
        "deleted with --accept-deletions, or where somebody at the terminal says yes",
    )
    use_gpu: Literal["auto", "never", "always"] = Field("auto", description="auto: where the cluster has one")


class RetryConfig(Section):
    """Which failed tracks a later run tries again. Content, settings or a bundle that changed are always tried."""

    section_kind: ClassVar[str] = "retry"
    codes: tuple[str, ...] = Field(
        ("T101", "T102", "T103", "T104", "T106", "T207"),
        description="error codes that say little about the track itself; the others wait for another content, or "
        "for another decoder or other bounds of `[decode]`",
    )
    attempts: int | None = Field(
        10, ge=1, description="failures in a row after which such a track waits, too; None: never gives up"
    )
    wait_hours: float = Field(
        10.0,
        ge=0.0,
        description="the next run after the first failure tries again; after the k-th, (2^(k-1) - 1) × this",
    )
    longest_wait_hours: float = Field(168.0, ge=0.0, description="no wait is longer")

    @field_validator("codes")
    @classmethod
    def _are_codes(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        known = [code.value for code in TrackCode]
        for code in codes:
            if not any(code in (name, name.partition("_")[0]) for name in known):
                raise ValueError(f"'{code}' is no error code of a track, {did_you_mean(code, known)}")
        return codes


class EvaluationConfig(Section):
    """How figures are made honest."""

    section_kind: ClassVar[str] = "evaluation"
    bootstrap_samples: int = Field(1_000, ge=10, description="resamples behind each confidence interval")
    confidence: float = Field(0.95, gt=0.0, lt=1.0, description="level of the intervals")
    seed: int = Field(0, description="of the resampling")
    min_tag_positives: int = Field(
        1, ge=1, description="tags that fewer of the split's tracks have stand in the table, but in no mean over tags"
    )


class ClusterConfig(Section):
    """Where and how wide the work runs."""

    section_kind: ClassVar[str] = "cluster"
    address: str | None = Field(None, description="Ray address; None: RAY_ADDRESS, else Ray in this process")
    workers: int | None = Field(None, ge=1, description="actors; None: one a CPU, as nodes come and go")
    tracks_per_chunk: int = Field(
        32, ge=1, description="tracks a part file holds (rows, where tracks have views); the unit of resume"
    )
    fetch_threads: int = Field(4, ge=1, description="an actor's concurrent reads")
    lease_seconds: float = Field(
        60.0, gt=0.0, description="a run without a sign of life for so long is dead: another may take its place"
    )
    max_failed_fraction: Fraction = Field(
        0.5,
        description="where more of the items fail by something else than the file itself, a run ends with MGC306 "
        "and commits nothing; of fewer than 20 items any number may fail; 1: all may",
    )
    retry_failed: bool = Field(False, description="also redo tracks that failed for good last time")
    forward_credentials: bool = Field(
        False,
        description="hand this process's AWS keys to the workers of a cluster joined by address, through its control "
        "store, where any code on the cluster can read them; a role of the nodes is better",
    )


class LogsConfig(Section):
    """What is written for people to watch; it changes no weight and no answer."""

    section_kind: ClassVar[str] = "logs"
    level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="lines of the logger `mgc` on stderr, from this level on"
    )
    format: Literal["text", "json"] = Field(
        "text", description="of these lines: text for people, or one JSON object each, with time and node"
    )
    tensorboard_dir: str | None = Field(
        None, description="folder of TensorBoard event files, a run a member, written as epochs end; None: none"
    )


NO_MUSIC = (
    *(".*", "!..*", "!.[0-9]*", "!.* */", "._*"),  # .38 Special/ is a band, .cache/ and ._song.mp3 are none
    *("#recycle/", "#snapshot/", "@eaDir/", "@tmp/", "@Recycle/", "@Recently-Snapshot/", "~snapshot/"),
    *("$RECYCLE.BIN/", "$Recycle.Bin/", "RECYCLER/", "System Volume Information/", "__MACOSX/", "lost+found/"),
    *("Network Trash Folder/", "Temporary Items/"),
)
"""Globs of hidden files and folders, and of what operating systems and NAS keep beside music."""


class CatalogueConfig(Section):
    """How a folder or prefix becomes a catalogue."""

    section_kind: ClassVar[str] = "catalogue"
    manifest: str | None = Field(None, description="CSV or Parquet of labels, joined on path, uri or track_id")
    labels_from: Literal["manifest", "folder", "none"] | None = Field(
        None, description="where labels come from; by default the manifest if given, else nothing"
    )
    dataset: str | None = Field(
        None, description="labels and splits of a public data set: gtzan, magnatagatune, fma or mtg-jamendo"
    )
    annotations: str | None = Field(
        None, description="folder of the data set's annotations; None: looked for in the root and beside it"
    )
    subset: str | None = Field(
        None,
        description="fma: small, medium, large; mtg-jamendo: genre, instrument, moodtheme, top50tags",
    )
    split_number: int = Field(0, ge=0, le=4, description="which of mtg-jamendo's five splits")
    dataset_split: Literal["own", "drawn"] = Field(
        "own", description="the data set's own split, or one drawn with its artists kept apart"
    )
    files: Literal["audio", "npy"] = Field("audio", description="what a track is: an audio file, or a mel `.npy`")
    exclude: tuple[str, ...] = Field(
        NO_MUSIC,
        description="globs of what is left out: of names, or with a slash inside of paths under the root; with a "
        "slash at the end of folders alone; the last that matches decides, and `!` before it keeps",
    )
    strict: bool = Field(False, description="stop at the first file or folder that cannot be read, not go on without")
    corrections: tuple[str, ...] = Field(
        (), description="further files of labels on top, such as filled-in review queues; a later one wins"
    )
    genres: tuple[str, ...] = Field((), description="the genres allowed; empty: those found")
    unknown_genre: Literal["error", "unlabelled"] = Field(
        "error", description="a genre outside `genres`: stop, or take the track as unlabelled"
    )
    content_id: Literal["stat", "hash"] = Field("stat", description="ETag or size+mtime, or a hash of the bytes")
    valid_fraction: Fraction = Field(
        0.2, description="share of the labelled tracks held out to choose and calibrate the model"
    )
    test_fraction: Fraction = Field(0.0, description="share held out for the final figures")
    split_seed: int = Field(0, description="decides which groups are held out")

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if self.valid_fraction + self.test_fraction >= 1.0:
            raise ValueError("valid_fraction + test_fraction must be below 1")
        return self
