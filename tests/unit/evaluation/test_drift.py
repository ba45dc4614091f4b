"""Drift: false alarms are rare, and what changed is found and named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drift_makers import GENRES, SHARES, TAGS, made_history, made_run, make_prediction_summary
from scipy import stats

from mgc.evaluation.drift import SMALLEST_EFFECT, compare_means, compare_shares, detect_drift, holm
from mgc.reports.tagging_report import drift_verdict
from mgc.tables.run_records import PredictionSummary


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def moved_names(run: Any, history: Any) -> list[tuple[str, str]]:
    return [(shift.kind, shift.name) for shift in detect_drift(run, history).moved]


@pytest.mark.parametrize(
    ("runs", "tracks", "run_tracks", "album"),
    [(8, 300, 300, 1), (1, 3_000, 300, 1), (1, 4_800, 480, 12), (4, 480, 480, 12)],
)
def test_false_alarms_are_rare_where_nothing_changed(
    runs: int, tracks: int, run_tracks: int, album: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run in a hundred, whether tracks come one by one or by albums, even if trifles count."""
    monkeypatch.setattr("mgc.evaluation.drift.SMALLEST_EFFECT", 0.0)
    rng, trials = generator(), 40
    alarms = sum(
        bool(
            detect_drift(
                made_run(make_prediction_summary(rng, run_tracks, album=album), 99),
                made_history(rng, runs, tracks, album=album),
            ).moved
        )
        for _ in range(trials)
    )
    assert alarms <= 2, "at one in a hundred, three of forty happen once in 140 trials"


def test_albums_taken_for_single_tracks_would_alarm_in_every_run() -> None:
    """What the design effect is for."""
    rng = generator()
    history = made_history(rng, 1, 4_800, album=12, folders=False)
    alarms = [
        detect_drift(made_run(make_prediction_summary(rng, 480, album=12, folders=False), 99), history).moved
        for _ in range(5)
    ]
    assert all(alarms)


def test_what_moved_is_named_with_its_shares() -> None:
    rng = generator(1)
    shifted = (0.05, *SHARES[1:9], 0.17)
    tags = {**TAGS, "tag03": 0.7}
    drift = detect_drift(
        made_run(make_prediction_summary(rng, 800, genres=shifted, tags=tags), 99), made_history(rng, 6, 800)
    )
    moved = {(shift.kind, shift.name): shift for shift in drift.moved}
    assert set(moved) == {("genre", "blues"), ("genre", "rock"), ("tag", "tag03")}
    rock = moved["genre", "rock"]
    assert rock.before == pytest.approx(0.02, abs=0.01)
    assert rock.now == pytest.approx(0.17, abs=0.03)
    assert rock.p_value < 0.01
    assert drift.against == [f"run-{number}" for number in range(1, 7)]
    assert (drift.tracks, drift.tracks_before) == (800, 4_800)
    assert drift.cause == "The bundle is the same: it is the tracks of this run that differ."


def test_confidence_and_failures_are_watched() -> None:
    rng = generator(2)
    history = made_history(rng, 6, 600)
    unsure = made_run(make_prediction_summary(rng, 600, confidence=0.5, abstained=0.5), 99)
    assert moved_names(unsure, history) == [("confidence", ""), ("abstained", "")]
    broken = made_run(make_prediction_summary(rng, 600, failed={"T103_FETCH_FAILED": 0.2}), 99)
    names = moved_names(broken, history)
    assert {("failed", ""), ("code", "T103_FETCH_FAILED")} <= set(names)
    assert {kind for kind, _ in names} == {"failed", "code"}
    assert "not from the bundle" in detect_drift(broken, history).cause


def test_a_million_tracks_flag_no_trifle() -> None:
    """Half a point beyond all chance is no news; five points are."""
    rng = generator(3)
    history = [made_run(make_prediction_summary(rng, 1_000_000))]
    nudged = (SHARES[0] + 0.005, SHARES[1] - 0.005, *SHARES[2:])
    trifle = detect_drift(made_run(make_prediction_summary(rng, 1_000_000, genres=nudged), 2), history)
    blues = next(shift for shift in trifle.shifts if shift.name == GENRES[0])
    assert blues.p_value < 1e-6
    assert abs(blues.effect) < SMALLEST_EFFECT
    assert trifle.moved == []
    large = (SHARES[0] + 0.05, SHARES[1] - 0.05, *SHARES[2:])
    assert ("genre", "blues") in moved_names(
        made_run(make_prediction_summary(rng, 1_000_000, genres=large), 2), history
    )


def test_the_bundle_is_named_as_the_cause() -> None:
    rng = generator(4)
    history = made_history(rng, 3, 900)
    other = make_prediction_summary(rng, 900, genres=tuple(reversed(SHARES)))
    same_tracks = made_run(other, 99, bundle_fingerprint="another", why={"remade": 900})
    assert detect_drift(same_tracks, history).cause.startswith(
        "The bundle is the cause: the bundle changed from bundlef"
    )
    new_tracks = made_run(other, 99, bundle_fingerprint="another")
    assert detect_drift(new_tracks, history).cause.startswith("It may be the bundle or the tracks")
    again = made_run(other, 99, why={"remade": 900})
    assert "settings or the version" in detect_drift(again, history).cause


