"""The same programs with websocket-client and ``wsclient.compat``: the same callbacks, but for a list."""

from __future__ import annotations

from pathlib import Path

import pytest
import websocket
from compat_scenarios import SCENARIOS, leaking, run

from wsclient import compat

GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "migrating.md").read_text(encoding="utf-8")
SAME = [name for name, scenario in SCENARIOS.items() if not scenario.differs]
DIFFERENT = [name for name, scenario in SCENARIOS.items() if scenario.differs]


@pytest.mark.parametrize("name", SAME)
def test_the_same_callbacks_in_the_same_order(name: str) -> None:
    with leaking():
        theirs = run(websocket, SCENARIOS[name])
    assert run(compat, SCENARIOS[name]) == theirs


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_different_on_purpose(name: str) -> None:
    scenario = SCENARIOS[name]
    ours = run(compat, scenario)
    assert ours == scenario.notes
    with leaking():
        assert ours != run(websocket, scenario)
    assert scenario.differs in GUIDE
