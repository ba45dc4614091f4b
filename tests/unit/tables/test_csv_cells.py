"""CSV cells: none is a formula to a spreadsheet, numbers stay numbers, and a manifest gets back what was written."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import polars as pl
import pytest

import mgc
from mgc.catalogue.joining import read_corrections
from mgc.catalogue.labels import keyed_by_track, read_manifest
from mgc.catalogue.listing import track_id_of
from mgc.cli.similar_command import write_table
from mgc.cli.write_tags_command import _write_csv
from mgc.config import CatalogueConfig
from mgc.curation.filetags.write_plan import TagChange
from mgc.curation.review_queue import COLUMNS
from mgc.tables.csv_cells import csv_of_frame, csv_of_rows, without_mark
from mgc.tables.feature_export import _as_file
from mgc.training.search import SearchResult, Trial, _table

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "=a,b",
    '=HYPERLINK("http://x","y")',
    "'=1",
    "''-1",
]
PLAIN = ["a=1", "", "1", "'quoted'", "it's", "–", "Sigur Rós"]


def cells(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def test_a_text_that_begins_as_formulas_do_begins_with_an_apostrophe() -> None:
    texts = [*FORMULAS, *PLAIN]
    marked = [f"'{text}" for text in FORMULAS] + PLAIN
    assert [row[0] for row in cells(csv_of_rows(["a", "n"], [(text, -1) for text in texts]))[1:]] == marked
    frame = pl.DataFrame({"a": texts, "n": -1.5})
    data = csv_of_frame(frame)
    assert [row[0] for row in cells(data)[1:]] == marked
    assert {row[1] for row in cells(data)[1:]} == {"-1.5"}
    assert {row[1] for row in cells(csv_of_rows(["a", "n"], [("x", -1)]))[1:]} == {"-1"}
    back = pl.read_csv(data, infer_schema=False).select(without_mark(pl.col("a")).fill_null(""))
    assert back["a"].to_list() == texts


def test_null_is_an_empty_cell() -> None:
    assert csv_of_frame(pl.DataFrame({"a": [None, "x"]})) == b"a\n\nx\n"
    assert cells(csv_of_rows(["a", "b"], [(None, "x")]))[1] == ["", "x"]


@pytest.mark.parametrize("name", ["=1+1.mp3", "@a/-b.mp3", "'=x.mp3", "-", "+a.mp3", "'a.mp3"])
def test_a_filled_in_review_queue_names_the_tracks_it_was_written_for(tmp_path: Path, name: str) -> None:
    queue = pl.DataFrame({column: [name if column in ("path", "uri") else ""] for column in COLUMNS})
    uri = str(tmp_path / "review.csv")
    write_table(queue.with_columns(track_id=pl.lit(track_id_of(name)), score=pl.lit(-0.5)), uri)
    sheet = pl.read_csv(uri, infer_schema=False)
    assert sheet["path"][0][0] == "'"
    sheet.with_columns(genre=pl.lit("'-wave"), tags=pl.lit("'=odd|slow")).write_csv(uri)
    found = read_corrections(CatalogueConfig(corrections=(uri,)), "/music")
    assert found is not None
    row = {"track_id": track_id_of(name), "name": name, "genre": "-wave", "tags": ["=odd", "slow"]}
    assert found.to_dicts() == [row]


def test_a_parquet_manifest_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pl.DataFrame({"path": ["'=a.mp3"], "genre": ["rock"]}).write_parquet(path)
    keyed = keyed_by_track(read_manifest(str(path), CatalogueConfig()), "/music")
    assert keyed["track_id"].to_list() == [track_id_of("'=a.mp3")]


def test_every_command_writes_such_cells(tmp_path: Path) -> None:
    trial = Trial(0, {"model.name": "=1"}, -0.5, None, None, 1, 1, 2.0, failed="@x")
    searched = cells(_table(SearchResult("k", "loss", "valid", [trial])))[1]
    assert searched == ["0", "'=1", "-0.5", "", "", "1", "1", "2.0", "'@x"]
    table = pl.DataFrame({"uri": ["=1"], "tags": [["-a", "b"]], "mean": [-1.0]})
    assert _as_file(table, "x.csv") == b"uri,tags,mean\n'=1,'-a|b,-1.0\n"
    changes = tmp_path / "changes.csv"
    before, after = {"genre": ("+a",)}, {"genre": ("-b", "c")}
    _write_csv([TagChange("t", "=u", "c", "file", "@t", None, before, after)], str(changes))  # type: ignore[arg-type]
    assert cells(changes.read_bytes())[1] == ["t", "'=u", "'@t", "file", "genre", "'+a", "'-b; c", ""]


def test_no_other_module_writes_csv() -> None:
    root = Path(mgc.__file__).parent
    others = [path for path in root.rglob("*.py") if path.name != "csv_cells.py"]
    assert [
        path
        for path in others
        if re.search(r"^import csv$", path.read_text(), re.M) or ".write_csv(" in path.read_text()
    ] == []
