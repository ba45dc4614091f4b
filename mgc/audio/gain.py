"""A level change, saturated at full scale as a converter would."""

from __future__ import annotations

import numpy as np

from mgc.arrays import Float32Array


def amplify(samples: Float32Array, gain_db: float) -> Float32Array:
    """Return samples times a gain, cut off at ±1, shape (n,).

    Log-mels are relative to the track's loudest bin: of a gain they only hear what it saturates. Energies
    (RMS) hear all of it.
    """
    louder = samples * np.float32(10.0 ** (gain_db / 20.0))
    return np.clip(louder, np.float32(-1.0), np.float32(1.0), out=louder)
