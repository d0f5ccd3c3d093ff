"""After the README: say something short, and leave."""

from __future__ import annotations

from websocket import create_connection

ws = create_connection("ws://server/")
print("Sending 'Hello, World'...")
ws.send("Hello, World")
print("Sent")
print("Receiving...")
result = ws.recv()
print(f"Received {result!r}")
ws.close()
