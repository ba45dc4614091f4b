"""The settings of every job: validated, frozen, and fingerprinted.

One TOML file, `--set section.key=value` on top, flags for the common ones on top of that. Everything is
checked before Ray starts; an unknown key names the nearest valid one.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

from pydantic import (
    BaseModel,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mgc.errors import ConfigError, did_you_mean
from mgc.feature_sets import FRAME_FEATURES, TRACK_FEATURES, expand
from mgc.model_config import CrnnConfig, ModelConfig
from mgc.settings import Fraction, Section, fingerprint_of
from mgc.views import CLEAN, View, parse_view

__all__ = [
    "AUGMENT_BOUNDS",
    "AugmentConfig",
    "CatalogueConfig",
    "ClusterConfig",
    "Config",
    "DecodeConfig",
    "EvaluationConfig",
    "FeatureConfig",
    "Fraction",
    "ModelConfig",
    "Range",
    "Section",
    "TaggingConfig",
    "TrainingConfig",
    "fingerprint_of",
    "load_config",
    "model_sections",
    "read_model_config",
]

Range = tuple[float, float]
"""Lowest and highest of what is drawn."""

AUGMENT_BOUNDS = {
    "tempo_ratio": (0.5, 2.0),
    "pitch_semitones": (-12.0, 12.0),
    "presence_db": (-24.0, 24.0),
    "gain_db": (-60.0, 60.0),
    "snr_db": (-20.0, 100.0),
    "overlay_alpha": (0.0, 1.0),
}
"""Within which the ranges of `AugmentConfig` may lie: beyond them a view is no music any more."""

AUDIO_SOURCE = "audio"
"""`FeatureConfig.source` of features that mgc computes itself."""


class CatalogueConfig(Section):
    """How a folder or prefix becomes a catalogue."""

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


class FeatureConfig(Section):
    """What is computed from a track: the one feature path of training and inference.

    A track is heard in windows of `window_seconds`, at most `max_windows`, evenly placed. Each window becomes
    a log-mel spectrogram of shape (n_frames, n_mels) with n_frames = round(window_seconds * sample_rate) //
    hop_length + 1 (centred frames) where frame_stride is 1. Further features, by the names and sets of
    docs/features.md, come from the same pass; no model hears them, so they change no bundle.
    """

    sample_rate: int = Field(22_050, ge=4_000, le=96_000, description="Hz, after resampling")
    n_fft: int = Field(2_048, ge=64, le=32_768, description="samples a frame")
    hop_length: int = Field(512, ge=16, le=32_768, description="samples between frames")
    n_mels: int = Field(128, ge=8, le=512, description="mel bands")
    f_min: float = Field(0.0, ge=0.0, description="Hz")
    f_max: float | None = Field(None, gt=0.0, description="Hz; None: half the sample rate")
    mel_scale: Literal["slaney", "htk"] = Field("slaney", description="Slaney's scale as in librosa, or HTK's")
    top_db: float = Field(80.0, gt=0.0, le=200.0, description="dB kept below the maximum over the track's windows")
    window_seconds: float = Field(
        10.0, gt=0.0, le=600.0, description="length of a window; what the model hears at once"
    )
    max_windows: int = Field(
        6, ge=1, le=10_000, description="windows a track, evenly placed; short tracks have fewer"
    )
    frame_stride: float = Field(
        1.0, ge=1.0, le=1_000.0, description="of the frames at hop_length, keep one in so many; may be fractional"
    )
    frame_phase: float = Field(
        0.0, ge=0.0, le=1_000.0, description="frame k kept is number floor(frame_phase + k * frame_stride)"
    )
    source: str = Field(
        "audio", min_length=1, description="what it is computed from; `mgc import-mels` writes what its arrays hold"
    )

    frames: tuple[str, ...] = Field(
        ("log_mel",), description="features or sets kept frame by frame; log_mel always is"
    )
    statistics: tuple[str, ...] = Field(
        (), description="features or sets of which a track's mean and variance are kept"
    )
    n_mfcc: int = Field(20, ge=1, le=512, description="mel-frequency cepstral coefficients")
    chroma_tuning: float = Field(0.0, ge=-0.5, le=0.5, description="distance from A440, semitones")
    rolloff_fraction: float = Field(0.85, gt=0.0, lt=1.0, description="share of the magnitude below the roll-off")
    contrast_bands: int = Field(6, ge=1, le=12, description="octaves of the spectral contrast, beside what is below")
    contrast_f_min_hz: float = Field(200.0, gt=0.0, description="where the lowest octave of the contrast starts")

    @field_validator("frames", "statistics", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, value: Any) -> Any:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("frames")
    @classmethod
    def _expand_frames(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return expand(("log_mel", *value), FRAME_FEATURES)

    @field_validator("statistics")
    @classmethod
    def _expand_statistics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return expand(value, FRAME_FEATURES + TRACK_FEATURES)

    @model_validator(mode="after")
    def _further_features_fit(self) -> Self:
        wanted = {*self.frames, *self.statistics}
        cepstral = {"mfcc", "mfcc_delta", "mfcc_delta2"}
        if wanted & cepstral and self.n_mfcc > self.n_mels:
            raise ValueError("n_mfcc must not exceed n_mels")
        if wanted & cepstral - {"mfcc"} and self.n_frames < 9:
            raise ValueError("deltas are fitted over 9 frames: window_seconds is too short for them")
        if "spectral_contrast" in wanted:
            if self.contrast_f_min_hz * 2.0 ** (self.contrast_bands - 1) >= self.sample_rate / 2:
                raise ValueError("the highest of contrast_bands starts at or above half of sample_rate")
            if self.sample_rate / self.n_fft > self.contrast_f_min_hz:
                raise ValueError("n_fft is too small for contrast_f_min_hz: the lowest band holds no bin")
        return self

    @model_validator(mode="after")
    def _frames_and_bands_fit(self) -> Self:
        if self.n_fft % 2:
            raise ValueError("n_fft must be even: frames are centred")
        if self.hop_length > self.n_fft:
            raise ValueError("hop_length must not exceed n_fft: samples between frames would be lost")
        if (self.f_max or self.sample_rate / 2) > self.sample_rate / 2:
            raise ValueError("f_max must not exceed half of sample_rate")
        if self.f_min >= (self.f_max or self.sample_rate / 2):
            raise ValueError("f_min must be below f_max")
        if self.window_samples < self.n_fft:
            raise ValueError("window_seconds must hold at least one frame of n_fft samples")
        if self.frame_phase > self.window_samples // self.hop_length:
            raise ValueError("frame_phase must lie within a window, or no frame would be kept")
        return self

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when, and only when, what is extracted does.

        Without further features their settings do not count, so that what was extracted before there were any
        stays current.
        """
        settings = self.model_dump(mode="json")
        if self.frames == ("log_mel",) and not self.statistics:
            settings = {name: value for name, value in settings.items() if name not in _NOT_HEARD_BY_MODELS}
        return fingerprint_of({"section": type(self).__name__, **settings})

    def for_model(self) -> FeatureConfig:
        """Return what of the settings decides the log-mel, which is all that a model hears."""
        return self.model_copy(update={name: type(self).model_fields[name].default for name in _NOT_HEARD_BY_MODELS})

    @property
    def window_samples(self) -> int:
        """Samples in a window."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def n_frames(self) -> int:
        """Frames in a window's log-mel."""
        return math.ceil((self.n_analysed_frames - self.frame_phase) / self.frame_stride)

    @property
    def n_analysed_frames(self) -> int:
        """Frames in a window before they are thinned by `frame_stride`."""
        return self.window_samples // self.hop_length + 1

    @property
    def frames_per_second(self) -> float:
        """Frames of a log-mel in a second of music."""
        return self.sample_rate / self.hop_length / self.frame_stride

    @property
    def from_audio(self) -> bool:
        """Whether mgc can compute these features from audio."""
        return self.source == AUDIO_SOURCE


