"""The processes of a benchmark, the server's and the clients': started and ended by their handles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, cast

import websocket

__all__ = ["ROOT", "Reporter", "Server", "finish", "start_module"]

ROOT = Path(__file__).resolve().parent.parent
_START_TIMEOUT = 20.0  # seconds
_STOP_TIMEOUT = 5.0


def start_module(module: str, *arguments: str, errors: int | None = None) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` from the root of this project, with pipes for its input and output."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
    )


def finish(process: subprocess.Popen[bytes], timeout: float) -> None:
    """End a process: close its input, wait up to ``timeout`` seconds, then kill it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


class Server:
    """``benchmarks.server`` in another process, as a context manager.

    With ``tls`` it has a second port for ``wss``, with a certificate of an authority that lives only in a
    temporary folder (``ca_file``).
    """

    def __init__(self, *, tls: bool = False) -> None:
        self._tls = tls
        # Owned by the thread that enters and leaves the context.
        self._stack = ExitStack()
        self._ports: dict[str, int] = {}
        self.ca_file: str | None = None

    def __enter__(self) -> Server:
        with ExitStack() as stack:
            arguments = self._make_certificate(stack) if self._tls else []
            process = start_module("benchmarks.server", *arguments)
            stack.callback(finish, process, _STOP_TIMEOUT)
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(
                    f"the benchmark server did not start (exit status {process.wait(_START_TIMEOUT)})"
                )
            self._ports = json.loads(line)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def url(self, path: str, **query: object) -> str:
        """URL of a path of this server, ``wss`` if it has TLS."""
        scheme, port = ("wss", self._ports["tls_port"]) if self._tls else ("ws", self._ports["port"])
        return f"{scheme}://127.0.0.1:{port}{path}{_query(query)}"

    def open_run(self, run: str, threads: int, messages: int) -> Reporter:
        """Begin a run, for ``/verify?run=...`` to join; what is returned asks about it."""
        query = _query({"run": run, "threads": threads, "messages": messages})
        return Reporter(f"ws://127.0.0.1:{self._ports['port']}/report{query}")

    def _make_certificate(self, stack: ExitStack) -> list[str]:
        import trustme

        folder = Path(stack.enter_context(TemporaryDirectory(prefix="wsclient-benchmark-")))
        authority = trustme.CA()
        chain, self.ca_file = folder / "server.pem", str(folder / "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(chain))
        authority.cert_pem.write_to_path(self.ca_file)
        return ["--certificate", str(chain)]


class Reporter:
    """Asks the server for the account of one run."""

    def __init__(self, url: str) -> None:
        self._socket = websocket.create_connection(url, timeout=_START_TIMEOUT)

    def account(self) -> dict[str, Any]:
        """The account so far (see ``server.Run.account``)."""
        self._socket.send("?")
        return cast("dict[str, Any]", json.loads(self._socket.recv()))

    def close(self) -> None:
        """Close this connection; the run is not touched."""
        self._socket.close(timeout=1)


def _query(query: Mapping[str, object]) -> str:
    return "?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""


def _environment() -> dict[str, str]:
    # A proxy of the machine has no business between two processes of the same machine.
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
