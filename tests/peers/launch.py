"""Starts servers and proxies as processes, and ends them by their handles."""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from string import Template
from types import MappingProxyType
from urllib.parse import urlsplit

import trustme

__all__ = [
    "HERE",
    "HOST",
    "PEERS",
    "REVERSE_PROXIES",
    "START_SECONDS",
    "Place",
    "Process",
    "RunningPeer",
    "Unavailable",
    "find_program",
    "launch_python",
    "launched",
    "nginx",
    "start_peer",
]

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
HOST = "127.0.0.1"
START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_INSTALL_SECONDS = 40.0


class Unavailable(Exception):
    """This machine cannot run that peer; the text says what is missing."""


class Process:
    """A process that was started here, with its standard error in a file."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self._log = log

    @property
    def errors(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    @property
    def exit_status(self) -> int | None:
        """``None`` while it runs; negative: the signal that ended it."""
        return self._popen.poll()

    def ended_within(self, seconds: float) -> bool:
        """Wait up to so long for its end."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def first_line(self) -> str:
        """What it prints first, within a bound.

        Raises:
            RuntimeError: it printed nothing; the text shows its standard error.
        """
        output = self._popen.stdout
        assert output is not None
        deadline = time.monotonic() + START_SECONDS
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                piece = os.read(output.fileno(), 4096) if ready else b""
                if not piece:
                    raise RuntimeError(f"{self._popen.args!r} did not start: {self.errors}")
                line += piece
        return line.decode().strip()

    def kill(self) -> None:
        """End it and its children at once, as a crash would: their sockets are closed by the system."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(_STOP_SECONDS)

    def stop(self, *, terminate: bool) -> None:
        """End its input, with ``terminate`` send it SIGTERM too; what does not end is killed."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.close()
        if terminate:
            self._popen.terminate()
        try:
            self._popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        finally:
            self._popen.stdout.close()


@contextmanager
def launched(
    command: Sequence[str],
    folder: Path,
    *,
    cwd: Path,
    terminate: bool = False,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[Process]:
    """Run a command until the end of the block. Its standard error goes to a file in ``folder``."""
    number, name = tempfile.mkstemp(suffix=".log", dir=folder)
    with os.fdopen(number, "wb") as log:
        popen = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **(environment or {})},
            pass_fds=pass_fds,
            start_new_session=True,  # a process group of its own, for kill()
        )
    process = Process(popen, Path(name))
    try:
        yield process
    finally:
        process.stop(terminate=terminate)


def launch_python(
    module: str, *arguments: str, folder: Path, cwd: Path = TESTS
) -> AbstractContextManager[Process]:
    """``python -m module``, with the top of its imports at ``cwd``."""
    return launched([sys.executable, "-m", module, *arguments], folder, cwd=cwd)


@dataclass(frozen=True)
class Place:
    """Where a peer may write: a new folder for this run, and one that outlives it, for installed packages."""

    folder: Path
    cache: Path


@dataclass(frozen=True)
class RunningPeer:
    """A peer that serves: its URL, what a client needs to trust it, and its processes, the server first."""

    url: str
    ssl_context: ssl.SSLContext | None
    processes: tuple[Process, ...]


Starter = Callable[[Place], AbstractContextManager[RunningPeer]]

# -- servers ------------------------------------------------------------------------------------------


@contextmanager
def _python_server(module: str, library: str, place: Place) -> Iterator[RunningPeer]:
    if find_spec(library) is None:
        raise Unavailable(f"the Python package {library} is not installed")
    # Not by the end of its input alone: it would wait for connections that a test has left open.
    with launched([sys.executable, "-m", module], place.folder, cwd=TESTS, terminate=True) as process:
        yield RunningPeer(process.first_line(), None, (process,))


def _websockets(place: Place) -> AbstractContextManager[RunningPeer]:
    return _python_server("peers.websockets_server", "websockets", place)


def _picows(place: Place) -> AbstractContextManager[RunningPeer]:
    return _python_server("peers.picows_server", "picows", place)


@contextmanager
def _node(place: Place) -> Iterator[RunningPeer]:
    node = find_program("node")
    script = _installed_node_package(place.cache) / "server.mjs"
    with launched([node, str(script)], place.folder, cwd=place.folder) as process:
        yield RunningPeer(process.first_line(), None, (process,))


def find_program(name: str) -> str:
    """The path of an installed program; `Unavailable` if there is none."""
    # Debian keeps daemons where only root's PATH leads.
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Unavailable(f"{name} is not installed")
    return path


