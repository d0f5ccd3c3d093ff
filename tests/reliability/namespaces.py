"""Two machines on one: the client in one network namespace, the server in another, a cable between them.

Everything here runs *inside* a namespace that ``wrapper`` has made; the namespaces have no names, so they,
the cable and all that is on it are gone with the last process in them, however that ends. Nothing is
reachable from outside, and nothing outside is reachable.
"""

from __future__ import annotations

import fcntl
import os
import queue
import struct
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reliability.processes import Child, Unavailable, find_program, python
from reliability.servers import VerifyingServer

__all__ = ["FAR_HOST", "Cable", "cable", "wrapper"]

NEAR_HOST, FAR_HOST = "10.203.0.1", "10.203.0.2"
_NEAR, _FAR = "near", "far"  # names of the two interfaces
_SECONDS = 10.0  # for a command
_TUN = Path("/dev/net/tun")
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


def _run(*command: str) -> None:
    """Run a command; `Unavailable`, with what it said, if it fails."""
    path = find_program(command[0])
    done = subprocess.run(
        [path, *command[1:]],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")


def wrapper() -> list[str]:
    """The command that runs another one in a network namespace of its own, as root there.

    Raises:
        Unavailable: this machine, or this user, cannot have one.
    """
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *user, "--net"]
    _run(*command, find_program("ip"), "link", "set", "lo", "up")
    return [find_program("unshare"), *command[1:]]


class Cable(ABC):
    """Between this namespace and that of the process ``pid``. For one thread."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @property
    @abstractmethod
    def text(self) -> str:
        """What loses and delays packets."""

    @abstractmethod
    def worsen(self, loss: float, delay: float) -> None:
        """Lose a part of the packets in each direction (0 to 1), and hold each for ``delay`` seconds."""

    def pull(self, *, far: bool) -> None:
        """Pull it out at one end."""
        self._set("down", far=far)

    def plug(self) -> None:
        """Put it in again, at both ends."""
        self._set("up", far=False)
        self._set("up", far=True)

    def connect(self) -> None:
        """Give both ends their addresses, and plug it in."""
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "address", "add", f"{NEAR_HOST}/30", "dev", _NEAR)
        self.run_far("ip", "address", "add", f"{FAR_HOST}/30", "dev", _FAR)
        self.plug()

    def run_far(self, *command: str) -> None:
        """Run a command in the other namespace."""
        _run("nsenter", "--net", "--target", str(self._pid), find_program(command[0]), *command[1:])

    def _set(self, state: str, *, far: bool) -> None:
        command = ("ip", "link", "set", _FAR if far else _NEAR, state)
        self.run_far(*command) if far else _run(*command)


class VethCable(Cable):
    """A pair of virtual Ethernet devices; packets are lost by ``tc netem``."""

    text = "by tc netem on a pair of veth devices"

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        _run("ip", "link", "add", _NEAR, "type", "veth", "peer", "name", _FAR, "netns", str(pid))

    def worsen(self, loss: float, delay: float) -> None:
        netem = ("root", "netem", "limit", "10000", "loss", f"{loss:.2%}", "delay", f"{delay * 1000:.0f}ms")
        _run("tc", "qdisc", "replace", "dev", _NEAR, *netem)
        self.run_far("tc", "qdisc", "replace", "dev", _FAR, *netem)


class TunCable(Cable):
    """A pair of TUN devices, and a process between them that loses packets by seed."""

    text = "this kernel has no tc netem: a process between two TUN devices does it, by seed"

    def __init__(self, pid: int, folder: Path, seed: int) -> None:
        super().__init__(pid)
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        fds = [_tun(_NEAR), _tun(_FAR)]
        try:
            _run("ip", "link", "set", _FAR, "netns", str(pid))
            command = python("reliability.wire", *fds, seed)
            self._child = Child(command, folder / "wire-errors", self._answers.put, pass_fds=fds)
        finally:
            for fd in fds:
                os.close(fd)
        self._child.first_line()

    def worsen(self, loss: float, delay: float) -> None:
        self._child.tell(f"{loss} {delay}")
        self._answers.get(timeout=_SECONDS)

    def close(self) -> None:
        """End the process."""
        self._child.stop()


def _tun(name: str) -> int:
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"{_TUN}: {error.strerror}") from error
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        raise Unavailable(f"{_TUN}: {error.strerror}") from error
    return fd


def has_netem() -> bool:
    """Whether ``tc`` can lose packets here. In a namespace: it tries."""
    try:
        _run("tc", "qdisc", "replace", "dev", "lo", "root", "netem", "loss", "0%")
        _run("tc", "qdisc", "delete", "dev", "lo", "root")
    except Unavailable:
        return False
    return True


@contextmanager
def cable(server: VerifyingServer, seed: int, *, lossy: bool) -> Iterator[Cable]:
    """A cable to the namespace of a running server, until the end of the block.

    Args:
        lossy: whether ``worsen`` is wanted.

    Raises:
        Unavailable: this machine has nothing to make it of.
    """
    if not lossy or has_netem():
        pair = VethCable(server.pid)
        pair.connect()
        yield pair
        return
    wire = TunCable(server.pid, server.folder, seed)
    try:
        wire.connect()
        yield wire
    finally:
        wire.close()
