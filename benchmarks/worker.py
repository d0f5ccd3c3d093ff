"""The client process of a benchmark: one scenario, one library, once.

``python -m benchmarks.worker SCENARIO ADAPTER URL [--quick] [--checkout DIR]`` prints one line of
JSON: what it measured and of which versions; or ``left_out``, the reason why this adapter cannot do it.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.adapters import ADAPTERS, Adapter
from benchmarks.baseline import Baseline
from benchmarks.scenarios import SCENARIOS, Scenario

__all__ = ["main"]


def _measure(scenario: Scenario, adapter: Adapter, url: str, quick: bool) -> dict[str, Any]:
    try:
        measured = scenario.run(adapter, url, quick)
    except NotImplementedError as error:
        return {"left_out": str(error)}
    return {"measured": measured, "versions": adapter.versions()}


def main() -> None:
    """Measure, print, leave."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker")
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("adapter", choices=ADAPTERS)
    parser.add_argument("url")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--checkout", type=Path, help="the wsclient to measure, instead of this one")
    asked = parser.parse_args()
    if asked.checkout is not None:
        Baseline(asked.checkout).put_first()
    answer = _measure(SCENARIOS[asked.scenario], ADAPTERS[asked.adapter](), asked.url, asked.quick)
    print(json.dumps(answer), flush=True)
    # A thousand connections would take their time to be closed one by one, and nothing is measured any more.
    os._exit(0)


if __name__ == "__main__":
    main()
