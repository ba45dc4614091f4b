"""The page of one track, and its picture: waveform, log-mel and predictions, all over the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from mgc.arrays import Float32Array
from mgc.audio.features.filter_banks import filter_banks
from mgc.audio.features.log_mel import mfcc
from mgc.printable import not_sure
from mgc.reports.page import base_name, clock, clock_tenths, percent, render
from mgc.reports.svg import (
    BLUE,
    FULL_WIDTH,
    INK,
    LIGHT,
    LINE,
    MUTED,
    ONLY_DARK,
    ONLY_LIGHT,
    ORANGE,
    SERIES,
    chart,
    picture,
    short,
)
from mgc.reports.track_look import TrackView, drops_in_columns, in_columns, in_time_columns, strongest, window_edges

if TYPE_CHECKING:
    from mgc.inference.occlusion import Occlusion

PAGE_GENRES = 10
PAGE_TAGS = 12
TAGS_PER_WINDOW = 5
MOST_TELLING = 8
"""Slices of time that are named; there are as many bands."""

GENRES_SHOWN = 8
TAGS_SHOWN = 16
NEAREST_SHOWN = 5
ROW_PX = 19
WAVE_PX, MEL_PX, DROP_PX, AROUND_PX = 110, 190, 84, 62
MOST_DB_SHOWN = 80.0
"""Of log-mels that reach down to where no recording does."""
MFCC_SHOWN = 20
MOST_CEPSTRA = 0.99
"""Share of a cepstrum's values that lies within the range of colours."""
TICKS_HZ = (500, 1_000, 2_000, 5_000, 10_000, 20_000)
CELL_PX, GAP_PX = 12, 3
"""Of a row of a taggram, in its image: viewers smooth what they enlarge, and these cells have edges."""

Colours = Callable[[str], str]
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


@dataclass(frozen=True)
class WindowSummary:
    """One window in words: from, to, its genre with probability, its tags."""

    start_seconds: float
    end_seconds: float
    genre: str | None
    genre_probability: float | None
    tags: list[tuple[str, float]]


@dataclass(frozen=True)
class Drop:
    """A second, or a band, in words, and how much less probable the answer is without it."""

    name: str
    drop: float
    from_seconds: float | None = None


def _telling(shown: Occlusion) -> list[Drop]:
    return [
        Drop(
            f"{clock_tenths(shown.start_seconds[at])} – {clock_tenths(shown.end_seconds[at])}",
            float(shown.slice_drops[at]),
            float(shown.start_seconds[at]),
        )
        for at in np.argsort(-shown.slice_drops, kind="stable")[:MOST_TELLING]
    ]


def _bands(shown: Occlusion) -> list[Drop]:
    edges = [f"{hz:,.0f}".replace(",", "\u202f") for hz in shown.band_hz]
    drops = zip(pairwise(edges), shown.band_drops.tolist(), strict=True)
    # The highest first, as in the picture of the log-mel.
    return [Drop(f"{low} – {high} Hz", drop) for (low, high), drop in drops][::-1]


def track_page(view: TrackView) -> str:
    """Return the page, complete in itself."""
    listed = view.listed_tags
    return render(
        "track.html",
        scripts=("table.js", "player.js"),
        view=view,
        chart=track_chart(view),
        features_chart=features_chart(view),
        genres=view.genres[:PAGE_GENRES],
        tags=listed or view.tags[:PAGE_TAGS],
        tags_listed=bool(listed),
        window_summaries=window_summaries(view),
        telling=_telling(view.occlusion) if view.occlusion else [],
        bands=_bands(view.occlusion) if view.occlusion else [],
    )


def window_summaries(view: TrackView) -> list[WindowSummary]:
    """Return every window in words: what the picture says to those who do not see it."""
    return [
        _window_summary(view, row, start, end)
        for row, (start, end) in enumerate(zip(view.start_seconds, view.end_seconds, strict=True))
    ]


