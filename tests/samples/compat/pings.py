"""After the documentation: pings and pongs, by hand and by run_forever."""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import websocket

ws = websocket.WebSocket()
ws.connect("ws://server/")
ws.ping()
ws.pong()
ws.ping("This is a ping")
print(ws.recv_data(control_frame=True), ws.recv_data(control_frame=True))
ws.close()


def on_pong(wsapp: Any, message: bytes) -> None:
    print("Got a pong! No need to respond", message)
    wsapp.close()


def on_ping(wsapp: Any, message: bytes) -> None:
    print("Got a ping! A pong reply has already been automatically sent.")


wsapp = websocket.WebSocketApp("ws://server/", on_ping=on_ping, on_pong=on_pong)
wsapp.run_forever(ping_interval=0.31, ping_timeout=0.3, ping_payload="This is an optional ping payload")
