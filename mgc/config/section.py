"""What every group of settings is: frozen, strict, fingerprinted. And JSON, checked."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

T = TypeVar("T")
FINGERPRINT_DIGITS = 16
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused.

    `section_kind` stands in the fingerprint for what the settings are of, so that a class may be renamed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    section_kind: ClassVar[str]

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when, and only when, a setting of this section does."""
        return fingerprint_of({"section": self.section_kind, **self.model_dump(mode="json")})


def json_object(data: bytes | bytearray | str) -> dict[str, Any]:
    """Return the object that JSON holds.

    Raises
    ------
    ValueError
        It is no JSON, nested too deeply, or holds something else than an object.
    """
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - as all that is wrong with it
    return value


def from_json(kind: type[T], data: bytes | str) -> T:
    """Return a dataclass from the JSON of its fields, each of the type that it says; the same errors."""
    return of_fields(kind, json_object(data))


def of_fields(kind: type[T], fields: dict[str, Any]) -> T:
    """Return a dataclass from its fields, each of the type that it says; the same errors."""
    made: T = _adapter(kind).validate_python(fields)  # type: ignore[arg-type] # a class is hashable, mypy
    return made


@functools.cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)


class Table(Protocol):
    """Rows that come a batch at a time, as a polars frame's do."""

    def iter_slices(self) -> Iterator[Any]: ...


def fingerprint_of_rows(table: Table) -> str:
    """Return `fingerprint_of` all rows: as Python's objects they would take several times what the table takes."""
    digest = hashlib.sha256(b"[")
    for number, some in enumerate(table.iter_slices()):
        rows = _canonical_json(some.rows())[1:-1]
        digest.update((f",{rows}" if number else rows).encode())
    digest.update(b"]")
    return digest.hexdigest()[:FINGERPRINT_DIGITS]


def fingerprint_of(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of `value` as canonical JSON."""
    return hashlib.sha256(_canonical_json(value).encode()).hexdigest()[:FINGERPRINT_DIGITS]


def _canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
