from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from answer_makers import QUICK, genre_answers, mixed_answers, one_hot, tag_answers
from page_checker import HOSTILE, checked

from mgc.evaluation.answers import OUTSIDE, Failure, LabelledPredictions
from mgc.evaluation.comparison import compare
from mgc.evaluation.evaluate import evaluate
from mgc.reports.charts import confusion_chart
from mgc.reports.evaluation_report import ReportContext, evaluation_page, list_caveats, write_evaluation_report
from mgc.reports.svg import VARIABLES

HISTORY = [
    {"epoch": 1, "train_loss": 2.0, "valid_loss": 1.5, "valid_accuracy": 0.4, "seconds": 3.0},
    {"epoch": 2, "train_loss": 1.0, "valid_loss": 1.2, "valid_accuracy": None, "seconds": 3.0},
]


def context(**more: object) -> ReportContext:
    values: dict[str, object] = {
        "catalogue": "/data/catalogue.parquet",
        "bundle": "/data/bundle",
        "bundle_fingerprint": "bundlefingerprnt",
        "feature_fingerprint": "featurefingerprt",
    }
    return ReportContext(**(values | more))  # type: ignore[arg-type]


def hostile_answers() -> LabelledPredictions:
    answers = mixed_answers(60)
    return replace(
        answers,
        genres=[HOSTILE, "genre1", "日本の音楽", "g" * 200],
        tags=[HOSTILE, "b", "c", "d", "e"],
        failed=[Failure("x", HOSTILE)],
        outside_genres=(HOSTILE,),
        genre_true=np.where(np.arange(60) == 0, OUTSIDE, answers.genre_true),
        split=HOSTILE,
    )


def test_rare_tags_are_named_as_left_out_of_the_means() -> None:
    answers = mixed_answers(60)
    fewest, *_, most = sorted(int(column.sum()) for column in answers.tag_true.T)
    assert 0 < fewest < most
    evaluation = evaluate(answers, QUICK.model_copy(update={"min_tag_positives": most}))
    assert evaluation.tag is not None
    notes = " ".join(list_caveats(evaluation))
    rarer = len(answers.tags) - evaluation.tag.tags_in_mean
    assert f"that {most} tracks or more have here; rarer ones, {rarer} of {len(answers.tags)}," in notes
    assert "that no track here has" not in notes
    checked(evaluation_page(evaluation, context()))
    assert "in the table alone" not in " ".join(list_caveats(evaluate(answers, QUICK)))


def test_hostile_names_are_shown_and_not_run() -> None:
    answers = hostile_answers()
    uris = dict.fromkeys(answers.track_ids, f"s3://b/{HOSTILE}.mp3")
    baseline = compare(answers, answers, QUICK, name=HOSTILE, details=HOSTILE)
    page = evaluation_page(
        evaluate(answers, QUICK),
        context(
            catalogue=HOSTILE,
            bundle=HOSTILE,
            bundle_fingerprint=HOSTILE,
            protocol=HOSTILE,
            config={HOSTILE: [HOSTILE]},
            track_uris=uris,
            comparison=baseline,
            histories=[[{"epoch": 1, f"loss {HOSTILE}": 1.0}]],
        ),
    )
    checked(page)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") > 20


def test_page_shows_what_was_found() -> None:
    answers = mixed_answers(80)
    evaluation = evaluate(answers, QUICK)
    comparison = compare(answers, answers, QUICK, name="SVM", details="fitted somehow")
    page = evaluation_page(
        evaluation,
        context(
            protocol="Held out by artist.",
            histories=[HISTORY],
            comparison=comparison,
            config={"features": {"n_mels": 7}},
        ),
    )
    checked(page)
    assert evaluation.genre is not None
    assert evaluation.genre.accuracy.value is not None
    for text in (
        f"{100 * evaluation.genre.accuracy.value:.1f} %",
        *("bundlefingerprnt", "featurefingerprt", "Held out by artist.", "T201_EMPTY_FILE", "fitted somehow"),
        *("exactly as accurate", "Learning curves", "Most confident mistakes", "&#34;n_mels&#34;: 7"),
        *("tag4", "genre3"),
    ):
        assert text in page, text
    assert page.count("<svg") == 7


