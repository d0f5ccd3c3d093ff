"""``python -m fuzz.worker TARGET FOLDER [libFuzzer's options]``: the process that atheris takes over."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

__all__: list[str] = []


def main() -> None:
    """Run one target until libFuzzer ends the process."""
    atheris: Any = import_module("atheris")
    target, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["wsclient.deflate", "wsclient.protocol", "wsclient.frames"]):
        targets = import_module("fuzz.targets")
    atheris.Setup([sys.argv[0], *arguments], targets.TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
