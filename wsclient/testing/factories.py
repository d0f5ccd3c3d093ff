"""The fixtures of the pytest plugin: factories, which a test calls for servers and clients::

def test_greeting(ws_server: ServerFactory, ws_client: ClientFactory) -> None:
    client = ws_client(ws_server())
    client.send_quick_message("greeting", "hello")
    assert client.wait_for(type="greeting")["content"] == {"text": "hello"}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from wsclient.testing.client import TestClient
from wsclient.testing.faults import FaultServer, Peer
from wsclient.testing.servers import Server, echo, serve

__all__ = ["ClientFactory", "FaultFactory", "ServerFactory"]

_CLOSE_SECONDS = 5.0  # for a client at the end of its test


class HasURL(Protocol):
    """A server: ``Server``, ``FaultServer``, or anything else with a URL."""

    @property
    def url(self) -> str: ...


class ServerFactory:
    """The fixture ``ws_server``: call it for a running server, as often as you like."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(
        self,
        handler: Callable[[Any], object] = echo,
        *,
        tls: bool = False,
        process: bool = False,
        subprotocols: Sequence[str] = (),
        compression: bool = False,
    ) -> Server:
        """Start a server as ``wsclient.testing.serve`` makes it; an echo server by default.

        It is stopped at the end of the test, which fails when a handler failed.
        """
        return self._stack.enter_context(
            serve(handler, tls=tls, process=process, subprotocols=subprotocols, compression=compression)
        )


class FaultFactory:
    """The fixture ``ws_faults``: call it for a running ``FaultServer``, as often as you like."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, *steps: Callable[[Peer], None], **options: Any) -> FaultServer:
        """Start a ``FaultServer`` with these steps and options.

        It is stopped at the end of the test, which fails when a script failed.
        """
        return self._stack.enter_context(FaultServer(*steps, **options))


class ClientFactory:
    """The fixture ``ws_client``: call it for a connected ``TestClient``, as often as you like."""

    def __init__(self) -> None:
        self._clients: list[TestClient] = []  # the test's thread

    def __call__(
        self,
        server: HasURL | str,
        user_id: str | None = None,
        role: str = "user",
        session_id: str = "session-1",
        *,
        connect: bool = True,
        **options: Any,
    ) -> TestClient:
        """Make a client of ``server``, and connect it.

        It is closed at the end of the test, which fails when accepted messages were not written, or errors
        came that the test has not looked at (``unsent``, ``errors``).

        Args:
            server: a server, which is then trusted, and reached without a proxy; or a URL.
            user_id: ``user-1``, ``user-2``, ... unless given.
            role, session_id: as of ``TestClient``.
            connect: ``False`` leaves it to the test to call ``connect()``.
            options: of ``TestClient``.
        """
        name = f"user-{len(self._clients) + 1}" if user_id is None else user_id
        url = server if isinstance(server, str) else server.url
        client = TestClient(name, role, session_id, url, **_options_for(server), **options)
        self._clients.append(client)
        return client.connect() if connect else client

    def finish(self) -> list[str]:
        """Close every client, and say what the test may not leave behind."""
        for client in self._clients:
            client.close(timeout=_CLOSE_SECONDS)
        return [complaint for client in self._clients for complaint in client.complaints()]


def _options_for(server: HasURL | str) -> dict[str, Any]:
    if isinstance(server, str):
        return {}
    return {"proxy": None, "ssl_context": getattr(server, "ssl_context", None)}
