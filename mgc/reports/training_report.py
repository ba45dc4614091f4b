"""How a bundle was trained: `training.html`, `training.png` and `training.json`, in the bundle's directory.

They are a report and no part of the bundle: its manifest does not list them, and it is as good without them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgc import __version__
from mgc.models.bundle_files import StoredBundle, read_bundle_files
from mgc.models.model_card import fits_of, settings_text
from mgc.reports.page import render
from mgc.reports.training_curves import History, best_epoch, curves_chart, curves_picture
from mgc.storage.store import Store

JSON_FILE, PAGE_FILE, PICTURE_FILE = "training.json", "training.html", "training.png"


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
        training=json.dumps(description["training"], indent=2),
        bundle=stored.uri,
    )
