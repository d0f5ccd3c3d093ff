# mypy: ignore-errors
"""Clients of other libraries: only when the rule is asked for."""

from __future__ import annotations

import websockets.sync.client  # finds: other-client
from websockets.sync import client  # finds: other-client
from websockets.sync.client import connect  # finds: other-client

everything = (client, connect, websockets)
