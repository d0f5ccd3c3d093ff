"""The bypass checker: finds, in the syntax tree, what goes round a ``Connection``.

On the command line ``python -m wsclient.check PATH...``, in a test run ``pytest --ws-check``, from Python::

    from wsclient.check import check_paths
    assert check_paths(["tests"]) == []

It needs nothing but the standard library, imports nothing of what it checks, and runs none of it. Nothing
here is shared between calls: any thread may check.
"""

from __future__ import annotations

from wsclient.check.allowances import Allowance
from wsclient.check.config import Config, load_config, read_config
from wsclient.check.rules import DEFAULT_RULES, RULES, UNPARSEABLE, Finding, Rule, UsageError
from wsclient.check.runner import check_paths, check_source

__all__ = [
    "DEFAULT_RULES",
    "RULES",
    "UNPARSEABLE",
    "Allowance",
    "Config",
    "Finding",
    "Rule",
    "UsageError",
    "check_paths",
    "check_source",
    "load_config",
    "read_config",
]
