# mypy: ignore-errors
"""Each test goes round the one writer, in its own way. Run by ``tests/test_samples.py``."""

from __future__ import annotations

import threading

import websocket
from websocket import WebSocketApp, create_connection


def test_create_connection(ws_server):
    raw = create_connection(ws_server().url)
    raw.send("past the writer")
    raw.close()


def test_class(ws_server):
    raw = websocket.WebSocket()
    raw.connect(ws_server().url)
    raw.send_binary(b"past the writer")
    raw.close()


def test_socket(ws_server):
    raw = websocket.create_connection(ws_server().url)
    raw.sock.sendall(b"\x81\x80\0\0\0\0")
    raw.shutdown()


def test_thread(ws_server):
    raw = websocket.create_connection(ws_server().url)
    thread = threading.Thread(target=raw.send, args=("past the writer",))
    thread.start()
    thread.join(10)
    raw.close()


def test_app(ws_server):
    app = WebSocketApp(ws_server().url, on_open=lambda app: (app.send("past the writer"), app.close()))
    app.run_forever()
