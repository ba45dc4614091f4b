"""Made histories of runs, for the tests of drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from mgc.tables.run_records import CONFIDENCE_BINS, PredictionSummary, RunRecord

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
SHARES = (0.2, 0.16, 0.14, 0.12, 0.1, 0.09, 0.08, 0.06, 0.03, 0.02)
TAGS: Mapping[str, float] = {f"tag{number:02}": 0.5 * 0.88**number for number in range(30)}
FAILED: Mapping[str, float] = {"T101_NOT_FOUND": 0.004, "T202_NOT_AUDIO": 0.01, "T203_DECODE_FAILED": 0.005}
KINDS = ("genre", "tag", "failed", "abstained", "confidence")
STARTED = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)


def make_prediction_summary(
    generator: np.random.Generator,
    tracks: int,
    *,
    genres: Sequence[float] = SHARES,
    tags: Mapping[str, float] = TAGS,
    failed: Mapping[str, float] = FAILED,
    abstained: float = 0.15,
    confidence: float = 0.7,
    album: int = 1,
    folders: bool = True,
) -> PredictionSummary:
    """Return what a run of tracks drawn from these shares says; tracks of an album, a folder, are all alike."""
    albums = max(1, round(tracks / album))
    codes = dict(zip(failed, (generator.binomial(albums, p) * album for p in failed.values()), strict=True))
    answered = albums * album - sum(codes.values())
    answered_albums = answered // album
    drawn = generator.multinomial(answered_albums, np.array(genres) / sum(genres)) * album
    stated = np.repeat(generator.beta(8 * confidence, 8 * (1 - confidence), answered_albums), album)
    return PredictionSummary(
        tracks=answered + sum(codes.values()),
        answered=answered,
        abstained=int(generator.binomial(answered_albums, abstained) * album),
        genres={name: int(count) for name, count in zip(GENRES, drawn, strict=True) if count},
        tags={name: int(generator.binomial(answered_albums, p) * album) for name, p in tags.items()},
        failed={code: int(count) for code, count in codes.items() if count},
        confident=len(stated),
        confidence_mean=float(stated.mean()),
        confidence_variance=float(stated.var(ddof=1)),
        confidence_bins=tuple(map(int, np.histogram(stated, CONFIDENCE_BINS, (0, 1))[0])),
        design_effects=dict.fromkeys(KINDS, float(album)) if folders else {},
    )


def made_run(prediction_summary: PredictionSummary, number: int = 1, **more: Any) -> RunRecord:
    """Return the record of a run that tagged as many new tracks."""
    values: dict[str, Any] = {
        "run_id": f"run-{number}",
        "sequence": number,
        "bundle_fingerprint": "bundlefingerprnt",
        "catalogue": "/data/catalogue.parquet",
        "tracks_total": 10_000,
        "tagged_now": prediction_summary.tracks,
        "unchanged": 10_000 - prediction_summary.tracks,
        "failed": prediction_summary.failed,
        "audio_seconds": 200.0 * prediction_summary.tracks,
        "wall_seconds": 60.0,
        "work_seconds": 50.0,
        "cores": 2,
        "started_at": STARTED + timedelta(days=number),
        "finished_at": STARTED + timedelta(days=number, seconds=60),
        "output": "/data/predictions",
        "why": {"new": prediction_summary.tracks},
        "prediction_summary": prediction_summary,
    }
    return RunRecord(**(values | more))


def made_history(generator: np.random.Generator, runs: int, tracks: int, **more: Any) -> list[RunRecord]:
    """Return runs drawn alike."""
    return [made_run(make_prediction_summary(generator, tracks, **more), number + 1) for number in range(runs)]
