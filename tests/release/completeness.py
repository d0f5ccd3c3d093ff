"""How complete the public types are, as ``pyright --verifytypes`` counts it; fails when one is not known.

It runs in the environment that has the installed package: pyright takes the first Python on PATH. It counts
every module without an underscore, so the inside as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SECONDS = 300
# What is made of classes without types (locust's), or overrides the visitors of ``ast`` by assignment.
NOT_OURS = ("wsclient.locust", "wsclient.check.finder.Reader")


def report(package: str) -> dict[str, Any]:
    """What pyright says about ``package`` and all below it."""
    command = ["pyright", "--verifytypes", package, "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    found: dict[str, Any] = json.loads(done.stdout)["typeCompleteness"]
    return found


def incomplete(found: dict[str, Any]) -> list[str]:
    """The names whose types pyright does not know, or could take for others than mypy."""
    return [
        symbol["name"]
        for symbol in found["symbols"]
        if symbol["isExported"] and (not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"])
        if not symbol["name"].startswith(NOT_OURS)
    ]


def main() -> None:
    """Print the share of complete types, and the rest."""
    found = report("wsclient")
    counts = found["exportedSymbolCounts"]
    print(f"{found['completenessScore']:.1%} of {sum(counts.values()):,} public types are complete")
    if names := incomplete(found):
        sys.exit("not complete: " + ", ".join(names))


if __name__ == "__main__":
    main()
