"""Learning curves, and histograms of whatever a page counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from mgc.reports.svg import BLUE, HALF_WIDTH, LINE, SERIES, chart, percent_axis

SCORE_WORDS = ("accuracy", "f1", "auc", "precision", "rmse")


def learning_chart(histories: Sequence[Sequence[Mapping[str, Any]]]) -> Markup | None:
    """Return the learning curves of each member: losses on the left, scores on the right.

    Parameters
    ----------
    histories
        For each member its epochs; a numeric value named with `loss` is a loss, and one named with `accuracy`,
        `f1`, `auc` or `precision` a score. Dashed: training; solid: validation.
    """
    losses = _curve_names(histories, ("loss",))
    scores = _curve_names(histories, SCORE_WORDS)
    panels = [(title, names) for title, names in (("loss", losses), ("score", scores)) if names]
    if not panels:
        return None

    def paint(canvas: Canvas) -> None:
        for axes, (title, names) in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _curves(axes, histories, names)
            axes.set_title(title, loc="left", weight="bold")

    return chart("Learning curves of each member over epochs", HALF_WIDTH * len(panels), 360, paint)


def _curve_names(histories: Sequence[Sequence[Mapping[str, Any]]], words: Sequence[str]) -> list[str]:
    names = {
        name: None
        for history in histories
        for epoch in history
        for name, value in epoch.items()
        if any(word in name.lower() for word in words) and _is_number(value)
    }
    return list(names)[: len(SERIES)]


def _curves(axes: Axes, histories: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]) -> None:
    for color, name in zip(SERIES, names, strict=False):
        line = (0, (4, 2)) if name.startswith("train") else "solid"
        for member, history in enumerate(histories):
            points = [
                (epoch.get("epoch", place), epoch[name])
                for place, epoch in enumerate(history)
                if _is_number(epoch.get(name))
            ]
            axes.plot(
                *np.array(points, dtype=float).reshape(-1, 2).T,
                color=color,
                linewidth=1.7,
                linestyle=line,
                alpha=1.0 if member == 0 else 0.55,
                label=_display_name(name) if member == 0 else None,
                marker="o" if len(points) == 1 else None,
            )
            if name == "valid_loss" and points:
                best = min(points, key=lambda point: point[1])
                axes.plot(*best, "o", color=color, markersize=6.5)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid()
    axes.legend(loc="best", fontsize=10)


def _display_name(name: str) -> str:
    return name.replace("_", " ").replace("macro average precision", "PR-AUC").replace("valid ", "validation ")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def histogram_chart(
    counts: npt.NDArray[np.int64], edges: npt.NDArray[np.float64], label: str, *, percent: bool = False
) -> Markup:
    """Return tracks by some quantity, in the bins that `edges` bound."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        width = np.diff(edges)
        axes.bar(edges[:-1] + width / 2, counts, width=0.92 * width, color=BLUE, alpha=0.75, linewidth=0)
        axes.set(xlim=(edges[0], edges[-1]))
        axes.set_xlabel(label)
        axes.set_ylabel("tracks")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=LINE)
        if percent:
            percent_axis(axes, "x")

    return chart(f"Tracks by {label}", HALF_WIDTH, 330, paint)
