"""What the experiment page says, put into words and rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mgc.evaluation.bootstrap import Figure
from mgc.reports.evaluation_report import Card
from mgc.reports.page import count, decimal, interval_text, percent
from mgc.studies.figures import Result, Summary
from mgc.studies.literature_claims import CLAIMS, Claim
from mgc.studies.study_settings import Experiment, ProtocolSettings, headed


@dataclass(frozen=True)
class ProtocolLine:
    """A protocol: how it parts tracks, and what that lets through, as it was counted."""

    name: str
    how: str
    leaks: str


@dataclass(frozen=True)
class ClaimLine:
    """A paper's figure beside what the same system gets here, by protocol."""

    claim: Claim
    system: str
    here: tuple[Result | None, ...]


def how(protocol: ProtocolSettings) -> str:
    """Return how a protocol parts tracks, in words."""
    folds = f"{protocol.folds} folds" + (f", the first {protocol.n_folds} of them" if protocol.run_folds else "")
    words = {
        "fixed_split": f"the catalogue's own split: “{protocol.train}” learnt from, “{protocol.valid}” asked about",
        "group_k_fold": f"{folds} over groups (artists): nobody's tracks are on both sides",
        "stratified_k_fold": f"{folds} over tracks, genres balanced, artists wherever they fall",
        "random_tracks": f"{percent(protocol.valid_fraction, 0)} of the tracks at random, artists wherever they fall",
        "random_segments": f"{percent(protocol.valid_fraction, 0)} of the segments at random, wherever the track is",
    }
    return words[protocol.kind]


def protocol_lines(summary: Summary) -> list[ProtocolLine]:
    """Return the protocols that have a result."""
    lines = []
    for protocol in summary.experiment.protocols:
        results = summary.under(protocol.name)
        if results:
            lines.append(ProtocolLine(protocol.name, how(protocol), _leaks(results[0])))
    return lines


def _leaks(result: Result) -> str:
    parts = []
    if result.tracks_across:
        parts.append(f"{count(result.tracks_across)} tracks have parts on both sides")
    if result.groups_across:
        parts.append(f"{count(result.groups_across)} groups have tracks on both sides")
    return "; ".join(parts) or "no track and no group is on both sides"


def headline_system(summary: Summary) -> str:
    """Return the system that the page begins with: of those run under the most protocols, the best by the primary."""

    def rank(system: str) -> tuple[int, float]:
        own = [one for one in summary.results if one.system == system]
        primary = summary.of(system, summary.primary)
        return len(own), (primary.accuracy.value or 0.0) if primary else 0.0

    return max(summary.systems, key=rank)


def headline_cards(summary: Summary) -> list[Card]:
    """Return the accuracy of one and the same system under each protocol."""
    system = headline_system(summary)
    cards = []
    for line in protocol_lines(summary):
        result = summary.of(system, line.name)
        if result is not None:
            accuracy = result.accuracy
            cards.append(
                Card(line.name, percent(accuracy.value), interval_text(accuracy, True), accuracy, line.leaks)
            )
    return cards


def verdict(summary: Summary) -> str:
    """Return what the split alone is worth, in a sentence; empty where there is one protocol."""
    system = headline_system(summary)
    primary = summary.of(system, summary.primary)
    others = [one for one in summary.results if one.system == system and one is not primary]
    best = max(others, key=lambda one: one.accuracy.value or 0.0, default=None)
    if primary is None or best is None or primary.accuracy.value is None or best.accuracy.value is None:
        return ""
    points = 100 * (best.accuracy.value - primary.accuracy.value)
    if points <= 0:
        return f"No other protocol claims more for {system} than “{primary.protocol}” does."
    tail = 50 * (1 - summary.experiment.evaluation.confidence)
    low, high = 100 * np.nanpercentile(best.replicates - primary.replicates, [tail, 100 - tail])
    whose = "are the split's" if low > 0 else "may be the split's, or luck"
    return (
        f"{system} would be reported at {percent(best.accuracy.value)} under “{best.protocol}”, and at "
        f"{percent(primary.accuracy.value)} under “{primary.protocol}”. Nothing in the system changed: "
        f"{points:.0f} points [{decimal(low, 0)} to {decimal(high, 0)}] {whose}."
    )


def claims_of(experiment: Experiment) -> list[tuple[str, Claim]]:
    """Return the literature's figures, each with the system here that it stands beside."""
    return [
        (headed(system.name, claim.head or ""), claim)
        for system in experiment.systems
        for claim in (CLAIMS[name] for name in system.claims)
        if claim.head is None or claim.head in system.heads
    ]


def claim_lines(summary: Summary) -> list[ClaimLine]:
    """Return the claims whose system has a result."""
    protocols = [line.name for line in protocol_lines(summary)]
    lines = [
        ClaimLine(claim, system, tuple(summary.of(system, protocol) for protocol in protocols))
        for system, claim in claims_of(summary.experiment)
    ]
    return [line for line in lines if any(line.here)]


def claimed(summary: Summary) -> Mapping[str, float]:
    """Return the claimed accuracy of each system; the highest where there are several."""
    found: dict[str, float] = {}
    for line in claim_lines(summary):
        found[line.system] = max(found.get(line.system, 0.0), line.claim.accuracy)
    return found


def notes(summary: Summary) -> list[str]:
    """Return what the figures say and do not say."""
    experiment = summary.experiment
    level = f"{100 * experiment.evaluation.confidence:g} %"
    paragraphs = [
        "No network saw the tracks it is asked about, and none was chosen by them: all epochs are run and the last "
        "weights are kept. “At its best epoch” is what one would report who stops where those tracks do best.",
        f"Intervals are {level} bootstrap intervals over tracks, {count(experiment.evaluation.bootstrap_samples)} "
        "resamples, the same for all systems. They cover the luck of which tracks were asked, and not that of "
        "another training run, of wrong labels, or of music unlike this.",
        "A claim and the figure beside it are not of the same clips: sizes that a paper does not give are this "
        "project's, and so are the features, the epochs and the augmentation. What can be compared is how far a "
        "figure moves when nothing but the split does.",
        "× realtime is that of the network alone, on features that are there, on the machine that ran the cell; "
        "side by side with others a cell takes longer than alone.",
    ]
    seeds = len(experiment.seeds)
    if seeds == 1:
        paragraphs.append("One seed: what another drawing of weights would change is not known.")
    else:
        paragraphs.append(f"Figures are means over {seeds} seeds, not those of an ensemble of {seeds}.")
    cut = [one.name for one in experiment.protocols if one.kind.endswith("k_fold") and one.n_folds < one.folds]
    if cut:
        paragraphs.append(f"Of {', '.join(cut)} only the first folds were run: not every track was asked about.")
    if any(one.tags for one in summary.results):
        paragraphs.append(
            "Tags are ranked over all tracks asked about, across folds: networks of different folds may differ in "
            "scale, which costs a little AUC."
        )
    return paragraphs


def signed(figure: Figure) -> str:
    """Return a difference in points."""
    return "–" if figure.value is None else f"{100 * figure.value:+.1f}".replace("-", "\u2212")
