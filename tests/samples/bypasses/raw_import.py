# mypy: ignore-errors
"""Every way to write the import."""

from __future__ import annotations

import websocket  # finds: raw-import
import websocket._core as core  # finds: raw-import
from websocket import (  # finds: raw-import
    ABNF,
    WebSocketTimeoutException,
)
from websocket._exceptions import WebSocketException  # finds: raw-import

try:
    import websocket as ws  # finds: raw-import
except ImportError:
    ws = None


def late() -> object:
    import websocket as library  # finds: raw-import

    return library, websocket, core, ABNF, WebSocketTimeoutException, WebSocketException, ws
