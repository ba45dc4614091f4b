"""The charts of the experiment page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mgc.evaluation.bootstrap import Figure
from mgc.evaluation.tag_metrics import CategoryFigures
from mgc.reports.svg import FULL_WIDTH, INK, LINE, MUTED, SERIES, chart, percent_axis, short
from mgc.studies.summary import Gain, Result, Summary, TagResults

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
ROW_PX = 40


def protocol_chart(summary: Summary, claims: Mapping[str, float]) -> Markup:
    """Return the accuracy of each system under each protocol, and what its paper claims.

    Parameters
    ----------
    claims
        Accuracy by system, where a paper has one.
    """
    systems = summary.systems[::-1]
    protocols = [one.name for one in summary.experiment.protocols if summary.under(one.name)]

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for place, system in enumerate(systems):
            results = [summary.of(system, protocol) for protocol in protocols]
            values = [one.accuracy.value for one in results if one and one.accuracy.value is not None]
            if system in claims:
                values.append(claims[system])
                axes.plot(claims[system], place, "d", color="none", markeredgecolor=INK, markersize=9, zorder=4)
            if values:
                axes.plot([min(values), max(values)], [place, place], color=LINE, linewidth=2, zorder=1)
            for number, result in enumerate(results):
                _dot(axes, result.accuracy if result else None, place, number, len(protocols))
        for number, protocol in enumerate(protocols):
            axes.plot(
                [], [], MARKERS[number % len(MARKERS)], color=_color(number), markersize=8, label=short(protocol)
            )
        if claims:
            axes.plot([], [], "d", color="none", markeredgecolor=INK, markersize=9, label="its paper reports")
        axes.set_yticks(range(len(systems)), [short(name) for name in systems])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set(xlim=(0, 1.01), ylim=(-0.7, len(systems) - 0.3))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        percent_axis(axes, "x")
        axes.set_xlabel("accuracy on tracks, with interval")
        canvas.legend(loc="outside upper center", ncols=min(6, len(protocols) + 1))

    height = 110 + ROW_PX * len(systems)
    return chart("Accuracy of each system under each protocol", FULL_WIDTH, height, paint)


def _dot(axes: Axes, figure: Figure | None, place: float, number: int, of: int) -> None:
    if figure is None or figure.value is None:
        return
    # Dots of a row stand a little apart, so that intervals do not lie on each other.
    y = place + (0.5 * (of - 1) - number) * min(0.16, 0.5 / of)
    color = _color(number)
    if figure.low is not None and figure.high is not None:
        axes.plot([figure.low, figure.high], [y, y], color=color, linewidth=2, alpha=0.55, solid_capstyle="butt")
    axes.plot(figure.value, y, MARKERS[number % len(MARKERS)], color=color, markersize=8, zorder=5)


def _color(number: int) -> str:
    return SERIES[number % len(SERIES)]


def gain_chart(gains: Sequence[Gain], of: str, what: str) -> Markup | None:
    """Return what each change gives, as a paired difference with its interval; None where nothing has that figure."""
    shown = [(gain, getattr(gain, of)) for gain in gains if getattr(gain, of).value is not None][::-1]
    if not shown:
        return None

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.axvline(0.0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for place, (_, figure) in enumerate(shown):
            clear = figure.low is not None and (figure.low > 0 or figure.high < 0)
            color = SERIES[2] if clear and figure.value > 0 else SERIES[1] if clear else SERIES[0]
            if figure.low is not None:
                axes.plot([figure.low, figure.high], [place, place], color=color, linewidth=2.4, alpha=0.55)
            axes.plot(figure.value, place, "o", color=color, markersize=8)
        axes.set_yticks(range(len(shown)), [short(gain.system) for gain, _ in shown])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.xaxis.set_major_formatter(lambda value, _: _points(value))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{what}, points, with interval of the paired difference")

    return chart(f"Gain in {what}", FULL_WIDTH, 80 + ROW_PX * len(shown), paint)


def _points(value: float) -> str:
    return f"{100 * value:+.3g}".replace("-", "\u2212") if abs(value) > 1e-9 else "0"


def frequency_chart(results: Sequence[Result]) -> Markup | None:
    """Return the ROC-AUC of each tag against its frequency (He & Li 2024, figures 7 and 9)."""
    shown = [(one, one.tags) for one in results if one.tags is not None]
    if not shown:
        return None

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate("chance", (1.0, 0.5), xycoords=("axes fraction", "data"), xytext=(-4, 4),
                      textcoords="offset points", ha="right", color=MUTED)  # fmt: skip
        for number, (result, tags) in enumerate(shown):
            rates = np.array([tag.base_rate for tag in tags.tags])
            values = np.array([tag.roc_auc.value for tag in tags.tags])
            marker = MARKERS[number % len(MARKERS)]
            axes.plot(
                rates, values, marker, color=_color(number), markersize=6, alpha=0.8, label=short(result.system)
            )
            _interval_lines(axes, tags, rates, number, alone=len(shown) == 1)
        _name_tags(axes, shown[0][1])
        axes.set(xscale="log", ylim=(min(0.3, *axes.get_ylim()), 1.02))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        percent_axis(axes, "x")
        axes.set_xlabel("share of tracks that have the tag (log scale)")
        axes.set_ylabel("ROC-AUC")
        axes.grid()
        if len(shown) > 1:
            canvas.legend(loc="outside upper center", ncols=4)

    return chart("ROC-AUC of each tag against its frequency", FULL_WIDTH, 470, paint)


def _interval_lines(axes: Axes, tags: TagResults, rates: Any, number: int, *, alone: bool) -> None:
    if not alone:  # of several systems they would cover each other; the table has them
        return
    for tag, rate in zip(tags.tags, rates, strict=True):
        if tag.roc_auc.low is not None and tag.roc_auc.high is not None:
            axes.plot(
                [rate, rate], [tag.roc_auc.low, tag.roc_auc.high], color=_color(number), alpha=0.4, linewidth=1.4
            )


def _name_tags(axes: Axes, tags: TagResults) -> None:
    """Name the two best and the two worst tags of the first system."""
    ranked = sorted(tags.tags, key=lambda tag: tag.roc_auc.value or 0.0)
    for place, tag in enumerate(dict.fromkeys([*ranked[:2], *ranked[-2:]])):
        axes.annotate(short(tag.tag), (tag.base_rate, tag.roc_auc.value or 0.0), xytext=(7, 3 if place % 2 else -12),
                      textcoords="offset points", fontsize=11)  # fmt: skip


def category_chart(results: Sequence[Result]) -> Markup | None:
    """Return the macro ROC-AUC of each category of tags (He & Li 2024, figure 8's kind)."""
    shown = [one for one in results if one.tags is not None and one.tags.categories]
    if not shown:
        return None
    names = [one.category for one in shown[0].tags.categories] if shown[0].tags else []

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for number, result in enumerate(shown):
            found: dict[str, CategoryFigures] = {
                one.category: one for one in (result.tags.categories if result.tags else ())
            }
            for place, name in enumerate(names[::-1]):
                _dot(axes, found[name].roc_auc if name in found else None, place, number, len(shown))
            axes.plot(
                [], [], MARKERS[number % len(MARKERS)], color=_color(number), markersize=8, label=short(result.system)
            )
        axes.set_yticks(range(len(names)), [short(name) for name in names[::-1]])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("macro ROC-AUC, with interval")
        if len(shown) > 1:
            canvas.legend(loc="outside upper center", ncols=4)

    rows = max(ROW_PX, 14 * len(shown)) * len(names)
    return chart("ROC-AUC by category of tags", FULL_WIDTH, 110 + rows, paint)


PANELS = (
    ("error on training windows", "train_accuracy"),
    ("error on held-out tracks", "valid_accuracy"),
    ("loss on them", "valid_loss"),
    ("RMSE on them", "valid_rmse"),
)
"""An error is what is missing from an accuracy to 1."""


def epochs_chart(results: Sequence[Result]) -> Markup | None:
    """Return error, loss and RMSE over epochs, means over runs (He & Li 2024, figure 5; Jain et al. 2021, 6, 7)."""
    shown = [one for one in results if one.curves]
    panels = [(title, name) for title, name in PANELS if any(_mean_curve(one, name).size for one in shown)]
    if not panels:
        return None

    def paint(canvas: Canvas) -> None:
        for axes, (title, name) in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for number, result in enumerate(shown):
                curve = _mean_curve(result, name)
                curve = 1.0 - curve if name.endswith("accuracy") else curve
                style = DASHES[(number // len(SERIES)) % len(DASHES)]
                label = short(result.system) if name == panels[0][1] else None
                marker = "o" if curve.size == 1 else None
                epochs = np.arange(1, curve.size + 1)
                axes.plot(
                    epochs, curve, color=_color(number), linestyle=style, linewidth=1.8, label=label, marker=marker
                )
            axes.set_title(title, loc="left", weight="bold")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid()
        canvas.legend(loc="outside lower center", ncols=4)

    legend_rows = -(-len(shown) // 4)
    return chart("Learning curves of every network", FULL_WIDTH, 330 + 24 * legend_rows, paint)


def _mean_curve(result: Result, name: str) -> Any:
    """Return the mean over runs of a figure by epoch, as far as all runs have it."""
    curves = [[epoch.get(name) for epoch in curve] for curve in result.curves]
    length = min((len(curve) for curve in curves), default=0)
    rows = [curve[:length] for curve in curves if None not in curve[:length]]
    return np.mean(np.array(rows, dtype=np.float64), axis=0) if rows and length else np.zeros(0)
