"""The pytest plugin of wsclient, as pytest sees it: options and fixtures. ``wsclient.testing`` does the work.

It stands beside the package, not in it: pytest imports every installed plugin when it starts, and a module of
the package would bring all of the package with it, into runs that have no use for it and before a measurement
of coverage begins. This one imports nothing but pytest until a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wsclient.testing import ClientFactory, FaultFactory, ServerFactory

_WHERE = ("fixtures", "all", "off")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("wsclient")
    group.addoption(
        "--ws-forbid-raw",
        action="store_true",
        help="fail each test in which anything is written to a raw websocket.WebSocket",
    )
    group.addoption(
        "--ws-leaks",
        choices=_WHERE,
        help="look for leaked connections, threads, sockets in tests with ws_* fixtures (default), all, none",
    )
    group.addoption(
        "--ws-check",
        action="append",
        nargs="?",
        const="",
        metavar="PATH",
        help="check that the source there uses no raw WebSocket (default: ws_check_paths, or the tests)",
    )
    parser.addini("ws_check_paths", "files and folders that --ws-check checks", type="paths", default=[])
    parser.addini("ws_leaks", f"default of --ws-leaks: one of {', '.join(_WHERE)}", default="fixtures")


def pytest_configure(config: pytest.Config) -> None:
    """Bring in what the options ask for."""
    scope = _leak_scope(config)
    if scope == "all":
        from wsclient.testing.pytest_support import LeakCheck

        config.pluginmanager.register(LeakCheck(), "wsclient-leaks")
    if config.getoption("--ws-forbid-raw"):
        from wsclient.testing.pytest_support import RawWriteCheck

        config.pluginmanager.register(RawWriteCheck(), "wsclient-raw-writes")
    if config.getoption("--ws-check") is not None:
        from wsclient.check.pytest_item import CheckRun

        config.pluginmanager.register(CheckRun(), "wsclient-check")


def _leak_scope(config: pytest.Config) -> str:
    scope = str(config.getoption("--ws-leaks") or config.getini("ws_leaks"))
    if scope not in _WHERE:
        raise pytest.UsageError(f"ws_leaks: must be one of {', '.join(_WHERE)}, not {scope!r}")
    return scope


@pytest.fixture
def ws_no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if it leaks a connection, a thread or (on Linux) a socket."""
    if _leak_scope(request.config) == "off":
        yield
        return
    from wsclient.testing.pytest_support import check_leaks

    yield from check_leaks()


@pytest.fixture
def ws_server(ws_no_leaks: None) -> Iterator[ServerFactory]:
    """Factory of honest servers: ``ws_server()`` echoes, ``ws_server(handler)`` runs your handler."""
    from wsclient.testing.pytest_support import servers

    yield from servers()


@pytest.fixture
def ws_faults(ws_no_leaks: None) -> Iterator[FaultFactory]:
    """Factory of scripted servers: ``ws_faults(accept_upgrade(), stall())``; see ``FaultServer``."""
    from wsclient.testing.pytest_support import fault_servers

    yield from fault_servers()


@pytest.fixture
def ws_client(ws_server: ServerFactory, ws_faults: FaultFactory) -> Iterator[ClientFactory]:
    """Factory of connected ``TestClient``s: ``ws_client(server)``. They close before the servers stop."""
    from wsclient.testing.pytest_support import clients

    yield from clients()
