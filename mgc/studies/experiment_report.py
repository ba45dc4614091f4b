"""An experiment's report: index.html for people, results.json and results.parquet for machines."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from mgc import __version__
from mgc.evaluation.bootstrap import EXACT, Figure, rounded
from mgc.evaluation.tag_metrics import CategoryFigures, category_of
from mgc.reports.charts import matrix_chart
from mgc.reports.evaluation_report import Card
from mgc.reports.page import count, decimal, interval_text, percent, render
from mgc.reports.svg import numbered
from mgc.reports.training_report import curves_chart
from mgc.storage.store import Store
from mgc.studies.experiment_charts import category_chart, epochs_chart, frequency_chart, gain_chart, protocol_chart
from mgc.studies.experiment_settings import Experiment, ProtocolSettings, SystemSettings, headed
from mgc.studies.literature_claims import CLAIMS, Claim, GenreClaim
from mgc.studies.runs import ExperimentOutcome, code_fingerprint
from mgc.studies.summary import GenreLine, Result, Summary, TagResults, summarise

PAGE_FILE, JSON_FILE, TABLE_FILE = "index.html", "results.json", "results.parquet"
SHOWN_AT_ONCE = 4
"""Confusion matrices, and systems in the charts of tags, that are shown without unfolding."""
FACTS = (
    "train_tracks", "train_windows", "tracks_across", "groups_across", "parameters", "epochs", "train_seconds",
    "answer_cpu_seconds", "answer_seconds", "audio_seconds", "seconds",
)  # fmt: skip
"""Of a run, in results.parquet."""


def write_report(outcome: ExperimentOutcome, uri: str) -> Summary:
    """Write the page and the tables of the finished runs into a folder or prefix; return the figures.

    Raises
    ------
    StorageError
        The place cannot be written to.
    """
    summary = summarise(outcome.experiment, outcome.material, outcome.runs, outcome.results)
    store = Store.open(uri)
    store.write_atomic(JSON_FILE, report_json(outcome, summary).encode())
    table = io.BytesIO()
    run_table(outcome).write_parquet(table)
    store.write_atomic(TABLE_FILE, table.getvalue())
    store.write_atomic(PAGE_FILE, experiment_page(outcome, summary).encode())
    return summary


@dataclass(frozen=True)
class AuditLine:
    """A system's results, a protocol each, and how far they lie apart."""

    system: str
    results: list[Result | None]

    @property
    def spread(self) -> float | None:
        """Highest accuracy minus lowest; None below two."""
        values = [one.accuracy.value for one in self.results if one and one.accuracy.value is not None]
        return max(values) - min(values) if len(values) > 1 else None


def experiment_page(outcome: ExperimentOutcome, summary: Summary) -> str:
    """Return the report for people, one HTML page."""
    primary = summary.primary
    details = sorted(summary.under(primary), key=lambda one: -(one.accuracy.value or 0.0))
    protocols = protocol_lines(summary)
    labels = {run.key: run.label for run in outcome.runs}
    support = details[0].confusion.sum(axis=1) if details else np.zeros(1)
    return render(
        "experiment.html",
        experiment=outcome.experiment,
        summary=summary,
        material=outcome.material,
        source=outcome.experiment.data.catalogue or "",
        primary=primary,
        primary_how=how(outcome.experiment.protocol(primary)),
        protocols=protocols,
        headline=headline_system(summary),
        verdict=verdict(summary),
        cards=headline_cards(summary),
        audit=[AuditLine(system, [summary.of(system, one.name) for one in protocols]) for system in summary.systems],
        claims=claim_lines(summary),
        details=details,
        majority=float(support.max() / max(1, support.sum())),
        tagger=max((one for one in details if one.tags), key=_macro_roc, default=None),
        charts=_charts(summary, details),
        reports=genre_reports(summary),
        fits=fit_lines(summary, details),
        balances=balance_lines(details),
        spreads=category_lines(details),
        caveats=caveats(summary),
        finished=len(outcome.results),
        planned=outcome.planned,
        missing=outcome.planned - len(outcome.results),
        failures=[(labels.get(key, key), message) for key, message in outcome.failures.items()],
        run_seconds=sum(float(one.facts.get("seconds") or 0.0) for one in outcome.results.values()),
        code=code_fingerprint(),
        settings=json.dumps(outcome.experiment.model_dump(mode="json"), indent=2, ensure_ascii=False),
        interval_text=interval_text,
        signed=signed,
        made_at=datetime.now(UTC),
    )


