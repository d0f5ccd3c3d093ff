"""The one setting that is the process's, as there: the default of ``run_forever(reconnect=)``."""

from __future__ import annotations

__all__ = ["default_reconnect", "set_reconnect"]


class _Defaults:
    def __init__(self) -> None:
        self.reconnect: float = 0.0  # whoever calls set_reconnect; read once by each run_forever


_defaults = _Defaults()


def set_reconnect(reconnectInterval: float) -> None:  # noqa: N803 - its name there
    """Set the seconds that ``run_forever`` waits before it connects again, unless told; 0 for never."""
    _defaults.reconnect = reconnectInterval


def default_reconnect() -> float:
    """What ``set_reconnect`` has set."""
    return _defaults.reconnect
