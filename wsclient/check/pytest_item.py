"""``pytest --ws-check[=PATH]``: the bypass checker as an item of the test run, one for each path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wsclient.check.rules import Finding, UsageError
from wsclient.check.runner import check_paths

__all__ = ["CheckItem", "CheckRun"]


class CheckRun:
    """Adds the items to a run with ``--ws-check``."""

    @pytest.hookimpl(tryfirst=True)  # so that -k and -m choose among these items, too
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Add one item for each path."""
        items += [CheckItem.make(session, path) for path in _paths(config, config.getoption("--ws-check"))]


def _paths(config: pytest.Config, asked: list[str]) -> Iterator[Path]:
    named = [config.invocation_params.dir / path for path in asked if path]
    default = config.getini("ws_check_paths") or [
        config.invocation_params.dir / argument.partition("::")[0] for argument in config.args
    ]
    yield from dict.fromkeys(named or default)


class BypassFound(Exception):
    """The findings of one item."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))


class CheckItem(pytest.Item):
    """Checks one path; fails with the findings."""

    path_to_check: Path  # set once, by ``make``

    @classmethod
    def make(cls, session: pytest.Session, path: Path) -> CheckItem:
        """The item for one path."""
        item: CheckItem = cls.from_parent(session, name=f"ws-check: {_short(path, session.config.rootpath)}")
        item.path_to_check = path
        return item

    def runtest(self) -> None:
        """Check, and raise what was found."""
        findings = check_paths([self.path_to_check])
        if findings:
            raise BypassFound(findings)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """The findings as lines, or why nothing could be checked; without a traceback."""
        if isinstance(excinfo.value, BypassFound | UsageError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands in the report."""
        return self.path_to_check, None, self.name


def _short(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