def _installed_node_package(cache: Path) -> Path:
    """The folder with the server and ``node_modules``: one for each state of the sources."""
    sources = [HERE / "node" / name for name in ("package.json", "package-lock.json", "server.mjs")]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    ready = cache / f"node-{digest}"
    if not ready.is_dir():
        with tempfile.TemporaryDirectory(prefix="installing-", dir=cache) as attempt:
            target = Path(attempt, "package")
            target.mkdir()
            for source in sources:
                shutil.copy(source, target)
            _npm_ci(target)
            # Another run may have been faster; then its folder is as good.
            with contextlib.suppress(OSError):
                target.rename(ready)
    return ready


def _npm_ci(folder: Path) -> None:
    command = [find_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm ci did not end within {_INSTALL_SECONDS:g} s") from None
    if done.returncode:
        raise Unavailable(f"npm ci failed: {done.stderr.strip()[-500:]}")


# -- proxies ------------------------------------------------------------------------------------------


@contextmanager
def _nginx(place: Place, upstream: Starter = _websockets) -> Iterator[RunningPeer]:
    find_program("nginx")  # before anything else is started
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with upstream(place) as server, nginx(place, server, _certificate_of(authority)) as process_and_port:
        process, port = process_and_port
        yield RunningPeer(f"wss://localhost:{port}", context, (*server.processes, process))


@contextmanager
def nginx(
    place: Place, upstream: RunningPeer, certificate: bytes, client_authority: bytes = b""
) -> Iterator[tuple[Process, int]]:
    """nginx with TLS in front of a server.

    Args:
        certificate: key and chain (PEM) that it presents.
        client_authority: certificate (PEM) of who signs the certificates that clients must present.

    Returns:
        The process and its port.
    """
    program = find_program("nginx")
    verify = f"ssl_client_certificate {place.folder}/clients.pem; ssl_verify_client on;"
    (place.folder / "clients.pem").write_bytes(client_authority)
    values = {"verify_clients": verify if client_authority else ""}
    with _front(place, "nginx.conf", upstream, certificate, values) as front:
        # As a new nginx takes over from an old one: it finds its listening socket by this variable.
        inherited = {"NGINX": f"{front.listener.fileno()};"}
        command = [program, "-p", str(place.folder), "-e", "stderr", "-c", str(front.configuration)]
        with front.started(command, inherited) as process:
            yield process, front.port


@contextmanager
def _haproxy(place: Place) -> Iterator[RunningPeer]:
    program = find_program("haproxy")
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        _websockets(place) as server,
        _front(place, "haproxy.cfg", server, _certificate_of(authority), {}) as front,
        front.started([program, "-db", "-f", str(front.configuration)], {}) as process,
    ):
        yield RunningPeer(f"wss://localhost:{front.port}", context, (*server.processes, process))


def _certificate_of(authority: trustme.CA) -> bytes:
    return authority.issue_cert("localhost", HOST).private_key_and_cert_chain_pem.bytes()


@dataclass(frozen=True)
class _Front:
    """A proxy about to be started. It inherits its listening socket: nobody else can take the port."""

    folder: Path
    port: int
    listener: socket.socket
    configuration: Path

    @contextmanager
    def started(self, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Process]:
        with launched(
            command,
            self.folder,
            cwd=self.folder,
            terminate=True,
            environment=environment,
            pass_fds=[self.listener.fileno()],
        ) as process:
            self.listener.close()
            _wait_until_tls_works(self.port, process)
            yield process


@contextmanager
def _front(
    place: Place, template: str, upstream: RunningPeer, certificate: bytes, more: Mapping[str, str]
) -> Iterator[_Front]:
    (place.folder / "server.pem").write_bytes(certificate)
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        values = {
            "folder": place.folder,
            "port": port,
            "listener": listener.fileno(),
            "upstream_port": urlsplit(upstream.url).port,
            **more,
        }
        configuration = place.folder / template
        configuration.write_text(Template((HERE / template).read_text()).substitute(values))
        yield _Front(place.folder, port, listener, configuration)


def _wait_until_tls_works(port: int, process: Process) -> None:
    # The system accepts for the proxy from the start; the TLS handshake is what waits for it.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((HOST, port), START_SECONDS) as plain:
            context.wrap_socket(plain, server_hostname="localhost").close()
    except OSError as error:
        raise RuntimeError(f"the proxy did not start ({error}): {process.errors}") from error


PEERS: Mapping[str, Starter] = MappingProxyType(
    {
        "websockets": _websockets,
        "picows": _picows,
        "node": _node,
        "nginx": _nginx,
        "nginx-node": partial(_nginx, upstream=_node),
        "haproxy": _haproxy,
    }
)
REVERSE_PROXIES = ("nginx", "haproxy")


@contextmanager
def start_peer(name: str, place: Place) -> Iterator[RunningPeer]:
    """Run a peer until the end of the block.

    Raises:
        Unavailable: something that it needs is missing.
    """
    with ExitStack() as stack:
        yield stack.enter_context(PEERS[name](place))
