"""The review queue: whom it asks for, in which order, and that what is filled in comes back as labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from audio_samples import short_wav
from curation_makers import frame, prediction, tagged_folder, unit_rows
from table_makers import catalogue as table_of_tracks

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cli.index_command import index
from mgc.cli.similar_command import review
from mgc.config import CatalogueConfig
from mgc.curation.review_queue import COLUMNS, ReviewOptions, review_queue
from mgc.errors import ConfigError, LabelError


def queue(rows: list[dict[str, Any]], options: ReviewOptions | None = None, **columns: Any) -> list[str]:
    """Return the track ids of the queue over unlabelled tracks of these predictions."""
    tracks = table_of_tracks({row["track_id"]: "c" for row in rows}).with_columns(genre=pl.lit(None, pl.String))
    return review_queue(frame(rows).with_columns(**columns), tracks, "/music", options)["track_id"].to_list()


def rows_at(probabilities: list[float], vectors: np.ndarray[Any, Any] | None = None) -> list[dict[str, Any]]:
    places = unit_rows(np.random.default_rng(0).standard_normal((9, 8))) if vectors is None else vectors
    return [
        prediction(f"t{number}", f"/music/t{number}.wav", "c", genre_probability=p, embedding=places[number].tolist())
        for number, p in enumerate(probabilities)
    ]


def test_the_torn_come_first_and_the_sure_not_at_all() -> None:
    corners = np.eye(8, dtype=np.float32)[:4]  # all as far from each other: only the margin differs
    assert queue(rows_at([0.7, 0.95, 0.51, 0.6], corners))[0] == "t2"
    assert set(queue(rows_at([0.7, 0.95, 0.51, 0.6], corners))) == {"t0", "t2", "t3"}
    everyone = ReviewOptions(max_margin=1.0)
    assert set(queue(rows_at([0.7, 0.95, 0.51, 0.6], corners), everyone)) == {"t0", "t1", "t2", "t3"}


def test_an_abstained_track_is_asked_for_however_sure_but_after_the_torn() -> None:
    corners = np.eye(8, dtype=np.float32)[:3]
    rows = rows_at([0.95, 0.6, 0.95], corners)
    assert queue(rows, abstained=pl.Series([True, False, False])) == ["t1", "t0"]


def test_stale_answers_of_an_older_bundle_are_left_out() -> None:
    rows = rows_at([0.6, 0.6, 0.6])
    older = rows[1] | {"bundle_fingerprint": "older", "embedding": [1.0, 0.0]}
    assert set(queue([rows[0], older, rows[2]])) == {"t0", "t2"}


def test_copies_do_not_fill_the_queue() -> None:
    random = np.random.default_rng(1)
    copies = np.repeat(random.standard_normal((1, 16)), 30, axis=0) + 1e-4 * random.standard_normal((30, 16))
    others = random.standard_normal((30, 16))
    rows = rows_at([0.5] * 30 + [0.65] * 30, unit_rows(np.concatenate([copies, others])))
    first = queue(rows, ReviewOptions(tracks=10))
    assert sum(int(track[1:]) < 30 for track in first) <= 2


def test_of_equally_torn_tracks_the_one_among_many_is_first() -> None:
    random = np.random.default_rng(2)
    crowd = random.standard_normal(16) + 0.2 * random.standard_normal((40, 16))
    lonely = random.standard_normal((20, 16))
    rows = rows_at([0.55] * 60, unit_rows(np.concatenate([crowd, lonely])))
    assert int(queue(rows)[0][1:]) < 40


def test_labelled_and_failed_tracks_are_not_asked_for_unless_told() -> None:
    rows = [*rows_at([0.5, 0.5]), prediction("bad", "/music/bad.wav", "c", error_code="T203_DECODE_FAILED")]
    tracks = table_of_tracks({row["track_id"]: "c" for row in rows}, genre="rock")
    assert review_queue(frame(rows), tracks, "/music").is_empty()
    found = review_queue(frame(rows), tracks, "/music", ReviewOptions(labelled_too=True))
    assert set(found["track_id"]) == {"t0", "t1"}
    assert found.columns == COLUMNS
    assert found["path"][0].startswith("t")
    assert "labelled rock" in found["why"][0]


def test_a_queue_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be"):
        ReviewOptions(tracks=0)
    (tmp_path / "review.csv").write_text("filled in")
    with pytest.raises(ConfigError, match="may be filled in"):
        review("catalogue.parquet", "predictions", str(tmp_path / "review.csv"))


def test_what_is_filled_in_comes_back_as_labels(tmp_path: Path) -> None:
    files = {f"{name}.wav": short_wav() for name in "abcd"}
    places = zip("abcd", np.eye(4).tolist(), strict=True)
    torn = {name: {"genre_probability": 0.5, "embedding": place} for name, place in places}
    tagged = tagged_folder(tmp_path, files, **torn)
    review(str(tagged.catalogue), str(tagged.predictions), str(tmp_path / "review.csv"))
    sheet = pl.read_csv(tmp_path / "review.csv", infer_schema=False)
    assert sheet.height == 4
    said = {"a.wav": ("rock", "drums|bass"), "b.wav": ("jazz", "-")}
    filled = sheet.with_columns(
        genre=pl.Series([said.get(path, ("", ""))[0] for path in sheet["path"]]),
        tags=pl.Series([said.get(path, ("", ""))[1] for path in sheet["path"]]),
    )
    filled.write_csv(tmp_path / "filled.csv")
    index(str(tagged.music), str(tagged.catalogue), corrections=[str(tmp_path / "filled.csv")])
    rows = tagged.tracks().select("uri", "genre", "tags", "tags_known").iter_rows()
    labels = {Path(uri).name: rest for uri, *rest in rows}
    assert labels["a.wav"] == ["rock", ["drums", "bass"], True]
    assert labels["b.wav"] == ["jazz", [], True]
    assert labels["c.wav"] == [None, [], False]
    assert set(tagged.tracks().filter(pl.col("genre").is_not_null())["split"]) <= {"train", "valid"}
    review(str(tagged.catalogue), str(tagged.predictions), str(tmp_path / "again.csv"))
    assert set(pl.read_csv(tmp_path / "again.csv")["path"]) == {"c.wav", "d.wav"}


def test_a_later_word_wins_and_conflicts_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for name in "abc":
        (music / f"{name}.wav").write_bytes(short_wav())
    (tmp_path / "first.csv").write_text("path,genre,tags\na.wav,jazz,piano\nb.wav,jazz,piano\nc.wav,rock,drums\n")
    (tmp_path / "one.csv").write_text("path,genre,tags\na.wav,rock,\nb.wav,,strings\ngone.wav,rock,\n")
    (tmp_path / "two.csv").write_text("path,genre\na.wav,blues\n")
    target = str(tmp_path / "catalogue.parquet")
    words = [str(tmp_path / "one.csv"), str(tmp_path / "two.csv")]
    index(str(music), target, manifest=str(tmp_path / "first.csv"), corrections=words)
    rows = read_catalogue(target).with_columns(pl.col("uri").str.split("/").list.last())
    labels = {name: (genre, tags) for name, genre, tags in rows.select("uri", "genre", "tags").iter_rows()}
    assert labels == {"a.wav": ("blues", ["piano"]), "b.wav": ("jazz", ["strings"]), "c.wav": ("rock", ["drums"])}
    printed = capsys.readouterr().out
    assert "a.wav: jazz → blues" in printed
    assert "gone.wav" in printed
    config = CatalogueConfig(manifest=str(tmp_path / "first.csv"), corrections=tuple(words))
    summary = index_catalogue(str(music), target, config)
    assert (
        summary.corrections.tracks,
        summary.corrections.relabelled.count,
        summary.corrections.without_file.count,
    ) == (2, 1, 1)


def test_corrections_are_held_to_the_genres_allowed(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.wav").write_bytes(short_wav())
    (tmp_path / "one.csv").write_text("path,genre\na.wav,jaz\n")
    config = CatalogueConfig(genres=("jazz",), corrections=(str(tmp_path / "one.csv"),))
    with pytest.raises(LabelError, match="did you mean 'jazz'"):
        index_catalogue(str(tmp_path / "music"), str(tmp_path / "c.parquet"), config)
