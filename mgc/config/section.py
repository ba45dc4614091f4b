"""What every group of settings is: frozen, strict, fingerprinted. And JSON, checked."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

T = TypeVar("T")
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


def fingerprint_of(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
