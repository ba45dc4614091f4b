"""A file of labels as a table of text: CSV, a spreadsheet, or Parquet, whose columns keep their types.

What is certain is read: commas, semicolons or tabs, UTF-8 and UTF-16, any line ends, rows without a cell. An encoding
of eight bits is not certain: the error says where it was met and how it reads as Windows-1252.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
from collections.abc import Sequence

import polars as pl

from mgc.errors import LabelError
from mgc.storage.store import ObjectNotFoundError, Store, split_uri
from mgc.tables.csv_cells import cells_of, without_mark

KEYS = ("path", "uri", "track_id")
"""Columns that name a file, the first that is there counts."""

SEPARATORS = (",", ";", "\t")
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of .xlsx and .ods, and of .xls."""

_UTF16_AND_32 = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_label_file(uri: str) -> pl.DataFrame:
    """Return the rows of a file that have a cell; column names are trimmed and lower-case, each of them once.

    Raises
    ------
    LabelError
        It is missing, empty, or not to be read with certainty.
    """
    root, name = split_uri(uri)
    try:
        data = Store(root).read_bytes(name)
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except ObjectNotFoundError as error:
        raise LabelError(f"manifest '{uri}' does not exist", "check --manifest") from error
    except (OSError, EOFError) as error:
        raise LabelError(f"manifest '{uri}' is a damaged gzip file: {error}", "write it anew") from error
    suffix = name.lower().removesuffix(".gz").rpartition(".")[2]
    try:
        if data.startswith(b"PAR1") or suffix in ("parquet", "pq"):
            table = pl.read_parquet(io.BytesIO(data))
            frame = _named(table, table.columns, uri)
        else:
            table = _of_workbook(data, uri) if data.startswith(WORKBOOKS) else _of_text(data, suffix, uri)
            filled = table.filter(pl.any_horizontal(pl.all().str.strip_chars() != ""))
            frame = _named(filled.slice(1), filled.row(0), uri) if filled.height else filled
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise LabelError(
            f"manifest '{uri}' cannot be read: {reason}", "give a UTF-8 CSV or a Parquet file"
        ) from error
    if frame.is_empty():
        raise LabelError(f"manifest '{uri}' has no rows", "give a row for each labelled track")
    return frame


def _named(table: pl.DataFrame, header: Sequence[str | None], uri: str) -> pl.DataFrame:
    """Return a table under its header; columns without a name are left out."""
    names = _lower(header)
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise LabelError(f"manifest '{uri}' has more than one column '{twice[0]}'", "rename one of them")
    columns = zip(table.columns, names, strict=True)
    return table.select(pl.col(column).alias(name) for column, name in columns if name)


def _of_text(data: bytes, suffix: str, uri: str) -> pl.DataFrame:
    data = _as_utf8(data, uri).replace(b"\r\n", b"\n").replace(b"\r", b"\n").lstrip(b"\n")
    head, _, rest = data.partition(b"\n")
    if given := re.fullmatch(r'"?sep=(.)"?', head.decode().strip(" ")):  # a line that Excel reads, and writes
        separator, data = given[1], rest
    else:
        separator = _separator(head.decode(), "\t" if suffix == "tsv" else ",")
    # Everything as text: the track id 00012 is not the number 12.
    table = pl.read_csv(data, has_header=False, infer_schema=False, separator=separator)
    return table.with_columns(without_mark(pl.all()))


def _separator(head: str, usual: str) -> str:
    """Return what separates a header's names: that by which one of them is a key, else what gives the most."""
    names = {each: _lower(cells_of(head, each)) for each in SEPARATORS}
    return max(SEPARATORS, key=lambda each: (not {*KEYS}.isdisjoint(names[each]), len(names[each]), each == usual))


def _as_utf8(data: bytes, uri: str) -> bytes:
    if data.startswith(codecs.BOM_UTF8):
        return data.removeprefix(codecs.BOM_UTF8)
    mark, encoding = next((known for known in _UTF16_AND_32 if data.startswith(known[0])), (b"", "utf-8"))
    if not mark and b"\0" in data[:2]:  # an ASCII letter in UTF-16 has a zero byte
        encoding = "utf-16-be" if data.startswith(b"\0") else "utf-16-le"
    try:
        text = data.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecoded(data, error, uri) from error
    return data if encoding == "utf-8" else text.encode()


def _undecoded(data: bytes, error: UnicodeDecodeError, uri: str) -> LabelError:
    if error.encoding != "utf-8":
        return LabelError(
            f"manifest '{uri}' begins as {error.encoding} and is none: {error.reason}", "save it as UTF-8"
        )
    before = re.split(rb"\r\n|\r|\n", data[: error.start])
    cell = re.split(rb"[,;\t]", before[-1])[-1] + re.split(rb"[,;\t\r\n]", data[error.start :], maxsplit=1)[0]
    reading = cell.decode("cp1252", "replace").strip('" ')
    return LabelError(
        f"manifest '{uri}' is not UTF-8: line {len(before)} has the byte 0x{data[error.start]:02X}; as Windows-1252 "
        f"(cp1252) it reads '{reading}'",
        "save it as UTF-8 (Excel: 'CSV UTF-8'); if that reading is right: iconv -f WINDOWS-1252 -t UTF-8",
    )


def _of_workbook(data: bytes, uri: str) -> pl.DataFrame:
    """Return the one sheet that has a key among its names; the first where none has."""
    try:
        sheets = pl.read_excel(
            io.BytesIO(data),
            sheet_id=0,
            has_header=False,
            read_options={"dtypes": "string"},
            raise_if_empty=False,
        )
    except ModuleNotFoundError as error:
        raise LabelError(
            f"manifest '{uri}' is a spreadsheet, and fastexcel, which reads it, is not installed",
            "pip install 'mgc-tagger[excel]', or save it as 'CSV UTF-8'",
        ) from error
    except Exception as error:  # of fastexcel, which names no base of its own
        reason = str(error).splitlines()[0]
        raise LabelError(
            f"manifest '{uri}' is a spreadsheet or an archive that cannot be read: {reason}", "save it as 'CSV UTF-8'"
        ) from error
    keyed = [name for name, sheet in sheets.items() if sheet.height and not {*KEYS}.isdisjoint(_lower(sheet.row(0)))]
    if len(keyed) > 1:
        raise LabelError(
            f"manifest '{uri}' has labels on {len(keyed)} sheets: {', '.join(keyed)}", "keep one of them"
        )
    return sheets[keyed[0]] if keyed else next(iter(sheets.values()))


def _lower(names: Sequence[str | None]) -> list[str]:
    return [(name or "").strip("\ufeff\u200b").strip().lower() for name in names]
