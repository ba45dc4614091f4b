"""The chart of tags on the evaluation page."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import east_asian_width

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from mgc.evaluation.tag_metrics import TagEvaluation, TagFigures
from mgc.reports.svg import BLUE, FULL_WIDTH, ORANGE, chart, short

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
