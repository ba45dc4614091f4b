"""What every group of settings is: frozen, strict, fingerprinted."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

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


def fingerprint_of(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
