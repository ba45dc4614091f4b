"""A folder full of modules named like the standard library and dependencies, each of which leaves a mark when run."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

MARK = "import os; os.close(os.open({mark!r} + __name__, os.O_CREAT | os.O_WRONLY))\n"
BEFORE_ANY_PROGRAM = {"contextlib", "functools", "types", "warnings", "importlib", "runpy"}
"""Modules that `python -m` may import itself, the current folder first in its path; `python -P -m` does not."""


def write_hostile_modules(folder: Path, marks: Path, *, but: set[str] = frozenset()) -> int:  # type: ignore[assignment]
    """Write the modules, and return how many; `marks` is a folder where each leaves an empty file of its name."""
    marks.mkdir()
    names = {*sys.stdlib_module_names, *packages_distributions(), "sitecustomize", "usercustomize", "mgc"} - but
    names = {name for name in names if name.isidentifier()}
    source = MARK.format(mark=f"{marks}/")
    for name in names:
        (folder / f"{name}.py").write_text(source)
    package = folder / "mgc"
    if "mgc" in names:
        (folder / "mgc.py").unlink()
        package.mkdir()
        (package / "__init__.py").write_text(source)
    return len(names)


def write_console_script(folder: Path) -> str:
    """Return a script like the one that an installer makes of `mgc`."""
    path = folder / "mgc"
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom mgc.cli.app import main\nsys.exit(main())\n")
    path.chmod(0o755)
    return str(path)
