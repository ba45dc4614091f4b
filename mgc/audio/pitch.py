"""Pitch shift by resampling: played faster, a sound is higher; the frames' step gives its tempo back.

A track that is resampled to `sped_rate` and then taken for one of the usual sample rate sounds higher by the shift,
and is shorter by the same factor. No phase vocoder has to make it longer again: the analysis steps by as much less
from frame to frame (`mgc.audio.placing`). Formants move with the pitch, as they do in
`librosa.effects.pitch_shift`.
"""

from __future__ import annotations

_GRID_HZ = 25
"""Rates are multiples of it, so that source and target samples meet often; at 22,050 Hz that is one cent."""


def sped_rate(sample_rate: int, pitch_semitones: float) -> int:
    """Return the rate in Hz to resample to for sounds that are higher when taken for `sample_rate`."""
    if pitch_semitones == 0.0:
        return sample_rate
    steps: int = round(sample_rate * 2.0 ** (-pitch_semitones / 12.0) / _GRID_HZ)
    return max(1, steps) * _GRID_HZ
