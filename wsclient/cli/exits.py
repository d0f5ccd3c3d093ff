"""How a command ends: the exit status, and the one line that says why. Pure."""

from __future__ import annotations

import enum
import re
import ssl

from wsclient import ConnectionClosed, HandshakeError, WSClientError

__all__ = ["NORMAL_CODES", "ExitCode", "Failure", "failure_of", "option_fault"]

NORMAL_CODES = frozenset({1000, 1001})  # RFC 6455, section 7.4.1: done, and going away


class ExitCode(enum.IntEnum):
    """The exit statuses of ``wsclient``; docs/cli.md lists them."""

    OK = 0
    FAILED = 1  # not everything was confirmed, too few messages came, a threshold was passed, findings
    USAGE = 2  # an option, an argument or a file that is wrong
    UNREACHABLE = 3  # the connection could not be opened
    LOST = 4  # the connection was closed abnormally; in a load run: all of them, before its end
    INTERRUPTED = 130  # Ctrl-C


class Failure(Exception):
    """A command ends here, with one line for the user and this exit status."""

    def __init__(self, text: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(text)
        self.code = code


def failure_of(error: WSClientError) -> Failure:
    """What an error of a connection means for the command that ran into it."""
    if isinstance(error, HandshakeError):
        hint = _MISTRUST if isinstance(error.__cause__, ssl.SSLCertVerificationError) else ""
        return Failure(f"could not connect: {error}{hint}", ExitCode.UNREACHABLE)
    if isinstance(error, ConnectionClosed) and error.code not in NORMAL_CODES:
        return Failure(str(error), ExitCode.LOST)
    return Failure(str(error), ExitCode.FAILED)


_MISTRUST = "; --cacert FILE names whom to trust, --insecure checks nothing"

# How the library names it, and how it is typed, where these differ by more than the dashes.
_TYPED = (
    ("headers", "--header"),
    ("subprotocols", "--subprotocol"),
    ("credentials", "--user-id, --role, --session-id"),
    ("url", "URL"),
)

_OTHER_OPTION = re.compile(r"(can't be combined with )([a-z_]+)\Z")


def option_fault(error: Exception) -> Failure:
    """The refusal of an option by the library, with the option named as the user typed it."""
    name, mark, rest = str(error).partition(":")
    typed = dict(_TYPED).get(name, f"--{name.replace('_', '-')}")
    rest = _OTHER_OPTION.sub(lambda found: f"{found[1]}--{found[2].replace('_', '-')}", rest)
    text = f"{typed}:{rest}" if mark and name.isidentifier() else str(error)
    return Failure(text, ExitCode.USAGE)
