"""How complete the public types are, as ``pyright --verifytypes`` counts it: fails when any is unknown.

It runs in the environment that has the installed package: pyright takes the first Python on PATH.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

# What users import; pyright counts every module without an underscore, so all of the inside as well.
PUBLIC = ("wsclient", "wsclient.compat", "wsclient.load", "wsclient.testing")
SECONDS = 300


def report(module: str) -> dict[str, Any]:
    """What pyright says about ``module`` and all below it."""
    command = ["pyright", "--verifytypes", module, "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    found: dict[str, Any] = json.loads(done.stdout)["typeCompleteness"]
    return found


if __name__ == "__main__":
    sys.exit(str(report("wsclient")["completenessScore"]))
