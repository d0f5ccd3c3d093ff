"""What the common options say, and the options of the library that this becomes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from wsclient import Credentials, Reconnect
from wsclient.cli.exits import ExitCode, Failure

__all__ = ["INSECURE", "MAX_MESSAGE", "Settings"]

MAX_MESSAGE = 16 * 1024 * 1024
# Less than the library's own: what is queued at the end of a command is what it has to wait for.
_QUEUED_BYTES = 4 * 1024 * 1024

INSECURE = "warning: --insecure: the server's certificate is not checked"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The common options of one call of ``wsclient``. Times are seconds, sizes bytes."""

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    subprotocols: tuple[str, ...] = ()
    origin: str | None = None
    user_id: str | None = None
    role: str | None = None
    session_id: str | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False
    compression: bool = False
    reconnect: bool = False
    reconnect_attempts: int | None = None
    delivery: str | None = None
    open_timeout: float = 10.0
    ping_interval: float = 20.0
    max_message_size: int = MAX_MESSAGE
    verbose: int = 0

    @property
    def secure(self) -> bool:
        """Whether the URL asks for TLS."""
        return self.url.lower().startswith("wss:")

    def library_options(self) -> dict[str, Any]:
        """Keyword arguments of ``wsclient.connect``. Raises ``Failure`` and what the library raises."""
        self._check()
        options: dict[str, Any] = {
            "headers": self.headers,
            "subprotocols": self.subprotocols,
            "origin": self.origin,
            "credentials": self.credentials(),
            "ssl_context": self.tls(),
            "compression": "deflate" if self.compression else None,
            "reconnect": Reconnect(max_attempts=self.reconnect_attempts) if self.reconnect else None,
            "open_timeout": self.open_timeout,
            "ping_interval": self.ping_interval or None,
            "max_message_size": self.max_message_size,
            "max_queued_bytes": _QUEUED_BYTES,
        }
        if self.delivery:
            options["delivery"] = self.delivery.replace("-", "_")
        if self.proxy is not None:
            options["proxy"] = None if self.proxy == "none" else self.proxy
        return options

    def _check(self) -> None:
        for name, given in (("--delivery", self.delivery), ("--reconnect-attempts", self.reconnect_attempts)):
            if given is not None and not self.reconnect:
                raise Failure(f"{name}: needs --reconnect", ExitCode.USAGE)
        tls = {"--cacert": self.cacert, "--cert": self.cert, "--key": self.key, "--insecure": self.insecure}
        given_tls = [name for name, value in tls.items() if value]
        if given_tls and self.url.lower().startswith("ws:"):
            raise Failure(f"{given_tls[0]}: {self.url.partition(':')[0]}:// URLs have no TLS", ExitCode.USAGE)
        if self.key and not self.cert:
            raise Failure("--key: needs --cert", ExitCode.USAGE)
        if self.insecure and self.cacert:
            raise Failure("--insecure: can't be combined with --cacert", ExitCode.USAGE)

    def credentials(self) -> Credentials | None:
        """Who the connection speaks for, unless none of the three is given."""
        parts = (self.user_id, self.role, self.session_id)
        if all(part is None for part in parts):
            return None
        for name, part in zip(("--user-id", "--role", "--session-id"), parts, strict=True):
            if part is None:
                raise Failure(
                    f"{name}: is missing; --user-id, --role and --session-id go together", ExitCode.USAGE
                )
        return Credentials(*parts)  # type: ignore[arg-type]

    def tls(self) -> ssl.SSLContext | None:
        """A context, where the library's own will not do."""
        if not (self.secure and (self.cacert or self.cert or self.insecure)):
            return None
        try:
            context = ssl.create_default_context(cafile=self.cacert)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise _bad_file("--cacert", self.cacert, error) from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert:
            try:
                context.load_cert_chain(self.cert, self.key)
            except (OSError, ValueError) as error:
                raise _bad_file("--cert, --key", self.cert, error) from error
        return context


def _bad_file(option: str, path: str | None, error: Exception) -> Failure:
    # OpenSSL's own words name its source files, and not the fault.
    reason = "no usable PEM in it" if isinstance(error, (ssl.SSLError, ValueError)) else _reason(error)
    return Failure(f"{option}: {path}: {reason}", ExitCode.USAGE)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