def _charts(summary: Summary, details: Sequence[Result]) -> dict[str, Any]:
    networks = [one for one in details if one.curves]
    tagged = sorted((one for one in details if one.tags), key=lambda one: -_macro_roc(one))[:SHOWN_AT_ONCE]
    matrices = _apart([(one.system, matrix_chart(summary.genres, one.confusion)) for one in details])
    return {
        "protocols": protocol_chart(summary, claimed(summary)),
        "confusions": matrices[:SHOWN_AT_ONCE],
        "more_confusions": matrices[SHOWN_AT_ONCE:],
        "frequency": frequency_chart(tagged),
        "categories": category_chart(tagged),
        "gain_accuracy": gain_chart(summary.gains, "accuracy", "accuracy"),
        "gain_roc": gain_chart(summary.gains, "roc_auc", "macro ROC-AUC"),
        "epochs": epochs_chart(networks),
        "learning": _apart([(one.system, curves_chart(one.curves, "run")) for one in networks]),
    }


def _apart(named: Sequence[tuple[str, Markup | None]]) -> list[tuple[str, Markup]]:
    """Return the charts that there are, each with ids of its own."""
    return [(name, numbered(drawn, place)) for place, (name, drawn) in enumerate(named) if drawn is not None]


def _macro_roc(one: Result) -> float:
    return (one.tags.roc_auc.value or 0.0) if one.tags else 0.0


# What the page says, in words and rows.


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
    why: str = ""


@dataclass(frozen=True)
class GenreReport:
    """A system's classification report, beside what its paper reports of the same genres."""

    system: str
    paper: str
    lines: list[tuple[GenreLine, GenreClaim | None]]


@dataclass(frozen=True)
class FitLine:
    """How a system was fitted and what it gave: the columns of Guo's table 2."""

    result: Result
    system: SystemSettings
    layers: str
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class CategoryLine:
    """A category's tags: how many, their mean ROC-AUC, and the standard deviation between them."""

    figures: CategoryFigures
    deviation: float | None


def genre_reports(summary: Summary) -> list[GenreReport]:
    """Return the reports of systems whose paper has one; of the first system where none has."""
    reports = []
    claimed_by = {line.system: line.claim for line in claim_lines(summary) if line.claim.by_genre}
    for system in claimed_by or [headline_system(summary)]:
        result = summary.of(system, summary.primary)
        if result is not None:
            claim = claimed_by.get(system)
            theirs = {genre[0]: genre for genre in (claim.by_genre if claim else ())}
            lines = [(line, theirs.get(line.genre)) for line in result.report(summary.genres)]
            reports.append(
                GenreReport(system, claim.paper if claim and any(line[1] for line in lines) else "", lines)
            )
    return reports


def fit_lines(summary: Summary, details: Sequence[Result]) -> list[FitLine]:
    """Return how each network was fitted; classifiers on embeddings are fitted as their network is."""
    systems = {system.name: system for system in summary.experiment.systems if system.kind == "network"}
    return [
        FitLine(one, system, _layers(system), *one.macro(summary.genres))
        for one in details
        if (system := systems.get(one.system))
    ]


def _layers(system: SystemSettings) -> str:
    """Return the hidden layers of a network whose settings say how many; of members one after the other."""
    names = ("hidden_layers", "layers", "blocks")
    counts = [str(next((getattr(one, name) for name in names if hasattr(one, name)), "–")) for one in system.models]
    return " + ".join(dict.fromkeys(counts))


def balance_lines(details: Sequence[Result]) -> list[tuple[str, tuple[float, ...]]]:
    """Return the training windows of each genre, and those of the systems that draw others; empty where none does."""
    drawn = [(one.system, one.drawn_by_genre) for one in details if one.drawn_by_genre]
    plain = next((one.windows_by_genre for one in details if one.windows_by_genre), ())
    others = [line for line in drawn if line[1] != plain]
    return [("as they are", plain), *others] if others else []


