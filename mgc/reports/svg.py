"""Charts as inline SVG that follows the page: its colours in light and dark, its fonts, its contrast.

matplotlib draws with marker colours, and these are then replaced by the page's CSS variables. Text stays text,
in whatever script a name is written, and names are never read as TeX. The object API alone is used: no
pyplot, no global figure.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

INK = "#010101"
MUTED = "#020202"
LINE = "#030303"
BLUE = "#040404"
ORANGE = "#050505"
GREEN = "#060606"
HEAT = "#070707"
ON_HEAT = "#080808"
PURPLE = "#090909"
"""Markers that stand for the variables of page.css; hues that all can tell apart (Okabe & Ito 2008)."""

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    HEAT: "--heat",
    ON_HEAT: "--on-heat",
    PURPLE: "--purple",
}
SERIES = (BLUE, ORANGE, GREEN, PURPLE)

LIGHT = {
    INK: "#1b1e22",
    MUTED: "#5b636d",
    LINE: "#dcdfe2",
    BLUE: "#0b5fa5",
    ORANGE: "#b34a00",
    GREEN: "#00705a",
    HEAT: "#0b5fa5",
    ON_HEAT: "#ffffff",
    PURPLE: "#8a3f78",
}
"""The variables' values on a light page, for pictures that stand alone."""

ONLY_LIGHT, ONLY_DARK = "only-light", "only-dark"
"""Ids (`Artist.set_gid`) of what a chart shows on a light or on a dark page alone; they become CSS classes."""

HALF_WIDTH, FULL_WIDTH = 480, 960
"""Pixels that a chart has in a panel of half the page, and of the whole page."""

POINTS_AN_INCH = 72
NAME_LENGTH = 26

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 12.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 12.5,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": False,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "hatch.linewidth": 1.1,
    # Images that lie on each other are not merged: one is for light pages, the other for dark ones.
    "image.composite_image": False,
}


def chart(description: str, width_px: int, height_px: int, paint: Callable[[Canvas], None]) -> Markup:
    """Return what `paint` draws, as an inline `<svg>` of at most that width.

    Parameters
    ----------
    description
        What a screen reader reads out.
    """
    options = {"format": "svg", "metadata": dict.fromkeys(("Date", "Creator", "Format", "Type"))}
    return _inline(_drawn(STYLE, width_px, height_px, paint, **options).decode(), description, width_px)


def picture(width_px: int, height_px: int, paint: Callable[[Canvas], None]) -> bytes:
    """Return what `paint` draws with the colours of a light page, as a PNG of twice as many pixels each way."""
    style = {key: LIGHT.get(value, value) if isinstance(value, str) else value for key, value in STYLE.items()}
    return _drawn(style, width_px, height_px, paint, format="png", dpi=2 * POINTS_AN_INCH, facecolor="#ffffff")


def _drawn(
    style: dict[Any, Any], width_px: int, height_px: int, paint: Callable[[Canvas], None], **options: Any
) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(style), warnings.catch_warnings():
        # Only widths are measured with matplotlib's font; the browser has its own glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas = Canvas(figsize=(width_px / POINTS_AN_INCH, height_px / POINTS_AN_INCH), layout="constrained")
        paint(canvas)
        canvas.savefig(buffer, **options)
    return buffer.getvalue()


def percent_axis(axes: Axes, which: str) -> None:
    """Label an axis of shares from 0 to 1 in per cent."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: f"{value:.0%}")


def short(name: str) -> str:
    """Return a name that fits an axis: one line, at most 26 characters."""
    line = " ".join(name.split())
    return line if len(line) <= NAME_LENGTH else line[: NAME_LENGTH - 1] + "…"


def _inline(svg: str, description: str, width_px: int) -> Markup:
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<!--.*?-->|<style.*?</style>|<metadata.*?</metadata>", "", body, flags=re.DOTALL)
    for marker, variable in VARIABLES.items():
        body = body.replace(marker, f"var({variable})")
    body = re.sub(r"font: (?:(bold) )?([\d.]+)px [^;\"]*", r"font: \1 \2px var(--sans)", body)
    body = re.sub(rf' id="({ONLY_LIGHT}|{ONLY_DARK})"', r' class="\1"', body)
    body = _own_ids(body)
    box = re.search(r'viewBox="([^"]*)"', body)
    inside = body[body.index(">") + 1 :]
    opening = (
        f'<svg class="chart" role="img" aria-label="{escape(description)}" viewBox="{box.group(1) if box else ""}" '
        f'style="max-width:{width_px}px" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return Markup(opening + re.sub(r"\n\s*", "\n", inside))


def numbered(drawn: Markup, number: int) -> Markup:
    """Return a chart with ids of its own, for a page on which the same chart may stand twice."""
    return Markup(re.sub(r'(id="|#)c([0-9a-f]{8})-', rf"\1c\2x{number}-", drawn))


def _own_ids(body: str) -> str:
    """Rename ids so that charts on one page do not share any, and the same chart gives the same text."""
    mark = "c" + hashlib.sha256(re.sub(r'(id="|#)[^")]*', r"\1", body).encode()).hexdigest()[:8]
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", body))
    names: dict[str, str] = {}
    for found in re.findall(r' id="([^"]+)"', body):
        if found in used:
            names.setdefault(found, f"{mark}-{len(names)}")
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", body)
    return re.sub(r"(url\(#|href=\"#)([^\")]+)", lambda m: str(m[1]) + names.get(str(m[2]), str(m[2])), body)


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