def test_security_policy_allows_no_request_and_knows_the_script_by_its_hash() -> None:
    page = evaluation_page(evaluate(mixed_answers(30), QUICK), context())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]+'", policy[1])
    assert "unsafe-eval" not in policy[1]


@pytest.mark.parametrize(
    "answers",
    [
        genre_answers([0, 0], [0, 0], 1),
        genre_answers([1], [1], 3),
        genre_answers([0, 1, 0, 1], [0, 1, 0, 1], 2),
        genre_answers(list(range(24)) * 2, list(range(24)) * 2, 24),
        tag_answers(np.zeros((4, 2)), np.zeros((4, 2))),
        tag_answers(np.eye(4), np.eye(4)),
        tag_answers(np.ones((1, 1)), np.ones((1, 1))),
    ],
    ids=["one genre", "one track", "all right", "many genres", "tags never", "tags once", "one tag always"],
)
def test_degenerate_evaluations_make_a_page(answers: LabelledPredictions) -> None:
    checked(evaluation_page(evaluate(answers, QUICK), context()))


def test_interval_without_width_is_not_shown_as_certainty() -> None:
    page = evaluation_page(evaluate(genre_answers([0, 1] * 10, [0, 1] * 10, 2), QUICK), context())
    assert "100.0 – 100.0" not in page
    assert "83.2 – 100.0 %" in page  # 20 of 20: 0.025 ** (1 / 20)


def test_report_is_written_as_json_and_page(tmp_path: Path) -> None:
    answers = mixed_answers(40)
    comparison = compare(answers, answers, QUICK, name="SVM")
    where = write_evaluation_report(
        evaluate(answers, QUICK), context(config={"a": 1}, comparison=comparison), str(tmp_path / "report")
    )
    assert where == str(tmp_path / "report" / "index.html")
    assert Path(where).read_text(encoding="utf-8").startswith("<!doctype html>")
    value = json.loads((tmp_path / "report" / "evaluation.json").read_text(encoding="utf-8"))
    assert value["context"]["bundle_fingerprint"] == "bundlefingerprnt"
    assert value["context"]["config"] == {"a": 1}
    assert value["comparison"]["accuracy_difference"]["value"] == 0.0
    assert value["genre"]["accuracy"] == value["comparison"]["evaluation"]["genre"]["accuracy"]


def test_page_is_the_same_each_time() -> None:
    evaluation = evaluate(mixed_answers(30), QUICK)
    made = context(histories=[HISTORY])
    assert evaluation_page(evaluation, made) == evaluation_page(evaluation, made)


def test_chart_is_well_formed_and_wears_the_colours_of_the_page() -> None:
    genre = evaluate(genre_answers([0, 1, 2, 0], [0, 1, 1, 0], 3, genres=[HOSTILE, "b", "c"]), QUICK).genre
    assert genre is not None
    svg = confusion_chart(genre)
    root = ET.fromstring(svg)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [word for word in words if word and word.isdigit()] == ["2", "1", "1"]
    assert any(word and word.startswith("<script>alert") for word in words)
    assert "var(--heat)" in svg
    assert not any(marker in svg for marker in VARIABLES)


def test_notes_speak_of_what_is_there() -> None:
    def caveats_of(answers: LabelledPredictions) -> str:
        return " ".join(list_caveats(evaluate(answers, QUICK)))

    perfect = caveats_of(genre_answers([0, 1] * 10, [0, 1] * 10, 2, split="valid"))
    assert "its interval, 83.2% to 100.0%, is exact" in perfect
    assert "flatter" in perfect
    assert "gave no answer" not in perfect
    mixed = caveats_of(replace(mixed_answers(60), split="train"))
    assert "how well it remembers" in mixed
    assert "2 tracks gave no answer" in mixed
    assert "62 tracks come from 21 groups" in mixed
    assert "points either way" in mixed
    lacking = caveats_of(
        genre_answers(
            [0, 1, OUTSIDE], [0, 1, 1], 3, outside_genres=("polka",), genre_probabilities=one_hot([0, 1, 1], 3)
        )
    )
    assert "1 track of genres the model never learned (polka)" in lacking
    assert "No track of genre2 is in this split" in lacking
    assert "no figure can be given" in caveats_of(tag_answers(np.array([[1, 0], [0, 0]]), np.ones((2, 2))))
