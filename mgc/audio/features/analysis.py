"""The features of a track's windows, all from one pass over one short-time Fourier transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from mgc.arrays import Float32Array
from mgc.audio.features import rhythm
from mgc.audio.features.descriptors import (
    BANDWIDTH,
    CENTROID,
    MEAN,
    ROLLOFF,
    VARIANCE,
    Autocorrelation,
    Cepstrum,
    Chroma,
    Energy,
    SpectralFlatness,
    SpectralPeaks,
    SpectralShape,
    contrast_db,
    crossing_rate,
    crossing_rate_he_li,
)
from mgc.audio.features.log_mel import Decibels, MelPower, delta, mfcc, to_decibels
from mgc.audio.features.separation import moments
from mgc.audio.features.stft import FrameGrid, Measure, Transform
from mgc.config import FeatureConfig
from mgc.config.feature_settings import TRACK_FEATURES, WAVEFORM_ROW
from mgc.errors import Stage, TrackCode, TrackError

MEL_POWER = "mel_power"
"""What is measured in a window first: the power in each mel band, or the samples of a waveform."""
REST_SCALE = 2_048.0
"""By which the rest of a sample is multiplied: half precision has 11 bits."""
STATISTICS = "statistics"

_COLUMNS = {
    "spectral_centroid": ("shape", CENTROID),
    "spectral_bandwidth": ("shape", BANDWIDTH),
    "spectral_rolloff": ("shape", ROLLOFF),
    "spectral_mean": ("shape", MEAN),
    "spectral_variance": ("shape", VARIANCE),
}
"""Features that are a column of what was measured."""

_MEASURES: dict[str, tuple[Callable[[FeatureConfig], Measure], frozenset[str]]] = {
    "chroma": (Chroma, frozenset({"chroma"})),
    "shape": (SpectralShape, frozenset(_COLUMNS)),
    "spectral_flatness": (lambda _: SpectralFlatness(), frozenset({"spectral_flatness"})),
    "cepstrum": (Cepstrum, frozenset({"cepstrum"})),
    "peaks": (SpectralPeaks, frozenset({"spectral_contrast"})),
    "short_time_energy": (lambda _: Energy(), frozenset({"rms", "short_time_energy"})),
    "autocorrelation": (Autocorrelation, frozenset({"autocorrelation"})),
}
"""What is measured in spectra, and for which features; all others are made of mel power, which always is."""

SEPARATION = "separation"
_SEPARATED = ("harmonic_mean", "harmonic_variance", "percussive_mean", "percussive_variance")

_CROSSINGS = {"zero_crossing_rate": crossing_rate, "zero_crossing_rate_he_li": crossing_rate_he_li}


class Analysis:
    """All features of some settings.

    Two steps, because some features are relative to the whole track: `window` measures each window's samples,
    `track` makes features of all windows' measures.

    Parameters
    ----------
    config
        Sample rate, frames, filters, and which features.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._config = config
        self._transform = Transform(config.n_fft)
        wanted = {*config.frames, *config.statistics}
        self._measures: dict[str, Measure] = {MEL_POWER: MelPower(config)}
        self._measures |= {name: made(config) for name, (made, features) in _MEASURES.items() if features & wanted}
        self._separates = bool(wanted.intersection(_SEPARATED))
        self._crossings = {name: count for name, count in _CROSSINGS.items() if name in wanted}

    def window(
        self, samples: Float32Array, frame_step: float | None = None, n_frames: int | None = None
    ) -> dict[str, Float32Array]:
        """Return what is measured in one window, by name, each of shape (n_frames, rows).

        Parameters
        ----------
        samples
            Mono, at the configured sample rate, shape (n,).
        frame_step
            Samples between frame centres, whole or not: frame k is centred at round(k * frame_step).
            None: `hop_length`.
        n_frames
            How many frames; None: as many as are centred within the samples, n // frame_step + 1.

        Returns
        -------
        dict
            `mel_power` is not finite where a sample is not, or is beyond some 1e15.
        """
        if self._config.content == "waveform":
            if frame_step is not None:
                raise TrackError(
                    TrackCode.FEATURES_FAILED, Stage.FEATURES, "views of another tempo or pitch are of log-mels alone"
                )
            return {MEL_POWER: waveform_rows(samples, self._config)}
        step = self._config.hop_length if frame_step is None else frame_step
        count = int(samples.size // step) + 1 if n_frames is None else n_frames
        grid = FrameGrid(self._config.n_fft, step, count, self._config.padding)
        found = {name: np.zeros((count, measure.rows), np.float32) for name, measure in self._measures.items()}
        with np.errstate(over="ignore", invalid="ignore"):
            for batch in grid.batches(samples):
                spectra = self._transform.spectra(batch.samples)
                for name, measure in self._measures.items():
                    measure.measure(spectra, found[name][batch.place])
        if self._separates:
            found[SEPARATION] = moments(samples, self._config)
        return found | {name: count(samples, grid) for name, count in self._crossings.items()}

    def track(self, windows: Sequence[Mapping[str, Float32Array]]) -> dict[str, Float32Array]:
        """Return a track's features by name.

        Those of `features.frames` have the shape (n_windows, n_frames, rows). `statistics` is there where the
        settings want any: one vector with the values that `statistics_names` names.
        """
        measured = {name: np.stack([window[name] for window in windows]) for name in windows[0]}
        track = Track(measured, self._config)
        arrays = {name: track.feature(name) for name in self._config.frames}
        if self._config.statistics:
            arrays[STATISTICS] = track.statistics()
        return arrays


def waveform_rows(samples: Float32Array, config: FeatureConfig) -> Float32Array:
    """Return samples as rows, shape (n_frames, 2 * WAVEFORM_ROW), zeros after the end; not finite where they are not.

    Features are kept in half precision, of which a row holds two: the samples, and what that leaves of them times
    `REST_SCALE`. Together they have 22 bits.
    """
    padded = np.zeros((config.n_frames, WAVEFORM_ROW), np.float32)
    padded.reshape(-1)[: samples.size] = samples
    padded[~np.isfinite(padded)] = np.nan  # -infinity would be no row's maximum
    with np.errstate(over="ignore", invalid="ignore"):
        coarse = padded.astype(np.float16).astype(np.float32)
        return np.concatenate([coarse, (padded - coarse) * np.float32(REST_SCALE)], axis=1)


class Track:
    """Features by name; what several are made of is made once.

    Parameters
    ----------
    measured
        By name, shape (n_windows, n_frames, rows) each (`Analysis.window`).
    config
        The settings it was measured with.
    """

    def __init__(self, measured: Mapping[str, Float32Array], config: FeatureConfig) -> None:
        self._measured = measured
        self._config = config

    def feature(self, name: str) -> Float32Array:
        """Return a feature of `FRAME_FEATURES`, shape (n_windows, n_frames, rows)."""
        if name in _COLUMNS:
            measure, column = _COLUMNS[name]
            return self._measured[measure][..., column : column + 1]
        if name in self._measured:
            return self._measured[name]
        made: Float32Array = getattr(self, name)
        return made

    def statistics(self) -> Float32Array:
        """Return mean and variance (over n, not n - 1) of each row over all windows' frames, shape (n,).

        `statistics_names` names them; a feature of the whole track stands for itself.
        """
        values: list[float] = []
        for feature in self._config.statistics:
            if feature in TRACK_FEATURES:
                values.append(getattr(self, feature))
                continue
            frames = self.feature(feature)
            rows = frames.reshape(-1, frames.shape[-1])
            both = np.stack([rows.mean(axis=0, dtype=np.float64), rows.var(axis=0, dtype=np.float64)], axis=1)
            values += both.ravel().tolist()
        return np.array(values, dtype=np.float32)

    @cached_property
    def _decibels(self) -> Decibels:
        return to_decibels(self._measured[MEL_POWER], self._config.top_db)

    @property
    def log_mel(self) -> Float32Array:
        """In dB relative to the track's maximum, or as the settings say to full scale; or a waveform's rows."""
        if self._config.content == "waveform":
            return self._measured[MEL_POWER]
        if self._config.reference == "track_maximum":
            return self._decibels.relative_db
        floor = np.float32(10.0 ** (-self._config.top_db / 10.0))
        return np.float32(10.0) * np.log10(np.maximum(self._measured[MEL_POWER], floor))

    @cached_property
    def mfcc(self) -> Float32Array:
        """Of levels relative to a power of 1, as librosa's."""
        return mfcc(self._decibels.relative_db, self._config.n_mfcc, self._decibels.reference_db)

    @property
    def mfcc_delta(self) -> Float32Array:
        """Of the MFCC, per frame."""
        return delta(self.mfcc, 1)

    @property
    def mfcc_delta2(self) -> Float32Array:
        """Of the MFCC, per frame²."""
        return delta(self.mfcc, 2)

    @property
    def spectral_contrast(self) -> Float32Array:
        """In dB."""
        return contrast_db(self._measured["peaks"])

    @property
    def rms(self) -> Float32Array:
        """Root mean square of a frame's samples."""
        return np.asarray(np.sqrt(self._measured["short_time_energy"] / np.float32(self._config.n_fft)))

    @cached_property
    def onset_strength(self) -> Float32Array:
        """In dB."""
        return rhythm.onset_strength(self._decibels.relative_db, self._config)

    @property
    def beat_tempo(self) -> float:
        """In BPM, by onsets that are the median rise of the mel bands, not the mean."""
        onsets = rhythm.onset_strength(self._decibels.relative_db, self._config, np.median)
        return rhythm.tempo_bpm(rhythm.tempogram(onsets, self._config), self._config)

    @property
    def harmonic_mean(self) -> float:
        """Of the harmonic part's samples, over all windows; full scale is 1."""
        return self._moments[0]

    @property
    def harmonic_variance(self) -> float:
        """Likewise."""
        return self._moments[1] - self._moments[0] ** 2

    @property
    def percussive_mean(self) -> float:
        """Of the percussive part's samples."""
        return self._moments[2]

    @property
    def percussive_variance(self) -> float:
        """Likewise."""
        return self._moments[3] - self._moments[2] ** 2

    @cached_property
    def _moments(self) -> list[float]:
        """Means and mean squares of both parts: windows are equally long."""
        means: list[float] = self._measured[SEPARATION].mean(axis=(0, 1), dtype=np.float64).tolist()
        return means

    @cached_property
    def _tempogram(self) -> Float32Array:
        return rhythm.tempogram(self.onset_strength, self._config)

    @property
    def tempogram(self) -> Float32Array:
        """By band of tempi."""
        return rhythm.tempogram_bands(self._tempogram, self._config)

    @property
    def tempo(self) -> float:
        """In BPM, of the whole track."""
        return rhythm.tempo_bpm(self._tempogram, self._config)
