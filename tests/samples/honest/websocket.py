# mypy: ignore-errors
"""A module of the project that happens to have the name."""

from __future__ import annotations


class WebSocketApp:
    def __init__(self, url: str) -> None:
        self.sock = url
        self._session = url


def create_connection(url: str) -> WebSocketApp:
    return WebSocketApp(url)
