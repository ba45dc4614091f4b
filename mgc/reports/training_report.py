"""How a bundle was trained: `training.html`, `training.png` and `training.json`, in the bundle's directory.

They are a report and no part of the bundle: its manifest does not list them, and it is as good without them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from mgc import __version__
from mgc.models.bundle_files import StoredBundle, read_bundle_files
from mgc.models.model_card import behind_its_best_member, fits_of, promise_lines, settings_text
from mgc.reports.page import render
from mgc.reports.svg import FULL_WIDTH, SERIES, chart, percent_axis, picture
from mgc.storage.store import Store

JSON_FILE, PAGE_FILE, PICTURE_FILE = "training.json", "training.html", "training.png"

History = Sequence[Mapping[str, Any]]
"""A member's epochs, as training reports them."""

DASHED: Any = (0, (4, 2))
DOTTED: Any = (0, (1, 1.5))
LINES = ("solid", DOTTED, (0, (6, 2, 1, 2)))
"""Of the first four members, the next four, and those after: there are four colours."""
ROW_HEIGHT_PX = 300


@dataclass(frozen=True)
class MemberReport:
    """One member's way.

    Parameters
    ----------
    number
        Counted from 1.
    network
        Its architecture.
    history
        Its epochs.
    best
        The epoch whose weights were kept; None where there is no epoch.
    own
        Settings of its fit in which the members differ; empty where they do not.
    """

    number: int
    network: str
    history: History
    best: Mapping[str, Any] | None
    own: str

    @property
    def seconds(self) -> float:
        """Of all epochs, validation included."""
        return float(sum(epoch.get("seconds", 0.0) for epoch in self.history))


def write_training_report(bundle_uri: str, *, anew: bool = True) -> str | None:
    """Write the page, the picture and the figures of a bundle's training beside its files.

    Parameters
    ----------
    anew
        Also where a page is there already.

    Returns
    -------
    str or None
        The page's URI; None where the bundle does not say how it was trained.

    Raises
    ------
    BundleError, StorageError
        There is no whole bundle, or its place cannot be written to.
    """
    store = Store.open(bundle_uri)
    if not anew and store.exists(PAGE_FILE):
        return store.uri(PAGE_FILE)
    stored = read_bundle_files(bundle_uri)
    reports = read_member_reports(stored.description)
    histories = [report.history for report in reports]
    picture = curves_picture(histories)
    if picture is None:
        return None
    store.write_atomic(PICTURE_FILE, picture)
    store.write_atomic(JSON_FILE, training_json(stored, reports).encode())
    store.write_atomic(PAGE_FILE, training_page(stored, reports).encode())
    return store.uri(PAGE_FILE)


def read_member_reports(description: Mapping[str, Any]) -> list[MemberReport]:
    """Return each member's way from what `bundle.json` says; empty where it says nothing of epochs."""
    members, histories = description["members"], description["facts"].get("histories", [])
    reports = []
    for number, (entry, own, history) in enumerate(zip(members, fits_of(members).own, histories, strict=False), 1):
        kept = _epoch(history, best_epoch(history))
        reports.append(MemberReport(number, entry["model"]["name"], history, kept, settings_text(own)))
    return reports


def _epoch(history: History, number: int | None) -> Mapping[str, Any] | None:
    return next((epoch for epoch in history if epoch["epoch"] == number), None)


def training_json(stored: StoredBundle, reports: Sequence[MemberReport]) -> str:
    """Return every epoch of every member, for machines."""
    value = {
        "bundle_fingerprint": stored.manifest.fingerprint,
        "mgc_version": __version__,
        "promise": stored.description["metrics"].get("promise"),
        "members": [
            {
                "network": report.network,
                "training": member.get("training", {}),
                "kept_epoch": report.best["epoch"] if report.best else None,
                "seconds": report.seconds,
                "epochs": list(report.history),
            }
            for report, member in zip(reports, stored.description["members"], strict=False)
        ],
    }
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def training_page(stored: StoredBundle, reports: Sequence[MemberReport]) -> str:
    """Return the page."""
    description = stored.description
    return render(
        "training.html",
        fingerprint=stored.manifest.fingerprint,
        description=description,
        reports=reports,
        chart=curves_chart([report.history for report in reports]),
        behind=behind_its_best_member(description["metrics"]),
        promises=promise_lines(description["metrics"]),
        training=json.dumps(description["training"], indent=2),
        bundle=stored.uri,
    )


# Curves over epochs.


