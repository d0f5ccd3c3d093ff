"""After the README and examples/echoapp_client.py: callbacks, and a thread that sends and then closes."""

from __future__ import annotations

import threading
from typing import Any

import websocket

answered = threading.Semaphore(0)


def on_message(ws: Any, message: str) -> None:
    print(message)
    answered.release()


def on_error(ws: Any, error: Exception) -> None:
    print(error)


def on_close(ws: Any, close_status_code: int, close_msg: str) -> None:
    print("### closed ###")


def on_open(ws: Any) -> None:
    print("Opened connection")

    def run() -> None:
        for i in range(3):
            ws.send(f"Hello {i}")
            answered.acquire(timeout=10)
        ws.close()

    threading.Thread(target=run).start()


if __name__ == "__main__":
    ws = websocket.WebSocketApp("ws://server/", on_message=on_message, on_error=on_error, on_close=on_close)
    ws.on_open = on_open
    ws.run_forever()
