"""The settings of every job: validated, frozen, and fingerprinted.

One TOML file, `--set section.key=value` on top, flags for the common ones on top of that. Everything is
checked before Ray starts; an unknown key names the nearest valid one.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mgc.errors import ConfigError, did_you_mean
from mgc.feature_sets import FRAME_FEATURES, TRACK_FEATURES, expand
from mgc.views import CLEAN, View, parse_view

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
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


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when, and only when, a setting of this section does."""
        return fingerprint_of({"section": type(self).__name__, **self.model_dump(mode="json")})


class CatalogueConfig(Section):
    """How a folder or prefix becomes a catalogue."""

    manifest: str | None = Field(None, description="CSV or Parquet of labels, joined on path, uri or track_id")
    labels_from: Literal["manifest", "folder", "none"] | None = Field(
        None, description="where labels come from; by default the manifest if given, else nothing"
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
    hop_length + 1 (centred frames). Further features, by the names and sets of docs/features.md, come from the
    same pass; no model hears them, so they change no bundle.
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
        return self.window_samples // self.hop_length + 1


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


class ModelConfig(Section):
    """The CRNN of residual gated linear units with squeeze-excitation (He & Li 2024)."""

    name: Literal["crnn"] = Field("crnn", description="the architecture")
    channels: int = Field(128, ge=8, le=2_048, description="of every convolution")
    blocks: int = Field(3, ge=1, le=12, description="gated residual blocks")
    kernel_size: int = Field(3, ge=1, le=31, description="frames a convolution sees")
    pool_size: int = Field(2, ge=1, le=8, description="frames merged after each block")
    rnn: Literal["gru", "lstm"] = Field("gru", description="the recurrent layer")
    rnn_units: int = Field(96, ge=4, le=1_024, description="per direction")
    dropout: Fraction = Field(0.3, description="before and after the embedding; a third of it in the blocks")
    se_reduction: int = Field(8, ge=1, le=64, description="channels over the squeeze-excitation's hidden units")
    embedding_size: int = Field(128, ge=8, le=2_048, description="values of the embedding written for each track")


class TrainingConfig(Section):
    """How the ensemble is fitted."""

    members: int = Field(2, ge=1, le=64, description="networks in the ensemble")
    members_at_once: int | None = Field(None, ge=1, description="None: as many as the CPUs or GPUs allow")
    seed: int = Field(0, description="decides initial weights, batches and augmentation")
    epochs: int = Field(40, ge=1, description="at most")
    patience: int = Field(8, ge=1, description="epochs without a better validation loss before stopping")
    batch_size: int = Field(32, ge=1, description="windows a step")
    learning_rate: float = Field(2e-3, gt=0.0, description="AdamW's, at its highest")
    weight_decay: float = Field(1e-2, ge=0.0, description="AdamW's, on weight matrices")
    warmup_epochs: int = Field(2, ge=0, description="of linear rise, before the half cosine down")
    label_smoothing: Fraction = Field(0.1, description="share of a genre label spread over all genres")
    tag_loss_weight: float = Field(5.0, ge=0.0, description="of the tags' loss against the genre's")
    mixup_alpha: float = Field(0.0, ge=0.0, description="both parameters of mixup's Beta draw; 0: no mixup")
    mask_frequency_bins: int = Field(16, ge=0, description="SpecAugment: widest masked band, mel bins")
    mask_frames: int = Field(40, ge=0, description="SpecAugment: widest masked time, frames")
    crop_seconds: float | None = Field(5.0, gt=0.0, description="random crop of a window; None: whole windows")
    gain_db: float = Field(6.0, ge=0.0, description="random level change, ± dB")
    class_weights: bool = Field(True, description="let every genre weigh alike in the loss, however rare")
    min_tag_positives: int = Field(5, ge=1, description="rarer tags in train are left out of the taxonomy")
    threads: int | None = Field(None, ge=1, description="torch threads a member; None: CPUs over members at once")
    workers_per_member: int = Field(1, ge=1, description="data-parallel Ray Train workers")
    use_gpu: Literal["auto", "never", "always"] = Field("auto", description="auto: where the cluster has one")
    max_failures: int = Field(3, ge=0, description="worker deaths survived per member")


class TaggingConfig(Section):
    """How predictions are made from the ensemble."""

    tag_threshold: Fraction = Field(0.5, description="tags at or above it are listed")
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
    retry_failed: bool = Field(False, description="also redo tracks that failed for good last time")


class Config(Section):
    """All settings."""

    catalogue: CatalogueConfig = CatalogueConfig()
    features: FeatureConfig = FeatureConfig()
    augment: AugmentConfig = AugmentConfig()
    decode: DecodeConfig = DecodeConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    tagging: TaggingConfig = TaggingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()


def fingerprint_of(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            hint = did_you_mean(str(problem["loc"][-1]), _valid_keys(problem["loc"]))
            lines.append(f"unknown setting '{key}': {hint}")
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{key or 'settings'} = {_shown(problem['input'])}: {reason}")
    where = f" in {path}" if path else ""
    return ConfigError(f"bad settings{where}:\n  " + "\n  ".join(lines), "docs/configuration.md lists every setting")


def _shown(value: Any) -> str:
    return "{…}" if isinstance(value, dict | BaseModel) else repr(value)


def _valid_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        section = field.annotation
    return list(section.model_fields)
