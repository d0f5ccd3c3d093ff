"""The client process of a benchmark: one scenario, one library, once.

``python -m benchmarks.worker SCENARIO ADAPTER URL [quick]`` prints what it measured as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys

from benchmarks.adapters import ADAPTERS
from benchmarks.scenarios import SCENARIOS

__all__ = ["main"]


def main() -> None:
    """Measure, print, leave."""
    scenario, adapter = SCENARIOS[sys.argv[1]], ADAPTERS[sys.argv[2]]()
    measured = scenario.run(adapter, sys.argv[3], quick=sys.argv[4:] == ["quick"])
    print(json.dumps({"measured": measured, "versions": adapter.versions()}), flush=True)
    # A thousand connections would take their time to be closed one by one, and nothing is measured any more.
    os._exit(0)


if __name__ == "__main__":
    main()
