"""One self-contained page: a template, its style and its script in one HTML file that fetches nothing.

Names come from files that anyone may have put into the catalogue. Everything is escaped, and as a second wall
the page's own content security policy allows no request and no script but the one that is known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mgc import __version__
from mgc.evaluation.bootstrap import Figure

NOTHING = "–"


def render(template: str, *, scripts: Sequence[str] = ("table.js",), **values: Any) -> str:
    """Return the page that a template of `mgc/reports/templates` makes of the values."""
    environment = _environment()
    script = "\n".join(_source(name) for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        style=Markup(_source("page.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        version=__version__,
        **values,
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mgc.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "decimal": decimal,
        "count": count,
        "span": span,
        "moment": moment,
        "base": base_name,
        "folder": folder_name,
        "place": place,
        "clock": clock,
        "clock_tenths": clock_tenths,
    }
    return environment


def _source(name: str) -> str:
    environment = _environment()
    if environment.loader is None:
        raise RuntimeError("the environment of the pages has a loader")
    return environment.loader.get_source(environment, name)[0]


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as per cent; a dash for None."""
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a number with so many digits, a true minus, and a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", "\u2212")


def count(value: float) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def span(seconds: float | None) -> str:
    """Return a length of time as one would say it."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{count(hours)} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def clock(seconds: float | None) -> str:
    """Return the length of a track, minutes and seconds; a dash for None."""
    if seconds is None:
        return NOTHING
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def clock_tenths(seconds: float) -> str:
    """Return a place in a track: minutes, seconds and tenths."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"


def moment(value: datetime | None) -> str:
    """Return a time in UTC, to the minute."""
    return NOTHING if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def base_name(uri: str) -> str:
    """Return the last part of a path or URI."""
    return uri.rstrip("/").rpartition("/")[2] or uri


def folder_name(uri: str) -> str:
    """Return the name of the folder that a file is in; empty where a URI has none but its root."""
    parts = uri.partition("://")[2].split("/")[1:] if "://" in uri else uri.split("/")
    return parts[-2] if len(parts) > 1 else ""


def place(value: float | None) -> str:
    """Return a share of 0 to 1 as a CSS length along a bar."""
    return f"{100 * min(1.0, max(0.0, value or 0.0)):.2f}%"


def interval_text(figure: Figure, as_percent: bool) -> str:
    """Return both ends of an interval in words; empty where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    if as_percent:
        return f"{100 * figure.low:.1f} – {100 * figure.high:.1f} %"
    return f"{decimal(figure.low)} – {decimal(figure.high)}"