def category_lines(details: Sequence[Result]) -> list[CategoryLine]:
    """Return the categories of tags of the system that ranks tags best (He & Li 2024, figure 9)."""
    tagger = max((one for one in details if one.tags), key=_macro_roc, default=None)
    if tagger is None or tagger.tags is None:
        return []
    lines = []
    for one in tagger.tags.categories:
        own = [tag.roc_auc.value for tag in tagger.tags.tags if category_of(tag.tag) == one.category]
        known = [value for value in own if value is not None]
        lines.append(CategoryLine(one, float(np.std(known, ddof=1)) if len(known) > 1 else None))
    return lines


def how(protocol: ProtocolSettings) -> str:
    """Return how a protocol parts tracks, in words."""
    folds = f"{protocol.folds} folds" + (f", the first {protocol.n_folds} of them" if protocol.run_folds else "")
    words = {
        "fixed_split": f"the catalogue's own split: “{protocol.train}” learnt from, “{protocol.valid}” held out",
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
        ClaimLine(
            claim, system, tuple(summary.of(system, protocol) for protocol in protocols), _why(summary, system, claim)
        )
        for system, claim in claims_of(summary.experiment)
    ]
    return [line for line in lines if any(line.here)]


def _why(summary: Summary, system: str, claim: Claim) -> str:
    """Return what of a claim the split is worth, and what is left, in a sentence; empty without both protocols."""
    primary = summary.of(system, summary.primary)
    nearest = next((one.name for one in summary.experiment.protocols if one.kind == claim.kind), None)
    theirs = summary.of(system, nearest) if nearest and nearest != summary.primary else None
    if not primary or not theirs or primary.accuracy.value is None or theirs.accuracy.value is None:
        return ""
    split = 100 * (theirs.accuracy.value - primary.accuracy.value)
    rest = 100 * (claim.accuracy - theirs.accuracy.value)
    left = (
        f"{decimal(rest, 0)} more lie between its clips, features and sizes and these; who keeps the epoch that does "
        "best on the test set gains by that, too."
        if rest > 0
        else "These clips give more than it reports."
    )
    return f"The split is worth {decimal(split, 0)} points: under “{nearest}” {_leaks(theirs)}. {left}"


def claimed(summary: Summary) -> Mapping[str, float]:
    """Return the claimed accuracy of each system; the highest where there are several."""
    found: dict[str, float] = {}
    for line in claim_lines(summary):
        found[line.system] = max(found.get(line.system, 0.0), line.claim.accuracy)
    return found


def caveats(summary: Summary) -> list[str]:
    """Return the caveats: what the figures cover, and what they do not."""
    experiment = summary.experiment
    level = f"{100 * experiment.evaluation.confidence:g} %"
    paragraphs = [
        "No network saw its held-out tracks in training, and none was chosen by them: all epochs are run and the "
        "last weights are kept. “At its best epoch” is what one would report who stops where those tracks do best.",
        f"Intervals are {level} bootstrap intervals over tracks, {count(experiment.evaluation.bootstrap_samples)} "
        f"resamples, the same for all systems; {EXACT} They cover the luck of which tracks were held out, and not "
        "that of another training run, of wrong labels, or of music unlike this.",
        "A claim and the figure beside it are not of the same clips: sizes that a paper does not give are this "
        "project's, and so are the features, the epochs and the augmentation. What can be compared is how far a "
        "figure moves when nothing but the split does.",
        "× realtime is that of the network alone, on features that are there, by processor time (on a GPU by the "
        "clock), the median of the runs. Training is timed by the clock: beside others a run takes longer.",
    ]
    seeds = len(experiment.seeds)
    if seeds == 1:
        paragraphs.append("One seed: what another drawing of weights would change is not known.")
    else:
        paragraphs.append(f"Figures are means over {seeds} seeds, not those of an ensemble of {seeds}.")
    cut = [one.name for one in experiment.protocols if one.kind.endswith("k_fold") and one.n_folds < one.folds]
    if cut:
        paragraphs.append(f"Of {', '.join(cut)} only the first folds were run: not every track was held out.")
    if any(one.tags for one in summary.results):
        paragraphs.append(
            "Tags are ranked over all held-out tracks, across folds: networks of different folds may differ in "
            "scale, which costs a little AUC."
        )
    return paragraphs


