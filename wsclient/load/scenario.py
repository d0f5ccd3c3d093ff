"""A scenario: a Python file that says what one user does, over and over.

::

    def scenario(client):              # required: called again and again by each worker
        client.send_json({"type": "question"})
        client.wait_for(type="answer")

    def setup(client): ...             # optional: once for each connection, before its first call
    def teardown(client): ...          # optional: once for each connection, after its last call

``client`` is the ``wsclient.testing.TestClient`` of the connection, shared by its workers; it remembers the
last 1,000 messages. What ``scenario`` raises is an error of that call; the next call comes anyway.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

__all__ = ["REMEMBERED", "Scenario", "load_scenario"]

REMEMBERED: Final = 1_000  # messages that a client keeps, read or not: a run may last for hours

Step: TypeAlias = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Scenario:
    """The functions of a scenario file."""

    scenario: Step
    setup: Step | None = None
    teardown: Step | None = None


def load_scenario(path: str) -> Scenario:
    """Run the file and take its functions.

    Raises:
        ValueError: it cannot be read or run, or has no function ``scenario``; the text names the file.
    """
    spec = importlib.util.spec_from_file_location(f"_wsclient_scenario_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"scenario: {path!r} is no Python file: its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the file does
        raise ValueError(f"scenario: {path!r} cannot be run: {type(error).__name__}: {error}") from error
    return Scenario(
        _required(module, path), _optional(module, path, "setup"), _optional(module, path, "teardown")
    )


def _required(module: ModuleType, path: str) -> Step:
    step = _optional(module, path, "scenario")
    if step is None:
        raise ValueError(f"scenario: {path!r} has no function scenario(client)")
    return step


def _optional(module: ModuleType, path: str, name: str) -> Step | None:
    step: Step | None = getattr(module, name, None)
    if step is not None and not callable(step):
        raise ValueError(f"scenario: {name} in {path!r} is no function")
    return step
