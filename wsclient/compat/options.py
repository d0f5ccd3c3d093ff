"""websocket-client's names for options, in ours. What was given is honoured or refused, never left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlsplit

from websocket import WebSocketProxyException
from websocket._url import get_proxy_info

from wsclient.compat.errors import refuse
from wsclient.compat.tls import context_of

__all__ = [
    "CONNECT_OPTIONS",
    "Plan",
    "bounded",
    "check_dispatcher",
    "check_mask_key",
    "check_names",
]

Header: TypeAlias = "Sequence[str] | Mapping[str, str | None]"

_MAX_SECONDS: Final = 2_000_000.0  # what wsclient takes for "for ever"
_OPEN_SECONDS: Final = 60.0  # where no time-out is set
_REDIRECTS: Final = 3

CONNECT_OPTIONS: Final = (
    *("header", "cookie", "origin", "connection", "suppress_origin", "suppress_host", "host", "timeout"),
    *("http_proxy_host", "http_proxy_port", "http_no_proxy", "http_proxy_auth", "http_proxy_timeout"),
    *("proxy_type", "redirect_limit", "subprotocols", "socket"),
)


def bounded(timeout: float | None) -> float:
    """A time-out for wsclient; ``None`` and what is longer than it takes is "for ever"."""
    return _MAX_SECONDS if timeout is None else min(timeout, _MAX_SECONDS)


def check_names(given: Iterable[str]) -> None:
    """Raise ``TypeError`` for an option that websocket-client does not have either."""
    for name in given:
        if name not in CONNECT_OPTIONS:
            raise TypeError(f"unknown option {name!r}")


def check_mask_key(get_mask_key: object) -> None:
    """Raise where masking keys are to be chosen."""
    if get_mask_key is not None:
        refuse("get_mask_key", "keys are random, as RFC 6455, section 10.3, wants them")


def check_dispatcher(dispatcher: object) -> None:
    """Raise where another event loop is to read the socket."""
    if dispatcher:
        refuse(
            f"dispatcher={getattr(dispatcher, '__name__', type(dispatcher).__name__)}",
            "run_forever(reconnect=seconds) needs none, and several apps run in a thread each",
        )


@dataclass(frozen=True)
class Plan:
    """What a ``WebSocket`` is made with, beside the options of one ``connect``."""

    sockopt: Sequence[Any]
    sslopt: Mapping[str, Any]
    timeout: float | None

    def options(self, url: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of ``wsclient.Connection``.

        Raises:
            NotSupported: something that cannot be honoured.
            TypeError, ValueError: an unknown option, or a bad value.
        """
        check_names(given)
        _check_refused(given)
        subprotocols, pairs = _headers(given.get("header") or ())
        if given.get("host"):
            pairs = [pair for pair in pairs if pair[0].lower() != "host"]
            pairs.append(("Host", given["host"]))
        sent_by_header = {name.lower() for name, _ in pairs}
        return {
            "headers": pairs,
            "cookies": given.get("cookie") or None,
            "origin": None if "origin" in sent_by_header else _origin(url, given),
            "subprotocols": tuple(given.get("subprotocols") or ()) or subprotocols,
            "ssl_context": context_of(self.sslopt),
            "open_timeout": self._open_timeout(given),
            "send_timeout": bounded(self.timeout or None),
            # As there: nobody else watches a peer that does not read, and no message is too large.
            "write_timeout": None,
            "ping_interval": None,
            "max_message_size": None,
            **self._name_for_tls(url),
            **_proxy(url, given),
            **self._way(given),
        }

    def _open_timeout(self, given: Mapping[str, Any]) -> float:
        if self.timeout:
            return bounded(self.timeout)
        return max(_OPEN_SECONDS, bounded(given.get("http_proxy_timeout") or 0.0))

    def _name_for_tls(self, url: str) -> dict[str, Any]:
        name = self.sslopt.get("server_hostname")
        return {"server_hostname": name} if name and _is_secure(url) else {}

    def _way(self, given: Mapping[str, Any]) -> dict[str, Any]:
        ready, limit = given.get("socket"), given.get("redirect_limit", _REDIRECTS)
        if ready is None:
            return {"socket_options": tuple(self.sockopt), "follow_redirects": limit}
        if hasattr(ready, "unwrap"):
            refuse("socket= with a socket wrapped in TLS", "pass sslopt, and the socket as it was before")
        return {"socket": ready, "proxy": None}


def _is_secure(url: str) -> bool:
    return url[:4].lower() == "wss:"


def _check_refused(given: Mapping[str, Any]) -> None:
    if given.get("suppress_host"):
        refuse("suppress_host", "HTTP/1.1 needs the Host header; host= sets it")
    if given.get("connection") not in (None, "Connection: Upgrade"):
        refuse("connection", "the opening handshake has its own Connection header")


def _headers(header: Header) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Subprotocols that were given as a header, and all other headers."""
    pairs = list(_pairs(header))
    offers = [value for name, value in pairs if name.lower() == "sec-websocket-protocol"]
    names = tuple(name.strip() for offer in offers for name in offer.split(","))
    return names, [pair for pair in pairs if pair[0].lower() != "sec-websocket-protocol"]


def _pairs(header: Header) -> Iterable[tuple[str, str]]:
    if isinstance(header, Mapping):
        return [(name, value) for name, value in header.items() if value is not None]
    if isinstance(header, (str, bytes)):
        raise TypeError("header: must be a list of 'Name: value' or a dict, not " + type(header).__name__)
    return [_pair(line) for line in header]


def _pair(line: str) -> tuple[str, str]:
    name, mark, value = line.partition(":")
    if not mark:
        raise ValueError("header: a line must be 'Name: value'")
    return name.strip(), value.strip()


def _origin(url: str, given: Mapping[str, Any]) -> str | None:
    if given.get("suppress_origin"):
        return None
    if given.get("origin") is not None:
        return str(given["origin"])
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host.partition('%')[0]}]" if ":" in host else host.encode("idna").decode()
    port = "" if parts.port in (None, 80, 443) else f":{parts.port}"
    return f"{'https' if _is_secure(url) else 'http'}://{host}{port}"


def _proxy(url: str, given: Mapping[str, Any]) -> dict[str, Any]:
    host = given.get("http_proxy_host")
    if not host:
        return {}
    kind, port, auth = (
        given.get("proxy_type") or "http",
        given.get("http_proxy_port"),
        given.get("http_proxy_auth"),
    )
    if not port or not int(port):
        raise WebSocketProxyException("http_proxy_port: must be given with http_proxy_host")
    excepted = get_proxy_info(
        urlsplit(url).hostname or "", _is_secure(url), host, int(port), auth, given.get("http_no_proxy")
    )
    if kind == "http" and excepted[0] is None:
        return {"proxy": None}
    user = ":".join(quote(part or "", safe="") for part in auth) + "@" if auth and auth[0] else ""
    name = f"[{host}]" if ":" in host else host
    return {"proxy": f"{kind}://{user}{name}:{int(port)}"}
