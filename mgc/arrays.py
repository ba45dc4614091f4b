"""Array types by what they hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
FloatingArray = npt.NDArray[np.floating]
"""Of any precision."""
IntArray = npt.NDArray[np.signedinteger]
"""Of any size."""
BoolArray = npt.NDArray[np.bool_]
