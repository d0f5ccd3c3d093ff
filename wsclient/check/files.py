"""Which files to check: those named, and the Python files of the folders named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from wsclient.check.rules import UsageError

__all__ = ["python_files"]

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


def python_files(paths: Iterable[Path | str]) -> list[Path]:
    """Every file once, in a stable order: as the paths are given, within a folder by name.

    A file that is named is taken whatever its name. In a folder only ``*.py`` is; hidden folders, virtual
    environments, ``node_modules`` and the like are skipped, unless they are named themselves.

    Raises:
        UsageError: a path does not exist.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        for file in _walk(path) if path.is_dir() else [path]:
            found.setdefault(os.path.realpath(file), file)
    return list(found.values())


def _walk(folder: Path) -> Iterator[Path]:
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_skipped(Path(current, name)))
        yield from (Path(current, name) for name in sorted(names) if name.endswith(".py"))


def _is_skipped(folder: Path) -> bool:
    name = folder.name
    return name.startswith(".") or name in _SKIPPED or (folder / "pyvenv.cfg").exists()
