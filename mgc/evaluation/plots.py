"""The charts of the evaluation page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import east_asian_width

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mgc.evaluation.bootstrap import Figure
from mgc.evaluation.canvas import (
    BLUE,
    HEAT,
    INK,
    LINE,
    MUTED,
    ON_HEAT,
    ORANGE,
    SERIES,
    chart,
    percent_axis,
    short,
)
from mgc.evaluation.genre_figures import GenreEvaluation
from mgc.evaluation.tag_metrics import TagEvaluation, TagFigures

HALF_WIDTH, FULL_WIDTH = 480, 960
"""Pixels that a chart has in a panel of half the page, and of the whole page."""

NARROW_GENRES = 10
"""Up to so many genres, the confusion matrix fits half the page."""

COUNTED_GENRES = 30
"""Up to so many genres, the cells of the confusion matrix show their counts."""

STRONG = 0.78
"""Above this share a cell is dark enough to be written on in the other colour."""

LABEL_PLACES = (
    (8, -4, "left"),
    (-8, -4, "right"),
    (6, 7, "left"),
    (6, -15, "left"),
    (-6, 7, "right"),
    (-6, -15, "right"),
)
"""Where a name may stand beside its dot: points to the right, points up, which end is at the dot."""

LABEL_EM = 6.6
"""Points that a letter of such a name is wide."""

SCORE_WORDS = ("accuracy", "f1", "auc", "precision")

Counts = npt.NDArray[np.int64] | Sequence[int]


def confusion_chart(genre: GenreEvaluation) -> Markup:
    """Return the confusion matrix: colour is the share of the true genre, the number is tracks."""
    n_genres = len(genre.genres)
    support = genre.confusion.sum(axis=1, keepdims=True)
    shares = np.divide(genre.confusion, support, out=np.zeros(genre.confusion.shape), where=support > 0)
    width = HALF_WIDTH if n_genres <= NARROW_GENRES else FULL_WIDTH

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for row, column in np.ndindex(n_genres, n_genres):
            _cell(axes, row, column, float(shares[row, column]), int(genre.confusion[row, column]), n_genres)
        names = [short(name) for name in genre.genres]
        axes.set(xlim=(-0.5, n_genres - 0.5), ylim=(n_genres - 0.5, -0.5), aspect="equal")
        axes.set_xticks(
            range(n_genres), names, rotation=0 if n_genres <= 4 else 40, ha="center" if n_genres <= 4 else "right"
        )
        axes.set_yticks(range(n_genres), names)
        axes.tick_params(length=0, labelcolor=INK, labelsize=12 if n_genres <= COUNTED_GENRES else 8)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.spines[:].set_visible(False)

    return chart("Confusion matrix: rows are true genres, columns predicted ones", width, int(0.92 * width), paint)


def _cell(axes: Axes, row: int, column: int, share: float, count: int, n_genres: int) -> None:
    axes.add_patch(
        Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=HEAT, alpha=0.05 + 0.95 * share, linewidth=0)
    )
    if row == column:
        axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=MUTED, linewidth=1))
    if n_genres <= COUNTED_GENRES:
        color = ON_HEAT if share > STRONG else INK if count else MUTED
        weight = "bold" if row == column else "normal"
        axes.text(column, row, str(count) if count else "·", ha="center", va="center", color=color, weight=weight)


def class_f1_chart(genre: GenreEvaluation) -> Markup:
    """Return F1 of each genre that has examples, with its interval, the best on top."""
    shown = sorted((one for one in genre.classes if one.f1.value is not None), key=lambda one: one.f1.value or 0.0)
    names = [f"{short(one.genre)}  ({one.support})" for one in shown]

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        _bars(axes, names, [one.f1 for one in shown])
        if genre.macro_f1.value is not None:
            axes.axvline(genre.macro_f1.value, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f"macro {genre.macro_f1.value:.2f}",
                (genre.macro_f1.value, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                color=INK,
            )
        axes.set_xlabel("F1, with interval")

    return chart("F1 of each genre with its confidence interval", *_class_size(genre), paint)


def _class_size(genre: GenreEvaluation) -> tuple[int, int]:
    n_shown = sum(one.support > 0 for one in genre.classes)
    if len(genre.genres) <= NARROW_GENRES:
        return HALF_WIDTH, 440
    return FULL_WIDTH, 95 + 26 * n_shown


def _bars(axes: Axes, names: Sequence[str], figures: Sequence[Figure]) -> None:
    places = np.arange(len(names))
    axes.barh(places, [figure.value or 0.0 for figure in figures], height=0.62, color=BLUE, alpha=0.55, linewidth=0)
    for place, figure in zip(places, figures, strict=True):
        if figure.low is not None and figure.high is not None:
            axes.plot([figure.low, figure.high], [place, place], color=INK, linewidth=1.6, solid_capstyle="butt")
            axes.plot([figure.low, figure.high], [place, place], "|", color=INK, markersize=7, markeredgewidth=1.6)
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set(xlim=(0, 1.01), ylim=(-0.6, len(names) - 0.4))
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def reliability_chart(genre: GenreEvaluation) -> Markup:
    """Return the reliability diagram: share right against stated probability, in bins of equally many tracks."""
    bins = genre.calibration.bins

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate("says less than it knows", (0.06, 0.93), color=MUTED, va="top")
        axes.annotate("says more than it knows", (0.96, 0.05), color=MUTED, ha="right")
        for one in bins:
            if one.accuracy.low is not None and one.accuracy.high is not None:
                axes.plot([one.confidence] * 2, [one.accuracy.low, one.accuracy.high], color=BLUE, linewidth=1.6)
        axes.plot(
            [one.confidence for one in bins],
            [one.accuracy.value or 0.0 for one in bins],
            "o",
            color=BLUE,
            markersize=7,
        )
        axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set_xlabel("stated probability")
        axes.set_ylabel("share right")
        axes.grid()
        percent_axis(axes, "x")
        percent_axis(axes, "y")

    return chart(
        "Reliability: share right against stated probability; the diagonal is perfect", HALF_WIDTH, 440, paint
    )


def confidence_chart(right: Counts, wrong: Counts) -> Markup:
    """Return tracks by confidence, right ones at the bottom and wrong ones, hatched, on top."""
    edges = np.linspace(0.0, 1.0, len(right) + 1)

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        width = edges[1] - edges[0]
        options: dict[str, Any] = {"width": 0.9 * width, "linewidth": 0}
        centres = edges[:-1] + width / 2
        axes.bar(centres, right, color=BLUE, alpha=0.75, label="right", **options)
        axes.bar(
            centres, wrong, bottom=right, facecolor="none", edgecolor=ORANGE, hatch="////", label="wrong", **options
        )
        axes.legend(loc="upper left")
        axes.set(xlim=(0, 1))
        axes.set_xlabel("stated probability of the chosen genre")
        axes.set_ylabel("tracks")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        percent_axis(axes, "x")

    return chart("Tracks by confidence, right and wrong", HALF_WIDTH, 440, paint)


def tag_chart(evaluation: TagEvaluation) -> Markup:
    """Return PR-AUC of each tag against its frequency, with intervals; the curve is what chance gives."""
    shown = [tag for tag in evaluation.tags if tag.pr_auc.value is not None]

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        lowest = min(tag.base_rate for tag in shown) * 0.7
        chance = np.geomspace(lowest, 1.0, 60)
        axes.plot(chance, chance, color=ORANGE, linewidth=1.4, linestyle=(0, (4, 3)))
        axes.annotate("chance", (0.55, 0.55), xytext=(7, -9), textcoords="offset points", color=ORANGE)
        for tag in shown:
            if tag.pr_auc.low is not None and tag.pr_auc.high is not None:
                axes.plot(
                    [tag.base_rate] * 2, [tag.pr_auc.low, tag.pr_auc.high], color=BLUE, alpha=0.45, linewidth=1.4
                )
        axes.plot(
            [tag.base_rate for tag in shown],
            [tag.pr_auc.value or 0.0 for tag in shown],
            "o",
            color=BLUE,
            markersize=5.5,
        )
        axes.set(xscale="log", xlim=(lowest, 1.0), ylim=(-0.02, 1.04))
        axes.set_xlabel("share of tracks that have the tag (log scale)")
        axes.set_ylabel("PR-AUC, with interval")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        axes.grid()
        _name_tags(canvas, axes, shown)

    return chart("PR-AUC of each tag against its frequency", FULL_WIDTH, 480, paint)


def _name_tags(canvas: Canvas, axes: Axes, tags: Sequence[TagFigures]) -> None:
    """Write names beside the dots, the best and the worst first, wherever one has room of its own."""
    canvas.draw_without_rendering()  # places are known only once the layout is
    ranked = sorted(tags, key=lambda tag: tag.pr_auc.value or 0.0)
    alternating = [tag for pair in zip(reversed(ranked), ranked, strict=True) for tag in pair]
    dots = [axes.transData.transform((tag.base_rate, tag.pr_auc.value or 0.0)) for tag in tags]
    taken = [(x - 5.0, y - 5.0, x + 5.0, y + 5.0) for x, y in dots]
    inside = axes.get_window_extent()
    for tag in dict.fromkeys(alternating):
        text = short(tag.tag)
        x, y = axes.transData.transform((tag.base_rate, tag.pr_auc.value or 0.0))
        for dx, dy, side in LABEL_PLACES:
            width = LABEL_EM * sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
            left = x + dx if side == "left" else x + dx - width
            box = (left, y + dy - 3.0, left + width, y + dy + 10.0)
            if box[0] > inside.x0 and box[2] < inside.x1 and not any(_overlap(box, other) for other in taken):
                axes.annotate(
                    text,
                    (tag.base_rate, tag.pr_auc.value or 0.0),
                    xytext=(dx, dy),
                    ha=side,
                    fontsize=11.5,
                    textcoords="offset points",
                )
                taken.append(box)
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


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
                label=_spoken(name) if member == 0 else None,
                marker="o" if len(points) == 1 else None,
            )
            if name == "valid_loss" and points:
                best = min(points, key=lambda point: point[1])
                axes.plot(*best, "o", color=color, markersize=6.5)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid()
    axes.legend(loc="best", fontsize=10)


def _spoken(name: str) -> str:
    return name.replace("_", " ").replace("macro average precision", "PR-AUC").replace("valid ", "validation ")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def histogram_chart(counts: Counts, edges: npt.NDArray[np.float64], label: str, *, percent: bool = False) -> Markup:
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