class MelsConfig(Section):
    """What the values of precomputed mel spectrograms (`.npy`) mean, for `mgc import-mels`.

    Frames, bands and windows are those of `[features]`. Values become dB: `unit_db` times the value, taken
    relative to the track's maximum where `reference` says so.
    """

    layout: Literal["mels_first", "frames_first"] = Field(
        "mels_first", description="shape (n_mels, frames) or (frames, n_mels); the lowest band first"
    )
    unit_db: float = Field(1.0, gt=0.0, description="dB of power that a step of 1 in a value stands for")
    reference: Literal["track_maximum", "as_is"] = Field(
        "track_maximum",
        description="subtract the track's maximum, or take values as relative to it already: 0 dB and below",
    )
    like_audio: bool = Field(
        False,
        description="`[features]` computes the same from audio, so that a model trained on these may hear audio",
    )

    def describe(self) -> str:
        """Return the source that features imported so carry in their fingerprint."""
        if self.like_audio:
            return AUDIO_SOURCE
        return f"npy, {self.layout}, {self.unit_db:g} dB a unit, reference {self.reference}"


_NOT_HEARD_BY_MODELS = frozenset(
    {
        "frames",
        "statistics",
        "n_mfcc",
        "chroma_tuning",
        "rolloff_fraction",
        "contrast_bands",
        "contrast_f_min_hz",
    }
)
"""Settings of `FeatureConfig` about features beside the log-mel."""


