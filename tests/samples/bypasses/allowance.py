# mypy: ignore-errors
"""Comments that allow nothing: they are misspelt."""

from __future__ import annotations

import websocket  # wsclient: allow[raw-imports]  # finds: allowance raw-import
import websocket as again  # wsclient: allow[]  # finds: allowance raw-import

everything = (websocket, again)
