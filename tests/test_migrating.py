"""The table of docs/migrating.md against the installed websocket-client, and against what compat does."""

from __future__ import annotations

import inspect
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import websocket
from public_names import parameters, public_names

from wsclient import compat
from wsclient.compat.options import CONNECT_OPTIONS
from wsclient.compat.tls import SSL_OPTIONS, context_of
from wsclient.testing import echo, serve

GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "migrating.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (`.+?`) \| (same|different|not supported) \| (.*)\|$", re.MULTILINE)


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Kind and note of each name; no name stands in two rows."""
    found: dict[str, tuple[str, str]] = {}
    for names, kind, note in ROW.findall(text):
        for name in re.findall(r"`(.+?)`", names):
            assert name not in found, f"{name} has two rows"
            found[name] = kind, note.strip()
    return found


ROWS = rows(GUIDE[GUIDE.index("## Every name") :])


def names_of(kind: str) -> list[str]:
    return sorted(name for name, (found, _) in ROWS.items() if found == kind)


def test_every_public_name_has_a_row_and_no_other() -> None:
    assert sorted(public_names()) == sorted(ROWS)


def test_the_names_are_read_off_the_package() -> None:
    some = {"WebSocketApp.run_forever(reconnect)", "WebSocket.connect(redirect_limit)", 'sslopt["ciphers"]'}
    assert (
        some | {"WebSocket.frame_buffer", "ABNF.mask(data)", "websocket._url", "setdefaulttimeout"}
        <= public_names()
    )


def test_what_differs_says_why_and_what_is_not_supported_what_to_do() -> None:
    assert [name for name, (kind, note) in ROWS.items() if kind != "same" and not note] == []


# -- same, and different: it is there -----------------------------------------------------------------

INSTANCES: Mapping[str, tuple[Any, Any]] = MappingProxyType(
    {
        "WebSocket": (websocket.WebSocket(), compat.WebSocket()),
        "WebSocketApp": (websocket.WebSocketApp("ws://localhost/"), compat.WebSocketApp("ws://localhost/")),
        "ABNF": (websocket.ABNF(), compat.ABNF()),
    }
)


def found_in(module: Any, path: str) -> Any:
    """A name of a module, or of a class or its instances."""
    kind, _, member = path.removeprefix("websocket.").partition(".")
    if not member:
        return getattr(module, kind)
    if hasattr(getattr(module, kind), member):
        return getattr(getattr(module, kind), member)
    theirs, ours = INSTANCES[kind]
    return getattr(theirs if module is websocket else ours, member)


def callable_of(value: Any) -> Any:
    return value.__init__ if inspect.isclass(value) else value


def complaint_about(name: str) -> str | None:
    """What is wrong with a row that says that compat has a name."""
    option = re.fullmatch(r'sslopt\["(\w+)"\]', name)
    if option:
        return None if option[1] in SSL_OPTIONS else "no such key"
    path, _, parameter = name.removesuffix(")").partition("(")
    theirs = parameters(callable_of(found_in(websocket, path))) if parameter else {}
    if not parameter or parameter not in theirs:
        known = not parameter or parameter in (*CONNECT_OPTIONS, *parameters(compat.WebSocket.__init__))
        return None if known and hasattr_of(path) else "not there"
    ours = parameters(callable_of(found_in(compat, path)))
    if list(ours) != list(theirs):
        return f"the parameters are {list(ours)}"
    given = ours[parameter].default, theirs[parameter].default
    return None if parameter == "class_" or given[0] == given[1] else f"defaults: {given}"


def hasattr_of(path: str) -> bool:
    try:
        found_in(compat, path)
    except AttributeError:
        return False
    return True


def test_what_is_the_same_or_different_is_there() -> None:
    names = names_of("same") + names_of("different")
    assert {name: fault for name in names if (fault := complaint_about(name))} == {}


def test_what_is_not_there_is_noticed() -> None:
    assert complaint_about("WebSocket.teleport") == "not there"
    assert complaint_about("WebSocket.connect(colour)") == "not there"
    assert complaint_about('sslopt["colour"]') == "no such key"


def test_classes_and_constants_are_the_same_objects() -> None:
    rows = [name.removeprefix("websocket.") for name in names_of("same")]
    names = [name for name in rows if "." not in name and "(" not in name and "[" not in name]
    own = {"WebSocketApp", "WebSocket", "create_connection", "set_reconnect"}
    shared = [name for name in names if name not in own]
    assert len(shared) > 20
    assert [name for name in shared if getattr(compat, name) is not getattr(websocket, name)] == []


# -- not supported: a clear error ---------------------------------------------------------------------


def _app(**options: Any) -> compat.WebSocketApp:
    return compat.WebSocketApp("ws://localhost/", **options)


def _connect(**options: Any) -> object:
    return compat.create_connection("ws://localhost:1/", **options)


def _key(size: int) -> bytes:
    return bytes(size)


# By the name in the table, or by the part of it before a bracket or a dot.
REFUSALS: Mapping[str, Callable[[], object]] = MappingProxyType(
    {
        "WebSocketApp(get_mask_key)": lambda: _app(get_mask_key=_key),
        "WebSocketApp.run_forever(suppress_host)": lambda: _app().run_forever(suppress_host=True),
        "WebSocketApp.run_forever(dispatcher)": lambda: _app().run_forever(dispatcher=object()),
        "WebSocketApp.create_dispatcher": lambda: _app().create_dispatcher(10),
        "WebSocket(get_mask_key)": lambda: compat.WebSocket(get_mask_key=_key),
        "WebSocket(dispatcher)": lambda: compat.WebSocket(dispatcher=object()),
        "WebSocket.connect(suppress_host)": lambda: _connect(suppress_host=True),
        "WebSocket.connect(connection)": lambda: _connect(connection="Connection: keep-alive, Upgrade"),
        "WebSocket.set_mask_key": lambda: compat.WebSocket().set_mask_key(_key),
        'sslopt["do_handshake_on_connect"]': lambda: context_of({"do_handshake_on_connect": False}),
        'sslopt["suppress_ragged_eofs"]': lambda: context_of({"suppress_ragged_eofs": False}),
    }
)
OF_A_CONNECTION = {"sock", "fileno", "lock", "readlock", "frame_buffer", "cont_frame", "sock_opt"}


def refusal_of(name: str, ws: compat.WebSocket) -> Callable[[], object]:
    """What raises ``NotSupported``."""
    path = name.partition("(")[0]
    kind, _, member = path.partition(".")
    if name in REFUSALS or path in REFUSALS:
        return REFUSALS.get(name) or REFUSALS[path]
    if kind == "WebSocket" and member in OF_A_CONNECTION:
        return lambda: getattr(ws, member)() if member == "fileno" else getattr(ws, member)
    return lambda: getattr(compat, member if kind == "websocket" else kind)


def test_what_is_not_supported_is_a_clear_error() -> None:
    with serve(echo) as server, compat.create_connection(server.url) as ws:
        for name in names_of("not supported"):
            refuse = refusal_of(name, ws)
            with pytest.raises(compat.NotSupported, match=r"not supported.*docs/migrating\.md") as caught:
                refuse()
            assert isinstance(caught.value, websocket.WebSocketException), name


def test_a_wrapped_socket_is_refused(tls: object) -> None:
    with (
        socket.socket() as plain,
        ssl.create_default_context().wrap_socket(
            plain, server_hostname="localhost", do_handshake_on_connect=False
        ) as wrapped,
        pytest.raises(compat.NotSupported, match="wrapped in TLS"),
    ):
        _connect(socket=wrapped)


def test_unknown_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="teleport"):
        compat.teleport  # type: ignore[attr-defined]  # noqa: B018


# -- subclasses: their names are free ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "own"),
    [("WebSocketApp", set[str]()), ("WebSocket", {"connection", "wsclient_link", "wsclient_cancel"})],
)
def test_a_subclass_finds_the_names_free_that_were_free(kind: str, own: set[str]) -> None:
    theirs, ours = INSTANCES[kind]
    reserved = (f"_{kind}__", "__")
    added = {name for name in dir(ours) if name not in dir(theirs) and not name.startswith(reserved)}
    assert added == own
