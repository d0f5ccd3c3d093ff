"""What the pytest plugin does. ``pytest_wsclient`` is how pytest finds it, and loads this when needed."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack

import pytest

from wsclient.testing.factories import ClientFactory, FaultFactory, ServerFactory
from wsclient.testing.leaks import Resources
from wsclient.testing.raw_writes import RawWriteWatch

__all__ = ["LeakCheck", "RawWriteCheck", "check_leaks", "clients", "fault_servers", "servers"]


def servers() -> Iterator[ServerFactory]:
    """Body of the fixture ``ws_server``."""
    with ExitStack() as stack:
        yield ServerFactory(stack)


def fault_servers() -> Iterator[FaultFactory]:
    """Body of the fixture ``ws_faults``."""
    with ExitStack() as stack:
        yield FaultFactory(stack)


def clients() -> Iterator[ClientFactory]:
    """Body of the fixture ``ws_client``."""
    factory = ClientFactory()
    yield factory
    complaints = factory.finish()
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


def check_leaks() -> Iterator[None]:
    """Body of the fixture ``ws_no_leaks``."""
    before = Resources.now()
    yield
    leaks = before.leaked_since()
    if leaks:
        pytest.fail("the test leaked: " + "; ".join(leaks), pytrace=False)


class LeakCheck:
    """A plugin that is there with ``--ws-leaks=all``: every test is checked."""

    @pytest.fixture(autouse=True)
    def _ws_no_leaks_anywhere(self, ws_no_leaks: None) -> None:
        """The check that tests of the other fixtures get anyway."""


class RawWriteCheck:
    """A plugin that is there with ``--ws-forbid-raw``: a raw write fails the test that is running."""

    def __init__(self) -> None:
        self._watch = RawWriteWatch()

    def pytest_sessionstart(self) -> None:
        """Begin to watch before any test is imported."""
        self._watch.start()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """End it. What no test can be blamed for any more fails the run."""
        self._watch.stop()
        left = self._watch.take()
        if left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            reporter = session.config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None:
                reporter.write_line(_complaint(left), red=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fixtures may not write raw."""
        return (yield from self._checked(item, "setup"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Nor may tests."""
        return (yield from self._checked(item, "call"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Nor what cleans up behind them."""
        return (yield from self._checked(item, "teardown"))

    def _checked(self, item: pytest.Item, when: str) -> Generator[None, object, object]:
        try:
            result = yield
        except BaseException:
            # It fails for a reason of its own, which this may explain.
            found = self._watch.take()
            if found:
                item.add_report_section(when, "raw WebSocket writes", _complaint(found))
            raise
        found = self._watch.take()
        if found:
            pytest.fail(_complaint(found), pytrace=False)
        return result


def _complaint(stacks: Sequence[str]) -> str:
    headline = (
        f"{len(stacks)} write(s) to a raw websocket.WebSocket; send through wsclient.Connection instead"
    )
    return "\n".join([headline, *stacks])
