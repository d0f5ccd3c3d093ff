"""After the FAQ: no verification, for each of the three ways to connect."""

# mypy: allow-untyped-calls

from __future__ import annotations

import ssl
from typing import Any

import websocket

ws = websocket.create_connection("wss://server/", sslopt={"cert_reqs": ssl.CERT_NONE})
ws.send("one")
print(ws.recv(), ws.is_ssl())
ws.close()

ws = websocket.WebSocket(sslopt={"cert_reqs": ssl.CERT_NONE})
ws.connect("wss://server/")
ws.send(b"two", opcode=websocket.ABNF.OPCODE_BINARY)
print(ws.recv())
ws.close()


def on_open(wsapp: Any) -> None:
    wsapp.send("three")


def on_message(wsapp: Any, message: str) -> None:
    print(message)
    wsapp.close()


wsapp = websocket.WebSocketApp("wss://server/", on_open=on_open, on_message=on_message)
wsapp.run_forever(sslopt={"cert_reqs": ssl.CERT_NONE, "check_hostname": False})
