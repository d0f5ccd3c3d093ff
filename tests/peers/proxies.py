"""Starts proxies of other people's making as processes, each on a port of 127.0.0.1, and ends them."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import MappingProxyType

from peers.launch import HERE, HOST, START_SECONDS, Place, Process, Unavailable, find_program, launched

__all__ = ["FORBIDDEN", "PROXIES", "RunningProxy", "start_proxy"]

FORBIDDEN = "127.0.0.3"  # the rules of a proxy that has rules block it
_LOGIN = ("user", "pass-word")


@dataclass(frozen=True)
class RunningProxy:
    """A proxy that serves.

    Attributes:
        schemes: of the URLs by which it can be reached.
        login: user name and password that it wants, if it does.
        has_rules: it refuses connections to ``FORBIDDEN``.
    """

    port: int
    schemes: tuple[str, ...]
    login: tuple[str, str] | None
    has_rules: bool
    process: Process

    def url(self, scheme: str, login: tuple[str, str] | None) -> str:
        """For the option ``proxy``."""
        return f"{scheme}://{':'.join(login) + '@' if login else ''}{HOST}:{self.port}"


@contextmanager
def _reserved_port() -> Iterator[int]:
    """A port for a proxy that can't choose one of its own.

    The system gives it to nobody else while it is bound here, and the proxy can bind it too, because both say
    SO_REUSEADDR and nobody listens yet.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, 0))
        yield sock.getsockname()[1]


@contextmanager
def _listening(
    command: Sequence[str],
    folder: Path,
    port: int,
    schemes: tuple[str, ...],
    *,
    login: tuple[str, str] | None = None,
    has_rules: bool = False,
) -> Iterator[RunningProxy]:
    with launched(command, folder, cwd=folder, terminate=True) as process:
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(port):
            if process.ended_within(0.02) or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {process.errors}")
        yield RunningProxy(port, schemes, login, has_rules, process)


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(START_SECONDS)
        return sock.connect_ex((HOST, port)) == 0


def _configured(name: str, folder: Path, **values: object) -> str:
    path = folder / name
    path.write_text(Template((HERE / name).read_text()).substitute(values, folder=folder))
    return str(path)


# -- HTTP ---------------------------------------------------------------------------------------------


@contextmanager
def _tinyproxy(place: Place) -> Iterator[RunningProxy]:
    command = find_program("tinyproxy")
    with _reserved_port() as port:
        user, password = _LOGIN
        path = _configured("tinyproxy.conf", place.folder, port=port, user=user, password=password)
        with _listening([command, "-d", "-c", path], place.folder, port, ("http",), login=_LOGIN) as proxy:
            yield proxy


@contextmanager
def _squid(place: Place) -> Iterator[RunningProxy]:
    command = find_program("squid")
    helper = Path("/usr/lib/squid/basic_ncsa_auth")
    if not helper.exists():
        raise Unavailable(f"{helper} is not installed")
    # Started by root, it becomes another user, who may not look into a folder of pytest's.
    with tempfile.TemporaryDirectory() as name, _reserved_port() as port:
        folder = Path(name)
        folder.chmod(0o755)
        user, password = _LOGIN
        digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
        (folder / "passwords").write_text(f"{user}:{digest}\n")
        path = _configured("squid.conf", folder, port=port, helper=helper)
        with _listening([command, "-N", "-f", path], folder, port, ("http",), login=_LOGIN) as proxy:
            yield proxy


# -- SOCKS --------------------------------------------------------------------------------------------


@contextmanager
def _microsocks(place: Place) -> Iterator[RunningProxy]:
    command = find_program("microsocks")
    with _reserved_port() as port:
        user, password = _LOGIN
        arguments = ["-i", HOST, "-p", str(port), "-u", user, "-P", password]
        schemes = ("socks5", "socks5h")
        with _listening([command, *arguments], place.folder, port, schemes, login=_LOGIN) as proxy:
            yield proxy


@contextmanager
def _dante(place: Place) -> Iterator[RunningProxy]:
    """Its SOCKS4 knows no names; its logins are those of the system's accounts, so it has none here."""
    command = find_program("danted")
    with _reserved_port() as port:
        path = _configured(
            "danted.conf",
            place.folder,
            port=port,
            forbidden=FORBIDDEN,
            ipv6="" if _has_ipv6() else "#",
            root="" if os.geteuid() == 0 else "#",
        )
        arguments = ["-f", path, "-p", str(place.folder / "pid")]
        schemes = ("socks4", "socks5", "socks5h")
        with _listening([command, *arguments], place.folder, port, schemes, has_rules=True) as proxy:
            yield proxy


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@contextmanager
def _openssh(place: Place) -> Iterator[RunningProxy]:
    ssh, sshd = find_program("ssh"), find_program("sshd")
    if not Path("/run/sshd").is_dir():
        raise Unavailable("sshd needs the folder /run/sshd, which nobody has made")
    keygen = [find_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f"]
    for name in ("host_key", "user_key"):
        subprocess.run([*keygen, str(place.folder / name)], check=True, timeout=START_SECONDS)
    with _reserved_port() as port:
        _configured("sshd.conf", place.folder)
        path = _configured("ssh.conf", place.folder, port=port, sshd=sshd, account=getpass.getuser())
        schemes = ("socks4", "socks4a", "socks5", "socks5h")
        with _listening([ssh, "-F", path, "far-end"], place.folder, port, schemes) as proxy:
            yield proxy


PROXIES: Mapping[str, Callable[[Place], AbstractContextManager[RunningProxy]]] = MappingProxyType(
    {
        "tinyproxy": _tinyproxy,
        "squid": _squid,
        "microsocks": _microsocks,
        "dante": _dante,
        "openssh": _openssh,
    }
)


@contextmanager
def start_proxy(name: str, place: Place) -> Iterator[RunningProxy]:
    """Run a proxy until the end of the block.

    Raises:
        Unavailable: something that it needs is missing.
    """
    with ExitStack() as stack:
        yield stack.enter_context(PROXIES[name](place))
