"""The charts of the evaluation page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unicodedata import east_asian_width

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mgc.evaluation.bootstrap import Figure
from mgc.evaluation.genre_metrics import GenreEvaluation
from mgc.evaluation.tag_metrics import TagEvaluation, TagFigures
from mgc.reports.svg import (
    BLUE,
    FULL_WIDTH,
    HALF_WIDTH,
    HEAT,
    INK,
    MUTED,
    ON_HEAT,
    ORANGE,
    chart,
    percent_axis,
    short,
)

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

Counts = npt.NDArray[np.int64] | Sequence[int]


def confusion_chart(genre: GenreEvaluation) -> Markup:
    """Return the confusion matrix: colour is the share of the true genre, the number is tracks."""
    return matrix_chart(genre.genres, genre.confusion)


def matrix_chart(genres: Sequence[str], confusion: npt.NDArray[np.int64]) -> Markup:
    """Return a confusion matrix, shape (n_genres, n_genres); see `confusion_chart`."""
    n_genres = len(genres)
    support = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, support, out=np.zeros(confusion.shape), where=support > 0)
    width = HALF_WIDTH if n_genres <= NARROW_GENRES else FULL_WIDTH

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.add_collection(_cells(shares))
        if n_genres <= COUNTED_GENRES:
            _write_counts(axes, confusion, shares)
        names = [short(name) for name in genres]
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


def _cells(shares: npt.NDArray[np.float64]) -> PatchCollection:
    """Return the squares of the matrix, the stronger the larger the share; the diagonal is outlined."""
    squares = []
    for (row, column), share in np.ndenumerate(shares):
        corner = (column - 0.47, row - 0.47)
        squares.append(Rectangle(corner, 0.94, 0.94, facecolor=(HEAT, 0.05 + 0.95 * share), linewidth=0))
        if row == column:
            squares.append(Rectangle(corner, 0.94, 0.94, facecolor="none", edgecolor=MUTED, linewidth=1))
    return PatchCollection(squares, match_original=True)


def _write_counts(axes: Axes, counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(counts):
        color = ON_HEAT if shares[row, column] > STRONG else INK if count else MUTED
        weight = "bold" if row == column else "normal"
        text = axes.text(column, row, str(count or "·"), ha="center", va="center", color=color, weight=weight)
        text.set_in_layout(False)  # it stands inside the axes; asking each for its size costs seconds


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
    axes.barh(
        places,
        [figure.value or 0.0 for figure in figures],
        height=min(0.62, 0.13 * len(names)),
        color=BLUE,
        alpha=0.55,
        linewidth=0,
    )
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


def coverage_chart(genre: GenreEvaluation) -> Markup:
    """Return the share right of the surest answers against the share answered, and where the bundle abstains."""
    selective = genre.selective

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.plot(selective.coverage, selective.accuracy, color=BLUE, linewidth=2)
        one = selective.abstention
        if one and one.precision is not None:
            axes.axhline(one.precision, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        if one and one.coverage.value is not None and one.accuracy.value is not None:
            axes.plot([one.coverage.value], [one.accuracy.value], "o", color=ORANGE, markersize=9)
        lowest = float(selective.accuracy.min()) if len(selective.accuracy) else 0.0
        axes.set(xlim=(0, 1.02), ylim=(max(-0.02, lowest - 0.1), 1.02))
        axes.set_xlabel("share answered, the surest first")
        axes.set_ylabel("share right of those")
        axes.grid()
        percent_axis(axes, "x")
        percent_axis(axes, "y")

    return chart("Accuracy against coverage: what abstaining gains", HALF_WIDTH, 440, paint)


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