def signed(figure: Figure) -> str:
    """Return a difference in points."""
    return "–" if figure.value is None else f"{100 * figure.value:+.1f}".replace("-", "\u2212")


# Figures for machines.


def run_table(outcome: ExperimentOutcome) -> pl.DataFrame:
    """Return a row for each finished run and head: its accuracy and what it took."""
    truth = dict(outcome.material.catalogue.select("track_id", "genre").iter_rows())
    genres = outcome.material.taxonomy.genres
    rows: list[dict[str, Any]] = []
    for result in outcome.results.values():
        for head, answered in result.answers.items():
            right = [
                genres[int(np.argmax(one))] == truth[track]
                for track, one in zip(result.tracks, answered.genre, strict=True)
                if truth[track]
            ]
            rows.append(
                {
                    "system": headed(result.system, head),
                    "protocol": result.protocol,
                    "fold": result.fold,
                    "seed": result.seed,
                    "tracks": len(result.tracks),
                    "accuracy": float(np.mean(right)) if right else None,
                    "window_accuracy": sum(answered.windows_right) / max(1, sum(result.windows)),
                    **{name: result.facts.get(name) for name in FACTS},
                    "key": result.key,
                    "code": result.code,
                    "mgc_version": result.version,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None).sort("system", "protocol", "seed", "fold")


def report_json(outcome: ExperimentOutcome, summary: Summary) -> str:
    """Return the figures for machines."""
    value = {
        "name": outcome.experiment.name,
        "mgc_version": __version__,
        "code": code_fingerprint(),
        "data": {
            "catalogue": outcome.experiment.data.catalogue,
            "features": outcome.experiment.data.features,
            "fingerprint": outcome.material.fingerprint,
            "tracks": outcome.material.catalogue.height,
        },
        "runs": {"planned": outcome.planned, "finished": len(outcome.results), "failed": len(outcome.failures)},
        "genres": list(summary.genres),
        "results": [_result_json(one) for one in summary.results],
        "gains": [
            {"system": one.system, "over": one.over, **_figures(one, "accuracy", "roc_auc")} for one in summary.gains
        ],
        "claims": [
            {"system": line.system, **_attributes(line.claim, "paper", "accuracy", "figure", "protocol")}
            for line in claim_lines(summary)
        ],
        "experiment": outcome.experiment.model_dump(mode="json"),
    }
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _result_json(one: Result) -> dict[str, Any]:
    measured = _attributes(
        one, "seed_spread", "peeked", "parameters", "train_seconds", "answer_xrealtime", "train_tracks",
        "tracks_across", "groups_across", "rmse", "neighbours_right", "neighbours_right_mfcc",
        "neighbours_right_chance",
    )  # fmt: skip
    return {
        **_attributes(one, "system", "protocol", "runs", "planned", "tracks"),
        **_figures(one, "accuracy", "window_accuracy", "macro_f1"),
        "recall": [figure.to_json() for figure in one.recall],
        "confusion": one.confusion.tolist(),
        **{name: rounded(value) for name, value in measured.items()},
        "tags": _tags_json(one.tags) if one.tags else None,
    }


def _tags_json(tags: TagResults) -> dict[str, Any]:
    return {
        "tracks": tags.tracks,
        "macro_roc_auc": tags.roc_auc.to_json(),
        "macro_pr_auc": tags.pr_auc.to_json(),
        "categories": {one.category: one.roc_auc.to_json() for one in tags.categories},
        "tags": {one.tag: {"positives": one.positives, **_figures(one, "roc_auc", "pr_auc")} for one in tags.tags},
    }


def _attributes(one: object, *names: str) -> dict[str, Any]:
    return {name: getattr(one, name) for name in names}


def _figures(one: object, *names: str) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in _attributes(one, *names).items()}