def _window_summary(view: TrackView, row: int, start: float, end: float) -> WindowSummary:
    genres, tags = view.genre_in_time[row], view.tag_in_time[row]
    above = np.flatnonzero(tags >= view.tag_thresholds)
    listed = sorted(((view.tag_names[tag], float(tags[tag])) for tag in above), key=lambda pair: -pair[1])
    best = int(genres.argmax()) if genres.size else None
    return WindowSummary(
        start,
        end,
        None if best is None else view.genre_names[best],
        None if best is None else float(genres[best]),
        listed[:TAGS_PER_WINDOW],
    )


def track_chart(view: TrackView) -> Markup:
    """Return the picture as inline SVG that follows the page's light or dark colours."""
    rows = _Rows(view)
    description = (
        f"Waveform, log-mel spectrogram and taggram of {base_name(view.uri)} over time; "
        "the table of windows below holds the same numbers"
    )
    return chart(description, FULL_WIDTH, rows.height_px, lambda canvas: _paint(canvas, view, rows, str, both=True))


def features_chart(view: TrackView) -> Markup:
    """Return the mel filters, the MFCC and the cepstrum as Jain et al. (2021) draw them: figures 1, 2, eq. 3.2."""

    def paint(canvas: Canvas) -> None:
        filters, coefficients, cepstrum = canvas.subplots(
            3, 1, gridspec_kw={"height_ratios": (WAVE_PX, WAVE_PX, MEL_PX)}
        )
        _filters(filters, view)
        # The transform of a mean is the mean of the transforms: columns of the log-mel will do.
        rows = mfcc(in_time_columns(view, view.log_mel), min(MFCC_SHOWN, view.features.n_mels))
        extent = (0.0, view.duration_seconds, -0.5, rows.shape[1] - 0.5)
        heat(coefficients, _each_in_its_range(rows), extent, SOUND, both=True)
        coefficients.set_title(
            "MFCC, each from its least to its greatest; the lowest at the bottom", loc="left", color=MUTED
        )
        # Quefrency 0 is the level.
        values = in_time_columns(view, view.cepstrum)[:, 1:]
        highest_ms = 1e3 * values.shape[1] / view.features.sample_rate
        widest = max(float(np.nanquantile(np.abs(values), MOST_CEPSTRA)), 1e-6) if np.isfinite(values).any() else 1.0
        extent = (0.0, view.duration_seconds, 1e3 / view.features.sample_rate, highest_ms)
        heat(cepstrum, 0.5 + values / (2 * widest), extent, SOUND, both=True)
        cepstrum.set_title("real cepstrum by quefrency, ms: a pitch is a line at its period", loc="left", color=MUTED)
        for axes in (coefficients, cepstrum):
            axes.xaxis.set_major_formatter(lambda seconds, _: clock(max(seconds, 0.0)))
        for axes in (filters, coefficients, cepstrum):
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)

    description = f"Mel filters, MFCC over time and real cepstrum over time of {base_name(view.uri)}"
    return chart(description, FULL_WIDTH, 2 * WAVE_PX + MEL_PX + 26 * 3 + AROUND_PX, paint)


def _filters(axes: Axes, view: TrackView) -> None:
    features = view.features
    filters = filter_banks(features).mel
    hz = np.arange(filters.shape[1]) * features.sample_rate / features.n_fft
    for number, weights in enumerate(filters):
        if weights.any():
            axes.plot(hz, weights / weights.max(), color=SERIES[number % 2], linewidth=0.8)
    axes.set(xlim=(features.f_min, features.f_max or features.sample_rate / 2), yticks=[])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f} Hz")
    axes.set_title(f"the {features.n_mels} mel filters, each to its own height", loc="left", color=MUTED)


def _each_in_its_range(rows: Float32Array) -> Float32Array:
    """Return columns scaled to 0 … 1; of NaN alone, as they are."""
    if not np.isfinite(rows).any():
        return rows
    low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    return np.asarray((rows - low) / np.maximum(high - low, 1e-6), dtype=np.float32)


