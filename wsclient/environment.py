"""Which proxy the environment, or the system's settings, names for a URL, and which hosts are excepted."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from typing import Final, TypeAlias

from wsclient.options import URL, Proxy, parse_proxy

__all__ = ["environment_proxy", "is_excepted"]

_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

_EXCEPTION: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::([0-9]{1,5}))?")


def environment_proxy(url: URL) -> Proxy | None:
    """The proxy that the environment names for ``url``; ``None`` when there is none, or ``url`` is excepted.

    ``WSS_PROXY``, ``HTTPS_PROXY`` and ``ALL_PROXY`` hold for ``wss``, ``WS_PROXY``, ``HTTP_PROXY`` and
    ``ALL_PROXY`` for ``ws``, in this order; names in lower case come before those in upper case. macOS and
    Windows have settings of their own, which hold where no variable is set.

    Raises ``ValueError`` when it names one that can't be used.
    """
    if sys.platform.startswith("linux") and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None  # and urllib.request, 30 ms and several MB, is not imported
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    names = ("wss", "https", "all") if url.secure else ("ws", "http", "all")
    found = next((proxies[name] for name in names if proxies.get(name)), None)
    if found is None or is_excepted(url, proxies.get("no", "")):
        return None
    if "no" not in proxies and proxy_bypass(url.server_name):  # the exceptions in the system's settings
        return None
    try:
        return parse_proxy(found if "://" in found else f"http://{found}")
    except ValueError as error:
        raise ValueError(f"{error} (from the environment; proxy=None does without)") from None


def is_excepted(url: URL, exceptions: str) -> bool:
    """Whether ``url`` is reached without a proxy, by the text of ``NO_PROXY``.

    Its items stand between commas or spaces: ``*`` for every host, ``example.com`` (also with a dot, or
    ``*.``, before it) for that host and those below it, an IP address, or a network such as ``10.0.0.0/8``.
    A host or an address (IPv6 in brackets) may carry a port, and then holds for that port only. Addresses
    and networks are compared with the host as the URL has it: no name is resolved. Other items are ignored.
    """
    host = url.server_name.rstrip(".")
    address = _address(host)
    return any(_matches(item.lower(), host, url.port, address) for item in re.split(r"[\s,]+", exceptions))


def _matches(item: str, host: str, port: int, address: _Address | None) -> bool:
    if item == "*":
        return True
    if "/" in item:
        return address is not None and _is_within(address, item)
    if _address(item) is None:
        match = _EXCEPTION.fullmatch(item)
        if not match or (match[3] and int(match[3]) != port):
            return False
        item = match[1] or match[2] or ""
    if address is not None:
        return _address(item) == address
    name = item.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_within(address: _Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
