"""The configuration: ``[wsclient:check]`` of setup.cfg, or ``[tool.wsclient.check]`` of pyproject.toml."""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from wsclient.check.allowances import Allowance
from wsclient.check.rules import DEFAULT_RULES, UsageError, rules_named

__all__ = ["Config", "load_config", "read_config"]

_SECTION = "wsclient:check"
_TABLE = re.compile(r"^\s*\[\s*tool\s*\.\s*wsclient\s*(\.\s*check\b|\])", re.MULTILINE)
_KEYS = frozenset({"allow", "ignore", "rule"})


@dataclass(frozen=True)
class Config:
    """How to check.

    Attributes:
        root: the top of the project: patterns of ``allow`` start here.
        allow: what is allowed, in the order of the file.
        rules: the rules to check.
        strict: report allowances that allow nothing.
    """

    root: Path
    allow: tuple[Allowance, ...] = ()
    rules: frozenset[str] = DEFAULT_RULES
    strict: bool = False

    def select(self, rules: Sequence[str] = (), ignore: Sequence[str] = (), where: str = "") -> Config:
        """The same with these rules only (if any are named), and without those to ignore.

        Raises:
            UsageError: a rule does not exist.
        """
        chosen = rules_named(list(rules), where) if rules else self.rules
        return replace(self, rules=chosen - rules_named(list(ignore), where))


def load_config(paths: Sequence[Path | str]) -> Config:
    """The configuration that holds for these paths: the nearest one at or above what they have in common.

    Raises:
        UsageError: it can't be read, or says something impossible.
    """
    resolved = [os.path.abspath(path) for path in paths] or [os.getcwd()]
    try:
        common = Path(os.path.commonpath(resolved))
    except ValueError:  # on several drives
        common = Path.cwd()
    for folder in [common, *common.parents]:
        found = [config for name in ("setup.cfg", "pyproject.toml") if (config := _read(folder / name))]
        if len(found) > 1:
            raise UsageError(f"{folder}: both setup.cfg and pyproject.toml configure the check; keep one")
        if found:
            return found[0]
    return Config(Path.cwd())


def read_config(path: Path) -> Config:
    """The configuration in this file: TOML if its name ends so, otherwise like setup.cfg.

    Raises:
        UsageError: it can't be read, holds no such section, or says something impossible.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    config = _read(path)
    if config is None:
        raise UsageError(f"{path}: no section [{_SECTION}] (in TOML: [tool.wsclient.check])")
    return config


def _read(path: Path) -> Config | None:
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        settings = _toml_settings(path, text) if path.suffix == ".toml" else _ini_settings(text)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise UsageError(f"{path}: {error}") from error
    return None if settings is None else _config(path, text, settings)


def _config(path: Path, text: str, settings: Mapping[str, Any]) -> Config:
    unknown = sorted(set(settings) - _KEYS)
    if unknown:
        raise UsageError(f"{path}: unknown setting {', '.join(unknown)}; known: {', '.join(sorted(_KEYS))}")
    allow = tuple(
        Allowance(pattern, rules_named(list(rules), f"{path}: {pattern}"), path.name, _line_of(pattern, text))
        for pattern, rules in settings.get("allow", {}).items()
    )
    config = Config(Path(os.path.abspath(path)).parent, allow)
    return config.select(settings.get("rule", ()), settings.get("ignore", ()), str(path))


def _line_of(pattern: str, text: str) -> int:
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern in line), 1)


# setup.cfg


def _ini_settings(text: str) -> dict[str, Any] | None:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=None)
    if f"[{_SECTION}]" not in text:  # then its other sections are nobody's business here
        return None
    parser.read_string(text)
    if not parser.has_section(_SECTION):
        return None
    section = parser[_SECTION]
    settings: dict[str, Any] = {key: _words(value) for key, value in section.items()}
    if "allow" in section:
        settings["allow"] = _ini_allowances(section["allow"])
    return settings


def _ini_allowances(value: str) -> dict[str, list[str]]:
    allow: dict[str, list[str]] = {}
    for line in value.splitlines():
        entry = line.partition(" #")[0].strip()
        pattern, colon, rules = entry.rpartition(":")
        if entry and not (colon and pattern.strip() and _words(rules)):
            raise UsageError(f"[{_SECTION}] allow: {entry!r} is not 'path-pattern: rule, rule'")
        if entry:
            allow.setdefault(pattern.strip(), []).extend(_words(rules))
    return allow


def _words(value: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", value) if word]


# pyproject.toml


def _toml_settings(path: Path, text: str) -> dict[str, Any] | None:
    if not _TABLE.search(text):
        return None
    toml = _toml_library(path)
    try:
        table: Any = toml.loads(text).get("tool", {}).get("wsclient", {}).get("check")
    except ValueError as error:  # TOMLDecodeError is one
        raise UsageError(f"{path}: {error}") from error
    if table is not None:
        _check_shape(path, table)
    return table  # type: ignore[no-any-return]


def _toml_library(path: Path) -> ModuleType:
    for name in ("tomllib", "tomli"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    version = "{}.{}".format(*sys.version_info)
    raise UsageError(
        f"{path}: reading [tool.wsclient.check] on Python {version} needs the package tomli;"
        f" or use the section [{_SECTION}] of setup.cfg"
    )


def _check_shape(path: Path, table: Any) -> None:
    """Raise ``UsageError`` unless ``rule``, ``ignore`` and each pattern of ``allow`` have a list of names."""
    allow = table.get("allow", {}) if isinstance(table, dict) else None
    if not isinstance(allow, dict):
        raise UsageError(f"{path}: [tool.wsclient.check] allow is a table of 'path-pattern' = ['rule']")
    lists = {**allow, **{key: value for key, value in table.items() if key in {"rule", "ignore"}}}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{path}: [tool.wsclient.check] {key} is a list of rule names")
