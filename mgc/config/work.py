"""Decoding, training, tagging, evaluation and the cluster."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    field_validator,
)

from mgc.errors import TrackCode, did_you_mean
from mgc.model_config import CrnnConfig, ModelConfig
from mgc.settings import Fraction, Section


class DecodeConfig(Section):
    """Bounds on untrusted audio. Not part of the feature fingerprint: they decide if, not what."""

    max_file_bytes: int = Field(16 * 1024**3, ge=1, description="longer files are not read")
    whole_file_bytes: int = Field(
        16 * 1024**2, ge=0, description="files up to this are read whole; of longer ones only what the windows need"
    )
    max_channels: int = Field(64, ge=1, description="files with more are refused")
    min_sample_rate: int = Field(1_000, ge=1, description="Hz")
    max_sample_rate: int = Field(768_000, ge=1, description="Hz")
    time_limit_seconds: float = Field(60.0, gt=0.0, description="a track's decoding and features; then killed")
    memory_limit_bytes: int = Field(4 * 1024**3, ge=256 * 1024**2, description="of the decoding process")


class TrainingConfig(Section):
    """How the ensemble is fitted."""

    members: int = Field(2, ge=1, le=64, description="networks in the ensemble, all of `[model]`")
    ensemble: tuple[ModelConfig, ...] = Field(
        (),
        max_length=64,
        description='networks by name or with settings, e.g. `["crnn", {name = "cp_resnet", rho = 3}]`; then '
        "`members` is not read, and a name that `[model]` has means those settings",
    )
    members_at_once: int | None = Field(None, ge=1, description="None: as many as the CPUs or GPUs allow")
    seed: int = Field(0, description="decides initial weights, batches and augmentation")
    epochs: int = Field(40, ge=1, description="at most")
    patience: int = Field(8, ge=1, description="epochs without a better validation loss before stopping")
    batch_size: int = Field(32, ge=1, description="windows a step")
    optimizer: Literal["adamw", "adam", "sgd", "adagrad", "adadelta"] = Field(
        "adamw", description="how steps are made"
    )
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="SGD's, after Nesterov")
    learning_rate: float = Field(2e-3, gt=0.0, description="at its highest; SGD wants some 20 times the default")
    weight_decay: float = Field(1e-2, ge=0.0, description="on weight matrices: decoupled in AdamW, else an L2 term")
    schedule: Literal["cosine", "linear", "step", "constant"] = Field(
        "cosine",
        description="of the learning rate after the warm-up; step: to a tenth at 1/2 and at 3/4 of the rest",
    )
    warmup_epochs: int = Field(2, ge=0, description="of linear rise, before the schedule")
    averaging: Literal["none", "ema", "swa"] = Field(
        "none", description="keep a moving average of the weights over steps, or over the epochs from swa_start on"
    )
    ema_decay: float = Field(0.99, gt=0.0, lt=1.0, description="part of the moving average that a step keeps")
    swa_start: Fraction = Field(0.5, description="part of `epochs` after which the mean over epochs begins")
    label_smoothing: Fraction = Field(0.1, description="share of a genre label spread over all genres")
    tag_loss_weight: float = Field(5.0, ge=0.0, description="of the tags' loss against the genre's")
    mixup_alpha: float = Field(0.0, ge=0.0, description="both parameters of mixup's Beta draw; 0: no mixup")
    mask_frequency_bins: int = Field(16, ge=0, description="SpecAugment: widest masked band, mel bins")
    mask_frames: int = Field(40, ge=0, description="SpecAugment: widest masked time, frames")
    overlay_probability: Fraction = Field(
        0.0, description="chance that a window is laid over another of its genre (He & Li, eq. 6)"
    )
    equaliser_db: float = Field(0.0, ge=0.0, description="random equaliser, ± dB at six points of the spectrum")
    shift_mel_bins: int = Field(0, ge=0, description="random shift of the spectrum up or down, mel bins")
    crop_seconds: float | None = Field(5.0, gt=0.0, description="random crop of a window; None: whole windows")
    gain_db: float = Field(6.0, ge=0.0, description="random level change, ± dB")
    class_weights: bool = Field(True, description="let every genre weigh alike in the loss, however rare")
    sampling: Literal["all", "oversample", "undersample"] = Field(
        "all", description="windows of an epoch: all; or as many of each genre as of the most, or the least, frequent"
    )
    fusion: Literal["mean", "weighted", "stacked"] = Field(
        "mean", description="of the members: equal, or by weights fitted on the validation split"
    )
    temperature: Literal["member", "fused"] = Field(
        "fused", description="what is calibrated on the validation split: each member, or what they say together"
    )
    abstain_precision: float | None = Field(
        0.95,
        gt=0.0,
        le=1.0,
        description="share of the genres answered that is to be right on the validation split; a genre less probable "
        "than that takes is marked `abstained`; None: never",
    )
    min_tag_positives: int = Field(5, ge=1, description="rarer tags in train are left out of the taxonomy")
    threads: int | None = Field(None, ge=1, description="torch threads a member; None: CPUs over members at once")
    workers_per_member: int = Field(1, ge=1, description="data-parallel Ray Train workers")
    use_gpu: Literal["auto", "never", "always"] = Field("auto", description="auto: where the cluster has one")
    max_failures: int = Field(3, ge=0, description="worker deaths survived per member")


STUDENT = CrnnConfig(channels=64, blocks=2, pool_size=4, rnn_units=48, embedding_size=64)


class DistillConfig(Section):
    """How one small network learns from an ensemble (`mgc distill`); all else is as `[training]` says.

    `training.members`, `ensemble`, `label_smoothing` and `class_weights` are not read: there is one student, and the
    ensemble's word is soft and balanced already.
    """

    model: ModelConfig = Field(STUDENT, description="the student; settings not named are those of the default")
    teacher_share: Fraction = Field(
        0.5, description="weight of the ensemble's word against the label; where a track has none, 1"
    )
    unlisted: bool = Field(
        False, description="also learn from tracks of split 'unlisted', such as those without a label"
    )


class SearchConfig(Section):
    """How `mgc tune` looks for settings; where is said by its space, a file of its own."""

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
        description="where this share of the tracks, or more, is gone from the catalogue, they are only marked "
        "deleted with --accept-deletions, or where a terminal is asked and says yes",
    )
    use_gpu: Literal["auto", "never", "always"] = Field("auto", description="auto: where the cluster has one")


class RetryConfig(Section):
    """Which failed tracks a later run tries again. Content, settings or a bundle that changed are always tried."""

    codes: tuple[str, ...] = Field(
        ("T101", "T102", "T103", "T104", "T207"),
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

    bootstrap_samples: int = Field(1_000, ge=10, description="resamples behind each confidence interval")
    confidence: float = Field(0.95, gt=0.0, lt=1.0, description="level of the intervals")
    seed: int = Field(0, description="of the resampling")


class ClusterConfig(Section):
    """Where and how wide the work runs."""

    address: str | None = Field(None, description="Ray address; None: RAY_ADDRESS, else Ray in this process")
    workers: int | None = Field(None, ge=1, description="actors; None: one a CPU")
    tracks_per_chunk: int = Field(
        32, ge=1, description="tracks a part file holds (rows, where tracks have views); the unit of resume"
    )
    fetch_threads: int = Field(4, ge=1, description="an actor's concurrent reads")
    lease_seconds: float = Field(
        60.0, gt=0.0, description="a run without a sign of life for so long is dead: another may take its place"
    )
    retry_failed: bool = Field(False, description="also redo tracks that failed for good last time")


class LogsConfig(Section):
    """What is written for people to watch; it changes no weight and no answer."""

    tensorboard_dir: str | None = Field(
        None, description="folder of TensorBoard event files, a run a member, written as epochs end; None: none"
    )
