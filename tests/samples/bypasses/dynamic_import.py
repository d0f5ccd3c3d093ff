# mypy: ignore-errors
"""The import, hidden in a call."""

from __future__ import annotations

import importlib
import sys
from importlib import import_module as load

import pytest

NAME = "websocket"

by_module = importlib.import_module("websocket")  # finds: dynamic-import
by_alias = load("websocket._core")  # finds: dynamic-import
by_name = load(NAME)  # finds: dynamic-import
by_builtin = __import__("websocket")  # finds: dynamic-import
by_skip = pytest.importorskip("websocket")  # finds: dynamic-import
by_table = sys.modules["websocket"]  # finds: dynamic-import


def dial(url: str) -> object:
    return by_module.create_connection(url)  # finds: create-connection
