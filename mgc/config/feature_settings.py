"""What is computed from a track, and what precomputed spectrograms mean; `docs/features.md` defines each feature."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from mgc.config.section import Section, fingerprint_of
from mgc.errors import ConfigError, did_you_mean

FRAME_FEATURES = (
    "log_mel",
    "mfcc",
    "mfcc_delta",
    "mfcc_delta2",
    "cepstrum",
    "chroma",
    "spectral_centroid",
    "spectral_bandwidth",
    "spectral_rolloff",
    "spectral_flatness",
    "spectral_contrast",
    "spectral_mean",
    "spectral_variance",
    "zero_crossing_rate",
    "zero_crossing_rate_he_li",
    "rms",
    "short_time_energy",
    "autocorrelation",
    "onset_strength",
    "tempogram",
)
"""Features with values for every frame, in the order in which they are kept."""

TRACK_FEATURES = (
    "tempo",
    "beat_tempo",
    "harmonic_mean",
    "harmonic_variance",
    "percussive_mean",
    "percussive_variance",
)
"""Features with one value a track: statistics already."""

FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "cao2024": ("mfcc", "chroma", "spectral_centroid", "spectral_rolloff", "zero_crossing_rate"),
    "guo2024": (
        "log_mel",
        "mfcc",
        "spectral_centroid",
        "spectral_mean",
        "spectral_variance",
        "zero_crossing_rate",
        "short_time_energy",
        "autocorrelation",
        "onset_strength",
        "tempogram",
        "tempo",
    ),
    "jain2021": ("mfcc",),
    "he_li2024": ("log_mel", "zero_crossing_rate_he_li", "short_time_energy"),
    "gtzan_csv": (
        "mfcc",
        "chroma",
        "spectral_centroid",
        "spectral_bandwidth",
        "spectral_rolloff",
        "zero_crossing_rate",
        "rms",
        "beat_tempo",
        "harmonic_mean",
        "harmonic_variance",
        "percussive_mean",
        "percussive_variance",
    ),
    "librosa_ten": (
        "log_mel",
        "mfcc",
        "chroma",
        "spectral_centroid",
        "spectral_bandwidth",
        "spectral_rolloff",
        "spectral_flatness",
        "spectral_contrast",
        "zero_crossing_rate",
        "rms",
    ),
    "all": FRAME_FEATURES + TRACK_FEATURES,
}
"""Set → its features. Where only per-frame features are wanted, a set's `TRACK_FEATURES` are left out."""


def expand(names: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the features that names and sets stand for, each once, in the order of `allowed`.

    Raises
    ------
    ValueError
        A name is neither a set nor among `allowed`; names the nearest.
    """
    wanted: set[str] = set()
    for name in names:
        if name in FEATURE_SETS:
            wanted |= set(FEATURE_SETS[name])
        elif name in allowed:
            wanted.add(name)
        elif name in TRACK_FEATURES:
            raise ValueError(f"'{name}' has no value for each frame: ask for it in features.statistics")
        else:
            raise ValueError(f"no feature or set '{name}': {did_you_mean(name, [*allowed, *FEATURE_SETS])}")
    return tuple(name for name in allowed if name in wanted)


AUDIO_SOURCE = "audio"
"""`FeatureConfig.source` of features that mgc computes itself."""


WAVEFORM_ROW = 256
"""Samples in a row of a waveform. Each stands there twice: in half precision, and what that leaves of it (see
`mgc.audio.features.analysis.waveform_rows`)."""


class FeatureConfig(Section):
    """What is computed from a track: the one feature path of training and inference.

    A track is cut into windows of `window_seconds`, at most `max_windows`, evenly placed. Each window becomes
    a log-mel spectrogram of shape (n_frames, n_mels) with n_frames = round(window_seconds * sample_rate) //
    hop_length + 1 (centred frames) where frame_stride is 1. Further features, by the names and sets of
    docs/features.md, come from the same pass; no model reads them, so they change no bundle.
    """

    section_kind: ClassVar[str] = "features"
    sample_rate: int = Field(22_050, ge=4_000, le=96_000, description="Hz, after resampling")
    n_fft: int = Field(2_048, ge=64, le=32_768, description="samples a frame")
    hop_length: int = Field(512, ge=16, le=32_768, description="samples between frames")
    n_mels: int = Field(128, ge=8, le=512, description="mel bands")
    f_min: float = Field(0.0, ge=0.0, description="Hz")
    f_max: float | None = Field(None, gt=0.0, description="Hz; None: half the sample rate")
    mel_scale: Literal["slaney", "htk"] = Field("slaney", description="Slaney's scale as in librosa, or HTK's")
    top_db: float = Field(80.0, gt=0.0, le=200.0, description="dB kept below `reference`")
    reference: Literal["track_maximum", "full_scale"] = Field(
        "track_maximum",
        description="what is 0 dB: the maximum over the track's windows, or a power of 1, which keeps its level",
    )
    padding: Literal["constant", "reflect"] = Field(
        "constant", description="what frames hold beyond a window's ends: zeros, or the window turned back"
    )
    window_seconds: float = Field(
        10.0, gt=0.0, le=600.0, description="length of a window; what the model sees at once"
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
    content: Literal["log_mel", "waveform"] = Field(
        "log_mel",
        description="what a window's rows hold: mel bands, or samples for a network that takes sound (`import-onnx`)",
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
    n_mfcc: int = Field(20, ge=1, le=512, description="MFCC, and quefrencies of the cepstrum")
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
    def _rows_of_samples_fit(self) -> Self:
        if self.content == "waveform":
            if (self.n_mels, self.hop_length) != (2 * WAVEFORM_ROW, WAVEFORM_ROW):
                raise ValueError(f"content = waveform needs hop_length {WAVEFORM_ROW} and n_mels {2 * WAVEFORM_ROW}")
            if self.frames != ("log_mel",) or self.statistics or self.frame_stride != 1.0 or self.frame_phase:
                raise ValueError("content = waveform goes with no further features, frame_stride or frame_phase")
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
            settings = {name: value for name, value in settings.items() if name not in _NOT_MODEL_INPUTS}
        for name in _CHOICES_SINCE:  # as it was before there was a choice
            if settings[name] == type(self).model_fields[name].default:
                del settings[name]
        return fingerprint_of({"section": self.section_kind, **settings})

    def for_model(self) -> FeatureConfig:
        """Return what of the settings decides the log-mel, which is all that a model reads."""
        return self.model_copy(update={name: type(self).model_fields[name].default for name in _NOT_MODEL_INPUTS})

    def require_log_mels(self, what: str) -> None:
        """Refuse features that are waveforms.

        Raises
        ------
        ConfigError
            They are.
        """
        if self.content != "log_mel":
            raise ConfigError(
                f"{what} needs log-mels, and these features are waveforms", "give a bundle or shards of log-mels"
            )

    @property
    def silence(self) -> float:
        """What the rows of digital silence hold."""
        return 0.0 if self.content == "waveform" else -self.top_db

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

    section_kind: ClassVar[str] = "mels"
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
        description="`[features]` computes the same from audio, so that a model trained on these may tag audio",
    )

    def describe(self) -> str:
        """Return the source that features imported so carry in their fingerprint."""
        if self.like_audio:
            return AUDIO_SOURCE
        return f"npy, {self.layout}, {self.unit_db:g} dB a unit, reference {self.reference}"


_CHOICES_SINCE = ("reference", "padding", "content")

_NOT_MODEL_INPUTS = frozenset(
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
