"""The mark of a demo catalogue: what it was made with and which files are its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mgc.errors import StorageError

STAMP = ".mgc-demo.json"


@dataclass(frozen=True)
class Stamp:
    """The arguments and the files of a catalogue; `complete` only once every file is written."""

    arguments: str
    files: tuple[str, ...]
    complete: bool


def is_complete(folder: Path, arguments: str) -> bool:
    """Return True if the folder holds a finished catalogue of these arguments with none of its files missing."""
    stamp = _read(folder)
    return (
        stamp is not None
        and stamp.complete
        and stamp.arguments == arguments
        and all((folder / name).is_file() for name in stamp.files)
    )


def prepare_folder(folder: Path) -> None:
    """Create the folder, or delete what an earlier catalogue left in it; other files of its user stay.

    Raises
    ------
    StorageError
        It holds files and is not a demo catalogue, or is no folder, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stamp = _read(folder)
        if stamp is None and any(folder.iterdir()):
            raise StorageError(f"'{folder}' holds files and is no demo catalogue", "name an empty or a new folder")
        for name in stamp.files if stamp else ():
            if (folder / name).resolve().is_relative_to(folder.resolve()):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot write the demo catalogue to '{folder}': {error.strerror}", "name another folder"
        ) from error


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Write the mark; the one that says complete comes last."""
    (folder / STAMP).write_text(json.dumps(asdict(stamp), indent=1), encoding="utf-8")


def _read(folder: Path) -> Stamp | None:
    """Return the folder's mark, None where there is none that mgc wrote."""
    try:
        value = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return Stamp(str(value["arguments"]), tuple(map(str, value["files"])), bool(value["complete"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
