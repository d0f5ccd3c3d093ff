"""After the documentation: a time-out of recv, and the default one."""

# mypy: allow-untyped-calls

from __future__ import annotations

import websocket

ws = websocket.WebSocket()
ws.connect("ws://server/", timeout=0.05)
try:
    print(ws.recv())
except websocket.WebSocketTimeoutException:
    print("nothing came")
ws.close()

websocket.setdefaulttimeout(5)
ws = websocket.create_connection("ws://server/")
print(ws.gettimeout(), websocket.getdefaulttimeout())
ws.close()
websocket.setdefaulttimeout(None)
