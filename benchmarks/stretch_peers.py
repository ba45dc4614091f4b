"""What others stretch time and shift pitch with, as functions of samples; those that are not installed are left out.

librosa is a dependency. signalsmith-stretch comes with `pip install 'mgc[peers]'`; audiomentations, which calls the
same library, requires an older soxr than mgc's and has to be installed by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np

from mgc.arrays import Float32Array

try:
    import python_stretch
except ImportError:
    python_stretch = None
try:
    import audiomentations
except ImportError:
    audiomentations = None

Effect = Callable[[Float32Array], Float32Array]


def stretchers(tempo_ratio: float, sample_rate: int) -> dict[str, Effect]:
    """Return, by name, what plays samples at `tempo_ratio` times their tempo."""
    found: dict[str, Effect] = {"librosa": lambda samples: librosa.effects.time_stretch(samples, rate=tempo_ratio)}
    if python_stretch:
        found["signalsmith"] = lambda samples: _signalsmith(samples, sample_rate, tempo_ratio, 0.0)
    if audiomentations:
        stretch = audiomentations.TimeStretch(tempo_ratio, tempo_ratio, leave_length_unchanged=False, p=1.0)
        found["audiomentations"] = lambda samples: stretch(samples, sample_rate)
    return found


def shifters(semitones: float, sample_rate: int) -> dict[str, Effect]:
    """Return, by name, what plays samples higher by `semitones`."""
    found: dict[str, Effect] = {
        "librosa": lambda samples: librosa.effects.pitch_shift(samples, sr=sample_rate, n_steps=semitones)
    }
    if python_stretch:
        found["signalsmith"] = lambda samples: _signalsmith(samples, sample_rate, 1.0, semitones)
    if audiomentations:
        shift = audiomentations.PitchShift(semitones, semitones, p=1.0)
        found["audiomentations"] = lambda samples: shift(samples, sample_rate)
    return found


def _signalsmith(samples: Float32Array, sample_rate: int, tempo_ratio: float, semitones: float) -> Float32Array:
    stretch = python_stretch.Signalsmith.Stretch()
    stretch.preset(1, sample_rate)
    stretch.setTimeFactor(tempo_ratio)
    stretch.setTransposeSemitones(semitones)
    return np.asarray(stretch.process(samples[np.newaxis, :])[0], dtype=np.float32)
