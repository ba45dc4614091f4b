"""From windows of samples to a track's named features, all from one pass over one STFT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mgc.arrays import Float32Array
from mgc.audio.features.contrast import SpectralPeaks
from mgc.audio.features.log_mel import MelPower
from mgc.audio.features.shape import SpectralFlatness, SpectralShape
from mgc.audio.features.spectral import Chroma
from mgc.audio.features.spectrum import Measure, Transform
from mgc.audio.features.statistics import statistics_of
from mgc.audio.features.stft import FrameGrid
from mgc.audio.features.track import Track
from mgc.audio.features.waveform import Autocorrelation, Energy, crossing_rate, crossing_rate_he_li
from mgc.config import FeatureConfig

MEL_POWER = "mel_power"
STATISTICS = "statistics"

_MEASURED_FOR = {
    "chroma": frozenset({"chroma"}),
    "shape": frozenset(
        {"spectral_centroid", "spectral_bandwidth", "spectral_rolloff", "spectral_mean", "spectral_variance"}
    ),
    "spectral_flatness": frozenset({"spectral_flatness"}),
    "peaks": frozenset({"spectral_contrast"}),
    "short_time_energy": frozenset({"rms", "short_time_energy"}),
    "autocorrelation": frozenset({"autocorrelation"}),
}
"""What is measured in spectra, and the features that want it; all others are made of mel power, which always is."""

_CROSSINGS = {"zero_crossing_rate": crossing_rate, "zero_crossing_rate_he_li": crossing_rate_he_li}


class Analysis:
    """All features that the settings ask for.

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
        measured = {name for name, features in _MEASURED_FOR.items() if features & wanted}
        self._measures: dict[str, Measure] = {MEL_POWER: MelPower(config)} | _measures(config, measured)
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
            Samples between frame centres, whole or not: frame k is centred at round(k * frame_step) and zero
            beyond the samples' ends. None: `hop_length`.
        n_frames
            How many frames; None: as many as are centred within the samples, n // frame_step + 1.

        Returns
        -------
        dict
            `mel_power` is not finite where a sample is not, or is beyond some 1e15.
        """
        step = self._config.hop_length if frame_step is None else frame_step
        count = int(samples.size // step) + 1 if n_frames is None else n_frames
        grid = FrameGrid(self._config.n_fft, step, count)
        found = {name: np.zeros((count, measure.rows), np.float32) for name, measure in self._measures.items()}
        with np.errstate(over="ignore", invalid="ignore"):
            for batch in grid.batches(samples):
                spectra = self._transform.spectra(batch.samples)
                for name, measure in self._measures.items():
                    measure.measure(spectra, found[name][batch.place])
        return found | {name: count(samples, grid) for name, count in self._crossings.items()}

    def track(self, windows: Sequence[Mapping[str, Float32Array]]) -> dict[str, Float32Array]:
        """Return a track's features by name.

        Those of `features.frames` have the shape (n_windows, n_frames, rows); `statistics`, where any are asked
        for, is one vector with the values that `statistics_names` names.
        """
        measured = {name: np.stack([window[name] for window in windows]) for name in windows[0]}
        track = Track(measured, self._config)
        arrays = {name: track.feature(name) for name in self._config.frames}
        if self._config.statistics:
            arrays[STATISTICS] = statistics_of(track, self._config)
        return arrays


def _measures(config: FeatureConfig, names: set[str]) -> dict[str, Measure]:
    made: dict[str, Measure] = {}
    if "chroma" in names:
        made["chroma"] = Chroma(config)
    if "shape" in names:
        made["shape"] = SpectralShape(config)
    if "spectral_flatness" in names:
        made["spectral_flatness"] = SpectralFlatness()
    if "peaks" in names:
        made["peaks"] = SpectralPeaks(config)
    if "short_time_energy" in names:
        made["short_time_energy"] = Energy()
    if "autocorrelation" in names:
        made["autocorrelation"] = Autocorrelation(config)
    return made
