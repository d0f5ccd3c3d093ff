"""``sslopt`` of websocket-client as an ``ssl.SSLContext``."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any, Final

from websocket import WebSocketException

from wsclient.compat.errors import refuse

__all__ = ["SSL_OPTIONS", "context_of"]

# For these, a context is made; with one of the user's they would be for nothing.
_OF_CONTEXT: Final = (
    *("ssl_version", "cert_reqs", "check_hostname", "ca_certs", "ca_cert_path"),
    *("certfile", "keyfile", "password", "cert_chain", "ciphers", "ecdh_curve"),
)
SSL_OPTIONS: Final = (
    *_OF_CONTEXT,
    *("context", "server_hostname", "do_handshake_on_connect", "suppress_ragged_eofs"),
)


def context_of(sslopt: Mapping[str, Any]) -> ssl.SSLContext | None:
    """The context that ``sslopt`` describes; ``None`` for verified defaults.

    Raises:
        NotSupported: a key that is not known, or cannot be honoured.
        WebSocketException: a file that cannot be loaded, or keys that contradict each other.
    """
    _check(sslopt)
    context: ssl.SSLContext | None = sslopt.get("context")
    authorities = _authorities(sslopt)
    if context is not None or not (any(key in sslopt for key in _OF_CONTEXT) or any(authorities)):
        return context
    try:
        return _made(sslopt, *authorities)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise WebSocketException(f"sslopt: {error}") from error


def _check(sslopt: Mapping[str, Any]) -> None:
    for key in sslopt:
        if key not in SSL_OPTIONS:
            refuse(f"sslopt[{key!r}]", "there is no such key")
    for key in ("do_handshake_on_connect", "suppress_ragged_eofs"):
        if not sslopt.get(key, True):
            refuse(f"sslopt[{key!r}] = False", "the socket is wsclient's own: leave it out")
    unused = [key for key in _OF_CONTEXT if key in sslopt]
    if sslopt.get("context") is not None and unused:
        refuse(f"sslopt[{unused[0]!r}] beside 'context'", "set it on that context")


def _authorities(sslopt: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """File and directory of certificate authorities."""
    file, directory = sslopt.get("ca_certs"), sslopt.get("ca_cert_path")
    bundle = os.environ.get("WEBSOCKET_CLIENT_CA_BUNDLE", "")
    if file is None and os.path.isfile(bundle):
        file = bundle
    elif directory is None and os.path.isdir(bundle):
        directory = bundle
    return file, directory


def _made(sslopt: Mapping[str, Any], file: str | None, directory: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(sslopt.get("ssl_version", ssl.PROTOCOL_TLS_CLIENT))
    if log := os.environ.get("SSLKEYLOGFILE"):
        context.keylog_filename = log
    _set_verification(context, sslopt)
    if context.verify_mode is not ssl.CERT_NONE:
        if file or directory:
            context.load_verify_locations(file, directory)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _set_own_certificate(context, sslopt)
    if "ciphers" in sslopt:
        context.set_ciphers(sslopt["ciphers"])
    if "ecdh_curve" in sslopt:
        context.set_ecdh_curve(sslopt["ecdh_curve"])
    return context


def _set_verification(context: ssl.SSLContext, sslopt: Mapping[str, Any]) -> None:
    mode = sslopt.get("cert_reqs", ssl.CERT_REQUIRED)
    check_hostname = sslopt.get("check_hostname", mode != ssl.CERT_NONE)
    if check_hostname and mode == ssl.CERT_NONE:
        raise ValueError("check_hostname: can't be True where cert_reqs is CERT_NONE")
    context.check_hostname = False  # first: it forbids the other
    context.verify_mode = mode
    context.check_hostname = check_hostname


def _set_own_certificate(context: ssl.SSLContext, sslopt: Mapping[str, Any]) -> None:
    if sslopt.get("certfile"):
        context.load_cert_chain(sslopt["certfile"], sslopt.get("keyfile"), sslopt.get("password"))
    if "cert_chain" in sslopt:
        chain = sslopt["cert_chain"]
        if not isinstance(chain, (tuple, list)) or len(chain) != 3:
            raise ValueError("cert_chain: must be (certfile, keyfile, password)")
        context.load_cert_chain(*chain)