def track_png(view: TrackView) -> bytes:
    """Return the picture by itself, with a heading, as a PNG."""
    rows = _Rows(view)
    lines = _nearest_lines(view)

    def paint(canvas: Canvas) -> None:
        canvas.suptitle(heading(view), x=0.01, ha="left", fontsize=14, color=LIGHT[INK])
        _paint(canvas, view, rows, LIGHT.__getitem__, both=False)
        if lines:
            canvas.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=11.5, color=LIGHT[MUTED], linespacing=1.5)

    return picture(FULL_WIDTH, rows.height_px + 40 + (18 * len(lines) + 20 if lines else 0), paint)


def _nearest_lines(view: TrackView) -> list[str]:
    if not view.nearest:
        return []
    named = [
        f"{one.similarity:.3f}   {short(base_name(one.uri))}" + (f"   {one.genre_text}" if one.genre else "")
        for one in view.nearest[:NEAREST_SHOWN]
    ]
    return ["nearest tracks, by the cosine of their embeddings", *named]


def heading(view: TrackView) -> str:
    """Return the track's name, length and answer in one line."""
    genre = f"{view.genres[0][0]} {percent(view.genres[0][1], 0)}" if view.genres else ""
    if genre and view.abstained:
        genre = not_sure(*view.genres[0])
    tags = ", ".join(name for name, _ in view.listed_tags[:6])
    prediction = ": ".join(part for part in (genre, tags) if part)
    return "   ".join(part for part in (base_name(view.uri), clock(view.duration_seconds), prediction) if part)


class _Rows:
    """Which genres and tags have a row, and how high the picture becomes."""

    def __init__(self, view: TrackView) -> None:
        self.genres = strongest(view.genre_names, view.genres, view.genre_in_time, GENRES_SHOWN)
        self.tags = strongest(view.tag_names, view.tags, view.tag_in_time, TAGS_SHOWN)
        above = [WAVE_PX, MEL_PX, *([DROP_PX] if view.occlusion else [])]
        self.panels_px = [*above, *(ROW_PX * len(rows) + 8 for rows in (self.genres, self.tags) if rows)]
        self.height_px = sum(self.panels_px) + 26 * len(self.panels_px) + AROUND_PX


def _paint(canvas: Canvas, view: TrackView, rows: _Rows, colour: Colours, *, both: bool) -> None:
    panels = canvas.subplots(
        len(rows.panels_px), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": rows.panels_px}
    )[:, 0]
    _waveform(panels[0], view, colour)
    _log_mel(panels[1], view, colour, both=both)
    if view.occlusion:
        _spoke_for(panels[2], view, view.occlusion, colour)
    taggrams = [
        (name, chosen, dict(whole), names, in_time, listed_at)
        for name, chosen, whole, names, in_time, listed_at in (
            ("genres", rows.genres, view.genres, view.genre_names, view.genre_in_time, None),
            ("tags", rows.tags, view.tags, view.tag_names, view.tag_in_time, view.tag_thresholds),
        )
        if chosen
    ]
    for axes, (name, chosen, whole, names, in_time, listed_at) in zip(
        panels[-len(taggrams) :], taggrams, strict=True
    ):
        labels = [f"{short(names[row])}  {percent(whole[names[row]], 0)}" for row in chosen]
        _taggram(axes, view, in_columns(view, in_time[:, chosen]), labels, both=both)
        title = f"{name} in time, with the whole track's probability"
        if listed_at is not None:
            _underline(axes, view, in_time[:, chosen] >= listed_at[chosen], colour)
            title += f"; underlined at {view.threshold_text} or more"
        axes.set_title(title, loc="left", color=colour(MUTED))
    for axes in panels:
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    panels[-1].set(xlim=(0.0, view.duration_seconds))
    panels[-1].xaxis.set_major_formatter(lambda seconds, _: clock(max(seconds, 0.0)))
    panels[-1].xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 1.5, 3, 6, 10]))


