"""After the README, without a dispatcher: the connection is opened again when the server goes away."""

from __future__ import annotations

from typing import Any

import websocket


def on_message(ws: Any, message: str) -> None:
    print(message)
    if message == "welcome":
        ws.send("bye")
    elif message == "welcome back":
        ws.close()


def on_open(ws: Any) -> None:
    print("Opened connection")


def on_reconnect(ws: Any) -> None:
    print("Opened again")


if __name__ == "__main__":
    ws = websocket.WebSocketApp(
        "ws://greeter/", on_open=on_open, on_reconnect=on_reconnect, on_message=on_message
    )
    ws.run_forever(reconnect=0.05)  # type: ignore[arg-type]