@dataclass(frozen=True)
class Panel:
    """One quantity.

    Parameters
    ----------
    title
        As it is read.
    valid, train
        Names of the epochs' figures; `train` is drawn dashed, and empty where there is none.
    percent
        Whether it is a share.
    """

    title: str
    valid: str
    train: str = ""
    percent: bool = False


PANELS = (
    Panel("Loss", "valid_loss", "train_loss"),
    Panel("Genre accuracy", "valid_accuracy", "train_accuracy", percent=True),
    Panel("RMSE of genre probabilities", "valid_rmse"),
    Panel("Tags: PR-AUC", "valid_tag_macro_average_precision"),
)


def curves_chart(histories: Sequence[History], one: str = "member") -> Markup | None:
    """Return curves over epochs as inline SVG, a panel a quantity; None where no epoch has figures.

    What Jain et al. (2021, §8) and Zhang draw of their networks: loss, accuracy and RMSE.

    Parameters
    ----------
    one
        What each history is of, in a word.
    """
    panels = _drawable(histories)
    if not panels:
        return None
    description = f"{', '.join(panel.title for panel in panels)} of each {one} over epochs"
    return chart(description, FULL_WIDTH, _height(panels), lambda canvas: _paint(canvas, histories, panels, one))


def curves_picture(histories: Sequence[History]) -> bytes | None:
    """Return the same as a PNG."""
    panels = _drawable(histories)
    if not panels:
        return None
    return picture(FULL_WIDTH, _height(panels), lambda canvas: _paint(canvas, histories, panels))


def _drawable(histories: Sequence[History]) -> list[Panel]:
    return [
        panel
        for panel in PANELS
        if any(len(_points(history, name)) for history in histories for name in (panel.valid, panel.train))
    ]


def _height(panels: Sequence[Panel]) -> int:
    return ROW_HEIGHT_PX * -(-len(panels) // 2)


def _paint(canvas: Canvas, histories: Sequence[History], panels: Sequence[Panel], one: str = "member") -> None:
    grid = canvas.subplots(-(-len(panels) // 2), min(2, len(panels)), squeeze=False).flatten()
    for axes, panel in zip(grid, panels, strict=False):
        for number, history in enumerate(histories):
            _curve(axes, panel, number, history, f"{one} {number + 1}")
        axes.set_title(panel.title, loc="left", weight="bold")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
        if panel.percent:
            axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
            percent_axis(axes, "y")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if 1 < len(histories) <= len(SERIES) * len(LINES):  # more look alike
        grid[0].legend(loc="best", fontsize=10)


def _curve(axes: Axes, panel: Panel, number: int, history: History, name_of: str) -> None:
    color = SERIES[number % len(SERIES)]
    line = LINES[min(number // len(SERIES), len(LINES) - 1)]
    best = best_epoch(history)
    # Without validation curves those of training are told apart by the lines that validation would have.
    dashed = DASHED if number < len(SERIES) or len(_points(history, panel.valid)) else line
    for name, style, width in ((panel.train, dashed, 1.2), (panel.valid, line, 1.7)):
        points = _points(history, name)
        if not len(points):
            continue
        # Where no validation track is left, the one line there is says whose it is.
        label = name_of if name == panel.valid or not len(_points(history, panel.valid)) else None
        marker = "o" if len(points) == 1 else None
        axes.plot(*points.T, color=color, linewidth=width, linestyle=style, label=label, marker=marker)
        kept = points[points[:, 0] == best] if name == panel.valid else points[:0]
        axes.plot(*kept.T, "o", color=color, markersize=6.5)


def best_epoch(history: History) -> int | None:
    """Return the epoch whose weights were kept: the last that says so; None where there is no epoch.

    Of histories that an earlier mgc wrote, that of the lowest validation loss, else the last.
    """
    kept = [int(epoch["epoch"]) for epoch in history if epoch.get("kept")]
    if kept:
        return kept[-1]
    losses = _points(history, "valid_loss")
    if len(losses):
        return int(losses[losses[:, 1].argmin(), 0])
    return int(history[-1]["epoch"]) if history else None


def _points(history: History, name: str) -> npt.NDArray[np.float64]:
    points = [(epoch["epoch"], epoch[name]) for epoch in history if isinstance(epoch.get(name), int | float)]
    values = np.array(points, dtype=np.float64).reshape(-1, 2)
    finite: npt.NDArray[np.float64] = values[np.isfinite(values).all(axis=1)]
    return finite
