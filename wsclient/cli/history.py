"""Where the prompt keeps what was typed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["history_path", "prepared"]


def history_path(environment: Mapping[str, str], home: Path, platform: str = sys.platform) -> Path | None:
    """The file of the history; ``None`` for none, which is what an empty ``WSCLIENT_HISTORY`` asks for."""
    named = environment.get("WSCLIENT_HISTORY")
    if named is not None:
        return Path(named) if named else None
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local") / "wsclient" / "history"
    return Path(environment.get("XDG_STATE_HOME") or home / ".local" / "state") / "wsclient" / "history"


def prepared(path: Path) -> bool:
    """Make the file, for its owner's eyes only: what is typed may be secret. Whether it can be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600))
    except OSError:
        return False
    return True
