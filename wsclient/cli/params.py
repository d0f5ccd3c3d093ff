"""The options on the command line: their types, the common ones, and how a command's help is laid out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from wsclient.cli.settings import Settings
from wsclient.cli.values import (
    parse_header,
    parse_headers,
    parse_rate,
    parse_report_path,
    parse_seconds,
    parse_size,
)

__all__ = [
    "RATE",
    "REPORT",
    "SECONDS",
    "SIZE",
    "Command",
    "Grouped",
    "connection_options",
    "examples",
    "option",
]

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # before click 8.5 it took no argument
    _ParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])


class Parsed(_ParamType):
    """A type whose values are parsed by a function that raises ``ValueError``."""

    def __init__(self, name: str, parse: Callable[[str], Any], completes: str | None = None) -> None:
        self.name = name
        self._parse = parse
        self._completes = completes

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What the shell may offer: files, or nothing."""
        return [CompletionItem(incomplete, type=self._completes)] if self._completes else []

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; what is no text is a default."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Headers(_ParamType):
    # A header, or @FILE with one a line. Never the value in an error: it may be a secret.
    name = "header"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[str, str], ...]:
        try:
            if not value.startswith("@"):
                return (parse_header(value),)
            return parse_headers(Path(value[1:]).read_text(encoding="utf-8"))
        except OSError as error:
            self.fail(f"{value[1:]}: {error.strerror}", param, ctx)
        except ValueError as error:
            self.fail(f"{value[1:]}: {error}" if value.startswith("@") else str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """One header a line: white space stands in values."""
        return [line for line in rv.splitlines() if line.strip()]


def _interval(text: str) -> float:
    return 0.0 if text in ("none", "off") else parse_seconds(text)


SECONDS = Parsed("seconds", parse_seconds)
SIZE = Parsed("size", parse_size)
RATE = Parsed("rate", parse_rate)
REPORT = Parsed("file", parse_report_path, completes="file")
_INTERVAL = Parsed("seconds", _interval)


class Grouped(click.Option):
    """An option that stands in a group of its own in the help."""

    def __init__(self, *args: Any, group: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class Command(click.Command):
    """A command whose help shows its own options first, then the common ones by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group of options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(param, "group", None) or "Options", []).append(record)
        for name in sorted(sections, key=lambda name: name != "Options"):
            with formatter.section(name):
                formatter.write_dl(sections[name])


def option(*names: str, group: str | None = None, **kwargs: Any) -> Callable[[F], F]:
    """Declare an option in a group."""
    return click.option(*names, cls=Grouped, group=group, **kwargs)


def examples(*lines: str) -> str:
    """The end of a command's help: commands that work as they stand."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


_CONNECTION = "Connection"
_TLS = "TLS (for wss:// URLs)"
_COMMON: tuple[Callable[[Any], Any], ...] = (
    click.argument("url"),
    option(
        *("-H", "--header", "headers"),
        group=_CONNECTION,
        type=_Headers(),
        multiple=True,
        metavar="'NAME: VALUE'",
        envvar="WSCLIENT_HEADER",
        show_envvar=True,
        help="A header of the request; again for more. @FILE reads them from a file, one a line.",
    ),
    option(
        *("-s", "--subprotocol", "subprotocols"),
        group=_CONNECTION,
        multiple=True,
        metavar="NAME",
        help="Offer a subprotocol; again for more, best first.",
    ),
    option("--origin", group=_CONNECTION, metavar="ORIGIN", help="Value of the Origin header."),
    option(
        "--user-id", group=_CONNECTION, metavar="ID", envvar="WSCLIENT_USER_ID", show_envvar=True,
        help="Who connects; sent in the URL, with --role and --session-id.",
    ),
    option(
        "--role", group=_CONNECTION, metavar="ROLE", envvar="WSCLIENT_ROLE", show_envvar=True,
        help="As what.",
    ),
    option(
        "--session-id", group=_CONNECTION, metavar="ID", envvar="WSCLIENT_SESSION_ID", show_envvar=True,
        help="To which session.",
    ),
    option(
        "--proxy", group=_CONNECTION, metavar="URL", envvar="WSCLIENT_PROXY", show_envvar=True,
        help="http://, socks4://, socks4a://, socks5:// or socks5h://[user:password@]host:port; none for"
        " none. By default what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say.",
    ),
    option("--compression", group=_CONNECTION, is_flag=True, help="Offer permessage-deflate."),
    option("--reconnect", group=_CONNECTION, is_flag=True, help="Open a lost connection again, and go on."),
    option(
        "--reconnect-attempts", group=_CONNECTION, type=click.IntRange(min=1), metavar="N",
        help="Give up after so many failures in a row; by default never.",
    ),
    option(
        "--delivery", group=_CONNECTION, type=click.Choice(["at-most-once", "at-least-once"]),
        help="With --reconnect: whether what may have been lost is sent again. By default at-most-once.",
    ),
    option(
        "--open-timeout", group=_CONNECTION, type=SECONDS, default="10", show_default=True,
        help="Longest time for name resolution, TCP, proxy, TLS and handshake together.",
    ),
    option(
        "--ping-interval", group=_CONNECTION, type=_INTERVAL, default="20", show_default=True,
        help="Time between keepalive pings; 0 for none.",
    ),
    option(
        "--max-message-size", group=_CONNECTION, type=SIZE, default="16MiB", show_default=True,
        help="Largest message, sent or received.",
    ),
    option(
        "--cacert", group=_TLS, type=click.Path(), envvar="WSCLIENT_CACERT", show_envvar=True,
        help="Authorities to trust in place of the system's (PEM).",
    ),
    option(
        "--cert", group=_TLS, type=click.Path(), envvar="WSCLIENT_CERT", show_envvar=True,
        help="Client certificate (PEM).",
    ),
    option(
        "--key", group=_TLS, type=click.Path(), envvar="WSCLIENT_KEY", show_envvar=True,
        help="Its key, if it is not in the same file.",
    ),
    option(
        "--insecure", group=_TLS, is_flag=True,
        help="Accept any certificate: whoever is on the way can read and change everything.",
    ),
    option(
        "-v", "--verbose", group="Diagnosis", count=True,
        help="Show the handshake and each message on standard error, without secrets; -vv: with contents.",
    ),
)  # fmt: skip


def connection_options(command: F) -> F:
    """Give a command the URL and the common options; it is called with ``settings`` in their place."""

    @functools.wraps(command)
    def wrapped(url: str, headers: tuple[tuple[tuple[str, str], ...], ...], **others: Any) -> Any:
        common = {name: others.pop(name) for name in list(others) if name in _NAMES}
        flat = tuple(pair for pairs in headers for pair in pairs)
        return command(settings=Settings(url=url, headers=flat, **common), **others)

    for decorate in reversed(_COMMON):
        wrapped = decorate(wrapped)
    return wrapped  # type: ignore[return-value]


_NAMES = frozenset(Settings.__dataclass_fields__) - {"url", "headers"}