def test_what_one_bundle_does_not_know_is_no_shift() -> None:
    rng = generator(7)
    names, history = [*GENRES, *TAGS], made_history(rng, 3, 900)
    gone = next(iter(TAGS))
    tags = {**{name: share for name, share in TAGS.items() if name != gone}, "tag of the new one": 0.9}
    now = make_prediction_summary(rng, 900, tags=tags)
    for knows in (True, False):  # records of an earlier mgc do not hold what a bundle knows
        new = replace(now, vocabulary=[*GENRES, *tags] if knows else ())
        old = [
            replace(run, prediction_summary=replace(run.prediction_summary, vocabulary=names if knows else ()))
            for run in history
        ]
        drift = detect_drift(made_run(new, 99, bundle_fingerprint="another"), old)
        assert drift.left_out == sorted([gone, "tag of the new one"])
        assert not drift.moved
        assert "Not compared, because one of the bundles does not know them: " in drift_verdict(drift)
    silent = replace(now, tags={}, vocabulary=names)
    history = [replace(run, prediction_summary=replace(run.prediction_summary, vocabulary=names)) for run in history]
    drift = detect_drift(made_run(silent, 99, bundle_fingerprint="another"), history)
    assert ("tag", gone) in [(one.kind, one.name) for one in drift.moved], "a tag that it knows and never lists"


def test_runs_of_the_same_bundle_are_what_is_compared_with() -> None:
    rng = generator(5)
    older = made_history(rng, 3, 500, genres=tuple(reversed(SHARES)))
    newer = [made_run(make_prediction_summary(rng, 500), number, bundle_fingerprint="another") for number in (4, 5)]
    drift = detect_drift(made_run(make_prediction_summary(rng, 500), 6, bundle_fingerprint="another"), older + newer)
    assert drift.against == ["run-4", "run-5"]
    assert drift.moved == []


def test_nothing_to_compare_is_reported() -> None:
    rng = generator(6)
    assert (
        detect_drift(made_run(make_prediction_summary(rng, 300)), []).why_not
        == "there is no earlier run to compare with"
    )
    few = detect_drift(made_run(make_prediction_summary(rng, 12), 2), made_history(rng, 1, 500))
    assert few.why_not == "12 tracks beside 500 of earlier runs are too few to compare"
    assert (few.shifts, few.moved) == ([], [])


def test_runs_with_one_genre_or_without_an_answer() -> None:
    rng = generator(7)
    plain = make_prediction_summary(rng, 200, genres=(1, *[0] * 9), tags={}, failed={})
    assert detect_drift(made_run(plain, 2), [made_run(plain, 1)]).moved == []
    dead = PredictionSummary(tracks=200, failed={"T103_FETCH_FAILED": 200})
    assert set(moved_names(made_run(dead, 2), [made_run(plain, 1)])) == {
        ("failed", ""),
        ("code", "T103_FETCH_FAILED"),
    }
    assert detect_drift(made_run(plain, 2), [made_run(dead, 1)]).cause.startswith("Failures come from the files")


def compared(before: tuple[int, int], now: tuple[int, int]) -> tuple[float, float]:
    """Return Cohen's h and the p-value of (tracks that have something, all tracks)."""
    counts, totals = np.array([[before[0]], [now[0]]], float), np.array([before[1], now[1]], float)
    found = compare_shares(counts, totals)
    return float(found.effect[0]), float(found.p_value[0])


def test_shares_are_compared_by_g_test_and_fishers_where_few_are_expected() -> None:
    effect, p_value = compared((30, 100), (60, 100))
    expected = stats.chi2_contingency([[30, 70], [60, 40]], correction=False, lambda_="log-likelihood")
    assert p_value == pytest.approx(expected.pvalue)
    assert effect == pytest.approx(2 * np.arcsin(np.sqrt(0.6)) - 2 * np.arcsin(np.sqrt(0.3)))
    assert compared((0, 50), (3, 50))[1] == pytest.approx(stats.fisher_exact([[0, 50], [3, 47]]).pvalue)
    assert compared((0, 50), (0, 50)) == (0.0, 1.0)


def test_means_are_compared_by_welchs_test() -> None:
    means, variances, totals = np.array([0.5, 0.55]), np.array([0.04, 0.09]), np.array([400.0, 100.0])
    found = compare_means(means, variances, totals)
    assert (found.before, found.now) == (0.5, 0.55)
    assert found.p_value == pytest.approx(stats.chi2.sf(0.05**2 / (0.04 / 400 + 0.09 / 100), 1))
    assert found.effect == pytest.approx(0.05 / np.sqrt((0.04 * 400 + 0.09 * 100) / 500))
    assert compare_means(np.full(2, 0.5), np.zeros(2), np.full(2, 10.0)) == (0.5, 0.5, 0.0, 1.0)


def test_holm_corrects_in_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_runs_that_differ_by_themselves_make_the_tests_less_sure() -> None:
    """Between runs whose tracks come by tens, 20 points are no news; between runs of single tracks, they are."""
    rng = generator(8)
    totals = np.full(13, 400.0)
    now = np.full((1, 6), 200.0)
    alike = compare_shares(np.concatenate([rng.binomial(400, 0.3, (12, 6)).astype(float), now]), totals).p_value
    apart = compare_shares(np.concatenate([10.0 * rng.binomial(40, 0.3, (12, 6)), now]), totals).p_value
    assert alike.max() < 1e-6
    assert apart.min() > 0.001
    counts = np.array([[120.0], [200.0]])
    plain, designed = (compare_shares(counts, np.full(2, 400.0), effect).p_value[0] for effect in (1.0, 10.0))
    statistic = stats.chi2.isf(plain, 1)
    assert designed == pytest.approx(stats.chi2.sf(statistic / 10, 1))
