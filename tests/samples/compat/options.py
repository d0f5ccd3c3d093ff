"""After the documentation: headers, cookie, origin, host and subprotocols, for both styles."""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import websocket

ws = websocket.WebSocket()
ws.connect("ws://server/", cookie="chocolate", origin="testing_websockets.com", host="echo.example")
print(ws.getstatus(), ws.connected)
ws.close()

ws = websocket.WebSocket()
ws.connect("ws://server/", header={"CustomHeader1": "123", "NewHeader2": "Test"}, suppress_origin=True)
ws.close()

ws = websocket.WebSocket()
ws.connect("ws://chooser/", subprotocols=["testproto"])
print(ws.getsubprotocol())
ws.close()


def on_open(wsapp: Any) -> None:
    wsapp.send("hello")


def on_message(wsapp: Any, message: str) -> None:
    print(message)
    wsapp.close()


wsapp = websocket.WebSocketApp(
    "ws://chooser/",
    cookie="chocolate",
    header=["CustomHeader1: 123"],
    subprotocols=["testproto"],
    on_open=on_open,
    on_message=on_message,
)
wsapp.run_forever(origin="testing_websockets.com", host="127.0.0.1")
