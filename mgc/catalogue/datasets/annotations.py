"""The files that describe a data set: where they are looked for, and how their tables are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from mgc.errors import LabelError
from mgc.storage.store import ObjectNotFoundError, Store, split_uri


@dataclass(frozen=True)
class Annotations:
    """The folders in which a data set's description may lie.

    Parameters
    ----------
    dataset
        Its name, for messages.
    folders
        Paths or URIs, in the order in which they are tried.
    """

    dataset: str
    folders: tuple[str, ...]

    @classmethod
    def locate(cls, dataset: str, root: str, subfolder: str, given: str | None) -> Annotations:
        """Return the folder given, or those where the data set's archives unpack: in the root or beside it."""
        if given is not None:
            return cls(dataset, (given, f"{given.rstrip('/')}/{subfolder}") if subfolder else (given,))
        parent, _, _ = root.rstrip("/").rpartition("/")
        places = [root.rstrip("/"), parent]
        return cls(dataset, tuple(f"{place}/{name}".rstrip("/") for name in (subfolder, "") for place in places))

    def read(self, name: str, remedy: str) -> bytes:
        """Return a file's bytes.

        Raises
        ------
        LabelError
            It is in none of the folders; the message names them.
        """
        found = self.read_optional(name)
        if found is None:
            looked = ", ".join(f"'{folder}'" for folder in dict.fromkeys(self.folders))
            raise LabelError(f"{self.dataset}: '{name}' is missing; looked in {looked}", remedy)
        return found

    def read_optional(self, name: str) -> bytes | None:
        """Return a file's bytes, None where it is in none of the folders."""
        for folder in self.folders:
            root, key = split_uri(f"{folder}/{name}")
            try:
                return Store(root).read_bytes(key)
            except ObjectNotFoundError:
                continue
        return None

    def table(self, name: str, data: bytes, separator: str, columns: tuple[str, ...]) -> pl.DataFrame:
        """Return a table of text columns.

        Raises
        ------
        LabelError
            It cannot be read, has no row, or lacks one of `columns`.
        """
        frame = self.csv(name, data, separator=separator)
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            raise self.unlike(
                name, f"it has no column {', '.join(missing)} (it has {', '.join(frame.columns[:6])}, …)"
            )
        if frame.is_empty():
            raise self.unlike(name, "it has no rows")
        return frame

    def csv(self, name: str, data: bytes, **options: Any) -> pl.DataFrame:
        """Return a CSV as text columns, read with options of `polars.read_csv`.

        Raises
        ------
        LabelError
            It cannot be read.
        """
        try:
            return pl.read_csv(data, infer_schema=False, **options)
        except pl.exceptions.PolarsError as error:
            raise self.unlike(name, str(error).splitlines()[0]) from error

    def unlike(self, name: str, reason: str) -> LabelError:
        """Return the error for a file that is not as the data set has it."""
        return LabelError(
            f"{self.dataset}: '{name}' is not the data set's own: {reason}", "download it anew; see docs/datasets.md"
        )
