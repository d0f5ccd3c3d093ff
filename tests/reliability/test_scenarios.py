"""Every scenario in a small form: a few thousand messages, a few faults, nothing lost."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

import wsclient
from reliability.account import Account
from reliability.command import UNAVAILABLE
from reliability.plan import Delivery, Plan
from reliability.processes import TESTS, environment, python
from reliability.run import Scenario
from reliability.scenarios import SCENARIOS

PLAN = Plan(messages=1600, faults=2, pace=50, hold=True)
HARMLESS = {"delay", "throttle"}  # a connection lives through them
_SECONDS = 55.0  # for a process with one scenario in it

pytestmark = pytest.mark.timeout(70)


def in_process(scenario: Scenario, plan: Plan, folder: Path) -> Account:
    """Run a scenario in a process of its own; skip the test where that cannot be had."""
    result = folder / "account.json"
    arguments = [
        "--messages",
        plan.messages,
        "--faults",
        plan.faults,
        "--pace",
        plan.pace,
        "--patience",
        plan.patience,
    ]
    command = python("reliability", scenario.name, *arguments, "--delivery", plan.delivery.value, "--hold")
    done = subprocess.run(
        [*command, "--json", str(result)],
        cwd=TESTS,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode == UNAVAILABLE:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    return Account.from_dict(json.loads(result.read_text()))


def run(name: str, delivery: Delivery, folder: Path) -> Account:
    scenario = SCENARIOS[name]
    plan = Plan(**{**vars(PLAN), "delivery": delivery})
    return scenario.run(plan) if scenario.process is None else in_process(scenario, plan, folder)


RECONNECTS = pytest.mark.skipif(not hasattr(wsclient, "Reconnect"), reason="no reconnect in this version")


@RECONNECTS
@pytest.mark.parametrize("name", SCENARIOS)
def test_at_least_once_everything_arrives(name: str, tmp_path: Path) -> None:
    account = run(name, Delivery.AT_LEAST_ONCE, tmp_path)
    verdict = account.verdict
    assert verdict.complaints == ()
    assert (verdict.accepted, verdict.received) == (PLAN.messages, PLAN.messages)
    assert (verdict.in_doubt, verdict.unsent) == (0, 0)
    assert account.complaints == ()
    assert account.faults == PLAN.faults


@RECONNECTS
@pytest.mark.parametrize("name", SCENARIOS)
def test_at_most_once_nothing_arrives_twice(name: str, tmp_path: Path) -> None:
    account = run(name, Delivery.AT_MOST_ONCE, tmp_path)
    verdict = account.verdict
    assert verdict.complaints == ()
    assert verdict.duplicated == 0
    assert verdict.accepted == verdict.received + verdict.in_doubt == PLAN.messages
    assert account.complaints == ()


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_reconnect_the_account_is_balanced(name: str, tmp_path: Path) -> None:
    account = run(name, Delivery.PLAIN, tmp_path)
    verdict = account.verdict
    assert verdict.complaints == ()
    assert account.faults > 0
    assert verdict.accepted == verdict.received + verdict.in_doubt + verdict.unsent
    assert verdict.accepted > 0
    assert not {"near", "far"} & {interface for _, interface in socket.if_nameindex()}
    if name in HARMLESS:
        assert (verdict.received, account.reasons) == (PLAN.messages, {})
