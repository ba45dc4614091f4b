"""docs/predictions.md: its queries run, and the ones in SQL and in polars answer alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import tiny_predictions
from deltalake import DeltaTable
from in_process import without_ray
from tiny_predictions import tag_once

from mgc.tables.schema import CURRENT_PREDICTIONS, PREDICTIONS

PAGE = (Path(__file__).parents[3] / "docs" / "predictions.md").read_text(encoding="utf-8")
SQL = re.findall(r"```sql\n(.*?)```", PAGE, re.S)
POLARS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
READERS = re.findall(r"```py\n(.*?)```", PAGE, re.S)
NAMES = ["genres", "piano", "failed", "moved", "deleted"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with three runs of predictions: failures, another bundle's other genre, a deletion."""
    without_ray(monkeypatch)
    monkeypatch.chdir(tmp_path)
    contents = {f"a{number}": "1" for number in range(6)} | {"b1": "broken", "b2": "broken", "c": "offline"}
    tag_once("predictions", contents)
    plain = tiny_predictions.prediction

    def rock(*identity: str, **changes: Any) -> dict[str, Any]:
        unsure = {"genre": "rock", "genre_probability": 0.5, "abstained": True} if identity[0] < "a3" else {}
        return plain(*identity, **(changes | unsure))

    with monkeypatch.context() as patch:
        patch.setattr(tiny_predictions, "prediction", rock)
        tag_once("predictions", contents, bundle="other")
    del contents["a5"]
    tag_once("predictions", contents, bundle="other")
    return tmp_path


def plain_rows(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(round(cell, 3) if isinstance(cell, float) else cell for cell in row) for row in frame.iter_rows()]


def test_five_questions_are_answered_alike_in_sql_and_in_polars(place: Path) -> None:
    assert (len(SQL), len(POLARS)) == (5, 5)
    space: dict[str, Any] = {}
    current = DeltaTable("predictions/current").to_pyarrow_dataset()
    with duckdb.connect() as database:
        database.register("current", current)
        database.execute("SET TimeZone = 'UTC'")
        answers = {
            name: pl.DataFrame(database.sql(query).to_arrow_table()) for name, query in zip(NAMES, SQL, strict=True)
        }
    for block in POLARS:
        exec(block, space)
    for name in NAMES:
        assert plain_rows(answers[name]) == plain_rows(space[name]), name
    assert plain_rows(answers["genres"]) == [("rock", 3, 0.5, 3), ("jazz", 2, 0.9, 0)]
    assert answers["piano"].height == 5
    assert [row[:2] for row in plain_rows(answers["failed"])] == [("T203_DECODE_FAILED", 2), ("T103_FETCH_FAILED", 1)]
    assert plain_rows(answers["moved"]) == [(f"/music/a{number}.wav", "jazz", "rock") for number in range(3)]
    assert [row[:2] for row in plain_rows(answers["deleted"])] == [("/music/a5.wav", "jazz")]


def test_the_page_names_the_columns_that_all_readers_see(place: Path) -> None:
    listed = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [a-z]", PAGE[PAGE.index("## Columns") :], re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(listed))) == sorted(CURRENT_PREDICTIONS.names)
    athena = re.search(r"CREATE EXTERNAL TABLE history \((.*?)\)\nPARTITIONED", PAGE, re.S)
    assert athena is not None
    assert sorted(
        re.findall(r"(?:^|, )\s*(\w+) (?:string|double|float|boolean|map|array|int|bigint|time)", athena[1], re.M)
    ) == (sorted(PREDICTIONS.names))
    table = DeltaTable("predictions/current")
    assert duckdb.from_arrow(table.to_pyarrow_dataset()).columns == CURRENT_PREDICTIONS.names
    assert list(table.to_pandas().columns) == CURRENT_PREDICTIONS.names
    assert pl.read_delta("predictions/current").columns == CURRENT_PREDICTIONS.names
    assert set(pd.read_parquet("predictions/history").columns) == {*PREDICTIONS.names, "run_date"}


def test_each_way_to_read_current_that_the_page_shows_gives_its_rows(place: Path) -> None:
    heights = []
    for block in READERS:
        *before, last = block.strip().splitlines()
        if "ray" not in block:  # tests/integration has that one
            space: dict[str, Any] = {}
            exec("\n".join(before), space)
            heights.append(rows_of(eval(last, space)))
    assert heights == [8, 8, 8, 8]


def rows_of(found: Any) -> int:
    if isinstance(found, pl.LazyFrame):
        found = found.collect()
    elif isinstance(found, duckdb.DuckDBPyRelation):
        return sum(count for _, count in found.fetchall())
    return len(found)


@pytest.mark.parametrize(
    "read",
    [
        lambda: duckdb.sql("SELECT count(*) FROM 'predictions/current/*.parquet'").fetchall(),
        lambda: duckdb.sql("SELECT count(*) FROM 'predictions/current/**/*.parquet'").fetchall(),
        lambda: duckdb.sql("SELECT * FROM read_parquet('predictions/current/**', union_by_name = true)").fetchall(),
        lambda: pl.scan_parquet("predictions/current/*.parquet").collect(),
        lambda: pl.scan_parquet("predictions/current/**/*.parquet", missing_columns="insert").collect(),
        lambda: pl.read_parquet("predictions/current"),
        lambda: pl.read_parquet("predictions/current/"),
        lambda: pd.read_parquet("predictions/current"),
        lambda: pq.read_table("predictions/current"),
        lambda: ds.dataset("predictions/current", format="parquet").to_table(),
    ],
)
def test_whoever_reads_the_files_of_current_as_such_gets_an_error_and_no_rows(
    place: Path, read: Callable[[], object]
) -> None:
    with pytest.raises(
        Exception, match=r"READ-AS-DELTA-TABLE|No files found|empty|different file ext|must end with PAR1"
    ):
        read()
