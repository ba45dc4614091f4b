"""The page of a tagging run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mgc.cluster.incremental import Outcome
from mgc.data.view import read_predictions
from mgc.evaluation.tagging_report import TaggingSummary, write_tagging_report
from mgc.models.bundle import load_bundle


def tagging_page(outcome: Outcome, catalogue: str, bundle: str, output: str) -> str:
    """Write report.html beside the predictions and return its URI."""
    predictions = read_predictions(output)
    finished = datetime.now(UTC)
    summary = TaggingSummary(
        run_id=outcome.run_id or "",
        bundle_fingerprint=load_bundle(bundle).fingerprint,
        catalogue=catalogue,
        tracks_total=predictions.height,
        tagged_now=outcome.index.height,
        unchanged=outcome.plan.unchanged,
        failed=outcome.failed_by_code,
        audio_seconds=outcome.audio_seconds,
        wall_seconds=outcome.wall_seconds,
        cores=outcome.cores,
        started_at=finished - timedelta(seconds=outcome.wall_seconds),
        finished_at=finished,
        output=output,
        work_seconds=outcome.work_seconds,
    )
    return write_tagging_report(predictions, summary, output)
