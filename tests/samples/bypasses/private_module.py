# mypy: ignore-errors
"""The modules that the package is made of."""

from __future__ import annotations

import importlib

import wsclient
import wsclient.session  # finds: private-module
from wsclient import Connection
from wsclient import frames as wire  # finds: private-module
from wsclient.connection import Connection as Same  # finds: private-module
from wsclient.send_queue import SendQueue  # finds: private-module
from wsclient.transport import (  # finds: private-module
    Transport,
    connect_tcp,
)

late = importlib.import_module("wsclient.writer")  # finds: private-module
session = wsclient.session.Session  # finds: private-module
everything = (Connection, Same, SendQueue, Transport, connect_tcp, wire)
