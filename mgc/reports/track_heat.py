"""Pictures of values from 0 to 1 by colour, for light pages and for dark ones: more stands out more on either."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from mgc.arrays import Float32Array
from mgc.reports.svg import ONLY_DARK, ONLY_LIGHT

Ramps = tuple[tuple[str, ...], tuple[str, ...]]

SOUND: Ramps = (
    ("#ffffff", "#d3e4f3", "#7fb2dc", "#0b5fa5", "#052c50"),
    ("#1b1f24", "#1d3a55", "#2f6ea8", "#7cbcf0", "#eef7ff"),
)
PROBABILITY: Ramps = (
    ("#f3f5f7", "#a9cbe8", "#5796cd", "#0b5fa5"),
    ("#242a31", "#244f78", "#3f88c5", "#8ccaf7"),
)
"""For a light page and for a dark one: from its surface over its blue. Lightness alone tells the order."""


def heat(
    axes: Axes, values: Float32Array, extent: tuple[float, float, float, float], ramps: Ramps, *, both: bool
) -> None:
    """Draw values of 0 to 1, shape (n_columns, n_rows), the first row at the bottom; NaN stays empty.

    Parameters
    ----------
    extent
        Left, right, bottom and top in data.
    both
        One picture for light pages and one for dark ones; else the light one alone.
    """
    for ramp, gid in list(zip(ramps, (ONLY_LIGHT, ONLY_DARK), strict=True))[: 2 if both else 1]:
        image = axes.imshow(
            coloured(values.T, ramp), extent=extent, origin="lower", aspect="auto", interpolation="none"
        )
        image.set_gid(gid)


def coloured(values: Float32Array, ramp: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return values of 0 to 1 as red, green, blue and opacity, shape (*, 4); NaN is transparent."""
    stops = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in ramp], dtype=np.float64)
    places = np.linspace(0.0, 1.0, len(ramp))
    known = np.nan_to_num(values, nan=0.0).clip(0.0, 1.0)
    channels = [np.interp(known, places, stops[:, channel]) for channel in range(3)]
    opacity = np.where(np.isnan(values), 0.0, 255.0)
    return np.stack([*channels, opacity], axis=-1).round().astype(np.uint8)