def _waveform(axes: Axes, view: TrackView, colour: Colours) -> None:
    outline = view.outline
    seconds = (np.arange(len(outline.low)) + 0.5) * outline.stretch_seconds
    axes.fill_between(seconds, outline.low, outline.high, color=colour(BLUE), alpha=0.4, linewidth=0)
    axes.fill_between(seconds, -outline.rms, outline.rms, color=colour(BLUE), alpha=0.95, linewidth=0)
    peak = max(float(np.abs(outline.low).max()), float(np.abs(outline.high).max()), 1e-3)
    axes.set(ylim=(-1.05 * peak, 1.05 * peak), yticks=[-peak, 0.0, peak])
    axes.set_yticklabels([f"{-peak:.2g}".replace("-", "\u2212"), "0", f"{peak:.2g}"])
    axes.set_title("waveform: extremes, and in the middle its strength (RMS)", loc="left", color=colour(MUTED))


def _log_mel(axes: Axes, view: TrackView, colour: Colours, *, both: bool) -> None:
    features = view.features
    decibels, range_db = in_time_columns(view, view.log_mel), features.top_db
    if features.reference == "full_scale":
        decibels, range_db = decibels - np.nanmax(decibels), min(range_db, MOST_DB_SHOWN)
    loudness = np.maximum(1.0 + decibels / range_db, 0.0)
    heat(axes, loudness, (0.0, view.duration_seconds, 0.0, features.n_mels), SOUND, both=both)
    low, high = features.f_min, features.f_max or features.sample_rate / 2
    ticks = [hz for hz in TICKS_HZ if low < hz < high]
    axes.set_yticks(
        filter_banks(features).mel_position(ticks) * features.n_mels,
        [f"{hz:,} Hz" if hz < 1_000 else f"{hz // 1_000} kHz" for hz in ticks],
    )
    axes.set(ylim=(0.0, features.n_mels))
    axes.set_title(
        f"log-mel, the input of the model: {range_db:g} dB from faint to strong",
        loc="left",
        color=colour(MUTED),
    )


def _spoke_for(axes: Axes, view: TrackView, shown: Occlusion, colour: Colours) -> None:
    drops = 100 * drops_in_columns(view, shown)
    seconds = (np.arange(len(drops)) + 0.5) / len(drops) * view.duration_seconds
    for part, chosen in ((drops > 0, BLUE), (drops < 0, ORANGE)):
        axes.fill_between(seconds, 0.0, drops, where=part, step="mid", color=colour(chosen), linewidth=0)
    axes.axhline(0.0, color=colour(LINE), linewidth=1)
    least, most = min(0.0, float(np.nanmin(drops))), max(0.0, float(np.nanmax(drops)))
    around = max(0.08 * (most - least), 0.05)
    axes.set(ylim=(least - around, most + around))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.yaxis.set_major_formatter(lambda points, _: f"{points:+g} pt".replace("-", "\u2212") if points else "0")
    axes.set_title(
        f"what spoke for {short(shown.name)}: how much less probable it is with that second silent",
        loc="left",
        color=colour(MUTED),
    )


def _taggram(axes: Axes, view: TrackView, columns: Float32Array, labels: list[str], *, both: bool) -> None:
    cells = np.full((len(columns), len(labels), CELL_PX + GAP_PX), np.nan, dtype=np.float32)
    cells[:, :, GAP_PX:] = columns[:, ::-1, np.newaxis]
    extent = (0.0, view.duration_seconds, -len(labels) + 0.5, 0.5)
    heat(axes, cells.reshape(len(columns), -1), extent, PROBABILITY, both=both)
    axes.set(ylim=(-len(labels) + 0.5, 0.5))
    axes.set_yticks([-row for row in range(len(labels))], labels)


def _underline(axes: Axes, view: TrackView, listed: npt.NDArray[np.bool_], colour: Colours) -> None:
    """Underline each row where its tag would be listed: not by colour alone."""
    edges = window_edges(view)
    for row, column in enumerate(listed.T):
        turns = np.flatnonzero(np.diff(np.concatenate([[False], column, [False]]).astype(np.int8)))
        for begin, end in turns.reshape(-1, 2):
            axes.plot(edges[[begin, end]], [-row - 0.41] * 2, color=colour(INK), linewidth=1.6, solid_capstyle="butt")


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