class AugmentConfig(Section):
    """Views: further rows of a track, changed in a way that leaves its genre what it is. By default none.

    A view is `clean` (always made), `overlay`, `pitch`, `loudness`, `gain`, `noise` or `tempo`, or a chain of
    these with `+`, applied in this order; `tempo#2` is a second draw. A range is [lowest, highest]; what is drawn
    depends on `seed`, the track and the view alone. docs/augmentation.md says what each does.
    """

    views: tuple[str, ...] = Field((CLEAN,), description='e.g. `["clean", "tempo", "pitch+loudness+tempo"]`')
    splits: tuple[Literal["train", "valid", "test", "unlisted"], ...] = Field(
        ("train",), description="whose tracks get views; the other splits' tracks are heard clean"
    )
    seed: int = Field(0, description="decides what is drawn")
    tempo_ratio: Range = Field((0.8, 1.25), description="tempo over the track's own, within [0.5, 2]")
    pitch_semitones: Range = Field((-2.0, 2.0), description="pitch shift, within [-12, 12]")
    presence_db: Range = Field((3.0, 9.0), description="loudness: boost of 200 Hz to 4 kHz, within [-24, 24]")
    gain_db: Range = Field((-6.0, 6.0), description="level change, saturated at full scale; within [-60, 60]")
    snr_db: Range = Field((10.0, 30.0), description="noise: music over white noise in a window, within [-20, 100]")
    overlay_alpha: Range = Field((0.5, 0.8), description="overlay: the track's own part, within [0, 1]")
    balance_to_share: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="more numbered views for rare genres, until each has this share of the commonest one's rows",
    )

    @field_validator("views")
    @classmethod
    def _known_views(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return canonical names, the clean view first."""
        written: dict[View, str] = {}
        for name in names:
            view = parse_view(name)
            if view in written:
                twice = "comes twice" if written[view] == name else f"and '{written[view]}' are the same view"
                raise ValueError(f"'{name}' {twice}; a second draw is '{view.numbered(view.number + 1).name}'")
            written[view] = name
        return (CLEAN, *(view.name for view in written if view.kinds))

    @field_validator("tempo_ratio", "pitch_semitones", "presence_db", "gain_db", "snr_db", "overlay_alpha")
    @classmethod
    def _within(cls, drawn: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        lowest, highest = AUGMENT_BOUNDS[str(info.field_name)]
        if not lowest <= drawn[0] <= drawn[1] <= highest:
            raise ValueError(f"a range is [lowest, highest], within [{lowest:g}, {highest:g}]")
        return drawn

    @model_validator(mode="after")
    def _has_views_to_balance_with(self) -> Self:
        if self.balance_to_share is not None and self.views == (CLEAN,):
            raise ValueError("balance_to_share needs views besides 'clean' to make more of")
        return self


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
        "member", description="what is calibrated on the validation split: each member, or what they say together"
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


class TaggingConfig(Section):
    """How predictions are made from the ensemble."""

    tag_threshold: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="tags at or above it are listed; None: each at the bundle's own, fitted on valid",
    )
    batch_windows: int = Field(64, ge=1, description="windows a forward pass")
    use_gpu: Literal["auto", "never", "always"] = Field("auto", description="auto: where the cluster has one")


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


class Config(Section):
    """All settings."""

    catalogue: CatalogueConfig = CatalogueConfig()
    features: FeatureConfig = FeatureConfig()
    augment: AugmentConfig = AugmentConfig()
    mels: MelsConfig = MelsConfig()
    decode: DecodeConfig = DecodeConfig()
    model: ModelConfig = CrnnConfig()
    training: TrainingConfig = TrainingConfig()
    tagging: TaggingConfig = TaggingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="before")
    @classmethod
    def _names_stand_for_networks(cls, values: Any) -> Any:
        """Let `[model]` go without a name, and the ensemble name networks without their settings."""
        if not isinstance(values, dict):
            return values
        model = values.get("model", {})
        if isinstance(model, dict) and model:
            model = values["model"] if "name" in model else {"name": CrnnConfig().name, **model}
            values = {**values, "model": model}
        training = values.get("training")
        if isinstance(training, dict) and isinstance(training.get("ensemble"), list | tuple):
            ensemble = tuple(_named(entry, model) for entry in training["ensemble"])
            values = {**values, "training": {**training, "ensemble": ensemble}}
        return values

    def member_models(self) -> tuple[ModelConfig, ...]:
        """Return the network of each member of the ensemble."""
        return self.training.ensemble or (self.model,) * self.training.members


def _named(entry: Any, model: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    name = model.get("name", CrnnConfig().name) if isinstance(model, dict) else getattr(model, "name", None)
    return (model or {"name": entry}) if name == entry else {"name": entry}


_MODEL_CONFIG: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)


def read_model_config(value: Any) -> ModelConfig:
    """Return a network's settings from their JSON form.

    Raises
    ------
    pydantic.ValidationError
        The name or a setting is not known.
    """
    return _MODEL_CONFIG.validate_python(value)


def model_sections() -> dict[str, type[Section]]:
    """Return the settings of every network by its name."""
    return {section.model_fields["name"].default: section for section in _sections_in(ModelConfig)}


def load_config(path: str | None = None, overrides: list[str] | None = None) -> Config:
    """Return the settings of a TOML file with `section.key=value` overrides on top.

    Raises
    ------
    ConfigError
        The file is missing or no TOML, a key is unknown, or a value is out of range.
    """
    values = _read_toml(path) if path else {}
    for override in overrides or []:
        _apply_override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _as_config_error(error, path) from error


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file '{path}': {error.strerror}", "check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not valid TOML: {error}", "see docs/configuration.md") from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign:
        raise ConfigError(f"--set {override!r} is not of the form section.key=value", "e.g. --set training.epochs=20")
    *parents, leaf = key.strip().split(".")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: '{parent}' is a value, not a section")
    place[leaf] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    """Read a value as TOML would; what is no TOML value is a plain string; `none` unsets."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _as_config_error(error: ValidationError, path: str | None) -> ConfigError:
    lines = [_problem(problem["type"], problem["loc"], problem) for problem in error.errors()]
    where = f" in {path}" if path else ""
    return ConfigError(f"bad settings{where}:\n  " + "\n  ".join(lines), "docs/configuration.md lists every setting")


def _problem(kind: str, location: tuple[int | str, ...], problem: Any) -> str:
    place = _walk(location)
    if kind == "extra_forbidden":
        return f"unknown setting '{place.key}': {did_you_mean(str(location[-1]), place.valid)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = problem["input"].get("name") if isinstance(problem["input"], dict) else problem["input"]
        hint = did_you_mean(str(given), list(model_sections()))
        return f"{place.key}.name = {given!r}: no such network; {hint}"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{place.key or 'settings'} = {_shown(problem['input'])}: {reason}"


def _shown(value: Any) -> str:
    return "{…}" if isinstance(value, dict | BaseModel) else repr(value)


class _Place(NamedTuple):
    """Where in the settings something is wrong: the key as a reader writes it, and what is valid there."""

    key: str
    valid: list[str]


def _walk(location: tuple[int | str, ...]) -> _Place:
    """Follow pydantic's location, in which the name of a network stands between its section and its key."""
    words: list[str] = []
    sections: list[type[Section]] = [Config]
    for part in location:
        by_name = {section.model_fields["name"].default: section for section in sections if len(sections) > 1}
        if part in by_name:
            sections = [by_name[part]]
            continue
        words.append(str(part))
        field = sections[0].model_fields.get(str(part)) if len(sections) == 1 else None
        if field is not None:
            below = _sections_in(field.annotation)
            sections = below or sections
    return _Place(".".join(words), [name for section in sections for name in section.model_fields])


def _sections_in(annotation: Any) -> list[type[Section]]:
    """Return the sections that an annotation is made of: itself, or those of a union or a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]
