"""How networks are fitted: each one's own settings, and those of the ensemble that they make together."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializationInfo,
    model_serializer,
    model_validator,
)

from mgc.config.network_settings import ModelConfig
from mgc.config.section import Fraction, Section

Precision = Literal["auto", "float32", "bfloat16"]


class FitConfig(Section):
    """How one network is fitted.

    In `[training]` these are every member's; an entry of `training.ensemble` may have its own on top, as
    `training = {…}`.
    """

    section_kind: ClassVar[str] = "fit"
    epochs: int = Field(40, ge=1, description="at most")
    patience: int = Field(8, ge=1, description="epochs without a better validation loss before stopping")
    keep: Literal["best", "last"] = Field(
        "best",
        description="weights of the epoch with the lowest validation loss, or of the last: then all epochs are run, "
        "and the validation split decides nothing but how answers are calibrated",
    )
    batch_size: int = Field(32, ge=1, description="windows a step")
    precision: Precision = Field(
        "auto",
        description="of the forward and backward pass; auto: bfloat16 on a GPU that computes it, else float32. "
        "Losses, weights and all answers are float32",
    )
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
    loss: Literal["cross_entropy", "squared_error"] = Field(
        "cross_entropy", description="squared_error: half the squared distance to the labels (He & Li 2024, eq. 3)"
    )
    label_smoothing: Fraction = Field(0.1, description="share of a genre label spread over all genres")
    tag_loss_weight: float = Field(5.0, ge=0.0, description="of the tags' loss against the genre's")
    mixup_alpha: float = Field(0.0, ge=0.0, description="both parameters of mixup's Beta draw; 0: no mixup")
    mask_frequency_bins: int = Field(16, ge=0, description="SpecAugment: widest masked band, mel bins")
    mask_frames: int = Field(40, ge=0, description="SpecAugment: widest masked time, frames")
    overlay_probability: Fraction = Field(
        0.0, description="chance that a window is laid over another of its genre (He & Li, eq. 6)"
    )
    blend_probability: Fraction = Field(
        0.0,
        description="chance that a window sounds together with one of any other track: it has the tags "
        "of both, and its genre is not trained on",
    )
    blend_unclear_tags: tuple[str, ...] = Field(
        (), description="tags that such a sum leaves open, being no sounds: `solo`, `fast`, a mood"
    )
    equaliser_db: float = Field(0.0, ge=0.0, description="random equaliser, ± dB at six points of the spectrum")
    shift_mel_bins: int = Field(0, ge=0, description="random shift of the spectrum up or down, mel bins")
    crop_seconds: float | None = Field(5.0, gt=0.0, description="random crop of a window; None: whole windows")
    gain_db: float = Field(6.0, ge=0.0, description="random level change, ± dB")
    class_weights: bool = Field(True, description="let every genre weigh alike in the loss, however rare")
    sampling: Literal["all", "oversample", "undersample"] = Field(
        "all", description="windows of an epoch: all; or as many of each genre as of the most, or the least, frequent"
    )


class MemberConfig(Section):
    """An entry of `training.ensemble`: a network's settings, and beside them those of its fit that are its own.

    Written as one table, `{ name = "block_level", block_frames = 256, training = { learning_rate = 1e-3 } }`, and
    dumped as one.
    """

    section_kind: ClassVar[str] = "member"
    model: ModelConfig
    training: FitConfig = FitConfig()

    @model_validator(mode="before")
    @classmethod
    def _one_table(cls, entry: Any) -> Any:
        if isinstance(entry, str):
            return {"model": {"name": entry}}
        if isinstance(entry, Section):
            return entry if isinstance(entry, MemberConfig) else {"model": entry}
        if not isinstance(entry, dict) or isinstance(entry.get("model"), Section):
            return entry
        own = {"training": entry["training"]} if "training" in entry else {}
        return {"model": {key: value for key, value in entry.items() if key != "training"}, **own}

    @model_serializer
    def _as_one_table(self, info: SerializationInfo) -> dict[str, Any]:
        model = self.model.model_dump(mode=info.mode, exclude_defaults=info.exclude_defaults)
        return {"name": self.model.name, **model, **({"training": own} if (own := self.own()) else {})}

    def own(self) -> dict[str, Any]:
        """Return the settings of its fit that are its own, JSON-ready; what was not given is not among them."""
        return self.training.model_dump(mode="json", exclude_unset=True)


ON_STATISTICS: dict[str, Any] = {
    "keep": "last",
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "crop_seconds": 600.0,
    "gain_db": 0.0,
    "mask_frames": 0,
    "mask_frequency_bins": 0,
}
"""How a perceptron on fixed statistics is fitted: on whole windows as they are, so that these are computed once."""

DEFAULT_ENSEMBLE: tuple[dict[str, Any], ...] = (
    {"name": "crnn"},
    {"name": "cp_resnet"},
    {"name": "block_level", "training": ON_STATISTICS},
)
"""What `mgc train` trains by default: networks that differ in what they see, and so err differently."""


class TrainingConfig(FitConfig):
    """How the ensemble is fitted, joined and calibrated."""

    section_kind: ClassVar[str] = "training"
    members: int = Field(
        2, ge=1, le=64, description="networks in the ensemble, all of `[model]`, where that or this is given"
    )
    ensemble: tuple[MemberConfig, ...] = Field(
        (),
        max_length=64,
        description='networks by name or with settings, e.g. `["crnn", {name = "cp_resnet", rho = 3, training = '
        "{epochs = 50}}]`, where `training` is of that member's fit alone; then `members` is not read, and a bare "
        "name that `[model]` has means those settings. Where neither `[model]`, `members` nor this is "
        "given, `mgc train` trains a `crnn`, a `cp_resnet` and a `block_level` fitted on whole windows",
    )
    members_at_once: int | None = Field(None, ge=1, description="None: as many as the CPUs or GPUs allow")
    seed: int = Field(0, description="decides initial weights, batches and augmentation")
    fusion: Literal["mean", "vote", "weighted", "stacked"] = Field(
        "weighted",
        description="of the members: their mean, their majority, or by weights fitted on the validation split",
    )
    temperature: Literal["member", "fused"] = Field(
        "fused", description="what is calibrated on the validation split: each member, or their fused prediction"
    )
    abstain_precision: float | None = Field(
        0.95,
        gt=0.0,
        le=1.0,
        description="share of the genres answered that is to be right on artists never met, with 90 % confidence; "
        "where the tracks do not suffice, the most that can be promised; a genre less probable than that takes is "
        "marked `abstained`; None: never",
    )
    tag_precision: float | None = Field(
        0.7, gt=0.0, le=1.0, description="share of the tags listed that is to be right, likewise; None: from 0.5 on"
    )
    promise_folds: int = Field(
        0,
        ge=0,
        le=20,
        description="what both are promised on. 0: half of the validation groups, which stop no training, or all "
        "where every member keeps its last weights. 3 or more: all groups of train and valid, by that many more "
        "fits of each member, each on all folds but two; where every member keeps its last weights (`keep`), on all "
        "but one, and the bundle's members learn from valid, too: calibration and fusion are fitted on the folds",
    )
    exclusive_tags: tuple[tuple[str, ...], ...] | None = Field(
        None, description="groups of tags of which at most one is listed; None: those that the labels show"
    )
    min_tag_positives: int = Field(5, ge=1, description="rarer tags in train are left out of the taxonomy")
    threads: int | None = Field(None, ge=1, description="torch threads a member; None: CPUs over members at once")
    workers_per_member: int = Field(1, ge=1, description="data-parallel Ray Train workers")
    use_gpu: Literal["auto", "never", "always"] = Field("auto", description="auto: where the cluster has one")
    gpu_share: float = Field(
        1.0, gt=0.0, le=1.0, description="of a GPU, a worker's: at 0.25 four small members are fitted on one at once"
    )
    max_failures: int = Field(3, ge=0, description="worker deaths survived per member")

    @model_validator(mode="after")
    def _enough_folds(self) -> Self:
        if self.promise_folds in (1, 2):
            raise ValueError("promise_folds: a fold is predicted and one stops training, so 3 are the fewest, or 0")
        return self

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.workers_per_member > 1 and self.gpu_share < 1.0:
            raise ValueError("gpu_share: data-parallel workers (workers_per_member) need a GPU each, so 1.0")
        return self

    @property
    def stops_early(self) -> bool:
        """Whether the validation split decides an epoch of any member."""
        members = range(len(self.ensemble) or 1)
        return any(self.for_member(number).keep == "best" for number in members)

    @property
    def learns_valid(self) -> bool:
        """Whether folds decide all that the validation split would, so that its tracks are learnt from, too."""
        return self.promise_folds > 0 and not self.stops_early

    def for_member(self, number: int) -> FitConfig:
        """Return how one member is fitted, counted from 0: these settings, with its own on top."""
        if number >= len(self.ensemble):
            return self
        own = self.ensemble[number].training
        return self.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})

    def at_most(self, epochs: int) -> TrainingConfig:
        """Return the settings with no member fitted for longer."""
        ensemble = tuple(_at_most(member, epochs) for member in self.ensemble)
        return self.model_copy(update={"epochs": min(self.epochs, epochs), "ensemble": ensemble})


def _at_most(member: MemberConfig, epochs: int) -> MemberConfig:
    if "epochs" not in member.training.model_fields_set or member.training.epochs <= epochs:
        return member
    return member.model_copy(update={"training": member.training.model_copy(update={"epochs": epochs})})
